"""MobileNetV2 (Sandler et al. 2018) as SiamRPN++ uses it: stride 8, dilated, raw RGB 0..255 as input, channels last.

Strided convolutions have padding 0, so that 127 pixels give 15 x 15 cells and 255 give 31 x 31. The first block keeps
its expansion, although it expands nothing.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ops.correlation import depthwise_correlate
from trackers.nets.alexnet import torch_init
from trackers.nets.convolution import convolve
from trackers.nets.resnet import batch_norm

Array = jax.Array

# expansion, channels at width 1, blocks, stride, dilation of layer1 to layer7
LAYERS = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 1, 2),
    (6, 96, 3, 1, 2),
    (6, 160, 3, 1, 4),
    (6, 320, 1, 1, 4),
)
STEM_CHANNELS = 32
TAPS = (3, 5, 7)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution and 1x1 projection, with a shortcut where the shape stays."""

    features: int
    expansion: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """`[..., H, W, C]` -> `[..., h, w, features]`: of size (H - 1) // 2 where strided, else as before."""
        y = _conv("expand", self.expansion * x.shape[-1])(x)
        y = nn.relu6(batch_norm("expand_bn", train)(y))
        y = DepthwiseConv(self.stride, self.dilation, name="depthwise")(y)
        y = nn.relu6(batch_norm("depthwise_bn", train)(y))
        y = batch_norm("project_bn", train)(_conv("project", self.features)(y))
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class DepthwiseConv(nn.Module):
    """A bias-free 3x3 convolution of each channel on its own, with padding that keeps the size at stride 1, else 0.

    Its arithmetic is `depthwise_correlate`: on CPU a hundred times faster than XLA's grouped convolution.
    """

    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", torch_init, (3, 3, 1, x.shape[-1]))
        border = self.dilation if self.stride == 1 else 0
        padding = [(0, 0)] * (x.ndim - 3) + [(border, border)] * 2 + [(0, 0)]
        return depthwise_correlate(jnp.pad(x, padding), kernel[:, :, 0], self.stride, self.dilation)


class MobileNetV2(nn.Module):
    """The taps after layers 3, 5 and 7. width: of all channels, rounded down (1.4 in pysot's model)."""

    width: float = 1.0

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """`[N, H, W, 3]` RGB 0..255 -> three taps `[N, h, w, C]`, C = 32, 96 and 320 times the width."""
        stem = int(STEM_CHANNELS * self.width)
        x = _conv("conv0", stem, 3, 2)(images)
        x = nn.relu6(batch_norm("bn0", train)(x))
        taps, reached = [], 1
        for layer, (expansion, channels, blocks, stride, dilation) in enumerate(LAYERS, 1):
            for block in range(blocks):
                grows = block == 0 and dilation != reached  # its first block still sees the denser grid
                x = InvertedResidual(
                    int(channels * self.width),
                    expansion,
                    stride if block == 0 else 1,
                    max(dilation // 2, 1) if grows else dilation,
                    name=f"layer{layer}_{block}",
                )(x, train)
            reached = dilation
            if layer in TAPS:
                taps.append(x)
        return tuple(taps)


def _conv(name: str, features: int, size: int = 1, stride: int = 1) -> nn.Module:
    return nn.Conv(
        features,
        (size, size),
        stride,
        "VALID",
        use_bias=False,
        kernel_init=torch_init,
        conv_general_dilated=convolve,
        name=name,
    )
