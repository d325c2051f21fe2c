"""MemTrack's checkpoint: names by their ends, and what the converter says where it cannot go on."""

import sys
from functools import lru_cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import trackers
from eval import convert
from trackers.nets import alexnet, models
from trackers.weights import WeightsError, files
from trackers.weights.convert import from_peer
from trackers.weights.peers import memtrack

SCOPES = {"backbone": "feature_extraction/", "head": ""}
OUTSIDE_THE_LOOP = ("c_state", "h_state")
LSTM = "RNN/0/layer_norm_basic_lstm_cell/kernel"


@lru_cache
def params():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.integers(-99, 99, leaf.shape).astype(np.float32), models.expected_variables("memtrack")
    )


def checkpoint() -> dict[str, np.ndarray]:
    """The variables as the authors' scopes would name them, with what Adam keeps of some."""
    state = {"global_step": np.int64(100_000), "beta1_power": np.float32(0), "beta2_power": np.float32(0)}
    for path, leaf in flatten_dict(params()).items():
        part, _, module, _ = path
        if path == memtrack.LSTM:
            state[LSTM] = leaf
            continue
        scope = SCOPES.get(part, "" if module in OUTSIDE_THE_LOOP else "RNN/")
        scope += "layer_norm_basic_lstm_cell/" if module.startswith("norm_") else ""
        state[scope + memtrack.name(path)] = leaf.reshape(memtrack.shape(path, leaf.shape))
    slots = {f"{name}/{slot}": value for name, value in state.items() if "bias" in name for slot in ("Adam", "Adam_1")}
    return state | slots


def test_names_are_matched_by_their_ends():
    state = checkpoint()
    assert {"feature_extraction/conv3_bn/moving_mean", "RNN/add_vector/kernel", "bn_response/gamma"} <= set(state)
    assert state["RNN/score/kernel"].shape == (1, 1, 256, 1)
    found, dropped = from_peer(state, "memtrack", "file")
    jax.tree.map(np.testing.assert_array_equal, found, params())
    assert {"global_step", "beta1_power", "c_state/bias/Adam_1"} <= set(dropped)
    assert len(state) == len(dropped) + len(jax.tree.leaves(found))


def test_what_does_not_match_is_listed():
    state = checkpoint()
    state["other/c_state/kernel"] = state["c_state/kernel"]  # two that end alike
    state["RNN/score/kernel"] = state["RNN/score/kernel"][0, 0]
    state["RNN/mystery"] = state.pop("bn_response/beta")
    with pytest.raises(WeightsError, match=r"^[^\n]*$") as caught:
        from_peer(state, "memtrack", "file")
    message = str(caught.value)
    assert "missing: bn_response/beta;" in message
    assert "unexpected: RNN/mystery, other/c_state/kernel;" in message
    assert "score/kernel is [256, 1] instead of [1, 1, 256, 1]" in message


def run(*arguments) -> int:
    return convert.main([*map(str, arguments), "--model", "memtrack"])


def test_the_command(tmp_path, monkeypatch, capsys):
    """A checkpoint through a stand-in of TensorFlow's reader."""
    state, out = checkpoint(), tmp_path / "memtrack.safetensors"
    asked = []

    def load_checkpoint(prefix):
        asked.append(prefix)
        shapes = {name: value.shape for name, value in state.items()}
        return SimpleNamespace(get_variable_to_shape_map=lambda: shapes, get_tensor=state.__getitem__)

    stand_in = SimpleNamespace(train=SimpleNamespace(load_checkpoint=load_checkpoint))
    monkeypatch.setitem(sys.modules, "tensorflow", stand_in)
    index = tmp_path / "model.ckpt-100000.index"
    index.write_bytes(b"index")
    assert run(index, out) == 0, capsys.readouterr().err
    assert asked == [str(tmp_path / "model.ckpt-100000")]
    jax.tree.map(np.testing.assert_array_equal, trackers.load_params("memtrack", out), params())
    info = files.read_metadata(out)["info"]
    assert info["batch_norm_epsilon"] == 1e-3 and "inferred" in info["names"]

    capsys.readouterr()
    state.pop(LSTM)
    assert run(index, out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "inferred from the authors' code" in line and "missing: lstm/kernel" in line

    stand_in.train.load_checkpoint = lambda prefix: 1 / 0
    assert run(index, out) == 1 and "cannot be read by TensorFlow: division" in capsys.readouterr().err
    assert run(tmp_path / "model.ckpt-1", out) == 1 and "not the .index file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert run(index, out) == 1 and "pip install 'jaxtrack[tensorflow]'" in capsys.readouterr().err


def test_a_backbone_of_siamfc_gives_the_same_features():
    rng = np.random.default_rng(1)
    widths = (8, 8, 8, 8, 8)
    theirs, ours = alexnet.siamfc().clone(widths=widths), alexnet.memtrack().clone(widths=widths)
    images = jnp.asarray(rng.uniform(0, 255, (2, 95, 95, 3)), jnp.float32)
    shapes = jax.eval_shape(theirs.init, jax.random.key(0), images)

    def draw(path, leaf):
        scale = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0.1
        centered = scale * rng.normal(size=leaf.shape)
        return np.float32(np.exp(centered) if path[-1].key in ("var", "scale") else centered)

    backbone = jax.tree_util.tree_map_with_path(draw, shapes)
    converted = alexnet.memtrack_from_siamfc(backbone)
    expected_shapes = jax.eval_shape(ours.init, jax.random.key(0), images)
    assert jax.tree.map(np.shape, converted) == jax.tree.map(np.shape, dict(expected_shapes))
    (expected,), (actual,) = jax.jit(theirs.apply)(backbone, images), jax.jit(ours.apply)(converted, images)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))
