"""The table of models: which networks each consists of, and what others have to know of it.

The parameters of a model are `{part: variables}` with Flax's `variables = {"params": .., "batch_stats": ..}`.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

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
from trackers.nets.tap_maps import TapMaps
from trackers.rules import Rule

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class Model:
    """A row of the table."""

    # "backbone" and, where it has them, "classifier", "iou_net", "neck", "memory", "head", "teacher", "maps"
    parts: dict[str, nn.Module]
    images: Literal["normalized", "raw"]  # what the backbone takes: `resnet.normalize`d, or RGB 0..255
    samples: Literal["frames", "pairs", "clips", "crops"] | None = None  # what it is trained on; None: a backbone alone
    peer: str | None = None  # module of `trackers.weights.peers` that reads the reference implementation's checkpoints
    heads: str | None = None  # file in `trackers.weights.released` of heads that a public backbone completes
    released_with: str | None = None  # the model in whose released file its parts are, where it has none of its own


def _siamese(backbone: nn.Module, peer: str | None, heads: str | None = None, **parts: nn.Module) -> Model:
    return Model({"backbone": backbone, **parts}, "raw", "pairs", peer, heads)


def _levels(channels: tuple[int, ...], weighted: bool) -> dict[str, nn.Module]:
    return {"neck": Neck(channels), "head": DepthwiseRPN(channels, weighted)}


def _online(backbone: nn.Module, peer: str | None, heads: str | None = None, **parts: nn.Module) -> Model:
    return Model({"backbone": backbone, **parts}, "normalized", "frames", peer, heads)


def _distilled(student: nn.Module, images: Literal["normalized", "raw"]) -> Model:
    return Model({"backbone": student, "teacher": ResNet(18), "maps": TapMaps()}, images, "crops")


# Backbones that take normalized images return a dict of their stages, the others the tuple that the next part reads.
_MODELS = {
    "atom": _online(ResNet(18), "pytracking", "dimp18_heads", iou_net=IoUNet()),  # the same IoU-Net
    "atom_multiscale": Model({"backbone": ResNet(18)}, "normalized", peer="pytracking"),
    # of our own: a smaller backbone, which has learned from that one
    "atom_multiscale_small": Model({"backbone": ResNet(16)}, "normalized", released_with="dimp_tiny"),
    "dimp18": _online(ResNet(18), "pytracking", "dimp18_heads", classifier=DimpClassifier(1, 256), iou_net=IoUNet()),
    "dimp50": _online(ResNet(50), "pytracking", classifier=DimpClassifier(0, 512), iou_net=IoUNet()),
    # of our own: small heads on that smaller backbone
    "dimp_tiny": _online(ResNet(16), None, classifier=DimpClassifier(0, 256), iou_net=IoUNet(96)),
    "resnet50": Model({"backbone": ResNet(50)}, "normalized", peer="pytracking"),
    # stride in the first 1x1 convolution
    "resnet50_v1": Model({"backbone": ResNet(50, stride_first=True)}, "normalized", peer="pytracking"),
    "mobilenetv2": Model({"backbone": MobileNetV2()}, "raw", peer="mobilenet"),  # as SiamRPN++ uses it
    "siamfc": _siamese(alexnet.siamfc(), "siamfc", head=SiamFCHead()),
    # of our own: SiamRPN's AlexNet, which has learned from a ResNet-18
    "siamfc_distilled": _siamese(alexnet.siamrpn(), None, head=SiamFCHead()),
    "siamrpn": _siamese(alexnet.siamrpn(), "dasiamrpn", head=UpChannelRPN(256)),  # DaSiamRPN's for VOT and OTB
    # of our own: a narrow head of SiamRPN++'s kind on the backbone of `siamfc_distilled`
    "siamrpn_distilled": _siamese(alexnet.siamrpn(), None, head=DepthwiseRPN((192,))),
    "siamrpn_big": _siamese(alexnet.siamrpn(2), "dasiamrpn", head=UpChannelRPN(512)),
    "siamrpnpp_alexnet": _siamese(alexnet.siamrpn(), "pysot", head=DepthwiseRPN((256,))),
    "siamrpnpp_mobilenetv2": _siamese(MobileNetV2(1.4), "pysot", **_levels((256,) * 3, weighted=False)),
    # of our own: there is an ImageNet start for this width
    "siamrpnpp_mobilenetv2_1.0": _siamese(
        MobileNetV2(), None, "siamrpnpp_mobilenetv2_heads", **_levels((256,) * 3, weighted=False)
    ),
    "siamrpnpp_resnet50": _siamese(DilatedResNet50(), "pysot", **_levels((256,) * 3, weighted=True)),
    "siamrpnpp_resnet50_otb": _siamese(DilatedResNet50(), "pysot", **_levels((256,) * 3, weighted=False)),
    "siamrpnpp_resnet50_lt": _siamese(DilatedResNet50(), "pysot", **_levels((128, 256, 512), weighted=True)),
    "memtrack": Model(
        {"backbone": alexnet.memtrack(), "memory": MemoryController(), "head": NormalizedResponseHead()},
        *("raw", "clips", "memtrack"),
    ),
    # what `train.distill` trains: the student is the part "backbone"
    "distilled_resnet16": _distilled(ResNet(16), "normalized"),
    "distilled_alexnet": _distilled(alexnet.siamrpn(), "raw"),
}


def names() -> list[str]:
    """Names of all models, those of `register` last."""
    return list(_MODELS)


def get(name: str) -> Model:
    """The row of model `name`; ValueError, one line with the choices, if there is none."""
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(_MODELS)}")
    return _MODELS[name]


def register(name: str, model: Model) -> None:
    """Add a row, so that an Entry of `trackers.register` can name it; ValueError for a name that is taken."""
    if name in _MODELS:
        raise ValueError(f"model {name!r} exists already; choose another name")
    _MODELS[name] = model


def having(*kinds: type[nn.Module]) -> tuple[str, ...]:
    """The models with a part of one of these classes: `having(DimpClassifier)` are those that DiMP can use."""
    return tuple(name for name, row in _MODELS.items() if any(isinstance(part, kinds) for part in row.parts.values()))


def with_part(*kinds: type[nn.Module]) -> Rule:
    """The rule of a Config's field that names a model: one of those `having` such a part, when it is checked."""
    text = f"a model with a {' or '.join(kind.__name__ for kind in kinds)}"
    return Rule(text, lambda name: name in having(*kinds))


def networks(model: str) -> dict[str, nn.Module]:
    """The parts of `model`, see `Model.parts`; ValueError if there is no such model."""
    return dict(get(model).parts)


def init_variables(model: str, key: Array) -> Params:
    """Random float32 parameters of `model`, initialized as its reference implementation is before training.

    One program, compiled with little optimization: it runs once, and a fast random number generator for
    every shape would take far longer to compile. Not for use inside `jit`.
    """
    compiled = jax.jit(_initialize, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(tuple(networks(model).items()), key)


def expected_variables(model: str) -> Params:
    """The tree of `init_variables` as `jax.ShapeDtypeStruct` leaves, nothing computed."""
    return jax.tree.map(lambda leaf: leaf, _shapes(tuple(networks(model).items())))  # the caller's own copy


@lru_cache
def _shapes(parts: tuple[tuple[str, nn.Module], ...]) -> Params:
    return jax.eval_shape(partial(_initialize, parts), jax.random.key(0))


def _initialize(named: tuple[tuple[str, nn.Module], ...], key: Array) -> Params:
    parts = dict(named)
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
        "teacher": lambda: (images,),
        "maps": lambda: (taps,),
    }
    for part in parts.keys() & arguments.keys():
        variables[part] = parts[part].lazy_init(keys[part], *arguments[part]())
    return variables
