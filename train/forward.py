"""Running the networks of a model in training: batch statistics, leading axes, and the part ATOM and DiMP share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trackers.nets import models, resnet

Array = jax.Array
Params = Any
Taps = tuple[Array, Array]  # layer2 [F, B, ...] and layer3 [F, B, ...]


def applying(model: str, params: Params) -> tuple[Callable[..., Any], Params]:
    """`apply(part, *args, method, train)` for the parts of `model`, and a copy of `params` that it keeps up to date.

    With `train` (the default) batch normalization uses the statistics of the batch, and the running ones move.
    """
    networks, params = models.networks(model), dict(params)

    def apply(part, *args, method=None, train=True):
        network, variables = networks[part], params[part]
        if not train:
            return network.apply(variables, *args, method=method)
        out, changed = network.apply(variables, *args, train=True, method=method, mutable=["batch_stats"])
        params[part] = {**variables, **changed}
        return out

    return apply, params


def backbone_taps(apply: Callable[..., Any], images: Array, train: bool) -> Taps:
    """`[F, B, H, W, 3]` RGB 0..255 -> layer2 and layer3, `[F * B, ...]` each."""
    taps = apply("backbone", resnet.normalize(images.reshape(-1, *images.shape[2:])), train=train)
    return taps["layer2"], taps["layer3"]


def predicted_overlaps(
    apply: Callable[..., Any], train_taps: Taps, train_boxes: Array, test_taps: Taps, proposals: Array
) -> Array:
    """The IoU-Net's output `[T, B, P]` for proposals `[T, B, P, 4]`, modulated by the first of the training frames."""
    modulation = apply("iou_net", *[tap[0] for tap in train_taps], train_boxes[0], method="modulation")
    maps = apply("iou_net", *test_taps, method="features")
    modulation = [jnp.broadcast_to(vector, (len(proposals), *vector.shape)) for vector in modulation]
    return apply("iou_net", modulation, maps, proposals, method="predict")
