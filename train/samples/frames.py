"""Samples of ATOM's and DiMP's training: frames to learn from, and later frames to be tested on.

On the host, crops around a jittered box (`load_sample`). On the device, under jit: colors, proposals for the IoU-Net,
classification labels (`prepare`). Boxes are x, y, w, h; in crops the center is x + w / 2, as pytracking trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, exp, sqrt
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import iou
from ops.score_maps import gaussian_label, label_center
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
from trackers.rules import COUNT, FACTOR, FRACTION, NOT_NEGATIVE, POSITIVE, PROBABILITY, multiple_of, one_of
from train.samples import samplers
from train.samples.augment import (
    ColorConfig,
    PrepareConfig,
    change_colors,
    gaussian_blur,
    mirror,
    occlude_targets,
    random_factors,
)
from train.samples.loader import LoaderConfig, random_part, read_image

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Array = jax.Array
CROP_RULES = ("replicate", "shifted")
DIMP_COLORS = ColorConfig(grayscale_probability=0.05, brightness=(0.8, 1.2))


@dataclass(frozen=True)
class Jitter:
    """How far the box that a crop is made around may be from the target."""

    # Range of the offset of each coordinate, in roots of the jittered box's area
    center: Annotated[float, NOT_NEGATIVE]
    scale: Annotated[float, NOT_NEGATIVE]  # standard deviation of the logarithm of each side


@dataclass(frozen=True)
class CropConfig:
    """Search crops; the defaults are DiMP's.

    rule: "replicate" (until April 2020, released ATOM and DiMP) centers the window on the jittered box and repeats the
    border of the image; "shifted" (later versions, PrDiMP) moves the window into the image as far as it fits.
    """

    search_scale: Annotated[float, POSITIVE] = 5.0  # side of the window in roots of the jittered box's area
    size: Annotated[int, multiple_of(STRIDE)] = 288  # pixels of a side of the crop
    rule: Annotated[str, one_of(*CROP_RULES)] = "replicate"
    train_jitter: Jitter = Jitter(center=3.0, scale=0.25)
    test_jitter: Jitter = Jitter(center=4.5, scale=0.5)
    # Standard deviation of the logarithm of the window's aspect; a photograph then looks like several frames of a
    # target that changes its shape
    stretch: Annotated[float, NOT_NEGATIVE] = 0.0


@dataclass(frozen=True, kw_only=True)
class FrameLoaderConfig(LoaderConfig):
    """What is loaded for ATOM and DiMP."""

    crops: CropConfig = CropConfig()


@dataclass(frozen=True)
class ProposalConfig:
    """Random boxes around the target that the IoU-Net is trained on; the defaults are DiMP's."""

    count: Annotated[int, COUNT] = 8  # of a test frame
    min_iou: Annotated[float, FRACTION] = 0.1  # a proposal overlaps by more
    # One is drawn; in roots of the target's area
    sigmas: Annotated[tuple[float, ...], POSITIVE] = (0.01, 0.05, 0.1, 0.2, 0.3)
    max_tries: Annotated[int, COUNT] = 100
    decay: Annotated[float, FACTOR] = 0.9  # of sigma, after every try that overlaps too little
    # A side of 1 px or less becomes this part of the target's, at random
    small_side: Annotated[tuple[float, float], POSITIVE] = (0.15, 0.5)


@dataclass(frozen=True)
class LabelConfig:
    """Classification labels of test frames; the defaults are DiMP's."""

    feature_size: Annotated[int, COUNT] = 18  # cells of a side of the feature map
    # Of the filter; an even one has one row and column of scores more
    kernel_size: Annotated[int, one_of(FILTER_SIZE)] = 4
    sigma: Annotated[float, POSITIVE] = 0.05  # of the feature map's side


@dataclass(frozen=True, kw_only=True)
class FramePrepareConfig(PrepareConfig):
    """What happens on the device; the defaults are DiMP's. Only test images are occluded."""

    colors: ColorConfig = DIMP_COLORS
    blur_probability: Annotated[float, PROBABILITY] = 0.0  # of an image
    blur_sigma: Annotated[tuple[float, float], POSITIVE] = (0.5, 2.0)  # pixels of the crop
    proposals: ProposalConfig = ProposalConfig()
    labels: LabelConfig | None = LabelConfig()  # None: no labels


DIMP = FrameLoaderConfig(sampling=samplers.DIMP, batch_size=26)  # DiMP-18's
ATOM = FrameLoaderConfig(
    sampling=samplers.ATOM, batch_size=64, crops=replace(CropConfig(), train_jitter=Jitter(center=0.0, scale=0.0))
)
PREPARE_DIMP = FramePrepareConfig()
PREPARE_ATOM = FramePrepareConfig(proposals=ProposalConfig(count=16), labels=None)


def load_sample(
    datasets: Sequence[TrackingDataset], mixture: samplers.Mixture, config: FrameLoaderConfig, index: int
) -> dict[str, np.ndarray]:
    """Training sample number `index`, the same wherever it is made.

    Returns `sample_ids` int64 `[]` (the number), `train_images` `[F, size, size, 3]` uint8 RGB, `train_boxes` `[F, 4]`
    float32 in the crops, and `test_images`, `test_boxes` of T frames. FrameError if an image cannot be decoded.
    """
    sample = samplers.draw(mixture, config.sampling, config.seed, index)
    dataset = datasets[sample.dataset]
    rng = np.random.default_rng((config.seed, index, 1))  # a stream of its own, whatever the sampler has drawn
    images = {record: read_image(dataset, sample.sequence, record) for record in _records(sample)}
    boxes = dataset.table.boxes
    if config.parts.probability and dataset.table.lengths[sample.sequence] == 1:
        record = int(sample.train_frames[0])
        boxes = {record: random_part(rng, boxes[record], config.parts)}
    out: dict[str, Any] = {"sample_ids": np.int64(index)}
    for part, records in (("train", sample.train_frames), ("test", sample.test_frames)):
        jitter = config.crops.train_jitter if part == "train" else config.crops.test_jitter
        crops = []
        for record in records.tolist():
            box = boxes[record]
            around = jitter_box(rng, box, jitter)
            aspect = exp(config.crops.stretch * rng.standard_normal()) if config.crops.stretch else 1.0
            crops.append(search_crop(images[record], box, around, config.crops, aspect))
        out[f"{part}_images"] = np.stack([cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) for crop, _ in crops])
        out[f"{part}_boxes"] = np.stack([box for _, box in crops])
    return out


def _records(sample: samplers.Sample) -> list[int]:
    """Records of the sample, each once: draws are with replacement, and decoding costs most."""
    return np.unique(np.concatenate([sample.train_frames, sample.test_frames])).tolist()


def jitter_box(rng: np.random.Generator, box: np.ndarray, jitter: Jitter) -> np.ndarray:
    """A box like `box` `[4]`, moved and resized at random: `[4]` float64."""
    box = np.asarray(box, np.float64)
    size = box[2:] * np.exp(jitter.scale * rng.standard_normal(2))
    center = box[:2] + box[2:] / 2 + jitter.center * sqrt(size.prod()) * rng.uniform(-0.5, 0.5, 2)
    return np.concatenate([center - size / 2, size])


def search_crop(
    image: np.ndarray, box: np.ndarray, around: np.ndarray, config: CropConfig, aspect: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The window around a box, resized to a square, and where the target lies in it.

    image: `[H, W, 3]` uint8. box: `[4]` of the target. around: `[4]` of the window's middle and size. aspect: width of
    the window over its height; what is not 1 stretches the target. Returns the crop
    `[size, size, 3]` uint8 and the target's box in it, `[4]` float32. The last row and column of the image are never
    used, as in pytracking. ValueError for an unknown rule.
    """
    if config.rule not in CROP_RULES:
        raise ValueError(f"unknown crop rule {config.rule!r}; choose one of {', '.join(CROP_RULES)}")
    box, around = np.asarray(box, np.float64), np.asarray(around, np.float64)
    root = config.search_scale * sqrt(around[2] * around[3])
    sides = [ceil(root * sqrt(aspect)), ceil(root / sqrt(aspect))]
    middle = around[:2] + around[2:] / 2
    corner = [round(center - side / 2) for center, side in zip(middle, sides)]
    factor = config.size / np.array(sides)
    if config.rule == "shifted":
        corner = [_shift_inside(*axis) for axis in zip(corner, sides, image.shape[1::-1])]
        upper_left = (box[:2] - corner) * factor
        target = np.concatenate([upper_left, box[2:] * factor])
    else:
        target = box_in_crop(box, around, factor, config.size)
    return _resized_window(image, corner, sides, config.size), target.astype(np.float32)


def box_in_crop(box: np.ndarray, around: np.ndarray, factor: float | np.ndarray, size: int) -> np.ndarray:
    """`[4]` of a box in a "replicate" crop of `size` pixels around another box.

    factor: crop pixels per image pixel, of both axes or `[2]` (x, y).

    It is relative to where the middle of the window should be, not to where rounding put it, as in pytracking.
    """
    offset = box[:2] + box[2:] / 2 - around[:2] - around[2:] / 2
    return np.concatenate([(size - 1) / 2 + (offset - box[2:] / 2) * factor, box[2:] * factor])


def _shift_inside(first: int, side: int, extent: int) -> int:
    """First pixel of a window moved into [0, extent); what cannot fit sticks out equally, less at the start."""
    if side > extent + 1:
        return -((side - extent) // 2)
    return 0 if first < 0 else min(first, extent - side)


def _resized_window(image: np.ndarray, corner: Sequence[int], sides: Sequence[int], size: int) -> np.ndarray:
    """`[size, size, 3]`: the window of `sides` (x, y) pixels from `corner` (x, y) on, the border of the image repeated.

    Jittered windows of large targets have thousands of pixels a side, nearly all of them border: those are not made.
    """
    extents = [max(extent - 1, 1) for extent in image.shape[1::-1]]
    padded = any(first < 0 or first + side > extent for first, side, extent in zip(corner, sides, extents))
    if padded and max(sides) > 3 * size:
        axes = zip(corner, sides, extents)
        return _gather(image, *(_taps(first, side, size, extent) for first, side, extent in axes))
    slices, padding = [], []
    for first, side, extent in zip(corner[::-1], sides[::-1], extents[::-1]):
        low = min(max(first, 0), extent - 1)
        high = min(max(first + side, low + 1), extent)
        before = min(max(low - first, 0), side - 1)
        slices.append(slice(low, high))
        padding += [before, side - (high - low) - before]
    window = image[tuple(slices)]
    window = cv2.copyMakeBorder(window, *padding, cv2.BORDER_REPLICATE) if padded else window
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_LINEAR)


def _taps(first: int, side: int, size: int, extent: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of one axis: `[size]` pixels below and above each crop pixel, and their weights in 2048ths, as in cv2.resize."""
    position = ((np.arange(size) + 0.5) * (side / size) - 0.5).astype(np.float32)
    below = np.floor(position)
    weights = [np.rint(part * 2048).astype(np.int32) for part in (1 - (position - below), position - below)]
    pixels = (np.clip(first + below.astype(np.int64) + step, 0, extent - 1) for step in (0, 1))
    return list(zip(pixels, weights))


def _gather(image: np.ndarray, columns: list, rows: list) -> np.ndarray:
    """What cv2.resize makes of the whole window, bit for bit: its fixed-point sums, of the pixels that count."""

    def blend_columns(pixels):
        source = image[pixels]
        return sum(source[:, taps] * weight[:, None] for taps, weight in columns) >> 4

    blended = sum((blend_columns(pixels) * weight[:, None, None]) >> 16 for pixels, weight in rows)
    return ((blended + 2) >> 2).astype(np.uint8)


def prepare(key: Array, batch: dict[str, Array], config: FramePrepareConfig) -> dict[str, Array]:
    """What the networks and losses see; pure, to be jitted with a static config.

    key: of the step; each sample has its own, made of it and the sample's place in the batch, so that the outcome does
    not depend on how the batch is spread over devices. batch: of `train.samples.loader.batches`; `sample_ids` may be
    left on the host.
    Returns `train_images` `[F, B, H, W, 3]` and `test_images` `[T, B, H, W, 3]` float32 0..255 RGB, `train_boxes`
    `[F, B, 4]`, `proposals` `[T, B, P, 4]`, `overlaps` `[T, B, P]` IoU with the target (what the IoU-Net is trained on
    is 2 IoU - 1: `losses.overlap_regression`), and, with `config.labels`, `labels` `[T, B, S, S]`.
    """
    num_samples = batch["test_boxes"].shape[1]
    color_keys, proposal_keys = jax.random.split(key, (2, num_samples))
    num_train = len(batch["train_images"])
    images = jnp.concatenate([batch["train_images"], batch["test_images"]])
    boxes = jnp.concatenate([batch["train_boxes"], batch["test_boxes"]])
    augment = jax.vmap(partial(augment_images, config=config), in_axes=(0, 1, 1), out_axes=1)
    images, boxes = augment(color_keys, images, boxes)
    train_boxes, test_boxes = boxes[:num_train], boxes[num_train:]
    train_images, test_images = images[:num_train], images[num_train:]
    if config.occlusion.probability:
        occlude = jax.vmap(partial(occlude_targets, config=config.occlusion), in_axes=(0, 1, 1, 1), out_axes=1)
        test_images = occlude(
            jax.random.split(jax.random.fold_in(key, 1), num_samples),
            test_images,
            test_boxes,
            jnp.roll(train_images, 1, 1),
        )
    proposals, overlaps = jax.vmap(partial(propose_boxes, config=config.proposals), in_axes=(0, 1), out_axes=1)(
        proposal_keys, test_boxes
    )
    out = {
        "train_images": train_images,
        "train_boxes": train_boxes,
        "test_images": test_images,
        "proposals": proposals,
        "overlaps": overlaps,
    }
    if config.labels is not None:
        label = partial(classification_label, crop_size=images.shape[2], config=config.labels)
        out["labels"] = jax.vmap(jax.vmap(label))(test_boxes)
    return out


def augment_images(key: Array, images: Array, boxes: Array, config: FramePrepareConfig) -> tuple[Array, Array]:
    """Images of one sample `[N, H, W, 3]` 0..255 and boxes `[N, 4]` in them -> float32 0..255, and the boxes.

    Mirrored or gray are all images of the sample or none; brightness, contrast, saturation and blur are drawn for each.
    """
    gray_key, brightness_key, more = jax.random.split(key, 3)
    flip_key, contrast_key, saturation_key, blur_key, sigma_key = jax.random.split(more, 5)
    images = images.astype(jnp.float32)

    if config.flip_probability:
        images, boxes = mirror(jax.random.bernoulli(flip_key, config.flip_probability), images, boxes)
    to_gray = jax.random.bernoulli(gray_key, config.colors.grayscale_probability)
    images = change_colors((brightness_key, contrast_key, saturation_key), images, to_gray, config.colors)
    if config.blur_probability:
        chosen = jax.random.bernoulli(blur_key, config.blur_probability, (len(images), 1, 1, 1))
        sigma = random_factors(sigma_key, images, config.blur_sigma)
        images = jnp.where(chosen, gaussian_blur(images, sigma), images)
    return images, boxes


def propose_boxes(key: Array, boxes: Array, config: ProposalConfig) -> tuple[Array, Array]:
    """Boxes around each of `boxes` `[T, 4]`: proposals `[T, P, 4]` of whole pixels, and their IoU `[T, P]` with it.

    Center and sides get a normal error of `sigma` roots of the area. What overlaps too little is drawn again with a
    smaller sigma, all at the same time until the last is accepted; after `max_tries` the last draw counts.
    """
    sigma_key, try_key = jax.random.split(key)
    shape = (len(boxes), config.count)
    target = jnp.broadcast_to(boxes[:, None], (*shape, 4))
    position = jnp.concatenate([target[..., :2] + target[..., 2:] / 2, target[..., 2:]], -1)
    root_area = jnp.sqrt(target[..., 2] * target[..., 3])
    sigma = jax.random.choice(sigma_key, jnp.array(config.sigmas, boxes.dtype), shape) * root_area

    def unfinished(state):
        tries, _, overlaps = state
        return (tries < config.max_tries) & jnp.any(overlaps <= config.min_iou)

    def redraw(state):
        tries, proposals, overlaps = state
        normal_key, side_key = jax.random.split(jax.random.fold_in(try_key, tries))
        error = jax.random.normal(normal_key, (*shape, 4), boxes.dtype)
        drawn = position + error * (sigma * config.decay**tries)[..., None]
        low, high = config.small_side
        small = target[..., 2:] * jax.random.uniform(side_key, (*shape, 2), boxes.dtype, low, high)
        size = jnp.where(drawn[..., 2:] > 1, drawn[..., 2:], small)
        drawn = jnp.round(jnp.concatenate([drawn[..., :2] - size / 2, size], -1))
        rejected = overlaps <= config.min_iou
        return (
            tries + 1,
            jnp.where(rejected[..., None], drawn, proposals),
            jnp.where(rejected, iou(drawn, target), overlaps),
        )

    start = (jnp.int32(0), target, jnp.full(shape, -1, boxes.dtype))
    return jax.lax.while_loop(unfinished, redraw, start)[1:]


def classification_label(box: Array, crop_size: int, config: LabelConfig) -> Array:
    """DiMP's label of one crop, 1 at the middle of `box` `[4]`: `[S, S]`, S = 19 for 18 cells and a 4 x 4 filter."""
    center = box[1::-1] + box[:1:-1] / 2
    peak = label_center((center - crop_size / 2) / crop_size, config.feature_size, config.kernel_size)
    sigma = config.sigma * config.feature_size
    return gaussian_label(peak, sigma, config.feature_size, extra_cells=(config.kernel_size + 1) % 2)
