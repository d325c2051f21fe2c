"""A file of weights for a model, whoever wrote it: ours, a reference checkpoint, or a public backbone for our heads.

What a file holds decides how it is read; its name does not matter.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trackers.nets import models
from trackers.nets.alexnet import memtrack_from_siamfc
from trackers.weights import WeightsError, files, heads, released, trees
from trackers.weights.convert import backbone_model, from_peer, holds_backbone_alone, reader, shares_names
from trackers.weights.layout import State
from trackers.weights.torch_reader import is_safetensors, read_state_dict

Params = Any


class Whole(NamedTuple):
    """All parameters of a model, and how they came together."""

    params: Params
    read: str  # the model that the file itself holds: the wanted one, or its backbone
    tensors: int  # in the file
    dropped: list[str]  # of them, those that mean nothing here
    heads: Path | None = None  # the file that the other parts are from
    heads_metadata: dict[str, Any] | None = None


def is_ours(path: Path) -> bool:
    """Whether `path` is a file of `files.save`; `WeightsError` where it is none at all, or damaged."""
    try:
        return is_safetensors(path) and files.FORMAT in files.plain_metadata(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def whole(path: str | Path, model: str, state: State | None = None, heads_file: Path | None = None) -> Whole:
    """All parameters of `model` from `path`, where it holds them, or its backbone, and heads of `model` are at hand.

    A model that is a backbone alone takes that of any file of ours with the same one.

    state: what `path` holds, where that has been read already. heads_file: of `train.release`, and `path` then is the
    backbone; None: those that come with the package, if they are needed.
    Raises `WeightsError`, one line that names the file, says what it holds, and what was wanted.
    """
    path = Path(path)
    if state is None and is_ours(path):
        return _ours(path, model, heads_file)
    row, alone = models.get(model), backbone_model(model)
    if row.peer is None and (heads_file or released.heads(model)) is None:
        raise WeightsError(f"{path}: {model} is of this project alone, and takes files of this project alone")
    state = _state(path, row.peer and reader(model)) if state is None else state
    if row.peer and not heads_file and not holds_backbone_alone(state, model):
        params, dropped = from_peer(state, model, _named(path, model))
        return Whole(params, model, len(state), dropped)
    heads_file = heads_file or _heads(path, model)
    params, dropped = from_peer(state, alone, _named(path, alone))
    return _joined(path, model, Whole(params, alone, len(state), dropped), heads_file)


def parts(path: str | Path, model: str) -> Params:
    """The parts of `model` that `path` holds, to train it from: all, its backbone, and what else is of the same kind.

    A file of ours, a reference checkpoint, or a backbone alone; for MemTrack also SiamFC's, made into its backbone. To
    a student of `train.distill` the backbone of another model is its teacher.
    Raises `WeightsError`, one line, where none fits.
    """
    path = Path(path)
    if is_ours(path):
        source = files.read_metadata(path)["model"]
        if source not in models.names():
            raise WeightsError(f"{path}: made for {source!r}, which is no model of {', '.join(models.names())}")
        found = _checked(path, source, partly=True)
    else:
        source, found = _parts_of_peer(path, model)
    networks, expected = models.networks(model), models.expected_variables(model)
    theirs = models.networks(source)  # of which another kind of head, say, is no start for this one
    found = {part: one for part, one in found.items() if part == "backbone" or theirs[part] == networks.get(part)}
    if source == "siamfc" and "memory" in networks:
        found = {"backbone": memtrack_from_siamfc(found["backbone"])}
    if "teacher" in networks and source != model:
        found = {"teacher": found["backbone"]}
    for part, variables in found.items():
        if part in expected and jax.tree.map(jnp.shape, variables) != jax.tree.map(jnp.shape, expected[part]):
            raise WeightsError(f"{path}: its {part} (of model {source}) does not fit {model}")
    return {part: variables for part, variables in found.items() if part in networks}


def _parts_of_peer(path: Path, model: str) -> tuple[str, Params]:
    """(the model that a checkpoint of a reference implementation holds, its parts)."""
    row, alone = models.get(model), backbone_model(model)
    if row.peer is None and alone is None:
        raise WeightsError(f"{path}: {model} is of this project alone, and starts from files of this project alone")
    state = _state(path, row.peer and reader(model))
    if row.peer is None:
        return alone, from_peer(state, alone, _named(path, alone))[0]
    if "memory" in row.parts and shares_names(state, "siamfc"):
        return "siamfc", from_peer(state, "siamfc", str(path))[0]
    part = "backbone" if holds_backbone_alone(state, model) else None
    return model, from_peer(state, model, _named(path, model), part)[0]


def _ours(path: Path, model: str, heads_file: Path | None) -> Whole:
    """`whole` of a file of this project."""
    metadata = files.read_metadata(path)
    found, tensors = metadata["model"], metadata["sha256"]
    networks, alone = models.networks(model), {"backbone": models.networks(model)["backbone"]}
    with_backbone = any(tensor.startswith("backbone/") for tensor in tensors)
    if found == model and heads_file is None:
        if not with_backbone:
            join = f"python -m eval.convert BACKBONE {model}.safetensors --model {model} --heads {path}"
            raise WeightsError(f"{path}: heads without a backbone; join them: {join}")
        return Whole(_checked(path, model), model, len(tensors), [])
    same = found in models.names() and models.networks(found)["backbone"] == alone["backbone"]
    if alone == networks and same and with_backbone:
        held = _checked(path, found, partly=True)
        return Whole({"backbone": held["backbone"]}, found, len(tensors), [])
    if found not in models.names() or models.networks(found) != alone or alone == networks:
        alone = " (its backbone alone, for heads)" if found == model else ""
        raise WeightsError(f"{path}: made for model {found}; needed is {model}{alone}")
    backbone = Whole(_checked(path, found), found, len(tensors), [])
    return _joined(path, model, backbone, heads_file or _heads(path, model))


def _checked(path: Path, model: str, partly: bool = False) -> Params:
    """`files.load` of a file that has to hold all of `model`; where its tensors are known to, nothing is traced.

    partly: it may hold its backbone without other parts, as `train.release` writes it.
    """
    if trees.DIGESTS.get(model) == files.tree_digest(path):
        return files.load(path, None)
    expected = models.expected_variables(model)
    kept = files.read_metadata(path)["info"].get("parts", ()) if partly else ()
    if "backbone" in kept:
        expected = {part: variables for part, variables in expected.items() if part in kept}
    return files.load(path, expected)


def _joined(path: Path, model: str, backbone: Whole, heads_file: Path) -> Whole:
    params, metadata = heads.join(heads_file, model, backbone.params["backbone"], str(path))
    return backbone._replace(params=params, heads=heads_file, heads_metadata=metadata)


def _heads(path: Path, model: str) -> Path:
    """The heads of `model` that come with the package."""
    file = released.heads(model)
    if file is None:
        needed = " and ".join(part for part in models.networks(model) if part != "backbone")
        join = f"python -m eval.convert {path} {model}.safetensors --model {model} --heads FILE"
        raise WeightsError(f"{path}: a backbone alone, and no {needed} of {model} come with the package; join: {join}")
    return file


def _state(path: Path, peer: Any) -> State:
    if getattr(peer, "TENSORFLOW", False) and path.suffix == ".index":
        raise WeightsError(f"{path}: a checkpoint of TensorFlow; eval.convert reads it")
    return read_state_dict(path)


def _named(path: Path, model: str) -> str:
    """The file in messages, with what is uncertain about the names in it."""
    conventions = reader(model).conventions(model)
    return f"{path} ({conventions['names']})" if "names" in conventions else str(path)
