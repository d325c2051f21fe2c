"""The peers' tensor names and layouts -> the project's parameters.

Two families: pytracking's checkpoints (ATOM, DiMP) and torchvision's ResNets, the latter also with batch
normalization folded into biases of the convolutions. For every expected tensor the source's name follows from
its path, so that nothing is matched by shape or by order.
"""

import re
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trackers.nets.models import expected_variables
from trackers.nets.resnet import BATCH_NORM_EPSILON, ResNet
from trackers.weights.files import raise_problems

Params = Any
State = dict[str, np.ndarray]

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def convert(state: State, model: str, source: str) -> tuple[Params, list[str]]:
    """A peer's state dict -> (float32 parameters of `model`, the sorted names that were dropped on purpose).

    source: the file's name, for messages. What may be dropped says `droppable`; any other name too many is an
    error. Raises `WeightsError` that lists everything missing, unexpected and misshapen.
    """
    prefix = "feature_extractor." if any(name.startswith("feature_extractor.") for name in state) else ""
    expected = flatten_dict(expected_variables(model))
    names = {path: source_name(path, prefix, model) for path in expected}
    dropped = set(state) & droppable(prefix, state)
    state = {name: value for name, value in state.items() if name not in dropped}
    if "conv1.bias" in state and "bn1.weight" not in state:
        state = unfold_batch_norm(state)
    present = {path: name for path, name in names.items() if name in state}
    problems = {
        "missing": sorted(set(names.values()) - set(state)),
        "unexpected": sorted(set(state) - set(names.values())),
        "wrong": [
            f"{name} is {list(state[name].shape)} instead of {list(wanted)}"
            for path, name in sorted(present.items(), key=lambda item: item[1])
            if state[name].shape != (wanted := source_shape(path, expected[path].shape))
        ],
    }
    raise_problems(source, problems)
    converted = {path: _to_channels_last(path, state[name]) for path, name in names.items()}
    return unflatten_dict(converted), sorted(dropped)


def source_name(path: tuple[str, ...], prefix: str, model: str) -> str:
    """The peer's name of the tensor at `path` = (part, collection, module .., leaf)."""
    _part, _, *modules, leaf = path
    return prefix + ".".join(map(_resnet_module, modules)) + "." + LEAVES[leaf]


def source_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The peer's shape of the tensor whose shape here is `shape`."""
    if len(shape) == 4:
        kernel_h, kernel_w, inputs, outputs = shape
        return (outputs, inputs, kernel_h, kernel_w)
    return shape


def droppable(prefix: str, state: State) -> set[str]:
    """Every name that a source may have and that means nothing here.

    The backbone's last stage and classification layer, which no tracker reads, and the counters of batch
    normalization.
    """
    whole = ResNet(50 if f"{prefix}layer1.0.conv3.weight" in state else 18, "layer4")
    shapes = jax.eval_shape(lambda: whole.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
    backbone = {source_name(("backbone", *path), prefix, "") for path in flatten_dict(shapes)}
    last = {name for name in backbone if name.startswith(f"{prefix}layer4.")}
    folded = {name.removesuffix("weight") + "bias" for name in last if name.endswith("weight")}
    means = (name.removesuffix("running_mean") for name in state if name.endswith(".running_mean"))
    counters = {name + "num_batches_tracked" for name in means}
    return last | folded | counters | {f"{prefix}fc.weight", f"{prefix}fc.bias"}


def unfold_batch_norm(state: State) -> State:
    """torchvision names with conv + bias -> the same network with an explicit batch normalization.

    Scale 1, bias = the folded bias, mean 0, variance 1 - epsilon: exact with stored statistics.
    """
    unfolded = {}
    for name, value in state.items():
        if not name.endswith(".bias"):
            unfolded[name] = value
            continue
        norm = re.sub(r"conv(\d)$", r"bn\1", name.removesuffix(".bias"))
        norm = re.sub(r"downsample\.0$", "downsample.1", norm)
        one = np.ones_like(value, np.float32)
        unfolded |= {
            f"{norm}.weight": one,
            f"{norm}.bias": value,
            f"{norm}.running_mean": 0 * one,
            f"{norm}.running_var": one - np.float32(BATCH_NORM_EPSILON),
        }
    return unfolded


def _resnet_module(name: str) -> str:
    name = re.sub(r"^(layer\d)_(\d+)$", r"\1.\2", name)
    return {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(name, name)


def _to_channels_last(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(value, np.float32)
