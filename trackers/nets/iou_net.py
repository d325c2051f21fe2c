"""The IoU network of ATOM and DiMP (Danelljan et al. 2019, section 3.2): how well does a box fit the target?

The target's appearance is a pair of modulation vectors that scale the channels of the search image's
features. pytracking modulates the feature maps; here the pooled features are modulated, which is the same
(pooling is linear and works channel by channel) and lets one set of features serve every target in the
crop.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import xywh_to_corners
from ops.prroi_pool import prroi_pool
from trackers.nets.convolution import convolve
from trackers.nets.resnet import TAP_STRIDES, batch_norm

Array = jax.Array

FINE, COARSE = (1 / TAP_STRIDES[tap] for tap in ("layer2", "layer3"))  # cells per pixel of the crop
PREDICTION_BINS = (5, 3)
WINDOWS = (20, 11)  # cells a side of the two maps: 144 pixels of the crop wherever a box lies

_kaiming = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class IoUNet(nn.Module):
    """Predicts the overlap of boxes with a target that one reference crop shows.

    inner: channels of the two modulation vectors and of every layer but one (256 in pytracking). Every
    method takes one example or any number of leading batch axes, the same for all arguments; `train`
    normalizes with the statistics over all of them. Boxes are x, y, w, h in pixels of the crop. layer2
    `[.., H/8, W/8, C2]` and layer3 `[.., H/16, W/16, C3]` are taps of the backbone.
    """

    inner: int = 256

    def setup(self):
        self.conv3_1r = _ConvBlock(self.inner // 2, 3, 1)
        self.conv3_1t = _ConvBlock(self.inner, 3, 1)
        self.conv3_2t = _ConvBlock(self.inner, 3, 1)
        self.fc3_1r = _ConvBlock(self.inner, 3, 0)
        self.conv4_1r = _ConvBlock(self.inner, 3, 1)
        self.conv4_1t = _ConvBlock(self.inner, 3, 1)
        self.conv4_2t = _ConvBlock(self.inner, 3, 1)
        self.fc34_3r = _ConvBlock(self.inner, 1, 0)
        self.fc34_4r = _ConvBlock(self.inner, 1, 0)
        self.fc3_rt = _LinearBlock(self.inner)
        self.fc4_rt = _LinearBlock(self.inner)
        self.iou_predictor = nn.Dense(1, kernel_init=_kaiming)

    def __call__(self, layer2: Array, layer3: Array, box: Array, train: bool = False) -> Array:
        """The overlap `[..]` of the very box that gives the modulation (for initialization)."""
        modulation = self.modulation(layer2, layer3, box, train)
        features = self.features(layer2, layer3, train)
        return self.predict(modulation, features, box[..., None, :], train)[..., 0]

    def modulation(self, layer2: Array, layer3: Array, box: Array, train: bool = False) -> tuple[Array, Array]:
        """Taps of a reference crop, the target's box `[.., 4]` -> modulation vectors `[.., inner]` each."""
        fine = _pool(self.conv3_1r(layer2, train), box, 3, FINE)
        coarse = _pool(self.conv4_1r(layer3, train), box, 1, COARSE)
        both = jnp.concatenate([self.fc3_1r(fine, train), coarse], -1)
        return self.fc34_3r(both, train)[..., 0, 0, :], self.fc34_4r(both, train)[..., 0, 0, :]

    def features(self, layer2: Array, layer3: Array, train: bool = False) -> tuple[Array, Array]:
        """Taps of a search crop -> its features for `predict`, like the taps but with `inner` channels."""
        fine = self.conv3_2t(self.conv3_1t(layer2, train), train)
        coarse = self.conv4_2t(self.conv4_1t(layer3, train), train)
        return fine, coarse

    def windows(self, layer2: Array, layer3: Array, corners: tuple[Array, Array]) -> tuple[Array, Array]:
        """`features` of one crop in a window of each map, for a part of the work.

        corners: (y, x) `[2]` int32 of the first cell of the two windows, which lie inside the maps.
        """
        maps, layers = (layer2, layer3), ((self.conv3_1t, self.conv3_2t), (self.conv4_1t, self.conv4_2t))
        return tuple(_window(*pair, one, *rest) for pair, one, *rest in zip(layers, maps, corners, WINDOWS))

    def predict(
        self,
        modulation: tuple[Array, Array],
        features: tuple[Array, Array],
        boxes: Array,
        train: bool = False,
        corners: tuple[Array, Array] | None = None,
    ) -> Array:
        """The target's modulation, features of a search crop, boxes `[.., P, 4]` in it -> overlaps `[.., P]`.

        The value is the network's raw output; it is trained on 2 IoU - 1. Differentiable in the boxes. corners: the
        features are those of `windows` there.
        """
        hidden = []
        levels = zip((self.fc3_rt, self.fc4_rt), modulation, features, PREDICTION_BINS, (FINE, COARSE))
        for level, (layer, vector, maps, bins, scale) in enumerate(levels):
            inside = boxes if corners is None else _within(boxes, corners[level] / scale)
            pooled = _pool(maps[..., None, :, :, :], inside, bins, scale) * vector[..., None, None, None, :]
            hidden.append(layer(pooled.reshape(*pooled.shape[:-3], -1), train))
        return self.iou_predictor(jnp.concatenate(hidden, -1))[..., 0]


class _ConvBlock(nn.Module):
    """Convolution with bias, batch normalization, ReLU."""

    features: int
    size: int
    padding: int

    @nn.compact
    def __call__(self, x: Array, train: bool, padded: bool = True) -> Array:
        border = self.padding if padded else 0
        x = nn.Conv(
            self.features,
            (self.size, self.size),
            padding=((border, border),) * 2,
            kernel_init=_kaiming,
            conv_general_dilated=convolve,
            name="conv",
        )(x)
        return nn.relu(_batch_norm(train)(x))


class _LinearBlock(nn.Module):
    """Linear layer with bias, batch normalization, ReLU."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        return nn.relu(_batch_norm(train)(nn.Dense(self.features, kernel_init=_kaiming, name="linear")(x)))


def _batch_norm(train: bool) -> nn.Module:
    return batch_norm("bn", train, nn.initializers.uniform(1.0))  # scale from U(0, 1), as pytracking


def window_corners(boxes: Array, shapes: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
    """The first cells `[2]` int32 (y, x) of windows around boxes `[P, 4]` in maps of `shapes`, see `covered`."""
    corners = []
    for (low, high), cells, shape in zip(_reach(boxes, shapes), WINDOWS, shapes):
        middle = (jnp.min(low, 0) + jnp.max(high, 0) + 1) / 2
        corner = jnp.round(middle - cells / 2).astype(jnp.int32)
        corners.append(jnp.clip(corner, 0, np.array(shape, np.int32) - cells))
    return tuple(corners)


def covered(boxes: Array, corners: tuple[Array, Array], shapes: tuple[tuple[int, int], ...]) -> Array:
    """`[]` bool: whether `predict` of boxes `[P, 4]` reads no cell of the maps outside the windows at `corners`."""
    inside = [
        jnp.all((low >= corner[None]) & (high < corner[None] + cells))
        for (low, high), corner, cells in zip(_reach(boxes, shapes), corners, WINDOWS)
    ]
    return inside[0] & inside[1]


def _reach(boxes: Array, shapes: tuple[tuple[int, int], ...]) -> list[tuple[Array, Array]]:
    """First and last cell `[P, 2]` (y, x), whole numbers as floats, of each map that pooling boxes `[P, 4]` reads."""
    corners = xywh_to_corners(boxes)
    return [
        (
            jnp.maximum(jnp.floor(corners[:, 1::-1] * scale), 0),
            jnp.minimum(jnp.ceil(corners[:, :1:-1] * scale), np.array([shape], np.float32) - 1),
        )
        for scale, shape in zip((FINE, COARSE), shapes)
    ]


def _window(first: nn.Module, second: nn.Module, tap: Array, corner: Array, cells: int) -> Array:
    """`second(first(tap))` of `[h, w, C]` in the `cells` a side from `corner` on."""
    place = corner[0], corner[1], jnp.zeros_like(corner[0])
    part = jax.lax.dynamic_slice(jnp.pad(tap, ((2, 2), (2, 2), (0, 0))), place, (cells + 4, cells + 4, tap.shape[-1]))
    between = first(part, False, padded=False)  # from a cell before the corner on
    ys, xs = (corner[axis] - 1 + jnp.arange(cells + 2) for axis in (0, 1))
    inside = ((ys >= 0) & (ys < tap.shape[0]))[:, None] & ((xs >= 0) & (xs < tap.shape[1]))[None]
    between = jnp.where(inside[..., None], between, jnp.zeros_like(between))  # the border of the second convolution
    return second(between, False, padded=False)


def _within(boxes: Array, start: Array) -> Array:
    """Boxes `[.., 4]` x, y, w, h seen from `start` `[2]` (y, x)."""
    return boxes - jnp.broadcast_to(jnp.concatenate([start[::-1], jnp.zeros_like(start)]), boxes.shape)


def _pool(features: Array, boxes: Array, bins: int, spatial_scale: float) -> Array:
    """`prroi_pool` over leading axes: `[.., h, w, C]`, x, y, w, h `[.., 4]` -> `[.., bins, bins, C]`."""

    def pool(one, box):
        return prroi_pool(one, box, bins=bins, spatial_scale=spatial_scale)

    return jnp.vectorize(pool, signature="(h,w,c),(k)->(a,b,c)")(features, xywh_to_corners(boxes))
