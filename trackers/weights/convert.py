"""A peer's state dict -> the project's parameters, by the reader that the model's row names.

For every expected tensor the source's name follows from its path, so that nothing is matched by shape or by order.
"""

import importlib
from types import ModuleType
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from trackers.nets import models
from trackers.weights import WeightsError
from trackers.weights.files import raise_problems
from trackers.weights.layout import State, counters

Params = Any


def from_peer(state: State, model: str, source: str) -> tuple[Params, list[str]]:
    """A peer's state dict -> (float32 parameters of `model`, the sorted names that were dropped on purpose).

    source: the file's name, for messages. A reader names what may be dropped; any other name too many is an error.
    Raises `WeightsError` that lists everything missing, unexpected and misshapen.
    """
    found = reader(model).source(state, model)
    expected = {
        path: leaf
        for path, leaf in flatten_dict(models.expected_variables(model)).items()
        if path not in found.constants
    }
    names = {path: found.name(path) for path in expected}
    dropped = set(found.state) & (found.unused | counters(found.state))
    state = {name: value for name, value in found.state.items() if name not in dropped}
    present = {path: name for path, name in names.items() if name in state}
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
    return unflatten_dict({**converted, **found.constants}), sorted(dropped)


def holds_backbone_alone(state: State, model: str) -> bool:
    """Whether a checkpoint has tensors of the backbone of `model` and none of its other parts."""
    found = reader(model).source(state, model)
    names = {part: set() for part in models.networks(model)}
    for path in set(flatten_dict(models.expected_variables(model))) - set(found.constants):
        names[path[0]].add(found.name(path))
    heads = set().union(*(names[part] for part in names if part != "backbone"))
    return bool(heads) and not heads & set(found.state) and bool(names["backbone"] & set(found.state))


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
