"""Overrides by name, and the hash of parameters."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from eval.settings import SettingError, float_fields, override, params_hash, plain, substitute, versions


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
        ("inner=1", r"where configs are nested"),
        ("gain.rate=1", r"where configs are nested"),
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
    with pytest.raises(SettingError, match="Inner has no field 'rat'"):
        substitute(Config(), {"inner.rat": 1.0})


def test_plain_is_json():
    assert plain(Config())["inner"] == {"rate": 0.01} and plain(Config())["sizes"] == [18, 18]


def test_the_hash_sees_names_shapes_dtypes_and_values():
    params = {"a": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2), np.float32)}
    others = [
        {"c": params["a"], "b": params["b"]},
        {**params, "b": np.zeros(4, np.float32)},
        {**params, "b": np.zeros((2, 2), np.int32)},
        {**params, "a": params["a"] + np.float32(1e-3)},
    ]
    hashes = [params_hash(tree) for tree in (params, *others)]
    assert len(set(hashes)) == 5
    assert params_hash({"b": params["b"].copy(), "a": params["a"].copy()}) == hashes[0]


def test_versions_name_what_computes():
    found = versions()
    assert {"jax", "numpy", "python", "device", "revision"} <= set(found)
