"""Which networks a model consists of, and the pytree of its parameters.

The parameters of a model are `{part: variables}` with Flax's `variables = {"params": .., "batch_stats": ..}`.
"atom_multiscale", "resnet50", "resnet50_v1" (stride in the first 1x1 convolution) and "mobilenetv2" (as SiamRPN++ uses
it) are backbones only. The backbones of the Siamese models and of MemTrack take raw images, RGB 0..255, and return the
tuple of feature maps that the next part reads; all others take `resnet.normalize`d images and return a dict of their
stages.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from trackers.nets import alexnet
from trackers.nets.dilated_resnet import DilatedResNet50
from trackers.nets.dimp_classifier import DimpClassifier
from trackers.nets.iou_net import IoUNet
from trackers.nets.memory import MemoryController, NormalizedResponseHead
from trackers.nets.mobilenet import MobileNetV2
from trackers.nets.resnet import ResNet
from trackers.nets.rpn import DepthwiseRPN, Neck, SiamFCHead, UpChannelRPN

Array = jax.Array
Params = Any

SIAMESE_PEER_MODELS = (
    "siamfc",
    "siamrpn",  # DaSiamRPN's networks for VOT and OTB
    "siamrpn_big",
    "siamrpnpp_alexnet",
    "siamrpnpp_mobilenetv2",
    "siamrpnpp_resnet50",
    "siamrpnpp_resnet50_otb",
    "siamrpnpp_resnet50_lt",
)
SIAMESE_MODELS = (*SIAMESE_PEER_MODELS, "siamrpnpp_mobilenetv2_1.0")
MEMORY_MODELS = ("memtrack",)  # as Siamese models, with a memory of templates
PEER_MODELS = (  # checkpoints of peers exist
    *("atom", "atom_multiscale", "dimp18", "dimp50", "resnet50", "resnet50_v1", "mobilenetv2"),
    *SIAMESE_PEER_MODELS,
    *MEMORY_MODELS,
)
MODELS = (*PEER_MODELS, "dimp_tiny", "siamrpnpp_mobilenetv2_1.0")


def networks(model: str) -> dict[str, nn.Module]:
    """The parts of `model`: "backbone" and, where it has them, "classifier", "iou_net", "neck", "memory" and "head"."""
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
        case "mobilenetv2":
            return {"backbone": MobileNetV2()}
        case "siamfc":
            return {"backbone": alexnet.siamfc(), "head": SiamFCHead()}
        case "siamrpn":
            return {"backbone": alexnet.siamrpn(), "head": UpChannelRPN(256)}
        case "siamrpn_big":
            return {"backbone": alexnet.siamrpn(2), "head": UpChannelRPN(512)}
        case "siamrpnpp_alexnet":
            return {"backbone": alexnet.siamrpn(), "head": DepthwiseRPN((256,))}
        case "siamrpnpp_mobilenetv2":
            return {"backbone": MobileNetV2(1.4), **_levels((256,) * 3, weighted=False)}
        case "siamrpnpp_mobilenetv2_1.0":  # of our own: there is an ImageNet start for this width
            return {"backbone": MobileNetV2(), **_levels((256,) * 3, weighted=False)}
        case "siamrpnpp_resnet50" | "siamrpnpp_resnet50_otb":
            return {"backbone": DilatedResNet50(), **_levels((256,) * 3, weighted=model == "siamrpnpp_resnet50")}
        case "siamrpnpp_resnet50_lt":
            return {"backbone": DilatedResNet50(), **_levels((128, 256, 512), weighted=True)}
        case "memtrack":
            return {"backbone": alexnet.memtrack(), "memory": MemoryController(), "head": NormalizedResponseHead()}
    raise ValueError(f"unknown model {model!r}; known: {', '.join(MODELS)}")


def _levels(channels: tuple[int, ...], weighted: bool) -> dict[str, nn.Module]:
    return {"neck": Neck(channels), "head": DepthwiseRPN(channels, weighted)}


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
    images = jax.ShapeDtypeStruct((1, 127, 127, 3), jnp.float32)
    box = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    variables = {"backbone": parts["backbone"].lazy_init(keys["backbone"], images)}
    taps = jax.eval_shape(parts["backbone"].apply, variables["backbone"], images)
    if "neck" in parts:
        variables["neck"] = parts["neck"].lazy_init(keys["neck"], taps)
        taps = jax.eval_shape(partial(parts["neck"].apply, method="template"), variables["neck"], taps)
    arguments = {
        "classifier": lambda: (taps["layer3"], box),
        "iou_net": lambda: (taps["layer2"], taps["layer3"], box),
        "memory": lambda: (taps, taps),
        "head": lambda: (taps, taps),
    }
    for part in parts.keys() & arguments.keys():
        variables[part] = parts[part].lazy_init(keys[part], *arguments[part]())
    return variables
