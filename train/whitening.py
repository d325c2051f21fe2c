"""A start for SiamFC: features in which every direction is equally common, so that what is rare decides.

Hariharan, Malik and Ramanan, "Discriminative Decorrelation for Clustering and Classification", ECCV 2012: of features
with mean m and covariance S over images of anything, S^-1 (z - m) is a good linear detector of what z shows. With
S^-1/2 (z - m) in place of z on both sides, SiamFC's correlation is that detector. The last convolution of its AlexNet
has no ReLU behind it, so this is another kernel and bias of that layer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np

from trackers.nets import models
from trackers.nets.alexnet import SIZES, AlexNet
from trackers.nets.rpn import SiamFCHead
from trackers.rules import COUNT, POSITIVE

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class WhiteningConfig:
    """What the statistics are taken of."""

    batches: Annotated[int, COUNT] = 20
    share: Annotated[float, POSITIVE] = 0.1  # of the mean variance, added to that of every direction


def fits(model: str) -> bool:
    """Whether `model` is an AlexNet whose features are correlated as they are."""
    parts = models.networks(model)
    return isinstance(parts["backbone"], AlexNet) and isinstance(parts.get("head"), SiamFCHead)


def whitened(model: str, params: Params, batches: Iterable[Mapping[str, Array]], share: float) -> Params:
    """`params` of a `model` that `fits`, with white features; SiamFC's responses have a standard deviation of 1.

    batches: of `train.samples.pairs.prepare`; only their images count. share: see `WhiteningConfig`.
    """
    parts = models.networks(model)
    network, variables = parts["backbone"], params["backbone"]
    features = jax.jit(lambda images: network.apply(variables, images)[0])
    found = [[np.asarray(features(batch[name])) for name in ("template_images", "search_images")] for batch in batches]
    cells = np.concatenate([maps.reshape(-1, maps.shape[-1]) for pair in found for maps in pair]).astype(np.float64)
    mean = cells.mean(0)
    matrix = _root_of_inverse(np.cov(cells, rowvar=False), network.groups[-1], share)
    respond = jax.jit(lambda *pair: parts["head"].apply({"params": {"bias": 0.0}}, *pair))
    white = [[((maps - mean) @ matrix).astype(np.float32) for maps in pair] for pair in found]
    spread = np.std([respond((templates,), (searches,)) for templates, searches in white])
    return {**params, "backbone": _followed_by(network, variables, matrix / np.sqrt(spread), mean)}


def _root_of_inverse(covariance: np.ndarray, groups: int, share: float) -> np.ndarray:
    """`[C, C]` symmetric; of each group of channels by itself, since the layer does not let them meet."""
    root, size = np.zeros_like(covariance), len(covariance) // groups
    for start in range(0, len(covariance), size):
        block = np.s_[start : start + size, start : start + size]
        variances, directions = np.linalg.eigh(covariance[block])
        lengths = 1 / np.sqrt(np.maximum(variances, 0) + share * variances.mean())
        root[block] = directions * lengths @ directions.T
    return root


def _followed_by(network: AlexNet, variables: Params, matrix: np.ndarray, mean: np.ndarray) -> Params:
    """The network whose features are (those of `variables` - mean) @ matrix: its last normalization does nothing."""
    learned, stored = dict(variables["params"]), dict(variables["batch_stats"])
    last = len(SIZES)
    kernel, bias = (np.asarray(learned[f"conv{last}"][name], np.float64) for name in ("kernel", "bias"))
    if network.last_norm:
        norm, now = learned[f"bn{last}"], stored[f"bn{last}"]
        factor = np.asarray(norm["scale"]) / np.sqrt(np.asarray(now["var"], np.float64) + network.epsilon)
        kernel, bias = kernel * factor, (bias - now["mean"]) * factor + norm["bias"]
        one = np.ones_like(factor, np.float32)
        learned[f"bn{last}"] = {"scale": one, "bias": 0 * one}
        stored[f"bn{last}"] = {"mean": 0 * one, "var": one - np.float32(network.epsilon)}
    kernel, bias = (kernel @ matrix).astype(np.float32), ((bias - mean) @ matrix).astype(np.float32)
    return {"params": {**learned, f"conv{last}": {"kernel": kernel, "bias": bias}}, "batch_stats": stored}
