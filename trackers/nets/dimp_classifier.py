"""DiMP's target classifier (Bhat et al. 2019): features, initial filter, the learned loss that refines it.

The filter of a target is the minimizer of a loss whose label, mask and weight maps are learned functions
of the distance to the target's center; a few steps of steepest descent (`optimize_filter`) predict it
from labeled samples.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ops.boxes import xywh_to_corners
from ops.correlation import correlate
from ops.least_squares import safe_sqrt, steepest_descent
from ops.prroi_pool import prroi_pool_windows
from trackers.nets.resnet import TAP_STRIDES, BasicBlock, conv, conv_init

Array = jax.Array
Params = dict

FILTER_SIZE = 4
STRIDE = TAP_STRIDES["layer3"]  # pixels of the crop per cell of the features and of the score map
BIN_COUNT = 100
BIN_SIZE = 0.1  # cells
MIN_FILTER_REG = 1e-3
MIN_CURVATURE = 1e-8


class DimpClassifier(nn.Module):
    """The learned parts of the classifier, in terms of layer3 of the backbone.

    blocks: residual blocks before the last convolution (1 in DiMP-18, 0 in DiMP-50). channels: C of the
    features. The parameters of the optimizer lie in
    `variables["params"]["optimizer"]`; `optimize_filter` and `loss_maps` take them from there.
    """

    blocks: int = 1
    channels: int = 256

    def setup(self):
        blocks = [BasicBlock(self.channels) for _ in range(self.blocks)]
        self.layer = [*blocks, conv(None, self.channels, 3)]
        self.filter_conv = PooledConvolution(self.channels)
        self.optimizer = self.param("optimizer", lambda _key: init_optimizer())

    def __call__(self, layer3: Array, boxes: Array, train: bool = False) -> Array:
        """The initial filter from taps `[N, h, w, C3]` and boxes `[N, 4]` (for initialization)."""
        return self.initial_filter(self.extract(layer3, train), boxes)

    def extract(self, layer3: Array, train: bool = False) -> Array:
        """`[.., h, w, C3]` -> classification features `[.., h, w, C]` of equal energy for every example."""
        *blocks, last = self.layer
        x = layer3
        for block in blocks:
            x = block(x, train)
        return instance_l2_norm(last(x))

    def initial_filter(self, features: Array, boxes: Array) -> Array:
        """Features `[N, h, w, C]`, boxes `[N, 4]` of one target -> filter `[4, 4, C]`.

        The mean over the samples. boxes: x, y, w, h in pixels of the crop.
        """
        return self.filter_conv(features, boxes)


class PooledConvolution(nn.Module):
    """A 3x3 convolution, pooled in the box of each sample: pooled first, then multiplied by its kernel, just once.

    The parameters are those of `nn.Conv`.
    """

    channels: int

    @nn.compact
    def __call__(self, features: Array, boxes: Array) -> Array:
        """Features `[N, h, w, C]`, boxes `[N, 4]` (x, y, w, h in pixels of the crop) -> mean `[4, 4, channels]`."""
        kernel = self.param("kernel", conv_init, (3, 3, features.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))

        def pool(one, box):
            corners = xywh_to_corners(box)
            return prroi_pool_windows(one, corners, window=3, bins=FILTER_SIZE, spatial_scale=1 / STRIDE)

        seen, ones = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), jax.vmap(pool)(features, boxes))
        return jnp.tensordot(seen, kernel, 3) + ones[..., None] * bias[None, None]


def identity_start(variables: Params) -> Params:
    """`variables` of a `DimpClassifier` whose features are layer3 and whose initial filter pools them.

    From there training has a good tracker to improve on: where the data are few, the features of a pretrained backbone
    generalize better than what random layers learn on top of them. ValueError if the number of channels changes.
    """
    flat = flatten_dict(variables["params"])
    for path, leaf in flat.items():
        if path[-2] == "bn2" or path == ("filter_conv", "bias"):
            flat[path] = jnp.zeros_like(leaf)  # so that the residual branch of a block adds nothing
        elif len(path) == 2 and path[1] == "kernel":  # the convolutions outside the blocks
            if leaf.shape[2] != leaf.shape[3]:
                raise ValueError(f"its convolution turns {leaf.shape[2]} channels into {leaf.shape[3]}")
            flat[path] = _centered_identity(leaf.shape)
    return {**variables, "params": unflatten_dict(flat)}


def _centered_identity(shape: tuple[int, ...]) -> Array:
    return jnp.zeros(shape).at[shape[0] // 2, shape[1] // 2].set(jnp.eye(shape[2]))


def instance_l2_norm(x: Array) -> Array:
    """`[.., h, w, C]` with each example's mean square scaled to 1 / (16 C), one over a filter's size."""
    channels = x.shape[-1]
    size = math.prod(x.shape[-3:])
    energy = jnp.sum(x * x, (-3, -2, -1), keepdims=True)
    return x * (math.sqrt(1 / (channels * FILTER_SIZE**2)) * jnp.sqrt(size / (energy + 1e-5)))


def init_optimizer(
    bins: int = BIN_COUNT, bin_size: float = BIN_SIZE, label_sigma: float = 0.9, mask_factor: float = 3.0
) -> Params:
    """The optimizer's parameters before training, float32.

    {"label_bins", "mask_bins", "spatial_bins"} `[bins]` each, over distances of k bin_size cells;
    {"log_step_length", "filter_reg"} `[]`. label_sigma: of the Gaussian label, cells; the target mask
    falls to 0.5 at 2 cells.
    """
    distance = np.arange(bins) * bin_size
    gauss = np.exp(-0.5 * (distance / label_sigma) ** 2)
    values = {
        "label_bins": gauss - gauss.min(),
        "mask_bins": mask_factor * np.tanh(2.0 - distance),
        "spatial_bins": np.ones(bins),
        "log_step_length": np.log(0.9),
        "filter_reg": np.asarray(0.1),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def optimize_filter(
    optimizer: Params,
    filter: Array,
    features: Array,
    boxes: Array,
    sample_weights: Array | None = None,
    *,
    num_steps: Array | int,
    max_steps: int,
    iterates: bool = False,
    bin_size: float = BIN_SIZE,
):
    """Steepest descent with the Gauss-Newton step length on the learned loss (paper, sections 3.2 and 3.3).

    optimizer: as of `init_optimizer`. filter: `[4, 4, C]` to start from. features: `[N, h, w, C]`. boxes:
    `[N, 4]` x, y, w, h in pixels of the crop. sample_weights: `[N]` >= 0, None for 1 / N; a sample of
    weight 0 contributes exactly nothing. num_steps: <= max_steps, may be traced.
    Returns the filter, and with `iterates` also all filters `[max_steps + 1, 4, 4, C]`, the first being
    the start (rows after num_steps are constants without meaning). Differentiable in every float
    argument.
    """
    return steepest_descent(
        residuals,
        filter,
        residual_args(optimizer, features, boxes, sample_weights, bin_size=bin_size),
        num_steps=num_steps,
        max_steps=max_steps,
        step_length=jnp.exp(optimizer["log_step_length"]),
        min_curvature=MIN_CURVATURE,
        iterates=iterates,
    )


def residual_args(
    optimizer: Params,
    features: Array,
    boxes: Array,
    sample_weights: Array | None = None,
    *,
    bin_size: float = BIN_SIZE,
) -> tuple:
    """What `residuals` needs besides the filter; arguments as of `optimize_filter`."""
    samples, height, width = features.shape[:3]
    size = (height + 1, width + 1)  # an even kernel with zero padding on all sides
    label, mask, weight = loss_maps(optimizer, boxes, size, bin_size=bin_size)
    if sample_weights is None:
        weight = weight / math.sqrt(samples)
    else:
        weight = weight * safe_sqrt(sample_weights)[:, None, None]
    regularization = jnp.maximum(jnp.abs(optimizer["filter_reg"]), MIN_FILTER_REG)
    return features, label, mask, weight, regularization


def residuals(
    filter: Array, features: Array, label: Array, mask: Array, weight: Array, regularization: Array
) -> tuple[Array, Array]:
    """Weighted errors of the scores `[N, h + 1, w + 1]` and of the filter; the loss is their sum of squares.

    Where the mask is 0 (background) only scores above the label count, where it is 1 (target) all do.
    """
    scores = correlate(features, filter)
    activated = 0.5 * (1 - mask) * jnp.abs(scores) + 0.5 * (1 + mask) * scores
    return weight * (activated - label), regularization * filter


def loss_maps(
    optimizer: Params, boxes: Array, size: tuple[int, int], *, bin_size: float = BIN_SIZE
) -> tuple[Array, Array, Array]:
    """Boxes `[N, 4]` (x, y, w, h, pixels) -> label, target mask in (0, 1), spatial weight: `[N, *size]` each.

    Each is a function of the distance to the center of the box, in cells, linear between the bins and
    constant after the last.
    """
    center = (boxes[:, 1::-1] + 0.5 * boxes[:, :1:-1]) / STRIDE
    rows = jnp.arange(size[0], dtype=boxes.dtype)[None, :, None] - center[:, 0, None, None]
    columns = jnp.arange(size[1], dtype=boxes.dtype)[None, None, :] - center[:, 1, None, None]
    position = safe_sqrt(rows**2 + columns**2) / bin_size
    bins = jnp.stack([optimizer[name] for name in ("label_bins", "mask_bins", "spatial_bins")], -1)
    last = bins.shape[0] - 1
    position = jnp.minimum(position, last)
    below = jnp.minimum(position.astype(jnp.int32), last - 1)
    fraction = (position - below)[..., None]
    maps = bins[below] * (1 - fraction) + bins[below + 1] * fraction
    return maps[..., 0], jax.nn.sigmoid(maps[..., 1]), maps[..., 2]
