"""Operators against the peers' numbers. Sizes come from the set, inputs from the formulas."""

from functools import partial

import jax
import numpy as np
import pytest

from ops.crop import crop
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


def golden_image():
    """The image of preproc.npz, on a canvas that is larger and bright where nobody may look."""
    height, width = oracle.arrays("preproc")["image_hw"]
    canvas = np.full((height + 7, width + 12, 3), 255, np.uint8)
    canvas[:height, :width] = formula.image_u8(oracle.salt(), "pre/image", int(height), int(width))
    return canvas, np.array([height, width], np.int32)


jitted_crop = jax.jit(crop, static_argnames=("out_size", "border", "rounding"))


@pytest.mark.parametrize(
    "border, rounding, suffix, coordinates",
    [
        ("replicate", "pytracking", "", "y0x0y1x1"),
        ("replicate", "pytracking_torch14", "_legacyfloor", "legacyfloor"),
        ("inside", "pytracking", "_inside", "inside"),
    ],
)
def test_golden_sample_patch(border, rounding, suffix, coordinates):
    """Float images in the peer: what differs is the float32 rounding of positions."""
    stored = oracle.arrays("preproc")
    image, extent = golden_image()
    out = int(stored["output_sz"])
    scale_change = oracle.settings()["preproc"]["inside_max_scale_change"]
    for i, (center, side) in enumerate(zip(stored["sample_pos_yx"], stored["sample_sz"])):
        center, side = np.float32(center), np.full(2, side, np.float32)
        patch = jitted_crop(
            image, extent, center, side, (out, out),
            border=border, rounding=rounding, max_scale_change=scale_change,
        )  # fmt: skip
        first, last = np.split(stored[f"sample_patch_coord_{coordinates}"][i].astype(np.float64), 2)
        np.testing.assert_allclose(patch.center, (first + last - 1) / 2, atol=1e-4)
        np.testing.assert_allclose(patch.scale, np.sqrt(np.prod((last - first) / out)), rtol=1e-6)
        full = np.moveaxis(np.asarray(patch.image), -1, 0)[None]
        oracle.assert_golden(full, "preproc", f"sample_patch{suffix}_{i}", relative=5e-6)


def test_golden_ltr_sample_target():
    """The peer resizes uint8 with rounded 11-bit weights: within 1 grey level of the exact value."""
    stored, config = oracle.arrays("preproc"), oracle.settings()["preproc"]
    image, extent = golden_image()
    out = int(stored["output_sz"])
    for i, (x, y, w, h, resize_factor) in enumerate(stored["ltr_boxes_xywh_resizefactor"]):
        center = np.float32([y + (h - 1) / 2, x + (w - 1) / 2])
        side = np.full(2, np.sqrt(w * h) * config["ltr_search_factor"], np.float32)
        patch = jitted_crop(image, extent, center, side, (out, out), rounding="ltr")
        np.testing.assert_allclose(1 / patch.scale, resize_factor, rtol=1e-6)
        key = f"ltr_sample_target_{i}"
        steps = tuple(slice(None, None, int(step)) for step in stored[f"{key}__stride"])
        error = np.abs(np.moveaxis(np.asarray(patch.image), -1, 0)[steps] - stored[key].astype(np.float64))
        assert error.max() <= 1
        assert error.mean() <= 0.3
