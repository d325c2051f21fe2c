"""siamfc-pytorch's tensor names and layouts. Its images are RGB 0..255, raw, as here."""

import numpy as np

from trackers.nets.alexnet import SIAMFC_BATCH_NORM
from trackers.weights.layout import (
    LEAVES,
    Path,
    Source,
    State,
    is_norm,
    to_channels_first,
    to_channels_last,
    torch_shape,
)


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`; the score's bias, which only training moves, is zero."""
    bias = {("head", "params", "bias"): np.zeros((), np.float32)}
    return Source(state, _name, torch_shape, to_channels_last, set(), bias, to_channels_first)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    return {"project": "siamfc-pytorch", "input": "RGB 0..255, raw", "batch_norm_epsilon": SIAMFC_BATCH_NORM["epsilon"]}


def _name(path: Path) -> str:
    _, _, module, leaf = path
    return f"backbone.conv{module[-1]}.{is_norm(module)}.{LEAVES[leaf]}"
