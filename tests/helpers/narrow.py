"""Models with the parts of the real ones and a few channels, whose programs compile in seconds.

Only the backbones are not the real classes: each has as many cells of as many pixels, from two to four convolutions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import flax.linen as nn
import jax
import pytest

from trackers.nets import convolution, models, resnet
from trackers.nets.alexnet import MEMTRACK_BATCH_NORM
from trackers.nets.dimp_classifier import DimpClassifier
from trackers.nets.iou_net import IoUNet
from trackers.nets.memory import MemoryController, NormalizedResponseHead
from trackers.nets.models import Model
from trackers.nets.resnet import batch_norm, conv
from trackers.nets.rpn import DepthwiseRPN, Neck, SiamFCHead, UpChannelRPN
from trackers.nets.tap_maps import TapMaps


class AlexNet(nn.Module):
    """127 pixels give 6 x 6 cells, 255 give 22 x 22."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (11, 11), 8, "VALID", name="conv1")(images / 255)
        x = nn.relu(batch_norm("bn1", train, **MEMTRACK_BATCH_NORM)(x))
        return (nn.Conv(8, (10, 10), 1, "VALID", name="conv2")(x),)


class ThreeLevels(nn.Module):
    """127 pixels give 15 x 15 cells of each of three levels, 255 give 31 x 31."""

    @nn.compact
    def __call__(self, images, train=False):
        x, taps = nn.relu(batch_norm("bn", train)(nn.Conv(8, (15, 15), 8, "VALID", name="stem")(images / 255))), []
        for level in range(3):
            x = nn.relu(batch_norm(f"bn{level}", train)(conv(f"conv{level}", 8, 3)(x)))
            taps.append(x)
        return tuple(taps)


class ResNet(nn.Module):
    """Taps of strides 4, 8 and 16."""

    @nn.compact
    def __call__(self, images, train=False):
        x, taps = nn.relu(batch_norm("bn1", train)(conv("conv1", 8, 7, 4)(images))), {}
        for level, stride in ((1, 1), (2, 2), (3, 2)):
            name = f"layer{level}"
            taps[name] = x = nn.relu(batch_norm(f"{name}_bn", train)(conv(name, 8, 3, stride)(x)))
        return taps


# With real backbones, which PyTorch is compared with; `tests.trackers.nets` builds them where it is not installed, too
REAL_RESNETS = {
    name: Model(parts, "normalized", "frames")
    for name, parts in {
        "dimp18": {"backbone": resnet.ResNet(16, 8), "classifier": DimpClassifier(1, 16), "iou_net": IoUNet(16)},
        "dimp50": {"backbone": resnet.ResNet(50, 4), "classifier": DimpClassifier(0, 16), "iou_net": IoUNet(16)},
        "atom": {"backbone": resnet.ResNet(16, 8), "iou_net": IoUNet(16)},
        "atom_multiscale": {"backbone": resnet.ResNet(16, 8)},
    }.items()
}
TAPS = (("layer2", 8), ("layer3", 8))
MODELS = {
    "atom": Model({"backbone": ResNet(), "iou_net": IoUNet(8)}, "normalized", "frames"),
    "atom_multiscale": Model({"backbone": ResNet()}, "normalized"),
    "atom_multiscale_small": Model({"backbone": ResNet()}, "normalized"),
    "distilled_alexnet": Model({"backbone": AlexNet(), "teacher": ResNet(), "maps": TapMaps(TAPS)}, "raw", "crops"),
    "distilled_resnet16": Model(
        {"backbone": ResNet(), "teacher": ResNet(), "maps": TapMaps(TAPS)}, "normalized", "crops"
    ),
    "dimp18": Model(
        {"backbone": ResNet(), "classifier": DimpClassifier(1, 8), "iou_net": IoUNet(8)}, "normalized", "frames"
    ),
    "dimp_tiny": Model(
        {"backbone": ResNet(), "classifier": DimpClassifier(0, 8), "iou_net": IoUNet(8)}, "normalized", "frames"
    ),
    "siamfc": Model({"backbone": AlexNet(), "head": SiamFCHead()}, "raw", "pairs"),
    "siamfc_distilled": Model({"backbone": AlexNet(), "head": SiamFCHead()}, "raw", "pairs"),
    "siamrpn": Model({"backbone": AlexNet(), "head": UpChannelRPN(8)}, "raw", "pairs"),
    "siamrpn_distilled": Model({"backbone": AlexNet(), "head": DepthwiseRPN((8,))}, "raw", "pairs"),
    "siamrpnpp_alexnet": Model({"backbone": AlexNet(), "head": DepthwiseRPN((8,))}, "raw", "pairs"),
    "siamrpnpp_mobilenetv2": Model(
        {"backbone": ThreeLevels(), "neck": Neck((8,) * 3), "head": DepthwiseRPN((8,) * 3, weighted=True)},
        *("raw", "pairs"),
    ),
    "memtrack": Model(
        {
            "backbone": AlexNet(),
            "memory": MemoryController(slots=3, hidden=6, channels=8),
            "head": NormalizedResponseHead(),
        },
        *("raw", "clips"),
    ),
}


@contextmanager
def narrow_models() -> Iterator[None]:
    """Every model of MODELS is the narrow one of that name."""
    with pytest.MonkeyPatch.context() as patch:
        for name, model in MODELS.items():
            patch.setitem(models._MODELS, name, model)
        yield


@contextmanager
def plain_convolution() -> Iterator[None]:
    """XLA's own convolution instead of products of tiles: slower on a CPU, and compiled in a third of the time."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_convolve", convolution._plain)
        yield


def lively(model: str):
    """`start` with responses and offsets of a size that moves a box."""
    params = start(model, seed=2 if model == "atom_multiscale" else 0)
    if model == "memtrack":  # the score is a probability, which large responses make 1
        last = params["backbone"]["params"]["conv2"]
        last |= {name: leaf / 30 for name, leaf in last.items()}
    if model.startswith("siamrpn"):
        params["head"]["params"] = jax.tree.map(lambda leaf: 2 * leaf, params["head"]["params"])
    return params


def start(model: str, seed: int = 0):
    """Parameters of a narrow model on the host; asked for among `narrow_models`."""
    return jax.device_get(models.init_variables(model, jax.random.key(seed)))
