"""The Siamese peers' tensor names and layouts: siamfc-pytorch, DaSiamRPN, pysot, and MobileNetV2 from ImageNet.

Networks here take raw RGB 0..255. Where a peer reads BGR, the input channels of its first convolution are reversed.
"""

from functools import partial

import numpy as np

from trackers.nets.alexnet import SIAMFC_BATCH_NORM
from trackers.nets.mobilenet import LAYERS as MOBILENET_LAYERS
from trackers.nets.mobilenet import STEM_CHANNELS as MOBILENET_STEM
from trackers.nets.resnet import BATCH_NORM_EPSILON, IMAGENET_MEAN, IMAGENET_STD
from trackers.weights.layout import (
    LEAVES,
    Path,
    Source,
    State,
    norm_with_bias,
    resnet_modules,
    to_channels_last,
    torch_shape,
)

# index of a convolution in a torch Sequential of the AlexNet; its batch normalization comes next
ALEXNET_INDEX = {"1": 0, "2": 4, "3": 8, "4": 11, "5": 14}
MOBILENET_INDEX = {"expand": 0, "expand_bn": 1, "depthwise": 3, "depthwise_bn": 4, "project": 6, "project_bn": 7}
FIRST_CONVOLUTIONS = (("conv0", "kernel"), ("conv1", "kernel"))
DASIAMRPN_HEAD = {
    "cls_template": "conv_cls1",
    "cls_search": "conv_cls2",
    "loc_template": "conv_r1",
    "loc_search": "conv_r2",
    "loc_adjust": "regress_adjust",
}
PYSOT_BLOCKS = {"template_block": "conv_kernel", "search_block": "conv_search", "hidden": "head", "output": "head"}
MODEL_FAMILIES = {
    "siamfc": "siamfc-pytorch",
    "siamrpn": "DaSiamRPN",
    "siamrpn_big": "DaSiamRPN",
    "siamrpnpp_alexnet": "pysot",
    "siamrpnpp_mobilenetv2": "pysot",
    "siamrpnpp_resnet50": "pysot",
    "siamrpnpp_resnet50_otb": "pysot",
    "siamrpnpp_resnet50_lt": "pysot",
    "mobilenetv2": "ImageNet",
}


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know: {"input", "batch_norm_epsilon"}."""
    raw = "RGB 0..255, raw"
    if MODEL_FAMILIES[model] == "ImageNet":
        raw += "; ImageNet mean and standard deviation are folded into the first convolution"
    siamfc = MODEL_FAMILIES[model] == "siamfc-pytorch"
    return {"input": raw, "batch_norm_epsilon": SIAMFC_BATCH_NORM["epsilon"] if siamfc else BATCH_NORM_EPSILON}


def source(state: State, model: str) -> Source:
    """How the tensors of `model`, one of `MODEL_FAMILIES`, are found in `state`."""
    match MODEL_FAMILIES[model]:
        case "ImageNet":
            return _mobilenet_source(state)
        case "siamfc-pytorch":
            bias = {("head", "params", "bias"): np.zeros((), np.float32)}
            return Source(state, _siamfc_name, torch_shape, to_channels_last, set(), bias)
        case "DaSiamRPN":
            return Source(state, _dasiamrpn_name, torch_shape, _from_bgr, set())
    layers = any(name.startswith("backbone.layer1.0.") for name in state)
    return Source(state, partial(_pysot_name, model, layers), torch_shape, _from_bgr, set())


def _mobilenet_source(state: State) -> Source:
    """ImageNet's MobileNetV2 of convolutions with bias: `conv_<id>_weight` and `conv_<id>_bias`.

    Batch normalization adds the bias and does nothing else. The first block's expansion, absent there, starts as the
    identity. The first convolution takes raw images: with w' = w / (255 s) and b' = b - sum(w m / s) of the means m and
    standard deviations s of the colors, exact because it has no padding.
    """
    ids, end = _mobilenet_ids()
    std, mean = (np.reshape(color, (3, 1, 1)) for color in (IMAGENET_STD, IMAGENET_MEAN))

    def name(path: Path) -> str:
        *module, leaf = path[2:]
        return f"conv_{ids[tuple(module)]}_{'weight' if leaf == 'kernel' else 'bias'}"

    def value(path: Path, tensor: np.ndarray) -> np.ndarray:
        if path[2] == "conv0":
            tensor = tensor.astype(np.float64) / (255 * std)
        if path[2] == "bn0":
            tensor = tensor - np.sum(state["conv_0_weight"].astype(np.float64) / std * mean, (1, 2, 3))
        return to_channels_last(path, tensor)

    constants = _adding(("layer1_0", "expand_bn"), np.zeros(MOBILENET_STEM, np.float32))
    identity = np.eye(MOBILENET_STEM, dtype=np.float32)
    constants[("backbone", "params", "layer1_0", "expand", "kernel")] = identity[None, None]
    for module, identifier in ids.items():
        bias = state.get(f"conv_{identifier}_bias")
        if bias is not None and module[-1].endswith(("bn", "bn0")):
            added = _adding(module, bias.astype(np.float32))
            constants |= {path: tensor for path, tensor in added.items() if path[-1] != "bias"}
    head = {f"conv_{end}_weight", f"conv_{end}_bias", f"gemm_{end + 9}_bias"}
    return Source(state, name, torch_shape, value, head, constants)


def _mobilenet_ids() -> tuple[dict[tuple[str, ...], int], int]:
    """(module here -> the number of its operation in the network, the number of the convolution after the last).

    A convolution, a ReLU6 and the sum with a shortcut are an operation each.
    """
    ids = {("conv0",): 0, ("bn0",): 0}
    operation, channels = 2, MOBILENET_STEM
    for layer, (expansion, features, blocks, _, _) in enumerate(MOBILENET_LAYERS, 1):
        for block in range(blocks):
            for module in ("expand", "depthwise", "project"):
                if module == "expand" and expansion == 1:
                    continue
                ids |= {(f"layer{layer}_{block}", name): operation for name in (module, f"{module}_bn")}
                operation += 1 if module == "project" else 2
            operation += channels == features
            channels = features
    return ids, operation


def _adding(module: tuple[str, ...], bias: np.ndarray) -> dict[Path, np.ndarray]:
    """The tensors of a batch normalization that only adds `bias`."""
    norm = norm_with_bias("norm", bias)
    collections = {"scale": "params", "bias": "params", "mean": "batch_stats", "var": "batch_stats"}
    return {
        ("backbone", collection, *module, leaf): norm[f"norm.{LEAVES[leaf]}"]
        for leaf, collection in collections.items()
    }


def _siamfc_name(path: Path) -> str:
    _, _, module, leaf = path
    return f"backbone.conv{module[-1]}.{_is_norm(module)}.{LEAVES[leaf]}"


def _dasiamrpn_name(path: Path) -> str:
    part, _, module, leaf = path
    if part == "backbone":
        return f"featureExtract.{ALEXNET_INDEX[module[-1]] + _is_norm(module)}.{LEAVES[leaf]}"
    return f"{DASIAMRPN_HEAD[module]}.{LEAVES[leaf]}"


def _pysot_name(model: str, layers: bool, path: Path) -> str:
    """layers: the AlexNet's names are of the newer form, `layer1` to `layer5`."""
    part, _, *modules, leaf = path
    if part == "backbone":
        name = _pysot_backbone(model, layers, modules)
    elif part == "neck":
        level, norm = int(modules[0][-1]), _is_norm(modules[0])
        name = f"neck.downsample{level + 2}.downsample.{norm}"
    elif not modules:
        return f"rpn_head.{leaf}"
    else:
        output, level = modules[0].split("_")
        levels = "" if model == "siamrpnpp_alexnet" else f"rpn{int(level) + 2}."
        block, *layer = modules[1:]
        index = 3 if block == "output" else _is_norm(layer[0])
        name = f"rpn_head.{levels}{output}.{PYSOT_BLOCKS[block]}.{index}"
    return f"{name}.{LEAVES[leaf]}"


def _pysot_backbone(model: str, layers: bool, modules: list[str]) -> str:
    if "resnet" in model:
        return f"backbone.{resnet_modules(modules)}"
    first = modules[0]
    if len(modules) == 2:
        layer, block = first.split("_")
        return f"backbone.{layer}.{block}.conv.{MOBILENET_INDEX[modules[1]]}"
    if layers or "mobilenet" in model:
        return f"backbone.layer{first[-1]}.{_is_norm(first)}"
    return f"backbone.features.{ALEXNET_INDEX[first[-1]] + _is_norm(first)}"


def _is_norm(module: str) -> int:
    """Batch normalization follows its convolution in every torch Sequential of these peers: 0 or 1."""
    return int(module.startswith("bn"))


def _from_bgr(path: Path, value: np.ndarray) -> np.ndarray:
    if path[:2] == ("backbone", "params") and path[2:] in FIRST_CONVOLUTIONS:
        value = value[:, ::-1]
    return to_channels_last(path, value)
