"""pytracking's tensor names and layouts (ATOM, DiMP), and those of torchvision's ResNets, which it builds on.

The ResNets also with batch normalization folded into biases of the convolutions.
"""

import re
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


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`, of pytracking or of torchvision."""
    prefix = PYTRACKING_BACKBONE if any(name.startswith(PYTRACKING_BACKBONE) for name in state) else ""
    unused = droppable(model, prefix, state)
    if "conv1.bias" in state and "bn1.weight" not in state:
        folded = {name: value for name, value in state.items() if name not in unused}
        state = unfold_batch_norm(folded) | {name: state[name] for name in unused & set(state)}
    return Source(state, partial(source_name, prefix=prefix), source_shape, _value, unused)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    return {"input": "RGB 0..255, trackers.nets.resnet.normalize", "batch_norm_epsilon": BATCH_NORM_EPSILON}


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


def droppable(model: str, prefix: str, state: State) -> set[str]:
    """Every name that a source of `model` may have and that means nothing here.

    The backbone's last stage and classification layer, which no tracker reads, the counters of batch
    normalization and, where `model` is a backbone only, the other parts of the trackers.
    """
    depth = 50 if f"{prefix}layer1.0.conv3.weight" in state else 18
    unused = {prefix + name for name in (*_last_stage(depth), "fc.weight", "fc.bias")}
    parts = set()
    if set(models.networks(model)) == {"backbone"}:
        ours = [name for name in models.names() if models.get(name).peer == "pytracking"]
        paths = {path for name in ours for path in flatten_dict(models.expected_variables(name))}
        parts = {source_name(path) for path in paths if path[0] != "backbone"}
    return unused | counters(state) | parts


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
def _last_stage(depth: int) -> set[str]:
    """torchvision's names below layer4, and of the biases there once batch normalization is folded into them."""
    whole = ResNet(depth, last_layer="layer4")
    shapes = jax.eval_shape(lambda: whole.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
    names = {source_name(("backbone", *path), "") for path in flatten_dict(shapes)}
    last = {name for name in names if name.startswith("layer4.")}
    return last | {name.removesuffix("weight") + "bias" for name in last if name.endswith("weight")}


def _value(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """The peer's tensor in our layout; `path` tells the linear layers that flatten a feature map."""
    if "optimizer" in path:
        value = value.squeeze()
    elif path[-2:] == ("linear", "kernel"):
        bins = PREDICTION_BINS[("fc3_rt", "fc4_rt").index(path[-3])]
        by_channel = value.reshape(value.shape[0], -1, bins, bins)  # the peers flatten channels first
        return np.asarray(by_channel.transpose(2, 3, 1, 0).reshape(-1, value.shape[0]), np.float32, order="C")
    return to_channels_last(path, value)
