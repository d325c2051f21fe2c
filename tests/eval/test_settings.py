"""What a run was made from: its numbers and the hash of its parameters."""

import numpy as np

from eval.settings import params_hash, plain, versions
from trackers import siamfc, thor
from trackers.parts.scale_filter import ScaleFilterConfig


def test_plain_is_json():
    config = plain(thor.Config(siamfc.FIVE_SCALES, 1, 1, "static", 0.5, 0.5, 0.0))
    assert config["host"]["scales"] == 5 and config["bound"] == "static"
    assert plain(ScaleFilterConfig())["taps"] == ["layer1", "layer2"]


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
