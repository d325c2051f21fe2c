"""A peer's state dict -> the project's parameters, and back, by the reader that the model's row names.

For every expected tensor the source's name follows from its path, so that nothing is matched by shape or by order.
"""

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trackers.nets import models
from trackers.weights import WeightsError
from trackers.weights.files import raise_problems
from trackers.weights.layout import State, counters

Params = Any


def from_peer(state: State, model: str, source: str, part: str | None = None) -> tuple[Params, list[str]]:
    """A peer's state dict -> (float32 parameters of `model`, the sorted names that were dropped on purpose).

    source: the file's name, for messages. part: the only one that is wanted, and that `state` has; None: all. A reader
    names what may be dropped; any other name too many is an error.
    Raises `WeightsError` that lists everything missing, unexpected and misshapen or, where no name is known, what there
    is instead.
    """
    found = reader(model).source(state, model)
    expected = {
        path: leaf
        for path, leaf in flatten_dict(models.expected_variables(model)).items()
        if path not in found.constants and part in (None, path[0])
    }
    names = {path: found.name(path) for path in expected}
    dropped = set(found.state) & (found.unused | counters(found.state))
    state = {name: value for name, value in found.state.items() if name not in dropped}
    present = {path: name for path, name in names.items() if name in state}
    if not present:
        written = reader(model).source({}, model)
        wanted = described({written.name(path) for path in expected})
        project = reader(model).conventions(model).get("project", "its reference implementation")
        raise WeightsError(
            f"{source}: holds {described(state)}, and nothing of {model}, which {project} has as {wanted}"
        )
    problems = {
        "missing": sorted(set(names.values()) - set(state)),
        "unexpected": sorted(set(state) - set(names.values())),
        "wrong": [
            f"{name} is {list(state[name].shape)} instead of {list(wanted)}"
            for path, name in sorted(present.items(), key=lambda item: item[1])
            if state[name].shape != (wanted := found.shape(path, expected[path].shape))
        ],
    }
    raise_problems(source, problems)
    converted = {path: found.value(path, state[name]) for path, name in names.items()}
    constants = {path: value for path, value in found.constants.items() if part in (None, path[0])}
    return unflatten_dict({**converted, **constants}), sorted(dropped)


class Written(NamedTuple):
    """A peer's state dict, made of parameters here."""

    state: State
    filled: list[str]  # names of tensors that the peer has and we do not: zeros, and ones for variances
    lost: list[str]  # tensors here, as in our files, that the peer does not have and that differ from what it computes


def to_peer(params: Params, model: str, source: str, like: State | None = None, like_source: str = "") -> Written:
    """The inverse of `from_peer`: float32 parameters of `model` as the reference implementation's state dict, whole.

    like: a checkpoint of `model`, of the file `like_source`. The state dict has its names, where a project had several
    forms, and what we do not have comes from it. source: where the parameters are from, for messages.
    Raises `WeightsError`: no reference implementation has the model, or `like` does not fit it.
    """
    found = reader(model).source(like or {}, model)
    if found.back is None:
        raise WeightsError(f"{source}: no reference implementation takes the networks of {model}")
    if like is not None:
        from_peer(like, model, like_source)
        like = found.state
    flat = flatten_dict(params)
    state = {
        found.name(path): found.back(path, np.asarray(value))
        for path, value in flat.items()
        if path not in found.constants
    }
    if like is not None:
        state |= {name: value for name, value in like.items() if name not in state}
    besides = {**found.besides, **{name: () for name in counters({*state, *found.besides})}}
    filled = {name: shape for name, shape in besides.items() if name not in (like or state)}
    for name, shape in filled.items():
        dtype = np.int64 if name.endswith("num_batches_tracked") else np.float32
        state[name] = np.full(shape, name.endswith("running_var"), dtype)
    lost = ["/".join(path) for path, value in found.constants.items() if not np.array_equal(flat[path], value)]
    return Written(state, sorted(filled), lost)


def described(names: Iterable[str], limit: int = 4) -> str:
    """What a checkpoint holds, in a few words: the first parts of the names of its tensors."""
    names = list(names)
    groups = sorted({name.partition(".")[0] for name in names})
    more = ", ..." if len(groups) > limit else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({', '.join(groups[:limit])}{more})"


def holds_backbone_alone(state: State, model: str) -> bool:
    """Whether a checkpoint has tensors of the backbone of `model` and none of its other parts."""
    found = reader(model).source(state, model)
    names = {part: set() for part in models.networks(model)}
    for path in set(flatten_dict(models.expected_variables(model))) - set(found.constants):
        names[path[0]].add(found.name(path))
    heads = set().union(*(names[part] for part in names if part != "backbone"))
    return bool(heads) and not heads & set(found.state) and bool(names["backbone"] & set(found.state))


def shares_names(state: State, model: str) -> bool:
    """Whether a checkpoint has any tensor of `model`."""
    found = reader(model).source(state, model)
    return any(found.name(path) in found.state for path in flatten_dict(models.expected_variables(model)))


def backbone_model(model: str) -> str | None:
    """The model that is the backbone of `model` and nothing else, and that a public checkpoint holds; None if none."""
    wanted = {"backbone": models.networks(model)["backbone"]}
    return next((name for name in models.names() if models.networks(name) == wanted and models.get(name).peer), None)


def reader(model: str) -> ModuleType:
    """The module of `trackers.weights.peers` that reads checkpoints of `model`, or one of your own by its full name.

    WeightsError if no reference implementation has the model.
    """
    peer = models.get(model).peer
    if peer is None:
        raise WeightsError(f"no reference implementation has checkpoints of {model}")
    return importlib.import_module(peer if "." in peer else f"trackers.weights.peers.{peer}")
