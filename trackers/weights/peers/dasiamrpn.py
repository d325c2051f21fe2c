"""DaSiamRPN's tensor names and layouts. It reads BGR: the first convolution's input channels are reversed."""

from trackers.nets.resnet import BATCH_NORM_EPSILON
from trackers.weights.layout import ALEXNET_INDEX, LEAVES, Path, Source, State, from_bgr, is_norm, to_bgr, torch_shape

HEAD = {
    "cls_template": "conv_cls1",
    "cls_search": "conv_cls2",
    "loc_template": "conv_r1",
    "loc_search": "conv_r2",
    "loc_adjust": "regress_adjust",
}


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`."""
    return Source(state, _name, torch_shape, from_bgr, set(), back=to_bgr)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    return {"project": "dasiamrpn", "input": "RGB 0..255, raw", "batch_norm_epsilon": BATCH_NORM_EPSILON}


def _name(path: Path) -> str:
    part, _, module, leaf = path
    if part == "backbone":
        return f"featureExtract.{ALEXNET_INDEX[module[-1]] + is_norm(module)}.{LEAVES[leaf]}"
    return f"{HEAD[module]}.{LEAVES[leaf]}"
