"""Necks and heads of the Siamese trackers: what compares a template with a search region.

Every head has four methods. `template(z_taps)` is all that depends on the template, computed once per target;
`search(x_taps)` all that depends on the search region, computed once per frame; `correlate(template, search)` brings
them together; `match(template, x_taps)` is the last two in one. Arrays may have any number of leading axes, which
broadcast in `correlate`: K templates with a leading axis of K meet one search region. `z_taps` and `x_taps` are tuples
with one feature map for every level.

Region proposal heads return raw logits: class scores `[..., S, S, 2, k]` (index 1 is the object) and box offsets
`[..., S, S, 4, k]` (dx, dy, dw, dh) for k anchors in every cell, in the order of channels of DaSiamRPN and pysot.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ops.correlation import cross_correlate, depthwise_correlate, up_channel_correlate
from trackers.nets.alexnet import torch_init
from trackers.nets.convolution import convolve
from trackers.nets.resnet import batch_norm

Array = jax.Array
Taps = tuple[Array, ...]

ANCHORS = 5  # in every cell, one for each aspect ratio
TEMPLATE_SIZE = 7  # cells that are left of a template in a neck

_conv = partial(nn.Conv, padding="VALID", kernel_init=torch_init, conv_general_dilated=convolve)


class Branches(NamedTuple):
    """What a head knows of a template or of a search region, for each of its two outputs."""

    cls: Any
    loc: Any


class SiamFCHead(nn.Module):
    """SiamFC's response: the correlation of the features, times `scale`, plus a learned bias.

    scale: fixed: siamfc-pytorch's `out_scale`, the original's "adjust" layer with learning rate 0.
    The bias is learned in the original and absent, that is 0, in siamfc-pytorch.
    """

    scale: float = 1e-3

    def setup(self):
        self.bias = self.param("bias", nn.initializers.zeros, ())

    def __call__(self, z_taps: Taps, x_taps: Taps, train: bool = False) -> Array:
        return self.match(self.template(z_taps, train), x_taps, train)

    def template(self, z_taps: Taps, train: bool = False) -> Array:
        """The template's features `[..., h, w, C]` as they are."""
        return z_taps[0]

    def search(self, x_taps: Taps, train: bool = False) -> Array:
        """The search region's features `[..., H, W, C]` as they are."""
        return x_taps[0]

    def correlate(self, template: Array, search: Array, train: bool = False) -> Array:
        """The response `[..., H - h + 1, W - w + 1]`."""
        correlate = jnp.vectorize(cross_correlate, signature="(y,x,c),(i,j,c)->(a,b)")
        return self.scale * correlate(search, template) + self.bias

    def match(self, template: Array, x_taps: Taps, train: bool = False) -> Array:
        return self.correlate(template, self.search(x_taps, train), train)


class UpChannelRPN(nn.Module):
    """SiamRPN's head (Li et al. 2018, section 3.2): the template becomes the kernels of two correlations.

    channels: C of the features of either input.
    """

    channels: int
    anchors: int = ANCHORS

    def setup(self):
        self.cls_template = _conv(2 * self.anchors * self.channels, (3, 3))
        self.loc_template = _conv(4 * self.anchors * self.channels, (3, 3))
        self.cls_search = _conv(self.channels, (3, 3))
        self.loc_search = _conv(self.channels, (3, 3))
        self.loc_adjust = _conv(4 * self.anchors, (1, 1))

    def __call__(self, z_taps: Taps, x_taps: Taps, train: bool = False) -> tuple[Array, Array]:
        return self.match(self.template(z_taps, train), x_taps, train)

    def template(self, z_taps: Taps, train: bool = False) -> Branches:
        """Features `[..., h, w, C]` -> kernels `[..., h - 2, w - 2, C, 2 k]` and `[..., C, 4 k]`."""

        def kernels(layer):
            maps = layer(z_taps[0])
            split = maps.reshape(*maps.shape[:-1], -1, self.channels)  # DaSiamRPN's channels: kernel, then feature
            return jnp.swapaxes(split, -1, -2)

        return Branches(kernels(self.cls_template), kernels(self.loc_template))

    def search(self, x_taps: Taps, train: bool = False) -> Branches:
        """Features `[..., H, W, C]` -> `[..., H - 2, W - 2, C]`, twice."""
        return Branches(self.cls_search(x_taps[0]), self.loc_search(x_taps[0]))

    def correlate(self, template: Branches, search: Branches, train: bool = False) -> tuple[Array, Array]:
        """(class scores `[..., S, S, 2, k]`, box offsets `[..., S, S, 4, k]`)."""
        correlate = jnp.vectorize(up_channel_correlate, signature="(y,x,c),(i,j,c,n)->(a,b,n)")
        cls = correlate(search.cls, template.cls)
        loc = self.loc_adjust(correlate(search.loc, template.loc))
        return _by_anchor(cls, self.anchors), _by_anchor(loc, self.anchors)

    def match(self, template: Branches, x_taps: Taps, train: bool = False) -> tuple[Array, Array]:
        return self.correlate(template, self.search(x_taps, train), train)


class DepthwiseRPN(nn.Module):
    """SiamRPN++'s head (Li et al. 2019, sections 3.3 and 3.4): a depthwise correlation per level, and their mean.

    channels: of the features, for every level. weighted: the mean's weights are learned (a softmax, for either output)
    instead of equal.
    """

    channels: tuple[int, ...]
    weighted: bool = False
    anchors: int = ANCHORS

    def setup(self):
        self.cls = [_DepthwiseBranch(channels, 2 * self.anchors) for channels in self.channels]
        self.loc = [_DepthwiseBranch(channels, 4 * self.anchors) for channels in self.channels]
        if self.weighted:
            self.cls_weight = self.param("cls_weight", nn.initializers.ones, (len(self.channels),))
            self.loc_weight = self.param("loc_weight", nn.initializers.ones, (len(self.channels),))

    def __call__(self, z_taps: Taps, x_taps: Taps, train: bool = False) -> tuple[Array, Array]:
        return self.match(self.template(z_taps, train), x_taps, train)

    def template(self, z_taps: Taps, train: bool = False) -> Branches:
        """Features `[..., h, w, C]` of every level -> `[..., h - 2, w - 2, C]` of every level, twice."""
        return Branches(
            tuple(branch.template(tap, train) for branch, tap in zip(self.cls, z_taps, strict=True)),
            tuple(branch.template(tap, train) for branch, tap in zip(self.loc, z_taps, strict=True)),
        )

    def search(self, x_taps: Taps, train: bool = False) -> Branches:
        """Features `[..., H, W, C]` of every level -> `[..., H - 2, W - 2, C]` of every level, twice."""
        return Branches(
            tuple(branch.search(tap, train) for branch, tap in zip(self.cls, x_taps, strict=True)),
            tuple(branch.search(tap, train) for branch, tap in zip(self.loc, x_taps, strict=True)),
        )

    def correlate(self, template: Branches, search: Branches, train: bool = False) -> tuple[Array, Array]:
        """(class scores `[..., S, S, 2, k]`, box offsets `[..., S, S, 4, k]`)."""

        def mean(branches, templates, searches, logits):
            levels = [branch.correlate(z, x, train) for branch, z, x in zip(branches, templates, searches)]
            weights = [1 / len(levels)] * len(levels) if logits is None else jax.nn.softmax(logits)
            return _by_anchor(sum(weight * level for weight, level in zip(weights, levels)), self.anchors)

        cls_weight, loc_weight = (self.cls_weight, self.loc_weight) if self.weighted else (None, None)
        return (
            mean(self.cls, template.cls, search.cls, cls_weight),
            mean(self.loc, template.loc, search.loc, loc_weight),
        )

    def match(self, template: Branches, x_taps: Taps, train: bool = False) -> tuple[Array, Array]:
        return self.correlate(template, self.search(x_taps, train), train)


class Neck(nn.Module):
    """SiamRPN++'s: a 1x1 convolution and batch normalization for every level; of templates the central 7 x 7 cells."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, taps: Taps, train: bool = False) -> Taps:
        """Taps `[..., H, W, C]` of the backbone -> `[..., H, W, channels]`, level by level: of a search region."""
        layers = zip(taps, self.channels, strict=True)
        return tuple(
            batch_norm(f"bn_{level}", train)(
                _conv(channels, (1, 1), use_bias=False, name=f"conv_{level}")(tap)
            )
            for level, (tap, channels) in enumerate(layers)
        )

    def template(self, taps: Taps, train: bool = False) -> Taps:
        """The same of a template's taps -> `[..., 7, 7, channels]`: without the cells that padding has reached."""
        return tuple(center(tap) for tap in self(taps, train))


def center(tap: Array) -> Array:
    """`[..., H, W, C]` -> the central `[..., 7, 7, C]`, the extra cell, if any, after them."""
    top, left = ((size - TEMPLATE_SIZE) // 2 for size in tap.shape[-3:-1])
    return tap[..., top : top + TEMPLATE_SIZE, left : left + TEMPLATE_SIZE, :]


class _DepthwiseBranch(nn.Module):
    """One output of one level."""

    channels: int
    outputs: int

    def setup(self):
        self.template_block = _ConvBlock(self.channels, 3)
        self.search_block = _ConvBlock(self.channels, 3)
        self.hidden = _ConvBlock(self.channels, 1)
        self.output = _conv(self.outputs, (1, 1))

    def template(self, tap: Array, train: bool) -> Array:
        return self.template_block(tap, train)

    def search(self, tap: Array, train: bool) -> Array:
        return self.search_block(tap, train)

    def correlate(self, template: Array, search: Array, train: bool) -> Array:
        correlate = jnp.vectorize(depthwise_correlate, signature="(y,x,c),(i,j,c)->(a,b,c)")
        return self.output(self.hidden(correlate(search, template), train))


class _ConvBlock(nn.Module):
    """Convolution without padding and bias, batch normalization, ReLU."""

    features: int
    size: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = _conv(self.features, (self.size, self.size), use_bias=False, name="conv")(x)
        return nn.relu(batch_norm("bn", train)(x))


def _by_anchor(maps: Array, anchors: int) -> Array:
    """`[..., n k]` -> `[..., n, k]`: channel c k + a belongs to coordinate or class c of anchor a."""
    return maps.reshape(*maps.shape[:-1], -1, anchors)
