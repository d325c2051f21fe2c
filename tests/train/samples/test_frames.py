"""Crops and boxes of training samples, batches that do not depend on who makes them, and what the device adds."""

from dataclasses import replace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.scoring.metrics import overlaps
from tests.golden import formula
from tests.helpers import oracle
from tests.helpers.noise_frames import dataset, encoded
from train.samples import augment, samplers
from train.samples import frames as data

SMALL = data.CropConfig(size=32)


# Crops.


def test_golden_crop():
    stored = oracle.arrays("preproc")
    image = formula.image_u8(oracle.salt(), "pre/image", *(int(n) for n in stored["image_hw"]))
    config = data.CropConfig(
        size=int(stored["output_sz"]), search_scale=oracle.settings()["preproc"]["ltr_search_factor"]
    )
    for i, box in enumerate(stored["ltr_boxes_xywh_resizefactor"][:, :4]):
        crop, _ = data.search_crop(image, box, box, config)
        steps = tuple(slice(None, None, int(step)) for step in stored[f"ltr_sample_target_{i}__stride"])
        np.testing.assert_array_equal(np.moveaxis(crop, -1, 0)[steps], stored[f"ltr_sample_target_{i}"])


def test_golden_box_in_crop():
    stored = oracle.arrays("train_pytracking")
    boxes, numbers = stored["label_boxes_xywh"].astype(np.float64), oracle.settings()["train_pytracking"]
    factor, size = numbers["transform_resize_factor"], numbers["transform_crop"]
    for i, expected in enumerate(stored["transform_image_to_crop"]):
        found = data.box_in_crop(boxes[i], boxes[(i + 1) % len(boxes)], factor, size)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def reference_positions(first, side, extent, rule):
    """Pixels of one axis of the window, one by one."""
    if rule == "shifted":
        if side <= extent:
            first = min(range(extent - side + 1), key=lambda start: abs(start - first))
        elif side == extent + 1:
            first = 0 if first < 0 else -1
        else:
            first = -((side - extent) // 2)
    return first, [min(max(pixel, 0), max(extent - 2, 0)) for pixel in range(first, first + side)]


@pytest.mark.parametrize("rule", data.CROP_RULES)
def test_crop_against_a_slow_reference(rng, rule):
    """Windows from a few pixels to six times the crop, inside the image, across its border and beyond it."""
    config = data.CropConfig(size=24, rule=rule)
    for case in range(60):
        height, width = rng.integers(1 if case < 3 else 20, 90, 2)
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        around = np.concatenate([rng.uniform(-60, 120, 2), rng.uniform(0.5, 30, 2)])
        box = rng.uniform(1, 20, 4)
        side = int(np.ceil(5 * np.sqrt(around[2] * around[3])))
        x, columns = reference_positions(round(around[0] + around[2] / 2 - side / 2), side, width, rule)
        y, rows = reference_positions(round(around[1] + around[3] / 2 - side / 2), side, height, rule)
        crop, found = data.search_crop(image, box, around, config)
        np.testing.assert_array_equal(crop, cv2.resize(image[np.ix_(rows, columns)], (24, 24)))
        factor = 24 / side
        if rule == "shifted":
            expected = (np.array([box[0] - x, box[1] - y, *box[2:]])) * factor
        else:
            expected = box * factor
            expected[:2] += 23 / 2 - (around[:2] + around[2:] / 2) * factor
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rule", data.CROP_RULES)
def test_the_box_is_where_the_crop_shows_the_target(rng, rule):
    config = data.CropConfig(rule=rule)
    for _ in range(20):
        x, y, w, h = box = np.array([*rng.integers(2, 100, 2), *rng.integers(20, 60, 2)])
        image = np.zeros((200, 300, 3), np.uint8)
        image[y : y + h, x : x + w] = 255
        around = data.jitter_box(rng, box, data.Jitter(center=1.0, scale=0.2))
        crop, (left, top, width, height) = data.search_crop(image, box, around, config)
        rows, columns = np.nonzero(crop[..., 0] > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        factor = width / w  # the "replicate" rule is half a crop pixel and half an image pixel off, as the reference's
        off = 0 if rule == "shifted" else 0.5 + 0.5 * factor
        np.testing.assert_allclose(found, [left, top, left + width, top + height], atol=1 + off)


def test_an_unknown_crop_rule_is_named():
    with pytest.raises(ValueError, match="unknown crop rule 'inside'"):
        data.search_crop(np.zeros((9, 9, 3), np.uint8), np.ones(4), np.ones(4), data.CropConfig(rule="inside"))


def test_jitter_is_uniform_in_the_center_and_normal_in_the_logarithm_of_the_size(rng):
    box = np.array([10.0, 20.0, 8.0, 18.0])
    found = np.stack([data.jitter_box(rng, box, data.Jitter(center=4.5, scale=0.5)) for _ in range(4000)])
    growth = np.log(found[:, 2:] / box[2:])
    np.testing.assert_allclose(growth.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(growth.std(0), 0.5, atol=0.03)
    moved = found[:, :2] + found[:, 2:] / 2 - [14, 29]
    moved /= 4.5 * np.sqrt(found[:, 2:].prod(1, keepdims=True))
    assert abs(moved).max() <= 0.5
    np.testing.assert_allclose(moved.std(0), 12**-0.5, atol=0.01)
    np.testing.assert_allclose(data.jitter_box(rng, box, data.ATOM.crops.train_jitter), box)


# Samples.


@pytest.mark.parametrize("config, frames", [(data.DIMP, 3), (data.ATOM, 1)])
def test_a_sample(config, frames):
    datasets = [dataset()]
    config = replace(config, crops=replace(config.crops, size=32))
    mixture = samplers.mix(datasets, [1], config.sampling)
    sample = data.load_sample(datasets, mixture, config, 7)
    assert sample["sample_ids"] == 7 and sample["sample_ids"].dtype == np.int64
    for part in ("train", "test"):
        assert sample[f"{part}_images"].shape == (frames, 32, 32, 3) and sample[f"{part}_images"].dtype == np.uint8
        assert sample[f"{part}_boxes"].shape == (frames, 4) and sample[f"{part}_boxes"].dtype == np.float32
    reads = datasets[0].frames.reads
    assert len(reads) == len(set(reads)) <= 2 * frames


def test_an_image_is_read_once_and_its_channels_are_rgb():
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 255
    datasets = [dataset("image", (1,), broken=0, data=encoded(red))]
    config = replace(data.DIMP, crops=SMALL)
    sample = data.load_sample(datasets, samplers.mix(datasets, [1], config.sampling), config, 0)
    assert datasets[0].frames.reads == [0]
    np.testing.assert_array_equal(sample["test_images"][0, 0, 0], [255, 0, 0])
    assert len(np.unique(sample["test_boxes"], axis=0)) == 3


# On the device.


def host_batch(rng, samples=4, size=32):
    images = rng.integers(0, 256, (4, samples, size, size, 3), np.uint8)
    boxes = rng.uniform([8, 8, 6, 6], [14, 14, 14, 14], (4, samples, 4)).astype(np.float32)
    return {
        "train_images": images[:1],
        "test_images": images[1:],
        "train_boxes": boxes[:1],
        "test_boxes": boxes[1:],
    }


prepare = jax.jit(data.prepare, static_argnames="config")
propose = jax.jit(data.propose_boxes, static_argnames="config")


def test_prepared_batch(rng):
    batch = host_batch(rng)
    key = jax.random.key(3)
    out = prepare(key, batch, data.PREPARE_DIMP)
    shapes = {name: value.shape for name, value in out.items()}
    assert shapes == {
        "train_images": (1, 4, 32, 32, 3),
        "train_boxes": (1, 4, 4),
        "test_images": (3, 4, 32, 32, 3),
        "proposals": (3, 4, 8, 4),
        "overlaps": (3, 4, 8),
        "labels": (3, 4, 19, 19),
    }
    assert all(value.dtype == jnp.float32 for value in out.values())
    target = np.broadcast_to(batch["test_boxes"][:, :, None], out["proposals"].shape)
    np.testing.assert_allclose(out["overlaps"], overlaps(out["proposals"], target), atol=1e-5)
    assert "labels" not in jax.eval_shape(lambda: data.prepare(key, batch, data.PREPARE_ATOM))
    again, other = (prepare(jax.random.key(seed), batch, data.PREPARE_DIMP) for seed in (3, 4))
    for name, value in out.items():
        np.testing.assert_array_equal(again[name], value)
        if name not in ("train_boxes", "labels"):
            assert (other[name] != value).any((0, *range(2, value.ndim))).all()


def test_gray_is_joint_and_brightness_is_not(rng):
    images = jnp.asarray(rng.integers(0, 200, (5, 8, 8, 3), np.uint8))
    config = data.PREPARE_DIMP
    boxes = jnp.zeros((5, 4))
    augment = jax.jit(jax.vmap(lambda key: data.augment_images(key, images, boxes, config)[0]))
    out = np.asarray(augment(jax.random.split(jax.random.key(0), 400)))
    gray = np.ptp(out, axis=-1).max((2, 3)) < 1e-3
    assert (gray.all(1) == gray.any(1)).all() and 5 < gray[:, 0].sum() < 40
    factors = (out / np.maximum(images, 1))[~gray[:, 0]].max((2, 3, 4))
    assert 0.8 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2001
    assert np.ptp(factors, axis=1).min() > 0
    white = jnp.full((1, 2, 2, 3), 255, jnp.uint8)
    assert max(data.augment_images(jax.random.key(i), white, boxes, config)[0].max() for i in range(8)) == 255


def test_a_mirrored_target_is_where_its_box_is():
    """A bright box on black, mirrored with all frames of its sample or not at all."""
    config = replace(data.PREPARE_DIMP, flip_probability=0.5, colors=augment.ColorConfig())
    images = np.zeros((3, 32, 32, 3), np.uint8)
    corners = [(4, 6), (9, 2), (20, 13)]
    for image, (x, y) in zip(images, corners):
        image[y : y + 7, x : x + 5] = 200
    # Pixel i is centered at i, and covers i - 0.5 .. i + 0.5.
    boxes = jnp.array([[x - 0.5, y - 0.5, 5, 7] for x, y in corners])
    flips = set()
    for seed in range(8):
        out, moved = data.augment_images(jax.random.key(seed), jnp.asarray(images), boxes, config)
        flips.add(bool((moved != boxes).any()))
        for image, (x, y, w, h) in zip(out, moved):
            rows, columns = np.nonzero(image[..., 0] > 100)
            found = columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5
            assert found == (x, y, x + w, y + h)
    assert flips == {False, True}


def test_contrast_saturation_and_blur_of_each_image(rng):
    images = jnp.asarray(rng.integers(60, 190, (6, 24, 24, 3), np.uint8))
    still = replace(data.PREPARE_DIMP, colors=augment.ColorConfig())

    def augmented(**change):
        config = replace(still, **change)
        return np.asarray(data.augment_images(jax.random.key(1), images, jnp.zeros((6, 4)), config)[0])

    plain = np.asarray(images, np.float32)
    np.testing.assert_array_equal(augmented(), plain)
    contrast = augmented(colors=augment.ColorConfig(contrast=(0.5, 0.9)))
    ratio = contrast.std((1, 2, 3)) / plain.std((1, 2, 3))
    assert ((ratio > 0.5) & (ratio < 0.9)).all() and np.ptp(ratio) > 0.05
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), plain.mean((1, 2, 3)), rtol=1e-4)
    gray = augmented(colors=augment.ColorConfig(saturation=(0.0, 0.0)))
    assert np.ptp(gray, axis=-1).max() < 1e-2 and np.abs(gray.mean(-1) - plain @ np.array(augment.LUMA)).max() < 1e-2
    blurred = augmented(blur_probability=1.0, blur_sigma=(1.5, 1.5))
    expected = [cv2.GaussianBlur(image, (9, 9), 1.5, borderType=cv2.BORDER_REPLICATE) for image in plain]
    np.testing.assert_allclose(blurred, expected, atol=1e-2)
    some = augmented(blur_probability=0.5) != plain
    assert 0 < some.any((1, 2, 3)).sum() < 6


def test_a_stretched_crop_shows_the_target_where_its_box_is(rng):
    x, y, w, h = box = np.array([60, 50, 40, 30])
    image = np.zeros((200, 300, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    for aspect in (0.6, 1.0, 1.7):
        around = data.jitter_box(rng, box, data.Jitter(center=1.0, scale=0.2))
        crop, (left, top, width, height) = data.search_crop(image, box, around, data.CropConfig(), aspect)
        rows, columns = np.nonzero(crop[..., 0] > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found, [left, top, left + width, top + height], atol=2 + 0.5 * width / w)
        np.testing.assert_allclose(width * h / (height * w), 1 / aspect, rtol=0.02)


def test_proposals_overlap_and_are_whole_pixels():
    boxes = jnp.array([[100, 90, 60, 40], [20.3, 30.7, 11.2, 90.1], [5, 5, 1.2, 1.1]], jnp.float32)
    config = replace(data.PREPARE_DIMP.proposals, count=2000)
    proposals, found = propose(jax.random.key(1), boxes, config)
    np.testing.assert_array_equal(proposals, np.round(proposals))
    expected = overlaps(proposals, np.broadcast_to(boxes[:, None], proposals.shape))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[:2].min() > 0.1 and np.isfinite(found).all()
    assert found[0].max() > 0.97 and np.mean(found[0] < 0.5) > 0.1


def test_proposals_spread_as_sigma_says():
    boxes = jnp.array([[100, 90, 160, 40]], jnp.float32)
    config = replace(data.PREPARE_DIMP.proposals, count=4000, sigmas=(0.05,), min_iou=0.0)
    proposals, _ = propose(jax.random.key(2), boxes, config)
    center = np.asarray(proposals[0, :, :2] + proposals[0, :, 2:] / 2)
    np.testing.assert_allclose(center.mean(0), [180, 110], atol=0.3)
    np.testing.assert_allclose(center.std(0), 0.05 * 80, rtol=0.06)
    np.testing.assert_allclose(proposals[0, :, 2:].std(0), 0.05 * 80, rtol=0.06)


def test_the_last_try_counts():
    boxes = jnp.array([[100, 90, 60, 40]], jnp.float32)
    config = replace(data.PREPARE_DIMP.proposals, count=100, sigmas=(3.0,), max_tries=1)
    proposals, found = propose(jax.random.key(2), boxes, config)
    assert np.mean(found <= 0.1) > 0.5 and np.ptp(proposals[0, :, 0]) > 60
    _, found = propose(jax.random.key(2), boxes, replace(config, max_tries=100))
    assert found.min() > 0.1


def test_golden_labels():
    stored = oracle.arrays("train_pytracking")
    sigma, feature_size, image_size = stored["ltr_args_sigma_feat_image"]
    config = data.LabelConfig(feature_size=int(feature_size), kernel_size=4, sigma=sigma)
    label = jax.vmap(lambda box: data.classification_label(box, int(image_size), config))
    np.testing.assert_allclose(label(stored["label_boxes_xywh"]), stored["ltr_gaussian_label_k4"], atol=1e-6)


def test_labels_peak_at_the_middle_of_the_box(rng):
    """Score (i, j) of a 4 x 4 filter on cells of 16 pixels belongs to pixel 16 (i, j): row 9 to the middle, 144."""
    for y, x in rng.integers(2, 17, (5, 2)):
        box = jnp.array([16 * x - 20, 16 * y - 35, 40, 70], jnp.float32)
        label = np.asarray(data.classification_label(box, 288, data.LabelConfig()))
        assert np.unravel_index(label.argmax(), label.shape) == (y, x)
        np.testing.assert_allclose(label[y, x], 1, atol=1e-6)
        np.testing.assert_allclose(label[y + 1, x], np.exp(-0.5 / 0.9**2), atol=1e-5)


def test_only_test_images_are_occluded_and_their_boxes_stay(rng):
    batch, key = host_batch(rng), jax.random.key(3)
    plain = prepare(key, batch, data.PREPARE_DIMP)
    hidden = prepare(key, batch, replace(data.PREPARE_DIMP, occlusion=augment.OcclusionConfig(probability=1.0)))
    changed = {name for name in plain if (np.asarray(plain[name]) != np.asarray(hidden[name])).any()}
    assert changed == {"test_images"}
    assert (plain["test_images"] != hidden["test_images"]).any((2, 3, 4)).all()
