"""Running the networks of a model in training: batch statistics, leading axes, and what several losses share."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from trackers.nets import models, resnet
from trackers.rules import one_of

Array = jax.Array
Params = Any
Taps = tuple[Array, Array]  # layer2 [F, B, ...] and layer3 [F, B, ...]
STATISTICS = one_of("batch", "stored")  # of the backbone's batch normalization; "stored" where it is frozen
DTYPES = one_of("float32", "bfloat16")  # of the backbone's convolutions; all that is learned stays in float32


def applying(model: str, params: Params) -> tuple[Callable[..., Any], Params]:
    """`apply(part, *args, method, train)` for the parts of `model`, and a copy of `params` that it keeps up to date.

    With `train` (the default) batch normalization uses the statistics of the batch, and the running ones move. With
    `dtype` the learned parameters are cast to it before use; what is kept, and the statistics, stay as they are.
    """
    networks, params = models.networks(model), dict(params)

    def apply(part, *args, method=None, train=True, dtype=None):
        network, variables = networks[part], params[part]
        used = variables
        if dtype is not None:
            used = {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(dtype), variables["params"])}
        if not train:
            return network.apply(used, *args, method=method)
        out, changed = network.apply(used, *args, train=True, method=method, mutable=["batch_stats"])
        params[part] = {**variables, **changed}
        return out

    return apply, params


def backbone_taps(apply: Callable[..., Any], images: Array, train: bool, dtype: str = "float32") -> Taps:
    """`[F, B, H, W, 3]` RGB 0..255 -> layer2 and layer3, `[F * B, ...]` each, as precise as the images.

    dtype: "float32" computes as precisely as images and parameters are; "bfloat16" takes the backbone's convolutions
    in that, and sums of batch normalization in float32.
    """
    images = resnet.normalize(images.reshape(-1, *images.shape[2:]))
    if dtype == "float32":
        taps = apply("backbone", images, train=train)
    else:
        taps = apply("backbone", images.astype(dtype), train=train, dtype=dtype)
    return taps["layer2"].astype(images.dtype), taps["layer3"].astype(images.dtype)


def predicted_overlaps(
    apply: Callable[..., Any], train_taps: Taps, train_boxes: Array, test_taps: Taps, proposals: Array
) -> Array:
    """The IoU-Net's output `[T, B, P]` for proposals `[T, B, P, 4]`, modulated by the first of the training frames."""
    modulation = apply("iou_net", *[tap[0] for tap in train_taps], train_boxes[0], method="modulation")
    maps = apply("iou_net", *test_taps, method="features")
    modulation = [jnp.broadcast_to(vector, (len(proposals), *vector.shape)) for vector in modulation]
    return apply("iou_net", modulation, maps, proposals, method="predict")


def paired_output(apply: Callable[..., Any], has_neck: bool, batch: Mapping[str, Any], backbone_train: bool) -> Any:
    """What the head of a Siamese model says of B pairs, see `trackers.nets.rpn`; the leading axis of each leaf is B.

    batch: `template_images` `[B, 127, 127, 3]` and `search_images` `[B, H, W, 3]`, RGB 0..255, or, of a backbone that
    does not learn, its `template_taps` and `search_taps` (`train.replay`). Templates and searches run through the
    networks apart, each with the statistics of its own batch, as in pysot and siamfc-pytorch, so that the running ones
    move twice. Neck and head always use those of the batch, the backbone with `backbone_train`.
    """
    if "template_taps" in batch:
        z_taps, x_taps = batch["template_taps"], batch["search_taps"]
    else:
        z_taps = apply("backbone", batch["template_images"], train=backbone_train)
        x_taps = apply("backbone", batch["search_images"], train=backbone_train)
    if has_neck:
        z_taps, x_taps = apply("neck", z_taps, method="template"), apply("neck", x_taps)
    return apply("head", z_taps, x_taps)
