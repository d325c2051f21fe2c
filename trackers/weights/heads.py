"""Heads: the parts of a model that were trained on a frozen backbone, which their file names but does not hold.

The same public backbone comes with explicit batch normalization and with it folded into the convolutions, so that
no digest of its tensors tells whether heads fit: its response to a fixed image does.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trackers.nets import models, resnet
from trackers.weights import WeightsError, files

Params = Any

RESPONSES = 32
TOLERANCE = 1e-2  # of the largest response: folding costs 1e-6, half precision 3e-4; 1 % of noise in the weights 2e-2


def identify(model: str, backbone: Params) -> dict[str, Any]:
    """What a file of heads stores of the backbone of `model`: {"sha256" of its tensors, "responses" to `image`}."""
    digests = files.digests({"backbone": backbone})
    listed = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return {"sha256": hashlib.sha256(listed.encode()).hexdigest(), "responses": responses(model, backbone)}


def responses(model: str, backbone: Params) -> list[float]:
    """The spatial means of `RESPONSES` channels for `image`: of layer3, from raw images of the last tap."""
    raw = models.get(model).images == "raw"
    with jax.default_matmul_precision("highest"):
        features = _features(models.networks(model)["backbone"], raw, backbone, image(127 if raw else 64))
    channels = np.asarray(features, np.float64).mean((0, 1))
    return channels[:: len(channels) // RESPONSES][:RESPONSES].tolist()


@partial(jax.jit, static_argnums=(0, 1))
def _features(network: Any, raw: bool, backbone: Params, image: np.ndarray) -> jax.Array:
    if raw:
        return network.apply(backbone, image[None])[-1][0]
    return network.apply(backbone, resnet.normalize(image[None]))["layer3"][0]


def image(size: int = 64) -> np.ndarray:
    """`[size, size, 3]` float32, RGB 0..255: waves of several directions and lengths."""
    y, x, channel = np.mgrid[:size, :size, :3]
    waves = np.sin(0.21 * (channel + 1) * y + 0.13 * x) + np.cos(0.37 * x - 0.05 * (channel + 2) * y)
    return (127.5 + 63.75 * waves).astype(np.float32)


def join(path: str | Path, model: str, backbone: Params, source: str) -> tuple[Params, dict[str, Any]]:
    """(parameters of `model`: `backbone` and the heads in `path`, the metadata of that file).

    The file may hold more than `model` needs. source: the backbone's file, for messages. Raises `WeightsError`, one
    line that names the file: not a file of heads, of a model with other networks, or trained on another backbone.
    """
    metadata = files.read_metadata(path)
    found, info = metadata["model"], metadata["info"]
    if "backbone" not in info:
        raise WeightsError(f"{path}: not a file of heads; python -m train.release --parts writes them")
    needed = models.networks(model)
    known = models.networks(found) if found in models.names() else {}
    if {part: known.get(part) for part in needed} != needed:
        raise WeightsError(f"{path}: heads of {found}, which do not fit {model}")
    expected, ours = models.expected_variables(found), np.array(responses(model, backbone))
    with files.metadata_of(path):
        parts = {part: expected[part] for part in info["parts"]}
        theirs = np.array(info["backbone"]["responses"], np.float64).reshape(ours.shape)
    absent = sorted(set(needed) - {"backbone"} - set(parts))
    if absent:
        raise WeightsError(f"{path}: has no {' and no '.join(absent)}, which {model} needs")
    loaded = files.load(path, parts)
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"{path}: trained on another backbone than {source}: their responses differ by {difference:.1%}"
        )
    return {"backbone": backbone, **{part: loaded[part] for part in needed if part != "backbone"}}, metadata
