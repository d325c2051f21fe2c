"""Operators against the references' numbers. Sizes come from the set, inputs from the formulas."""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops import sample_memory, score_maps
from ops.augment import Transform, transform_patch
from ops.correlation import correlate_same
from ops.crop import crop, mean_color
from ops.prroi_pool import prroi_pool
from tests.golden import formula
from tests.helpers import oracle
from tests.helpers.compilation import jit_as_for_users


@partial(jit_as_for_users, static_argnames=("bins", "inverse_scale"))
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


def test_golden_prroi_float64(x64):
    """Gradients of tiny boxes, as stored, carry the rounding of a difference over the square of the bin's size."""
    rois = oracle.arrays("prroi")["rois_b_x1y1x2y2"]
    for bins, inverse_scale in oracle.settings()["prroi"]["bins_and_inverse_scale"]:
        values, to_boxes, to_features = prroi_errors(bins, inverse_scale, np.float64)
        assert values.max() < 1e-9
        assert to_features < 1e-9
        bin_size = (rois[:, 3:] - rois[:, 1:3]).min(1).astype(np.float64) / inverse_scale / bins
        rounding = np.where(bin_size > 0, 1e-15 / np.maximum(bin_size, 1e-9) ** 2, 0)
        np.testing.assert_array_less(to_boxes, 1e-9 + rounding)


def test_golden_prroi_float32():
    """Values of every box; gradients of the tiny ones are left to float64."""
    tiny = np.array([name.startswith("tiny") for name in oracle.arrays("prroi")["roi_names"]])
    assert not tiny.all()
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


jitted_crop = jit_as_for_users(crop, static_argnames=("out_size", "border", "rounding"))


@pytest.mark.parametrize(
    "border, rounding, suffix, coordinates",
    [
        ("replicate", "pytracking", "", "y0x0y1x1"),
        ("replicate", "pytracking_torch14", "_legacyfloor", "legacyfloor"),
        ("inside", "pytracking", "_inside", "inside"),
    ],
)
def test_golden_sample_patch(border, rounding, suffix, coordinates):
    """Float images in the reference: what differs is the float32 rounding of positions."""
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
    """The reference resizes uint8 with rounded 11-bit weights: within 1 grey level of the exact value."""
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
        assert error.mean() <= 0.4


@pytest.mark.parametrize("rounding, key", [
    ("pysot", "pysot_subwindow"), ("dasiamrpn", "dasiamrpn_subwindow"), ("siamfc", "siamfc_crop"),
])  # fmt: skip
def test_golden_siamese_crops(rounding, key):
    """Within 1 grey level, as above; the border has the mean color, which two references cut to whole numbers."""
    stored = oracle.arrays("preproc")
    image, extent = golden_image()
    means = mean_color(image, extent)
    np.testing.assert_allclose(means, stored["avg_chans"], rtol=1e-6)
    fill = means if rounding == "siamfc" else jnp.floor(means)
    added = oracle.settings()["preproc"]["siamfc_size_add"]
    for i, (x, y, model, original) in enumerate(stored["sub_pos_xy_model_orig"]):
        side = np.full(2, original + added * (rounding == "siamfc"), np.float32)
        options = {"out_size": (int(model), int(model)), "border": "constant", "fill": fill, "rounding": rounding}
        patch = jitted_crop(image, extent, np.float32([y, x]), side, **options)
        found = np.moveaxis(np.asarray(patch.image), -1, 0).reshape(stored[f"{key}_{i}__shape"])
        steps = tuple(slice(None, None, int(step)) for step in stored[f"{key}_{i}__stride"])
        error = np.abs(found[steps] - stored[f"{key}_{i}"])
        assert error.max() <= 1 and error.mean() <= 0.4


def test_golden_bicubic_resize():
    stored = oracle.arrays("post_siamfc")
    scores = formula.normal(oracle.salt(), "post/siamfc0_0", (3, 1, 17, 17))[0, 0]
    resized = score_maps.bicubic_resize(jnp.asarray(scores), len(stored["hann_272_row136"]))
    np.testing.assert_allclose(resized[::8, ::8], stored["upsampled_scale0_stride8"], atol=2e-5)


def names(file, pattern):
    """(key, the pattern's groups) of the arrays of a file; at least one must match."""
    found = [(key, match) for key in oracle.arrays(file) if (match := re.fullmatch(pattern, key))]
    assert found, pattern
    return found


def test_golden_ltr_gaussian_label():
    stored = oracle.arrays("train_pytracking")
    sigma_factor, feature_size, image_size = stored["ltr_args_sigma_feat_image"]
    boxes = stored["label_boxes_xywh"]
    offsets = (boxes[:, 1::-1] + boxes[:, :1:-1] / 2 - image_size / 2) / image_size
    for key, match in names("train_pytracking", r"ltr_gaussian_label_k(\d+)(_nopad)?"):
        kernel_size = int(match[1])
        centers = score_maps.label_center(jnp.asarray(offsets, jnp.float32), int(feature_size), kernel_size)
        extra = 0 if match[2] else (kernel_size + 1) % 2
        sigma = sigma_factor * feature_size
        label = partial(
            score_maps.gaussian_label, sigma=sigma, feature_size=int(feature_size), extra_cells=extra
        )
        np.testing.assert_allclose(jax.vmap(label)(centers), stored[key], atol=1e-6)


def test_golden_dcf_label_spatial():
    stored = oracle.arrays("train_pytracking")
    feature_size = int(stored["ltr_args_sigma_feat_image"][1])
    for key, match in names("train_pytracking", r"dcf_label_spatial(?:_endpad(\d+))?"):
        label = partial(
            score_maps.gaussian_label,
            sigma=jnp.asarray(stored["dcf_sigma_yx"], jnp.float32),
            feature_size=feature_size,
            extra_cells=int(match[1] or 0),
        )
        labels = jax.vmap(label)(jnp.asarray(stored["dcf_centers_yx"], jnp.float32))
        np.testing.assert_allclose(labels[:, None], stored[key], atol=1e-6)


def test_golden_hann_window():
    stored = oracle.arrays("train_pytracking")
    for key, match in names("train_pytracking", r"hann1d_(centered|origin)_(\d+)"):
        window = score_maps.hann_window(int(match[2]), centered=match[1] == "centered")
        np.testing.assert_allclose(window, np.outer(stored[key], stored[key]), atol=1e-6)


def test_golden_fourier_interpolation():
    settings = oracle.settings()["preproc"]["fourier_n_k_U"]
    assert settings
    for size, kernel_size, out_size in settings:
        raw = formula.normal(oracle.salt(), f"pre/score_{size}_{kernel_size}", (1, 1, size, size))
        scores = score_maps.fourier_interpolate(jnp.asarray(raw[0, 0]), kernel_size, out_size, centered=False)
        key = f"fourier_n{size}_k{kernel_size}_U{out_size}"
        oracle.assert_golden(np.asarray(scores)[None, None], "preproc", key, relative=2e-6)
        centered = score_maps.fourier_interpolate(jnp.asarray(raw[0, 0]), kernel_size, out_size)
        np.testing.assert_allclose(centered, np.roll(scores, out_size // 2, (0, 1)), atol=1e-5)


def test_golden_same_correlation():
    settings = oracle.settings()["localise"]
    batch, channels, height, width = settings["conv_input"]
    features = formula.normal(oracle.salt(), "loc/convx", (batch, channels, height, width)).transpose(0, 2, 3, 1)
    assert settings["conv_kernels"]
    for k in settings["conv_kernels"]:
        filter = formula.normal(oracle.salt(), f"loc/convw{k}", (1, channels, k, k))[0].transpose(1, 2, 0)
        scores = jax.vmap(correlate_same, in_axes=(0, None))(jnp.asarray(features), jnp.asarray(filter))
        oracle.assert_golden(scores[:, None], "localise", f"conv_same_k{k}", relative=1e-6)


def test_golden_mlu():
    stored, settings = oracle.arrays("localise"), oracle.settings()["localise"]["mlu"]
    ((key, _),) = names("localise", r"mlu_.*")
    x = np.linspace(settings["lo"], settings["hi"], settings["n"], dtype=np.float32)
    np.testing.assert_allclose(score_maps.mlu(jnp.asarray(x), settings["alpha"]), stored[key], atol=1e-6)


def test_golden_sample_weights():
    """The stored trace is rounded to 6 digits; rate, sizes and the place of the hard negative are in its name."""
    stored = json.loads((oracle.HERE / "optimisers.json").read_text())
    pattern = r"sample_weights_lr([\d.]+)_mem(\d+)_init(\d+)_min([\d.]+)_hn\(([\d.]+)\)@(\d+)th"
    ((trace, match),) = [(stored[key], m) for key in stored if (m := re.fullmatch(pattern, key))]
    rate, least, hard_rate = (float(match[i]) for i in (1, 4, 5))
    slots, initial, hard_negative = (int(match[i]) for i in (2, 3, 6))
    memory = sample_memory.create(slots, jnp.zeros((initial, 1)))
    insert = jit_as_for_users(partial(sample_memory.insert, initial=initial, min_initial_weight=least))
    for step, (slot, weights, total) in enumerate(trace, start=1):
        memory = insert(memory, jnp.full(1, float(step)), hard_rate if step == hard_negative else rate)
        assert memory.last_slot == slot
        np.testing.assert_allclose(memory.weights, weights, atol=1e-6)
        np.testing.assert_allclose(memory.weights.sum(), total, atol=1e-6)
        assert memory.samples[slot, 0] == step


SHIFTED = ("identity_shift", "fliplr", "blur_3_1", "blur_2_2", "rotate_10", "rotate_60")  # README, section 6.7


def named_transform(name):
    """'rotate_-45' -> Transform('rotate', (-45.0,)) and so on."""
    kind, *numbers = name.split("_")
    kinds = {"fliplr": "flip", "translate": "shift"}
    return Transform(kinds.get(kind, kind), tuple(float(n) for n in numbers if n != "shift"))


@pytest.fixture(scope="module")
def transformed():
    """Every stored transform of the expanded patch in one call: name -> `[out, out, 3]`."""
    stored = oracle.arrays("preproc")
    image, extent = golden_image()
    y, x, scale, expand, out = stored["aug_pos_yx_scale_expand_out"]
    side = np.full(2, scale * expand, np.float32)
    expanded_size = (int(expand), int(expand))
    center = np.float32([y, x])
    patch = jitted_crop(image, extent, center, side, expanded_size, rounding="pytracking").image
    keys = [key for key, _ in names("preproc", r"aug_(identity|fliplr|translate|blur|rotate|scale)[^_]*(_[-.\d]+)*")]
    keys += [key for key, _ in names("preproc", r"aug_identity_shift")]
    found = [key.removeprefix("aug_") for key in keys]
    translation = oracle.settings()["preproc"]["aug"]["translate_yx"]
    shifts = [
        stored["aug_shift_yx"] if name in SHIFTED else translation if name == "translate" else [0, 0]
        for name in found
    ]
    cut = jit_as_for_users(transform_patch, static_argnames=("transforms", "out_size"))
    transforms = tuple(map(named_transform, found))
    patches = cut(patch, transforms, np.array(shifts, np.int32), out_size=int(out))
    return dict(zip(found, np.asarray(patches)))


def test_golden_separable_transforms(transformed):
    checked = [name for name in transformed if not name.startswith("rotate")]
    assert checked
    for name in checked:
        full = np.moveaxis(transformed[name], -1, 0)[None]
        oracle.assert_golden(full, "preproc", f"aug_{name}", relative=1e-5)


def test_golden_rotations(transformed):
    """OpenCV 4.12 rounds source coordinates to 1/32 pixel, 5.0 does not: the newer one is the sharper test."""
    stored = oracle.arrays("preproc")
    checked = [name for name in transformed if name.startswith("rotate")]
    assert checked
    for name in checked:
        key = f"aug_{name}"
        steps = tuple(slice(None, None, int(step)) for step in stored[f"{key}__stride"])
        ours = np.moveaxis(transformed[name], -1, 0)[None][steps]
        np.testing.assert_allclose(ours, stored[key], atol=0.02)
        if f"{key}__cv4.12" in stored:
            np.testing.assert_allclose(ours, stored[f"{key}__cv4.12"], atol=1)
