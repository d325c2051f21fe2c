"""pytracking's tensor names and layouts (ATOM, DiMP), and those of torchvision's ResNets, which it builds on.

The ResNets also with batch normalization folded into biases of the convolutions.
"""

import re
from collections.abc import Mapping
from functools import lru_cache, partial

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from trackers.nets import models
from trackers.nets.iou_net import PREDICTION_BINS
from trackers.nets.resnet import BATCH_NORM_EPSILON, ResNet
from trackers.weights.layout import (
    LEAVES,
    Source,
    State,
    counters,
    norm_with_bias,
    resnet_modules,
    to_channels_first,
    to_channels_last,
    torch_shape,
)

OPTIMIZER = {
    "label_bins": "label_map_predictor.weight",
    "mask_bins": "target_mask_predictor.0.weight",
    "spatial_bins": "spatial_weight_predictor.weight",
    "log_step_length": "log_step_length",
    "filter_reg": "filter_reg",
}
PYTRACKING_BACKBONE = "feature_extractor."
OTHER_PARTS = ("bb_regressor.", "classifier.")
IMAGENET_CLASSES = 1000


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`, of pytracking or of torchvision.

    Both also have the backbone's last stage and classification layer, which no tracker reads.
    """
    backbone = models.networks(model)["backbone"]
    whole = any(name.startswith(PYTRACKING_BACKBONE) for name in state) if state else not _backbone_alone(model)
    prefix = PYTRACKING_BACKBONE if whole else ""
    besides = {prefix + name: shape for name, shape in _last_stage(backbone.depth, backbone.width).items()}
    unused = droppable(model, besides, state)
    if "conv1.bias" in state and "bn1.weight" not in state:
        folded = {name: value for name, value in state.items() if name not in unused}
        state = unfold_batch_norm(folded) | {name: state[name] for name in unused & set(state)}
    back = None if backbone.stride_first else _back  # the same names and another network in torchvision
    return Source(state, partial(source_name, prefix=prefix), source_shape, _value, unused, back=back, besides=besides)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    project = "torchvision" if _backbone_alone(model) else "pytracking"
    normalized = "RGB 0..255, trackers.nets.resnet.normalize"
    return {"project": project, "input": normalized, "batch_norm_epsilon": BATCH_NORM_EPSILON}


def _backbone_alone(model: str) -> bool:
    return set(models.networks(model)) == {"backbone"}


def source_name(path: tuple[str, ...], prefix: str = PYTRACKING_BACKBONE) -> str:
    """The peer's name of the tensor at `path` = (part, collection, module .., leaf)."""
    part, _, *modules, leaf = path
    if part == "backbone":
        return f"{prefix}{resnet_modules(modules)}.{LEAVES[leaf]}"
    if part == "iou_net":
        block, *layer = modules
        if layer and not block.endswith("_rt"):
            layer = ["0" if layer == ["conv"] else "1"]
        return ".".join(["bb_regressor", block, *layer, LEAVES[leaf]])
    match modules:
        case ["optimizer"]:
            return f"classifier.filter_optimizer.{OPTIMIZER[leaf]}"
        case ["filter_conv"]:
            return f"classifier.filter_initializer.filter_conv.{LEAVES[leaf]}"
        case [layer, *rest]:
            return ".".join(["classifier.feature_extractor", layer.removeprefix("layer_"), *rest, LEAVES[leaf]])
    raise ValueError(f"no peer has a tensor {'/'.join(path)}")


def source_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The peer's shape of the tensor at `path`, whose shape here is `shape`."""
    if "optimizer" in path:
        return (1, *shape, 1, 1) if shape else (1,)
    return torch_shape(path, shape)


def droppable(model: str, besides: Mapping[str, tuple[int, ...]], state: State) -> set[str]:
    """Every name that a source of `model` may have and that means nothing here.

    What it has `besides`, also with batch normalization folded into biases, the counters of batch normalization and,
    where `model` is a backbone only, the other parts of the trackers.
    """
    folded = {f"{name.removesuffix('weight')}bias" for name in besides if name.endswith("weight")}
    parts = set()
    if _backbone_alone(model) and any(name.startswith(OTHER_PARTS) for name in state):
        ours = [name for name in models.names() if models.get(name).peer == "pytracking"]
        paths = {path for name in ours for path in flatten_dict(models.expected_variables(name))}
        parts = {source_name(path) for path in paths if path[0] != "backbone"}
    return set(besides) | folded | counters({*besides, *state}) | parts


def unfold_batch_norm(state: State) -> State:
    """torchvision names with conv + bias -> the same network with an explicit batch normalization.

    Exact with stored statistics, see `norm_with_bias`.
    """
    unfolded = {}
    for name, value in state.items():
        if not name.endswith(".bias"):
            unfolded[name] = value
            continue
        norm = re.sub(r"conv(\d)$", r"bn\1", name.removesuffix(".bias"))
        norm = re.sub(r"downsample\.0$", "downsample.1", norm)
        unfolded |= norm_with_bias(norm, value)
    return unfolded


@lru_cache
def _last_stage(depth: int, width: int) -> dict[str, tuple[int, ...]]:
    """torchvision's names of layer4 and of the layer that classifies, and their shapes there."""
    whole = ResNet(depth, width, last_layer="layer4")
    variables = jax.eval_shape(lambda: whole.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
    found = {("backbone", *path): leaf.shape for path, leaf in flatten_dict(variables).items()}
    shapes = {source_name(path, ""): source_shape(path, shape) for path, shape in found.items()}
    last = {name: shape for name, shape in shapes.items() if name.startswith("layer4.")}
    channels = max(shape[0] for shape in last.values())
    return {**last, "fc.weight": (IMAGENET_CLASSES, channels), "fc.bias": (IMAGENET_CLASSES,)}


def _value(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """The peer's tensor in our layout; `path` tells the linear layers that flatten a feature map."""
    if "optimizer" in path:
        value = value.squeeze()
    elif path[-2:] == ("linear", "kernel"):
        bins = _bins(path)
        by_channel = value.reshape(value.shape[0], -1, bins, bins)  # the peers flatten channels first
        return to_channels_last(path, by_channel).reshape(-1, value.shape[0])
    return to_channels_last(path, value)


def _back(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """The inverse of `_value`."""
    if "optimizer" in path:
        return value.reshape(source_shape(path, value.shape))
    if path[-2:] == ("linear", "kernel"):
        bins = _bins(path)
        return to_channels_first(path, value.reshape(bins, bins, -1, value.shape[1])).reshape(value.shape[::-1])
    return to_channels_first(path, value)


def _bins(path: tuple[str, ...]) -> int:
    """Bins on a side of the feature map that the linear layer at `path` flattens."""
    return PREDICTION_BINS[("fc3_rt", "fc4_rt").index(path[-3])]
