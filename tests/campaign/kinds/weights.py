"""Weights in all containers, and exported trackers; on the narrow networks."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import trackers
from eval import export
from eval.convert import convert, convert_back
from tests.campaign.kinds.base import Kind, fixed_folder
from tests.helpers import bright_spot, narrow, torch_files
from trackers.nets import models
from trackers.weights import files, heads
from trackers.weights.convert import reader
from train import release
from train.run import initial_params

MODEL, HEADED = "siamfc", "dimp18"
INFO = {
    "config": {"datasets": [{"name": "drawn", "split": "train", "probability": 1.0}]}
    | {"loader": {"batch_size": 2}, "loop": {"seed": 0}},
    "versions": {"jax": "0"},
    "steps": 5,
}


@contextmanager
def readable_models() -> Iterator[None]:
    """`narrow_models`; the narrow SiamFC has checkpoints of the reference implementation, all have heads."""
    with narrow.narrow_models(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "RESPONSES", 8)  # as many as the narrow backbone has channels
        patch.setitem(models._MODELS, MODEL, replace(models.get(MODEL), peer="siamfc"))
        yield


@cache
def _params(model: str):
    """Numbers between 0.5 and 1: nothing is compiled for them."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(np.float32), models.expected_variables(model)
    )


def _peer_state() -> dict[str, np.ndarray]:
    """The narrow SiamFC under the names of the reference implementation."""
    expected = models.expected_variables(MODEL)["backbone"]
    source = reader(MODEL).source({}, MODEL)
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path({"backbone": expected}):
        names = tuple(key.key for key in path)
        drawn = np.random.default_rng(len(state)).normal(size=source.shape(names, leaf.shape))
        state[source.name(names)] = drawn.astype(np.float32)
    return state


def _make_torch(layout: str):
    def make(folder: Path) -> None:
        with torch_files.writer(folder / "checkpoint.pth") as writer:
            tensors = {name: writer.tensor(value) for name, value in _peer_state().items()}
            writer.write(layout, {"epoch": 3, "net": writer.state_dict(tensors), "settings": writer.alien({"a": 1})})

    return make


def _make_peer_safetensors(folder: Path) -> None:
    safetensors.numpy.save_file(_peer_state(), folder / "peer.safetensors")


def _convert_back(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        convert_back(_only(folder), Path(out) / "theirs.pth", "siamfc-pytorch")


def _fill_like(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        ours = fixed_folder(_make_parameters) / "weights.safetensors"
        convert_back(ours, Path(out) / "theirs.pth", "siamfc-pytorch", _only(folder))


def _convert(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        convert(_only(folder), Path(out) / "converted.safetensors", MODEL)


def _only(folder: Path) -> Path:
    """The first file of the folder, else the one that is gone."""
    return next(iter(sorted(folder.iterdir())), folder / "gone") if folder.is_dir() else folder / "gone"


def _make_parameters(folder: Path) -> None:
    files.save(folder / "weights.safetensors", _params(MODEL), model=MODEL, info=INFO)


def _load(folder: Path) -> None:
    trackers.load_params(MODEL, _only(folder))


def _start_training(folder: Path) -> None:
    initial_params(MODEL, 0, _only(folder))


def _release(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        release.release(_only(folder), Path(out) / "released.safetensors")


def _make_heads(folder: Path) -> None:
    params = _params(HEADED)
    kept = {part: params[part] for part in ("classifier", "iou_net")}
    info = {**INFO, "parts": list(kept), "backbone": heads.identify(HEADED, params["backbone"])}
    files.save(folder / "heads.safetensors", kept, model=HEADED, info=info, half=True)


def _join(folder: Path) -> None:
    heads.join(_only(folder), HEADED, _params(HEADED)["backbone"], "backbone.pth")


def _make_export(folder: Path) -> None:
    content = export.export_tracker(bright_spot.make(), bright_spot.PARAMS, (16, 24), platforms=("cpu",))
    (folder / "spot.stablehlo").write_bytes(content)


KINDS = {
    "weights.safetensors": Kind(_make_parameters, _load),
    "weights.start": Kind(_make_parameters, _start_training, quick=False),
    "weights.pth_zip": Kind(_make_torch("zip"), _convert),
    "weights.pth_legacy": Kind(_make_torch("legacy"), _convert),
    "weights.npz": Kind(lambda folder: np.savez(folder / "state.npz", **_peer_state()), _convert),
    "weights.peer_safetensors": Kind(_make_peer_safetensors, _load),
    "weights.direct": Kind(_make_torch("zip"), _load),
    "weights.direct_start": Kind(_make_torch("legacy"), _start_training, quick=False),
    "weights.back": Kind(_make_parameters, _convert_back),
    "weights.like": Kind(_make_torch("zip"), _fill_like),
    "weights.heads": Kind(_make_heads, _join, quick=False),
    "weights.release": Kind(_make_parameters, _release),
    "export.stablehlo": Kind(_make_export, lambda folder: print(export.describe(_only(folder)))),
}
