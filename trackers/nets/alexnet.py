"""The AlexNets of the Siamese trackers: stride 8, no padding at all, raw RGB 0..255 as input, channels last.

127 pixels give 6 x 6 cells, 255 give 22 x 22, 271 give 24 x 24, 287 give 26 x 26.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from trackers.nets.convolution import convolve
from trackers.nets.resnet import batch_norm, max_pool

Array = jax.Array
Params = Any

SIZES = (11, 5, 3, 3, 3)
SIAMFC_BATCH_NORM = {"momentum": 0.95, "epsilon": 1e-6}  # torch's momentum 0.05
MEMTRACK_BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3}  # TensorFlow's, where nothing else is said

# U(-a, a) with a = 1 / sqrt(fan in): what PyTorch gives a convolution that nobody initializes
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
siamfc_init = nn.initializers.xavier_uniform()  # one function, so that networks made at different times are equal


class AlexNet(nn.Module):
    """Five convolutions with bias; `siamfc`, `siamrpn` and `memtrack` are what there is.

    widths: channels of each. groups: of each, the parts of the channels that do not meet. last_norm: batch
    normalization also after the last one, which has no ReLU in either case. unit: of the images' brightness.
    """

    widths: tuple[int, ...]
    groups: tuple[int, ...] = (1, 1, 1, 1, 1)
    last_norm: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    kernel_init: Callable = torch_init
    unit: float = 1.0

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array]:
        """`[N, H, W, 3]` RGB 0..255 -> the one tap `[N, h, w, C]`, C = widths[-1]."""
        x = images if self.unit == 1 else images / self.unit
        for index, (width, groups, size) in enumerate(zip(self.widths, self.groups, SIZES)):
            x = nn.Conv(
                width,
                (size, size),
                2 if index == 0 else 1,
                "VALID",
                feature_group_count=groups,
                kernel_init=self.kernel_init,
                conv_general_dilated=convolve,
                name=f"conv{index + 1}",
            )(x)
            last = index == len(SIZES) - 1
            if not last or self.last_norm:
                x = batch_norm(f"bn{index + 1}", train, momentum=self.momentum, epsilon=self.epsilon)(x)
            if index < 2:  # before ReLU, with which a maximum commutes: a quarter of the cells are left for it
                x = max_pool(x, 0)
            if not last:
                x = nn.relu(x)
        return (x,)


def siamfc() -> AlexNet:
    """SiamFC's (Bertinetto et al. 2016, table 1), as siamfc-pytorch's AlexNetV1: grouped as the first AlexNet was."""
    return AlexNet(
        (96, 256, 384, 384, 256),
        groups=(1, 2, 1, 2, 2),
        last_norm=False,
        kernel_init=siamfc_init,
        **SIAMFC_BATCH_NORM,
    )


def siamrpn(width: int = 1) -> AlexNet:
    """SiamRPN's (Li et al. 2018), with `width` times its channels: 1, or 2 in DaSiamRPN's big model.

    DaSiamRPN's and both of pysot's are this network, with other names.
    """
    return AlexNet(tuple(width * channels for channels in (96, 256, 384, 384, 256)))


def memtrack() -> AlexNet:
    """MemTrack's (Yang and Chan 2018, Sec. 5): SiamFC's without groups, of images in 0..1."""
    widths = (96, 256, 384, 384, 256)
    return AlexNet(widths, last_norm=False, kernel_init=siamfc_init, unit=255.0, **MEMTRACK_BATCH_NORM)


def memtrack_from_siamfc(backbone: Params) -> Params:
    """SiamFC's backbone as MemTrack's, with the same features: zeros where groups of channels do not meet.

    What differs besides is the unit of images and the epsilon of batch normalization.
    """
    ours, theirs = memtrack(), siamfc()
    convolutions, norms = dict(backbone["params"]), dict(backbone["batch_stats"])
    for index, groups in enumerate(theirs.groups, 1):
        layer = convolutions[f"conv{index}"]
        kernel = np.asarray(layer["kernel"]) * (ours.unit if index == 1 else 1)
        parts = np.split(kernel, groups, -1)
        zero = np.zeros_like(parts[0])
        rows = [np.concatenate([part if i == j else zero for j in range(groups)], -1) for i, part in enumerate(parts)]
        convolutions[f"conv{index}"] = {**layer, "kernel": np.concatenate(rows, -2)}
    for name, found in norms.items():
        norms[name] = {**found, "var": np.maximum(np.asarray(found["var"]) + theirs.epsilon - ours.epsilon, 0)}
    return {"params": convolutions, "batch_stats": norms}
