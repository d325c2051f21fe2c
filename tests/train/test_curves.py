"""`train.curves`: what is read of a log, and what is drawn."""

import json

import cv2
import numpy as np
import pytest

from eval.files import ResultError
from train import curves


def write_log(folder, losses, extra=None):
    folder.mkdir()
    lines = [
        {"step": 10 * (i + 1), "loss": value, "classification": [9.0, value / 2], "steps_per_second": 3.0}
        for i, value in enumerate(losses)
    ]
    lines += [extra] if extra else []
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curves_of_a_log(tmp_path):
    run = write_log(tmp_path / "run", [3.0, 2.0, 1.0], {"step": 30, "validation/auc": 0.5})
    found = curves.read_curves(run)
    assert list(found) == ["classification", "loss", "validation/auc"]
    for name, steps, values in (
        ("loss", [10, 20, 30], [3, 2, 1]),
        ("classification", [10, 20, 30], [1.5, 1, 0.5]),  # of the last iterate
        ("validation/auc", [30], [0.5]),
    ):
        np.testing.assert_array_equal(found[name][0], steps)
        np.testing.assert_array_equal(found[name][1], values)


def test_means_over_a_share():
    values = np.arange(10.0)
    np.testing.assert_allclose(curves.smooth(values, 0.3), [0.5, *range(1, 9), 8.5])
    np.testing.assert_array_equal(curves.smooth(values[:1]), [0])


def test_the_figure(tmp_path, capsys):
    first = write_log(tmp_path / "first", np.linspace(3, 1, 40))
    second = write_log(tmp_path / "second_run", np.linspace(2, 1, 20), {"step": 20, "validation/auc": 0.5})
    out = tmp_path / "curves.png"
    assert curves.main([str(first), str(second / "log.jsonl"), "--out", str(out)]) == 0
    assert "2 runs, 3 curves" in capsys.readouterr().out
    image = cv2.imread(str(out))
    blue, orange = (np.abs(image.astype(int) - color).sum(-1) < 30 for color in ((180, 119, 31), (14, 127, 255)))
    assert blue.sum() > 100 and orange.sum() > 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "nothing is logged yet"),
        ('{"step": 1, "loss": 2.0}\n{"loss": 1}\n', r"log\.jsonl:2: not a line of a training's log"),
        ("step 1\n", r"log\.jsonl:1: not a line of a training's log"),
        ("[1]\n", r"log\.jsonl:1: not a line of a training's log"),
    ],
)
def test_logs_that_are_none(content, message, tmp_path):
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(ResultError, match=message):
        curves.read_curves(tmp_path)


def test_bad_arguments_are_one_line(tmp_path, capsys):
    run = write_log(tmp_path / "run", [1.0])
    assert curves.main([str(run), "--out", str(tmp_path / "curves.pdf")]) == 1
    assert curves.main([str(tmp_path / "none"), "--out", str(tmp_path / "curves.png")]) == 1
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    assert curves.main([str(tmp_path / "picture"), "--out", str(tmp_path / "curves.png")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "curves.pdf: the name must end with .png" in errors[0]
    assert "none: no such file; give the folder of a training's run" in errors[1]
    assert "picture: not the text of a training's log" in errors[2]
    assert not (tmp_path / "curves.png").exists()
