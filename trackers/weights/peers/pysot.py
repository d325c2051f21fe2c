"""pysot's tensor names and layouts (SiamRPN++). It reads BGR: the first convolution's input channels are reversed."""

from functools import partial

import flax.linen as nn

from trackers.nets import models
from trackers.nets.dilated_resnet import DilatedResNet50
from trackers.nets.mobilenet import MobileNetV2
from trackers.nets.resnet import BATCH_NORM_EPSILON
from trackers.weights.layout import (
    ALEXNET_INDEX,
    LEAVES,
    Path,
    Source,
    State,
    from_bgr,
    is_norm,
    resnet_modules,
    to_bgr,
    torch_shape,
)

MOBILENET_INDEX = {"expand": 0, "expand_bn": 1, "depthwise": 3, "depthwise_bn": 4, "project": 6, "project_bn": 7}
BLOCKS = {"template_block": "conv_kernel", "search_block": "conv_search", "hidden": "head", "output": "head"}


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`."""
    layers = any(name.startswith("backbone.layer1.0.") for name in state)
    return Source(state, partial(_name, models.networks(model), layers), torch_shape, from_bgr, set(), back=to_bgr)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    return {"project": "pysot", "input": "RGB 0..255, raw", "batch_norm_epsilon": BATCH_NORM_EPSILON}


def _name(parts: dict[str, nn.Module], layers: bool, path: Path) -> str:
    """parts: the networks. layers: the AlexNet's names are of the newer form, `layer1` to `layer5`."""
    part, _, *modules, leaf = path
    if part == "backbone":
        name = _backbone(parts["backbone"], layers, modules)
    elif part == "neck":
        level, norm = int(modules[0][-1]), is_norm(modules[0])
        name = f"neck.downsample{level + 2}.downsample.{norm}"
    elif not modules:
        return f"rpn_head.{leaf}"
    else:
        output, level = modules[0].split("_")
        levels = "" if "neck" not in parts else f"rpn{int(level) + 2}."
        block, *layer = modules[1:]
        index = 3 if block == "output" else is_norm(layer[0])
        name = f"rpn_head.{levels}{output}.{BLOCKS[block]}.{index}"
    return f"{name}.{LEAVES[leaf]}"


def _backbone(network: nn.Module, layers: bool, modules: list[str]) -> str:
    if isinstance(network, DilatedResNet50):
        return f"backbone.{resnet_modules(modules)}"
    first = modules[0]
    if len(modules) == 2:
        layer, block = first.split("_")
        return f"backbone.{layer}.{block}.conv.{MOBILENET_INDEX[modules[1]]}"
    if layers or isinstance(network, MobileNetV2):
        return f"backbone.layer{first[-1]}.{is_norm(first)}"
    return f"backbone.features.{ALEXNET_INDEX[first[-1]] + is_norm(first)}"
