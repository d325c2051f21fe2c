"""Which networks a model consists of, and the pytree of its parameters.

The parameters of a model are `{part: variables}` with Flax's `variables = {"params": .., "batch_stats": ..}`.
"atom_multiscale", "resnet50" and "resnet50_v1" (stride in the first 1x1 convolution) are backbones only.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from trackers.nets.dimp_classifier import DimpClassifier
from trackers.nets.iou_net import IoUNet
from trackers.nets.resnet import ResNet

Array = jax.Array
Params = Any

PEER_MODELS = ("atom", "atom_multiscale", "dimp18", "dimp50", "resnet50", "resnet50_v1")  # checkpoints of peers exist
MODELS = (*PEER_MODELS, "dimp_tiny")


def networks(model: str) -> dict[str, nn.Module]:
    """The parts of `model`: "backbone" and, where it has them, "classifier" and "iou_net"."""
    match model:
        case "atom":
            return {"backbone": ResNet(18), "iou_net": IoUNet()}
        case "atom_multiscale":
            return {"backbone": ResNet(18)}
        case "dimp18":
            return {"backbone": ResNet(18), "classifier": DimpClassifier(1, 256), "iou_net": IoUNet()}
        case "dimp50":
            return {"backbone": ResNet(50), "classifier": DimpClassifier(0, 512), "iou_net": IoUNet()}
        case "dimp_tiny":  # of our own: small enough to be trained from scratch, and to run everywhere
            return {"backbone": ResNet(10, 32), "classifier": DimpClassifier(0, 128), "iou_net": IoUNet(96)}
        case "resnet50" | "resnet50_v1":
            return {"backbone": ResNet(50, stride_first=model == "resnet50_v1")}
    raise ValueError(f"unknown model {model!r}; known: {', '.join(MODELS)}")


def init_variables(model: str, key: Array) -> Params:
    """Random float32 parameters of `model`, initialized as its peer is before training.

    One program, compiled with little optimization: it runs once, and a fast random number generator for
    every shape would take far longer to compile. Not for use inside `jit`.
    """
    compiled = jax.jit(_initialize, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(model, key)


def expected_variables(model: str) -> Params:
    """The tree of `init_variables` as `jax.ShapeDtypeStruct` leaves, nothing computed."""
    return jax.eval_shape(lambda: _initialize(model, jax.random.key(0)))


def _initialize(model: str, key: Array) -> Params:
    parts = networks(model)
    keys = dict(zip(parts, jax.random.split(key, len(parts))))
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    box = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    variables = {"backbone": parts["backbone"].lazy_init(keys["backbone"], images)}
    taps = jax.eval_shape(parts["backbone"].apply, variables["backbone"], images)
    if "classifier" in parts:
        variables["classifier"] = parts["classifier"].lazy_init(keys["classifier"], taps["layer3"], box)
    if "iou_net" in parts:
        variables["iou_net"] = parts["iou_net"].lazy_init(
            keys["iou_net"], taps["layer2"], taps["layer3"], box
        )
    return variables

