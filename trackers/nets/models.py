"""Which networks a model consists of, and the pytree of its parameters.

The parameters of a model are `{part: variables}` with Flax's `variables = {"params": .., "batch_stats": ..}`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from trackers.nets.resnet import ResNet

Array = jax.Array
Params = Any

MODELS = ("atom_multiscale", "resnet50", "resnet50_v1")


def networks(model: str) -> dict[str, nn.Module]:
    """The parts of `model` (one of `MODELS`): "backbone" and, where it has them, "classifier" and "iou_net"."""
    if model == "atom_multiscale":
        return {"backbone": ResNet(18)}
    if model in ("resnet50", "resnet50_v1"):
        return {"backbone": ResNet(50, stride_first=model == "resnet50_v1")}
    raise ValueError(f"unknown model {model!r}; known: {', '.join(MODELS)}")


def init_variables(model: str, key: Array) -> Params:
    """Random float32 parameters of `model`, initialised as its peer is before training."""
    parts = networks(model)
    keys = jax.random.split(key, len(parts))
    return {name: _init_part(name, module, part_key) for (name, module), part_key in zip(parts.items(), keys)}


def expected_variables(model: str) -> Params:
    """The tree of `init_variables` as `jax.ShapeDtypeStruct` leaves, nothing computed."""
    return jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))


def _init_part(name: str, module: nn.Module, key: Array) -> Params:
    return module.init(key, jnp.zeros((1, 64, 64, 3)))
