"""The IoU network of ATOM and DiMP (Danelljan et al. 2019, section 3.2): how well does a box fit the target?

The target's appearance is a pair of modulation vectors that scale the channels of the search image's
features. pytracking modulates the feature maps; here the pooled features are modulated, which is the same
(pooling is linear and works channel by channel) and lets one set of features serve every target in the
crop.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from ops.boxes import xywh_to_corners
from ops.prroi_pool import prroi_pool
from trackers.nets.resnet import TAP_STRIDES, batch_norm, for_batches

Array = jax.Array

FINE, COARSE = (1 / TAP_STRIDES[tap] for tap in ("layer2", "layer3"))  # cells per pixel of the crop
PREDICTION_BINS = (5, 3)

_kaiming = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class IoUNet(nn.Module):
    """Predicts the overlap of boxes with a target that one reference crop shows.

    inner: channels of the two modulation vectors and of every layer but one (256 in pytracking). Every
    method takes one example or any number of leading batch axes, the same for all arguments; `train`
    normalizes with the statistics over all of them. Boxes are x, y, w, h in pixels of the crop. layer2
    `[.., H/8, W/8, C2]` and layer3 `[.., H/16, W/16, C3]` are taps of the backbone. batches: as of `resnet.ResNet`.
    """

    inner: int = 256
    batches: bool = False

    def setup(self):
        block = partial(_ConvBlock, batches=self.batches)
        self.conv3_1r = block(self.inner // 2, 3, 1)
        self.conv3_1t = block(self.inner, 3, 1)
        self.conv3_2t = block(self.inner, 3, 1)
        self.fc3_1r = block(self.inner, 3, 0)
        self.conv4_1r = block(self.inner, 3, 1)
        self.conv4_1t = block(self.inner, 3, 1)
        self.conv4_2t = block(self.inner, 3, 1)
        self.fc34_3r = block(self.inner, 1, 0)
        self.fc34_4r = block(self.inner, 1, 0)
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

    def predict(
        self,
        modulation: tuple[Array, Array],
        features: tuple[Array, Array],
        boxes: Array,
        train: bool = False,
    ) -> Array:
        """The target's modulation, features of a search crop, boxes `[.., P, 4]` in it -> overlaps `[.., P]`.

        The value is the network's raw output; it is trained on 2 IoU - 1. Differentiable in the boxes.
        """
        hidden = []
        layers = (self.fc3_rt, self.fc4_rt)
        for layer, vector, maps, bins, scale in zip(layers, modulation, features, PREDICTION_BINS, (FINE, COARSE)):
            pooled = _pool(maps[..., None, :, :, :], boxes, bins, scale) * vector[..., None, None, None, :]
            hidden.append(layer(pooled.reshape(*pooled.shape[:-3], -1), train))
        return self.iou_predictor(jnp.concatenate(hidden, -1))[..., 0]


class _ConvBlock(nn.Module):
    """Convolution with bias, batch normalization, ReLU."""

    features: int
    size: int
    padding: int
    batches: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.Conv(
            self.features,
            (self.size, self.size),
            padding=((self.padding, self.padding),) * 2,
            kernel_init=_kaiming,
            conv_general_dilated=for_batches(self.batches),
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


def _pool(features: Array, boxes: Array, bins: int, spatial_scale: float) -> Array:
    """`prroi_pool` over leading axes: `[.., h, w, C]`, x, y, w, h `[.., 4]` -> `[.., bins, bins, C]`."""

    def pool(one, box):
        return prroi_pool(one, box, bins=bins, spatial_scale=spatial_scale)

    return jnp.vectorize(pool, signature="(h,w,c),(k)->(a,b,c)")(features, xywh_to_corners(boxes))
