"""ResNet-50 as SiamRPN++ uses it (Li et al. 2019, section 3.3): stride 8 to the end by dilation, raw RGB 0..255.

Strided convolutions after the stem's pooling, and the stem's own, have padding 0; shortcuts that change the shape are
3x3 convolutions from layer2 on. 127 pixels give 15 x 15 cells, 255 give 31 x 31, in each of the three taps.
"""

import flax.linen as nn
import jax

from trackers.nets.resnet import BLOCKS, batch_norm, conv, max_pool

Array = jax.Array

# channels, stride, dilation of the first block and of the others, size of the shortcut's convolution
LAYERS = ((256, 1, 1, 1, 1), (512, 2, 1, 1, 3), (1024, 1, 1, 2, 3), (2048, 1, 2, 4, 3))


class DilatedBottleneck(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolutions and a shortcut, of `shortcut`^2 cells (0: the input itself)."""

    features: int
    stride: int = 1
    dilation: int = 1
    shortcut: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """`[..., H, W, C]` -> `[..., h, w, features]`: of size (H - 1) // 2 where strided, else as before."""
        border = self.dilation if self.stride == 1 else 0
        y = nn.relu(batch_norm("bn1", train)(conv("conv1", self.features // 4, 1)(x)))
        y = conv("conv2", self.features // 4, 3, self.stride, padding=border, dilation=self.dilation)(y)
        y = nn.relu(batch_norm("bn2", train)(y))
        y = batch_norm("bn3", train)(conv("conv3", self.features, 1)(y))
        if self.shortcut:
            border = border if self.shortcut > 1 else 0
            layer = conv(
                "downsample_conv", self.features, self.shortcut, self.stride, padding=border, dilation=self.dilation
            )
            x = batch_norm("downsample_bn", train)(layer(x))
        return nn.relu(y + x)


class DilatedResNet50(nn.Module):
    """The taps after layers 2, 3 and 4."""

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """`[N, H, W, 3]` RGB 0..255 -> three taps `[N, h, w, C]`, C = 512, 1024 and 2048."""
        x = nn.relu(batch_norm("bn1", train)(conv("conv1", 64, 7, 2, padding=0)(images)))
        x = max_pool(x, 1)
        taps = []
        for layer, (features, stride, first, others, shortcut) in enumerate(LAYERS, 1):
            x = DilatedBottleneck(features, stride, first, shortcut, name=f"layer{layer}_0")(x, train)
            for block in range(1, BLOCKS[50][layer - 1]):
                x = DilatedBottleneck(features, 1, others, name=f"layer{layer}_{block}")(x, train)
            taps.append(x)
        return tuple(taps[1:])
