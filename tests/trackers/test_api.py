"""The public interface: changes by name, boxes and back, the table of trackers; mistakes are told in one line."""

import jax
import numpy as np
import pytest

import trackers


def test_changes_reach_the_config_by_dotted_path(monkeypatch):
    made = []
    entry = trackers.get("atom_filterbank")
    monkeypatch.setitem(trackers._ENTRIES, "spy", entry._replace(make=made.append))
    trackers.load("spy", cg_steps=3, **{"region.image_size": 256, "localization.not_found_threshold": 0.3})
    assert (made[0].cg_steps, made[0].region.image_size, made[0].localization.not_found_threshold) == (3, 256, 0.3)
    assert made[0].localization.distractor_threshold == entry.config.localization.distractor_threshold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region.image_size": 250}, "region.image_size=250: must be a positive multiple of 32"),
        ({"region.image_size": "big"}, "region.image_size=big: must be of type int"),
        ({"imagesize": 256}, "imagesize: Config has no field 'imagesize'; it has model, use_iou_net, "),
        ({"image_size": 256}, "image_size: Config has no field 'image_size'; did you mean region.image_size"),
        ({"localization.threshold": 1}, r"localization.threshold: \w+ has no field 'threshold'"),
        ({"region.image_size.height": 256}, "region.image_size.height: image_size is 192, which has no fields"),
        ({"localization": 0.3}, "localization=0.3: must be of type LocalizationConfig"),
    ],
)
def test_wrong_changes_are_one_line(changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        trackers.load("dimp_tiny", **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 0, 0, 5), "w and h must be > 0"),
        ((0, 0, 5, -1), "w and h must be > 0"),
        ((np.nan, 0, 5, 5), "must be finite"),
        ((0, 0, 5, np.inf), "must be finite"),
    ],
)
def test_a_box_without_area_or_not_finite_is_an_error(numbers, message):
    with pytest.raises(ValueError, match=message):
        trackers.box(*numbers)


def test_a_box_and_back():
    box = trackers.box(10, 20.5, 3, 4)
    assert (box.center.tolist(), box.size.tolist()) == ([22.0, 11.0], [4.0, 3.0])  # (y, x), pixel 1 of 3 is the middle
    np.testing.assert_array_equal(trackers.xywh(box), [10, 20.5, 3, 4])
    np.testing.assert_array_equal(trackers.xywh(jax.device_put(box)), [10, 20.5, 3, 4])


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown tracker 'dimp-tiny'; did you mean dimp_tiny"):
        trackers.load("dimp-tiny")
    with pytest.raises(ValueError, match=r"unknown tracker '\?'; jaxtrack trackers lists them"):
        trackers.get("?")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:ENTRY", "cannot import module 'no_such_module'"),
        ("broken:ENTRY", "module 'broken' fails: ZeroDivisionError"),
        ("outside:MISSING", "outside.py has no 'MISSING'"),
        ("outside:NUMBER", "is a int, not a trackers.Entry"),
        ("outside:NO_CONFIG", "its config is None, not an instance of a frozen dataclass"),
        ("outside:NO_MODEL", "unknown model 'yolo'"),
    ],
)
def test_what_is_wrong_with_an_entry_of_ones_own_is_one_line(tmp_path, monkeypatch, name, message):
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "outside.py").write_text(
        "import trackers\nNUMBER = 3\nNO_CONFIG = trackers.Entry(None, None)\n"
        "NO_MODEL = trackers.get('siamfc')._replace(model='yolo')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        trackers.get(name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_register_refuses_names_that_are_taken_or_no_file_names():
    entry = trackers.get("siamfc")
    for name, message in (("dimp18", "exists already"), ("a/b", "a name consists of"), ("", "a name consists of")):
        with pytest.raises(ValueError, match=message):
            trackers.register(name, entry)
