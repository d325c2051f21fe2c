"""ImageNet's MobileNetV2: torchvision's, or a file of convolutions with bias, `conv_<id>_weight` and `conv_<id>_bias`.

The first convolution takes raw images here: with w' = w / (255 s) and b' = b - sum(w m / s) of the means m and standard
deviations s of the colors, exact because it has no padding. The first block's expansion, absent there, starts as the
identity. So nothing is written back.
"""

import numpy as np

from trackers.nets.mobilenet import LAYERS, STEM_CHANNELS
from trackers.nets.resnet import BATCH_NORM_EPSILON, IMAGENET_MEAN, IMAGENET_STD
from trackers.weights.layout import (
    LEAVES,
    Path,
    Source,
    State,
    is_norm,
    norm_with_bias,
    to_channels_last,
    torch_shape,
)

STD, MEAN = (np.reshape(color, (3, 1, 1)) for color in (IMAGENET_STD, IMAGENET_MEAN))


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`."""
    return _folded(state) if any(name.startswith("conv_") for name in state) else _torchvision(state)


def _torchvision(state: State) -> Source:
    """Of torchvision, with explicit batch normalization."""
    blocks = {}
    for layer, (expansion, _, count, _, _) in enumerate(LAYERS, 1):
        for block in range(count):
            blocks[f"layer{layer}_{block}"] = (1 + len(blocks), expansion)

    def name(path: Path) -> str:
        *module, leaf = path[2:]
        if len(module) == 1:
            return f"features.0.{is_norm(module[0])}.{LEAVES[leaf]}"
        index, expansion = blocks[module[0]]
        step, _, norm = module[1].partition("_")
        at = ("expand", "depthwise", "project").index(step) - (expansion == 1)
        place = f"{at + bool(norm)}" if step == "project" else f"{at}.{int(bool(norm))}"
        return f"features.{index}.conv.{place}.{LEAVES[leaf]}"

    def value(path: Path, tensor: np.ndarray) -> np.ndarray:
        if path[2] == "conv0":
            tensor = tensor.astype(np.float64) / (255 * STD)
        if path[2] == "bn0" and path[-1] == "mean":
            tensor = tensor + _offset(state["features.0.0.weight"])
        return to_channels_last(path, tensor)

    end = f"features.{1 + len(blocks)}."
    head = {name for name in state if name.startswith((end, "classifier."))}
    return Source(state, name, torch_shape, value, head, _identity())


def _folded(state: State) -> Source:
    """Of convolutions with bias: batch normalization adds the bias and does nothing else."""
    ids, end = _ids()

    def name(path: Path) -> str:
        *module, leaf = path[2:]
        return f"conv_{ids[tuple(module)]}_{'weight' if leaf == 'kernel' else 'bias'}"

    def value(path: Path, tensor: np.ndarray) -> np.ndarray:
        if path[2] == "conv0":
            tensor = tensor.astype(np.float64) / (255 * STD)
        if path[2] == "bn0":
            tensor = tensor - _offset(state["conv_0_weight"])
        return to_channels_last(path, tensor)

    constants = _identity()
    for module, identifier in ids.items():
        bias = state.get(f"conv_{identifier}_bias")
        if bias is not None and module[-1].endswith(("bn", "bn0")):
            added = _adding(module, bias.astype(np.float32))
            constants |= {path: tensor for path, tensor in added.items() if path[-1] != "bias"}
    head = {f"conv_{end}_weight", f"conv_{end}_bias", f"gemm_{end + 9}_bias"}
    return Source(state, name, torch_shape, value, head, constants)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    raw = "RGB 0..255, raw; ImageNet mean and standard deviation are folded into the first convolution"
    return {"project": "torchvision", "input": raw, "batch_norm_epsilon": BATCH_NORM_EPSILON}


def _offset(kernel: np.ndarray) -> np.ndarray:
    """What the first convolution, of PyTorch's layout, gives less for images whose mean is removed."""
    return np.sum(kernel.astype(np.float64) / STD * MEAN, (1, 2, 3))


def _identity() -> dict[Path, np.ndarray]:
    """The first block's expansion."""
    kernel = np.eye(STEM_CHANNELS, dtype=np.float32)[None, None]
    added = _adding(("layer1_0", "expand_bn"), np.zeros(STEM_CHANNELS, np.float32))
    return {**added, ("backbone", "params", "layer1_0", "expand", "kernel"): kernel}


def _ids() -> tuple[dict[tuple[str, ...], int], int]:
    """(module here -> the number of its operation in the network, the number of the convolution after the last).

    A convolution, a ReLU6 and the sum with a shortcut are an operation each.
    """
    ids = {("conv0",): 0, ("bn0",): 0}
    operation, channels = 2, STEM_CHANNELS
    for layer, (expansion, features, blocks, _, _) in enumerate(LAYERS, 1):
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
