"""The rules at the fields: every registered configuration keeps them, every mistake is named in one line."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import pytest

import trackers
from eval import run, track
from tests.helpers.rules import unruled
from trackers import base
from trackers.nets import models
from trackers.rules import (
    COUNT,
    POSITIVE,
    PROBABILITY,
    Search,
    SettingError,
    configure,
    float_fields,
    override,
    searches,
    substitute,
    validate,
)

NUMBERS = Path(__file__).parent / "numbers.json"  # of every tracker: {name of a field: its values}
ATOM, BANK, DIMP = (trackers.get(name).config for name in ("atom", "atom_filterbank", "dimp18"))
UNUSUAL = {"border": "inside_major", "rounding": "pytracking_torch14", "redetection_rings": 1}
SCALED = dataclasses.replace(DIMP, use_iou_net=False, scale_filter=BANK.scale_filter)


def changed(config, path, value):
    name, _, rest = path.partition(".")
    return dataclasses.replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


def leaves(config, prefix=""):
    """(dotted path, value) of all that is no config."""
    found = []
    for each in dataclasses.fields(config):
        value, path = getattr(config, each.name), prefix + each.name
        found += leaves(value, path + ".") if dataclasses.is_dataclass(value) else [(path, value)]
    return found


@pytest.mark.parametrize("name", trackers.names())
def test_registered_configurations_pass(name):
    validate(trackers.get(name).config)


@pytest.mark.parametrize("kind", sorted({type(trackers.get(name).config) for name in trackers.names()}, key=str))
def test_every_field_has_a_rule(kind):
    assert unruled(kind) == []


def test_a_field_without_a_rule_is_found_wherever_it_is():
    @dataclass(frozen=True)
    class Part:
        ruled: Annotated[int, COUNT] = 1
        forgotten: int = 1

    @dataclass(frozen=True)
    class Whole:
        flag: bool = False
        rate: float = 0.5
        one: Part = field(default_factory=Part)
        perhaps: Part | None = None
        several: tuple[Part, ...] = ()
        pairs: tuple[tuple[str, Annotated[float, POSITIVE]], ...] = ()
        searched: Annotated[float, Search(0.0, 1.0)] = 0.5

    assert unruled(Whole) == ["rate", "one.forgotten", "perhaps.forgotten", "several.forgotten", "pairs", "searched"]


@pytest.mark.parametrize("name", json.loads(NUMBERS.read_text()))
def test_numbers_are_those_of_before(name):
    """Wherever a field stands: by its name alone. An intended change: write the new numbers into the file."""
    found = {}
    for path, value in json.loads(json.dumps(leaves(trackers.get(name).config))):
        found.setdefault(path.split(".")[-1], []).append(value)
    expected = json.loads(NUMBERS.read_text())[name]
    assert {field: sorted(map(str, values)) for field, values in found.items()} == {
        field: sorted(map(str, values)) for field, values in expected.items()
    }


@pytest.mark.parametrize(
    ("config", "path", "value", "message"),
    [
        (ATOM, "region.image_size", 100, "region.image_size=100: must be a positive multiple of 32"),
        (ATOM, "region.image_size", 0, "region.image_size=0: must be a positive multiple of 32"),
        (ATOM, "region.image_size", 288.0, "region.image_size=288.0: must be of type int"),
        (ATOM, "region.image_size", 608, "augmentation.expanded_size=576: must be >= region.image_size = 608"),
        (ATOM, "use_iou_net", 1, "use_iou_net=1: must be of type bool"),
        (ATOM, "backbone", "vgg", "backbone=vgg: must be one of resnet18, resnet16, filter_bank"),
        (ATOM, "backbone", "filter_bank", "use_iou_net=True: must be False with backbone filter_bank"),
        (ATOM, "region.border", "constant", "region.border=constant: must be one of replicate, inside, inside_major"),
        (ATOM, "filter_reg", float("nan"), "filter_reg=nan: must be finite"),
        (ATOM, "filter_reg", 0.0, "filter_reg=0.0: must be > 0"),
        (ATOM, "online.learning_rate", 1.0, r"online.learning_rate=1.0: must be in (0, 1)"),
        (ATOM, "online.init_samples_min_weight", 1.5, r"online.init_samples_min_weight=1.5: must be in (0, 1)"),
        (ATOM, "online.init_samples_min_weight", "a", "online.init_samples_min_weight=a: must be of type float | None"),
        (ATOM, "scale_filter", 3, "scale_filter=3: must be of type trackers.parts.scale_filter.ScaleFilterConfig"),
        (ATOM, "scale_filter", BANK.scale_filter, "scale_filter: must be None where use_iou_net"),
        (ATOM, "scale_factors", (), "scale_factors=(): must be one number or more"),
        (ATOM, "scale_factors", (0.9, 1.1), "scale_factors=(0.9, 1.1): must be one number where use_iou_net"),
        (ATOM, "scale_factors", (1.0, -1.0), "scale_factors=(1.0, -1.0): must be > 0"),
        (ATOM, "scale_factors", (True,), "scale_factors=(True,): must be of type tuple[float, ...]"),
        (ATOM, "kernel_size", 19, "kernel_size=19: must be <= 18, the cells of the score map"),
        (ATOM, "online.memory_size", 30, "online.memory_size=30: must be >= 31: 30 samples come from frame 1"),
        (ATOM, "augmentation.blurs", ((1.0, 0.0),), "augmentation.blurs=((1.0, 0.0),): must be > 0"),
        (ATOM, "augmentation.shifts", ((1.0,),), "must be of type tuple[tuple[float, float], ...]"),
        (ATOM, "augmentation.dropout_rate", 1.0, "augmentation.dropout_rate=1.0: must be in [0, 1)"),
        (ATOM, "localization.not_found_threshold", float("inf"), "not_found_threshold=inf: must be finite"),
        (ATOM, "refinement.steps", 0, "refinement.steps=0: must be >= 1"),
        (ATOM, "refinement.max_aspect_ratio", 1.0, "refinement.max_aspect_ratio=1.0: must be > 1"),
        (BANK, "classifier_tap", "layer3", "classifier_tap=layer3: must be one of layer1, layer2 with backbone"),
        (BANK, "scale_filter.taps", ("layer3",), "scale_filter.taps=('layer3',): must be one of layer1, layer2 with"),
        (BANK, "scale_filter.taps", (), "scale_filter.taps=(): must be one name or more"),
        (BANK, "scale_filter.ridge", 0.0, "scale_filter.ridge=0.0: must be > 0"),
        (BANK, "scale_filter.scales", 16, "scale_filter.scales=16: must be odd and >= 3"),
        (BANK, "scale_filter.scale_step", 1.0, "scale_filter.scale_step=1.0: must be > 1"),
        (BANK, "scale_filter.memory_size", 4, "scale_filter.memory_size=4: must be > initial_samples = 4"),
        (DIMP, "model", "dimp34", "model=dimp34: must be a model with a DimpClassifier"),
        (DIMP, "online.train_skipping", 0, "online.train_skipping=0: must be >= 1"),
        (DIMP, "update_steps", -1, "update_steps=-1: must be >= 0"),
        (DIMP, "scale_filter", BANK.scale_filter, "scale_filter: must be None where use_iou_net"),
        (DIMP, "region.min_side", 0.0, "region.min_side=0.0: must be > 0"),
        (SCALED, "scale_filter.taps", ("stem",), "scale_filter.taps=('stem',): must be one of layer1, layer2, layer3"),
        (SCALED, "scale_filter.taps", (), "scale_filter.taps=(): must be one name or more"),
        (SCALED, "scale_filter.memory_size", 4, "scale_filter.memory_size=4: must be > initial_samples = 4"),
        (DIMP, "online.memory_size", 15, "online.memory_size=15: must be >= 16: 15 samples come from frame 1"),
    ],
)
def test_mistakes_are_named_in_one_line(config, path, value, message):
    with pytest.raises(ValueError) as caught:
        validate(changed(config, path, value))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tracker", "assignment", "here"),
    [
        ("dimp_tiny", "model=dimp50", "dimp_tiny"),
        ("siamrpn", "model=siamrpn_big", "siamrpn"),
        ("dasiamrpn", "rpn.model=siamrpn", "siamrpn_big"),
        ("thor_siamfc", "host.model=memtrack", "siamfc"),
        ("memtrack", "host.model=siamfc", "memtrack"),
        ("atom", "backbone=filter_bank", "resnet18"),
    ],
)
def test_what_the_weights_are_of_is_chosen_with_the_tracker(tracker, assignment, here):
    path, _, value = assignment.partition("=")
    message = f"{assignment}: belongs to the tracker, as its weights do; choose a tracker that runs on it ({here} here)"
    with pytest.raises(SettingError) as caught:
        configure(trackers.get(tracker).config, [assignment])
    assert str(caught.value) == message
    with pytest.raises(SettingError):
        trackers.load(tracker, **{path: value})
    assert configure(trackers.get(tracker).config, [f"{path}={here}"]) == trackers.get(tracker).config


def test_rules_reach_the_elements_and_the_configs_in_tuples():
    @dataclass(frozen=True)
    class Part:
        weight: Annotated[float, PROBABILITY] = 1.0

        def misfits(self):
            if self.weight == 0.25:
                yield "weight", "another one"

    @dataclass(frozen=True)
    class Whole:
        parts: tuple[Part, ...] = (Part(), Part())
        rates: tuple[tuple[str, Annotated[float, POSITIVE]], ...] = (("backbone", 0.1),)
        either: Annotated[float | str, POSITIVE] = 1.0
        anything: Any = None

    validate(Whole())
    for change, message in (
        ({"parts": (Part(), Part(2))}, "parts.1.weight=2: must be in [0, 1]"),
        ({"parts": (Part(0.25),)}, "parts.0.weight=0.25: must be another one"),
        ({"parts": (1,)}, "parts=(1,): must be of type tuple["),
        ({"rates": (("backbone", 0.0),)}, "rates=(('backbone', 0.0),): must be > 0"),
        ({"rates": ((1, 0.1),)}, "rates=((1, 0.1),): must be of type tuple[tuple[str, float], ...]"),
        ({"either": -1}, "either=-1: must be > 0"),
        ({"anything": Part(2)}, "anything.weight=2: must be in [0, 1]"),
    ):
        with pytest.raises(SettingError) as caught:
            validate(dataclasses.replace(Whole(), **change))
        assert str(caught.value).startswith(message)


def test_what_may_be():
    validate(changed(DIMP, "online.learning_rate", 0.02))
    validate(changed(changed(DIMP, "online.init_samples_min_weight", None), "online.memory_size", 15))
    validate(changed(ATOM, "region.search_area_scale", 4))  # a whole number stands for a float


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("atom", {"cg_steps": 0, "hard_negative_cg_steps": 0, "kernel_size": 1, "compressed_dim": 1}),
        ("atom", {"refinement.random_boxes": 0, "refinement.steps": 1, "init_gn_steps": 1, "init_cg_steps": 1}),
        ("atom_filterbank", {"scale_filter.scales": 3, "scale_filter.initial_samples": 1, "scale_filter.bins": 1}),
        ("dimp18", {"init_steps": 0, "update_steps": 0, "hard_negative_steps": 0, "region.image_size": 32}),
        ("dimp18", {f"region.{name}": value for name, value in UNUSUAL.items()}),
    ],
)
def test_the_extremes_that_pass_can_be_run(name, changes):
    """What `validate` lets through traces, with the least number of samples the first frame can give."""
    entry = trackers.get(name)
    none = {"shifts": (), "blurs": (), "rotations": (), "flip": False, "dropout_copies": 0}
    changes = changes | {f"augmentation.{field}": value for field, value in none.items()}
    config = entry.config
    for path, value in (changes | {"online.memory_size": 2}).items():
        config = changed(config, path, value)
    validate(config)
    tracker, key = entry.make(config), jax.random.key(0)
    params = jax.eval_shape(lambda: trackers.load_params(name, None)) if entry.model is None else expected(entry)
    frame = base.Frame(jax.ShapeDtypeStruct((64, 96, 3), "uint8"), jax.ShapeDtypeStruct((2,), "int32"))
    box = base.Box(*[jax.ShapeDtypeStruct((2,), "float32")] * 2)
    state = jax.eval_shape(tracker.init, params, key, frame, box)
    after, _ = jax.eval_shape(tracker.track, params, state, frame)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)


def expected(entry):
    return models.expected_variables(entry.model)


def test_command_lines_refuse_a_bad_setting(tmp_path, capsys, monkeypatch):
    (tmp_path / "data").mkdir()
    for module in (run, track):
        monkeypatch.setattr(module, "prepare_process", lambda **options: None)
    bad = ["--tracker", "atom_filterbank", "--set", "augmentation.dropout_rate=2"]
    calls = [
        lambda: run.main([*bad, "--data_dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]),
        lambda: track.main([*bad, "--out_dir", str(tmp_path / "out")]),
    ]
    for call in calls:
        assert call() == 1
        message = capsys.readouterr().err.strip()
        assert message == "error: augmentation.dropout_rate=2.0: must be in [0, 1)"
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Inner:
    rate: float = 0.01


@dataclass(frozen=True)
class Config:
    gain: float = 0.5
    steps: int = 10
    window: bool = True
    name: str = "hann"
    sizes: tuple[int, int] = (18, 18)
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


def test_each_kind_of_value():
    assignments = [
        "gain=1",
        "steps=3",
        "window=False",
        "name=a=b",
        "sizes=[1, 2]",
        "limit=0.5",
        "inner.rate=1e-3",
    ]
    assert override(Config(), assignments) == Config(1.0, 3, False, "a=b", (1, 2), 0.5, Inner(0.001))
    assert isinstance(override(Config(), ["gain=1"]).gain, float)
    assert override(Config(), []) == Config()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("gian=1", r"no field 'gian'; it has gain, steps"),
        ("inner.rat=1", r"Inner has no field 'rat'; it has rate"),
        ("gain", r"'gain' is not field=value"),
        ("steps=1.5", r"steps=1.5: must be a int like 10"),
        ("steps=True", r"must be a int"),
        ("window=1", r"must be a bool"),
        ("gain=fast", r"gain=fast: not a value"),
        ("inner=1", r"inner: is a config; name one number in it, as in inner.rate=value"),
        ("gain.rate=1", r"gain.rate: gain is 0.5, which has no fields"),
    ],
)
def test_mistakes_are_named(assignment, message):
    with pytest.raises(SettingError, match=message):
        override(Config(), [assignment])


def test_floats_by_dotted_path_and_their_substitutes():
    assert float_fields(Config()) == {"gain": 0.5, "inner.rate": 0.01}
    assert float_fields(Config(limit=2.0))["limit"] == 2.0
    traced = object()  # anything is taken as it is
    changed = substitute(Config(), {"inner.rate": traced, "gain": 2})
    assert changed.inner.rate is traced and changed.gain == 2 and changed.steps == 10
    assert substitute(Config(), {"inner": Inner(0.5)}).inner.rate == 0.5
    with pytest.raises(SettingError, match="Inner has no field 'rat'"):
        substitute(Config(), {"inner.rat": 1.0})


def test_a_field_within_is_found_by_its_name():
    for path, message in (
        ("rate", "rate: Config has no field 'rate'; did you mean inner.rate"),
        ("outer.gain", "outer.gain: Config has no field 'outer'; did you mean gain"),
        ("inner.gain", "inner.gain: Inner has no field 'gain'; did you mean gain"),
    ):
        with pytest.raises(SettingError) as caught:
            override(Config(), [f"{path}=1"])
        assert str(caught.value) == message
    with pytest.raises(SettingError, match=r"did you mean region\.min_side or refinement\.min_side"):
        override(trackers.get("dimp_tiny").config, ["min_side=0.1"])


def test_searches_are_those_at_the_fields():
    @dataclass(frozen=True)
    class Part:
        rate: Annotated[float, POSITIVE, Search(0.1, 1.0, log=True)] = 0.5

    @dataclass(frozen=True)
    class Whole:
        part: Part = field(default_factory=Part)
        none: Part | None = None
        gain: Annotated[float, POSITIVE, Search(0.0, 2.0)] = 1.0
        other: Annotated[float, POSITIVE] = 1.0

    assert searches(Whole()) == {"gain": Search(0.0, 2.0), "part.rate": Search(0.1, 1.0, log=True)}
