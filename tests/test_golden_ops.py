"""Operators against the peers' numbers. Sizes come from the set, inputs from the formulas."""

from functools import partial

import jax
import numpy as np

from ops.prroi_pool import prroi_pool
from tests import oracle
from tests.golden import formula


@partial(jax.jit, static_argnames=("bins", "inverse_scale"))
def pool_and_pull_back(features, image_index, boxes, top, bins, inverse_scale):
    """Pooled values `[boxes, bins, bins, C]` and what the incoming gradient `top` becomes."""

    def pool_all(features, boxes):
        pool = partial(prroi_pool, bins=bins, spatial_scale=1 / inverse_scale)
        return jax.vmap(lambda box, index: pool(features[index], box))(boxes, image_index)

    pooled, pullback = jax.vjp(pool_all, features, boxes)
    return pooled, *pullback(top)


def prroi_errors(bins, inverse_scale, dtype):
    """Errors of values and gradient to boxes, by box, and of the gradient to features over its maximum."""
    stored, name = oracle.arrays("prroi"), f"p{bins}_s{inverse_scale}"
    rois = stored["rois_b_x1y1x2y2"]
    features = stored["feat"].transpose(0, 2, 3, 1).astype(dtype)
    top = formula.normal(oracle.salt(), f"prroi/top_{bins}", (len(rois), features.shape[-1], bins, bins))
    pooled, to_features, to_boxes = pool_and_pull_back(
        features, rois[:, 0].astype(int), rois[:, 1:].astype(dtype), top.transpose(0, 2, 3, 1).astype(dtype),
        bins=bins, inverse_scale=inverse_scale,
    )  # fmt: skip
    expected = stored[f"{name}_dfeat"].transpose(0, 2, 3, 1)
    return (
        np.abs(pooled - stored[f"{name}_out"].transpose(0, 2, 3, 1)).max((1, 2, 3)),
        np.abs(to_boxes - stored[f"{name}_drois_x1y1x2y2"]).max(1),
        np.abs(to_features - expected).max() / np.abs(expected).max(),
    )


def tiny_boxes():
    tiny = np.array([name.startswith("tiny") for name in oracle.arrays("prroi")["roi_names"]])
    assert not tiny.all()
    return tiny


def test_golden_prroi_float64(x64):
    """The stored gradient of a tiny box carries the rounding of differences, 2e-16 / (bin in cells)^2."""
    tiny = tiny_boxes()
    for bins, inverse_scale in oracle.settings()["prroi"]["bins_and_inverse_scale"]:
        values, to_boxes, to_features = prroi_errors(bins, inverse_scale, np.float64)
        assert values.max() < 1e-9
        assert to_features < 1e-9
        assert to_boxes[~tiny].max() < 1e-9
        assert to_boxes[tiny].max(initial=0) < 1e-4


def test_golden_prroi_float32():
    """Gradients of the tiny boxes are left to float64: rounding is divided by their bins' size."""
    tiny = tiny_boxes()
    for bins, inverse_scale in oracle.settings()["prroi"]["bins_and_inverse_scale"]:
        values, to_boxes, to_features = prroi_errors(bins, inverse_scale, np.float32)
        assert values.max() < 1e-5
        assert to_boxes[~tiny].max() < 1e-5
        assert to_features < 1e-5
