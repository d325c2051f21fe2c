"""ResNet-18, ResNet-50 (He et al. 2016) and smaller ones as feature extractors, in torchvision's layout, channels last.

Batch normalization uses the stored statistics unless `train`; padding is symmetric as in torchvision
(XLA's "SAME" is not, at stride 2). Nothing after `last_layer` is built.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from trackers.nets import windows
from trackers.nets.convolution import convolve

Array = jax.Array

BATCH_NORM_EPSILON = 1e-5
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = {16: (1, 2, 2, 2), 18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
LAYERS = ("layer1", "layer2", "layer3", "layer4")
TAP_STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16}  # pixels per cell of what trackers use, also of `filter_bank`

# N(0, sqrt(2 / (kh kw out))), how torchvision's backbones and pytracking's classifiers start
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def normalize(images: Array) -> Array:
    """`[..., H, W, 3]` RGB in 0..255 -> float, ImageNet mean and standard deviation removed per channel."""
    images = jnp.asarray(images)
    dtype = jnp.result_type(images.dtype, jnp.float32)
    scale = 1 / (255 * jnp.asarray(IMAGENET_STD, dtype))
    offset = jnp.asarray(IMAGENET_MEAN, dtype) / jnp.asarray(IMAGENET_STD, dtype)
    broadcast = (1,) * (images.ndim - 1) + (3,)
    return images.astype(dtype) * scale.reshape(broadcast) - offset.reshape(broadcast)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18, and the classifier of DiMP-18)."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """`[..., H, W, C]` -> `[..., H/stride, W/stride, features]`."""
        y = nn.relu(batch_norm("bn1", train)(conv("conv1", self.features, 3, self.stride)(x)))
        y = batch_norm("bn2", train)(conv("conv2", self.features, 3)(y))
        return nn.relu(y + _shortcut(x, self.features, self.stride, train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet-50); `features` is the width of the output."""

    features: int
    stride: int = 1
    stride_first: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """`[..., H, W, C]` -> `[..., H/stride, W/stride, features]`."""
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        y = nn.relu(batch_norm("bn1", train)(conv("conv1", self.features // 4, 1, first)(x)))
        y = nn.relu(batch_norm("bn2", train)(conv("conv2", self.features // 4, 3, second)(y)))
        y = batch_norm("bn3", train)(conv("conv3", self.features, 1)(y))
        return nn.relu(y + _shortcut(x, self.features, self.stride, train))


class ResNet(nn.Module):
    """A ResNet that ends with `last_layer` and returns the outputs ("taps") of its stages.

    depth: 16, 18 or 50. last_layer: "layer1" (stride 4) .. "layer4" (stride 32). width: channels of the stem, 64 in
    the paper; each layer has twice those of the one before.
    stride_first: of ResNet-50's blocks, stride in the first 1x1 convolution (the original paper, "v1")
    instead of the 3x3 one (torchvision, and the trackers).
    """

    depth: int = 18
    width: int = 64
    last_layer: str = "layer3"
    stride_first: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> dict[str, Array]:
        """`[N, H, W, 3]` as of `normalize` -> {"layer1": `[N, H/4, W/4, C1]`, ..} up to `last_layer`.

        With `train`, batch normalization uses the statistics of the batch, and the collection "batch_stats"
        has to be mutable (running average with momentum 0.9, biased variance).
        """
        first = conv("conv1", self.width, 7, 2)
        x = nn.relu(batch_norm("bn1", train)(first(images)))
        x = max_pool(x, 1)
        taps = {}
        for index, layer in enumerate(LAYERS[: LAYERS.index(self.last_layer) + 1]):
            for block in range(BLOCKS[self.depth][index]):
                stride = 2 if block == 0 and index > 0 else 1
                x = self._block(index, stride, f"{layer}_{block}")(x, train)
            taps[layer] = x
        return taps

    def _block(self, index: int, stride: int, name: str) -> nn.Module:
        if self.depth < 50:
            return BasicBlock(self.width * 2**index, stride, name=name)
        return Bottleneck(4 * self.width * 2**index, stride, self.stride_first, name=name)


def conv(
    name: str,
    features: int,
    size: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    dilation: int = 1,
) -> nn.Module:
    """A bias-free convolution with symmetric padding, `size // 2` unless given."""
    border = size // 2 if padding is None else padding
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        ((border, border),) * 2,
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=conv_init,
        conv_general_dilated=convolve,
        name=name,
    )


def batch_norm(
    name: str, train: bool, scale_init=nn.initializers.ones, *, momentum: float = 0.9, epsilon: float | None = None
) -> nn.Module:
    """Batch normalization over all but the last axis: of the batch (`train`) or of the stored statistics.

    momentum: the share of the old running statistics that a step of training keeps.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=BATCH_NORM_EPSILON if epsilon is None else epsilon,
        scale_init=scale_init,
        name=name,
    )


def max_pool(x: Array, padding: int) -> Array:
    """`[..., H, W, C]` -> the maximum of 3 x 3 cells with stride 2, `padding` 0 or 1 on every side.

    As shifted slices, since the window reduction of XLA's CPU backend takes twice the time. Equal values share the
    gradient, which PyTorch and linen give to the first of them: behind a ReLU in bfloat16 the two differ by 10 % of
    their norm, in float32 by nothing.
    """
    return _max_pool(_max_pool(x, -3, padding), -2, padding)


def _max_pool(x: Array, axis: int, padding: int) -> Array:
    borders = [(0, 0)] * x.ndim
    borders[axis] = (padding, padding)
    padded = jnp.pad(x, borders, constant_values=-jnp.inf) if padding else x
    size = (padded.shape[axis] - 3) // 2 + 1
    first, second, third = windows.along(padded, axis, 3, size, 2)
    return jnp.maximum(jnp.maximum(first, second), third)


def _shortcut(x: Array, features: int, stride: int, train: bool) -> Array:
    """Called inside a block: the identity, or a strided 1x1 convolution where the shape changes."""
    if stride == 1 and x.shape[-1] == features:
        return x
    return batch_norm("downsample_bn", train)(conv("downsample_conv", features, 1, stride)(x))
