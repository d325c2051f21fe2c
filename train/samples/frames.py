"""From data sets to batches for ATOM's and DiMP's training.

On the host: frames are decoded and cropped around a jittered box, in worker processes if wanted; small uint8 crops
are what is sent. On the device, under jit: color, brightness, proposals for the IoU-Net, classification labels
(`prepare`). Boxes are x, y, w, h; in crops the center is x + w / 2, as the peers train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, exp, sqrt
from typing import TYPE_CHECKING, Any

import cv2
import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from ops.boxes import iou
from ops.score_maps import gaussian_label, label_center
from train.samples import samplers

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Array = jax.Array
CROP_RULES = ("replicate", "shifted")
LUMA = (0.299, 0.587, 0.114)  # of R, G, B
BLUR_RADIUS = 4  # pixels: two of the largest standard deviation


@dataclass(frozen=True)
class Jitter:
    """How far the box that a crop is made around may be from the target."""

    center: float  # range of the offset of each coordinate, in roots of the jittered box's area
    scale: float  # standard deviation of the logarithm of each side


@dataclass(frozen=True)
class CropConfig:
    """Search crops; the defaults are DiMP's.

    rule: "replicate" (until April 2020, released ATOM and DiMP) centers the window on the jittered box and repeats the
    border of the image; "shifted" (later versions, PrDiMP) moves the window into the image as far as it fits.
    """

    search_scale: float = 5.0  # side of the window in roots of the jittered box's area
    size: int = 288  # pixels of a side of the crop
    rule: str = "replicate"
    train_jitter: Jitter = Jitter(center=3.0, scale=0.25)
    test_jitter: Jitter = Jitter(center=4.5, scale=0.5)
    stretch: float = 0.0  # standard deviation of the logarithm of the window's aspect; a photograph then looks like
    # several frames of a target that changes its shape


@dataclass(frozen=True)
class PartConfig:
    """Parts of labelled objects as targets, of photographs only: in a video a part does not move as its whole does.

    People draw boxes around faces and wheels, too; few classes of whole objects teach an IoU-Net those objects.
    """

    probability: float = 0.0  # of a photograph's sample
    sides: tuple[float, float] = (0.25, 0.8)  # range of the part's sides, of the object's
    min_side: float = 12.0  # pixels of the photograph; the whole object where the part would be smaller


@dataclass(frozen=True)
class LoaderConfig:
    """What is loaded, and by how many; the defaults are DiMP-18's."""

    sampling: samplers.FrameSampling = samplers.DIMP
    crops: CropConfig = CropConfig()
    parts: PartConfig = PartConfig()
    seed: int = 0
    batch_size: int = 26  # samples of a batch, all processes together
    workers: int = 0  # worker processes; 0: threads of this one
    threads: int = 1  # batches that each process (or this one) makes at the same time
    buffer: int = 2  # finished batches that each process (or this one) keeps ready


@dataclass(frozen=True)
class ProposalConfig:
    """Random boxes around the target that the IoU-Net is trained on; the defaults are DiMP's."""

    count: int = 8  # of a test frame
    min_iou: float = 0.1  # a proposal overlaps by more
    sigmas: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2, 0.3)  # one is drawn; in roots of the target's area
    max_tries: int = 100
    decay: float = 0.9  # of sigma, after every try that overlaps too little
    small_side: tuple[float, float] = (0.15, 0.5)  # a side of 1 px or less becomes this part of the target's, at random


@dataclass(frozen=True)
class LabelConfig:
    """Classification labels of test frames; the defaults are DiMP's."""

    feature_size: int = 18  # cells of a side of the feature map
    kernel_size: int = 4  # of the filter; an even one has one row and column of scores more
    sigma: float = 0.05  # of the feature map's side


@dataclass(frozen=True)
class PrepareConfig:
    """What happens on the device; the defaults are DiMP's."""

    flip_probability: float = 0.0  # of a sample: all its frames are mirrored or none
    grayscale_probability: float = 0.05  # of a sample
    brightness: tuple[float, float] = (0.8, 1.2)  # factor, drawn for each image; so are the following
    contrast: tuple[float, float] = (1.0, 1.0)  # factor of the distance to the image's mean
    saturation: tuple[float, float] = (1.0, 1.0)  # factor of the distance to gray
    blur_probability: float = 0.0  # of an image
    blur_sigma: tuple[float, float] = (0.5, 2.0)  # pixels of the crop
    occlusion_probability: float = 0.0  # of a test image: a rectangle of another sample's hides part of the target
    occlusion_sides: tuple[float, float] = (0.2, 0.9)  # range of the rectangle's sides, of the target's
    proposals: ProposalConfig = ProposalConfig()
    labels: LabelConfig | None = LabelConfig()  # None: no labels


DIMP = LoaderConfig()
ATOM = LoaderConfig(
    sampling=samplers.ATOM, crops=replace(CropConfig(), train_jitter=Jitter(center=0.0, scale=0.0)), batch_size=64
)
PREPARE_DIMP = PrepareConfig()
PREPARE_ATOM = PrepareConfig(proposals=ProposalConfig(count=16), labels=None)


class FrameError(ValueError):
    """A frame cannot be read; the message is one line with the data set, the record and the sequence."""


def decode(image: bytes) -> np.ndarray | None:
    """`[H, W, 3]` uint8 BGR, or None if the bytes are no image. Turning the small crops to RGB is cheaper.

    Gray is repeated, alpha dropped, 16 bits become 8; the orientation of EXIF is ignored, as boxes ignore it.
    """
    data = np.frombuffer(image, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None


def jitter_box(rng: np.random.Generator, box: np.ndarray, jitter: Jitter) -> np.ndarray:
    """A box like `box` `[4]`, moved and resized at random: `[4]` float64."""
    box = np.asarray(box, np.float64)
    size = box[2:] * np.exp(jitter.scale * rng.standard_normal(2))
    center = box[:2] + box[2:] / 2 + jitter.center * sqrt(size.prod()) * rng.uniform(-0.5, 0.5, 2)
    return np.concatenate([center - size / 2, size])


def random_part(rng: np.random.Generator, box: np.ndarray, config: PartConfig) -> np.ndarray:
    """A box inside of `box` `[4]`, or `box` itself: `[4]` float64."""
    box = np.asarray(box, np.float64)
    chosen = rng.random() < config.probability
    size = box[2:] * rng.uniform(*config.sides, 2)
    corner = box[:2] + (box[2:] - size) * rng.random(2)
    return np.concatenate([corner, size]) if chosen and size.min() >= config.min_side else box


def search_crop(
    image: np.ndarray, box: np.ndarray, around: np.ndarray, config: CropConfig, aspect: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The window around a box, resized to a square, and where the target lies in it.

    image: `[H, W, 3]` uint8. box: `[4]` of the target. around: `[4]` of the window's middle and size. aspect: width of
    the window over its height; what is not 1 stretches the target. Returns the crop
    `[size, size, 3]` uint8 and the target's box in it, `[4]` float32. The last row and column of the image are never
    used, as in the peer. ValueError for an unknown rule.
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

    It is relative to where the middle of the window should be, not to where rounding put it, as in the peer.
    """
    offset = box[:2] + box[2:] / 2 - around[:2] - around[2:] / 2
    return np.concatenate([(size - 1) / 2 + (offset - box[2:] / 2) * factor, box[2:] * factor])


def load_sample(
    datasets: Sequence[TrackingDataset], mixture: samplers.Mixture, config: LoaderConfig, index: int
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


class BatchIterator(grain.DatasetIterator):
    """Batches from number `get_state()["next_batch"]` on; made by `batches`.

    Batch n holds samples n * batch_size and on, and process p of P its p-th part of them. So the state is one number:
    it fits any count of workers and processes, and its JSON is what `grain.checkpoint.CheckpointHandler` stores.
    """

    def __init__(self, load: Callable, config: Any, process: tuple[int, int], num_batches: int):
        super().__init__()
        self._make = partial(_pipeline, load, config, process, num_batches)
        self._copies = config.workers > 0
        self._next_batch = 0
        self._running = None

    def __next__(self) -> dict[str, np.ndarray]:
        self.start_prefetch()
        batch = next(self._running)
        self._next_batch += 1
        # Workers send shared memory, which must not outlive them: Python would complain of every batch held to its end.
        return {name: np.array(value) for name, value in batch.items()} if self._copies else batch

    def start_prefetch(self) -> None:
        """Starts workers and threads, if they are not running yet."""
        if self._running is None:
            self._running = iter(self._make(self._next_batch))

    def get_state(self) -> dict[str, int]:
        return {"next_batch": self._next_batch}

    def set_state(self, state: dict[str, int]) -> None:
        self.close()
        self._next_batch = int(state["next_batch"])

    def close(self) -> None:
        """Stops workers and threads; the next batch starts them again."""
        if self._running is not None:
            self._running.close()
        self._running = None


def batches(
    datasets: Sequence[TrackingDataset],
    probabilities: Sequence[float],
    config: Any,
    num_batches: int,
    *,
    load: Callable[..., dict[str, np.ndarray]] = load_sample,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """An iterator over batches 0 .. num_batches - 1, with `get_state`, `set_state` and `close`.

    A batch is the dict of `load_sample` with B = batch_size / process_count samples on axis 1: `sample_ids` `[B]`,
    `train_images` `[F, B, size, size, 3]` and so on. An epoch is a number of batches; the counting goes on after it.
    load: what makes a sample in the place of `load_sample`, with its arguments. config: `load`'s own, which has at
    least the `sampling`, `seed`, `batch_size`, `workers`, `threads` and `buffer` of LoaderConfig.
    With workers, a script must start under `if __name__ == "__main__"`: it is imported by them. ValueError if the data
    sets cannot be sampled (`samplers.mix`) or B is no whole number.
    """
    if config.batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(
            f"a batch of {config.batch_size} cannot be divided: process {process_index} of {process_count} processes"
        )
    mixture = samplers.mix(datasets, probabilities, config.sampling)
    make = partial(load, datasets, mixture, config)
    return BatchIterator(make, config, (process_index, process_count), num_batches)


def prepare(key: Array, batch: dict[str, Array], config: PrepareConfig) -> dict[str, Array]:
    """What the networks and losses see; pure, to be jitted with a static config.

    key: of the step; each sample has its own, made of it and the sample's place in the batch, so that the outcome does
    not depend on how the batch is spread over devices. batch: of `batches`; `sample_ids` may be left on the host.
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
    if config.occlusion_probability:
        occlude = jax.vmap(partial(occlude_targets, config=config), in_axes=(0, 1, 1, 1), out_axes=1)
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


def augment_images(key: Array, images: Array, boxes: Array, config: PrepareConfig) -> tuple[Array, Array]:
    """Images of one sample `[N, H, W, 3]` 0..255 and boxes `[N, 4]` in them -> float32 0..255, and the boxes.

    Mirrored or gray are all images of the sample or none; brightness, contrast, saturation and blur are drawn for each.
    """
    gray_key, brightness_key, more = jax.random.split(key, 3)
    flip_key, contrast_key, saturation_key, blur_key, sigma_key = jax.random.split(more, 5)
    images = images.astype(jnp.float32)

    if config.flip_probability:
        images, boxes = mirror(jax.random.bernoulli(flip_key, config.flip_probability), images, boxes)
    to_gray = jax.random.bernoulli(gray_key, config.grayscale_probability)
    images = change_colors((brightness_key, contrast_key, saturation_key), images, to_gray, config)
    if config.blur_probability:
        chosen = jax.random.bernoulli(blur_key, config.blur_probability, (len(images), 1, 1, 1))
        sigma = _factors(sigma_key, images, config.blur_sigma)
        images = jnp.where(chosen, _blur(_blur(images, sigma, 1), sigma, 2), images)
    return images, boxes


def mirror(flip: Array, images: Array, boxes: Array) -> tuple[Array, Array]:
    """Images `[N, H, W, C]` and boxes `[N, 4]` in them, left for right if `flip` `[]` is true."""
    mirrored = boxes.at[:, 0].set(images.shape[2] - 1 - boxes[:, 0] - boxes[:, 2])  # the middle is (size - 1) / 2
    return jnp.where(flip, images[:, :, ::-1], images), jnp.where(flip, mirrored, boxes)


def change_colors(keys: Sequence[Array], images: Array, to_gray: Array, config: Any) -> Array:
    """Images `[N, H, W, 3]` float, all gray if `to_gray` `[]` is true, each with factors of its own; 0..255.

    keys: of brightness, contrast and saturation, whose ranges are fields of `config` (see PrepareConfig).
    """
    brightness_key, contrast_key, saturation_key = keys
    gray = sum(weight * images[..., i : i + 1] for i, weight in enumerate(LUMA))
    images = jnp.where(to_gray, gray, images)
    if config.saturation != (1.0, 1.0):
        images = gray + (images - gray) * _factors(saturation_key, images, config.saturation)
    if config.contrast != (1.0, 1.0):
        mean = jnp.mean(images, (1, 2, 3), keepdims=True)
        images = mean + (images - mean) * _factors(contrast_key, images, config.contrast)
    return jnp.clip(images * _factors(brightness_key, images, config.brightness), 0, 255)


def _factors(key: Array, images: Array, limits: tuple[float, float]) -> Array:
    """One uniform number for each image, `[N, 1, 1, 1]`."""
    return jax.random.uniform(key, (len(images), 1, 1, 1), minval=limits[0], maxval=limits[1])


def occlude_targets(key: Array, images: Array, boxes: Array, others: Array, config: Any) -> Array:
    """`[T, H, W, 3]` of one sample, in some a rectangle over the target's `boxes` `[T, 4]`, filled from `others`.

    others: `[F, H, W, 3]` of another sample; frame t takes from its frame t modulo F. The rectangle's middle lies in
    the target's box, which stays the whole target's. config: has the `occlusion_` fields of PrepareConfig.
    """
    chosen_key, size_key, place_key = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(chosen_key, config.occlusion_probability, (len(images), 1, 1))
    low, high = config.occlusion_sides
    half = boxes[:, 2:] * jax.random.uniform(size_key, (len(images), 2), minval=low, maxval=high) / 2
    middle = boxes[:, :2] + boxes[:, 2:] * jax.random.uniform(place_key, (len(images), 2))
    x, y = (jnp.arange(images.shape[axis])[None] for axis in (2, 1))
    inside_x = jnp.abs(x - middle[:, :1]) < half[:, :1]  # [T, W]
    inside_y = jnp.abs(y - middle[:, 1:]) < half[:, 1:]  # [T, H]
    hidden = chosen & inside_y[:, :, None] & inside_x[:, None, :]
    return jnp.where(hidden[..., None], others[jnp.arange(len(images)) % len(others)], images)


def _blur(images: Array, sigma: Array, axis: int) -> Array:
    """Gaussian blur along one axis, each image with its `sigma` `[N, 1, 1, 1]`, the border repeated."""
    padding = [(0, 0)] * images.ndim
    padding[axis] = (BLUR_RADIUS, BLUR_RADIUS)
    padded = jnp.pad(images, padding, mode="edge")
    offsets = jnp.arange(-BLUR_RADIUS, BLUR_RADIUS + 1).reshape(1, 1, 1, -1)
    weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)  # [N, 1, 1, taps]
    weights = weights / jnp.sum(weights, -1, keepdims=True)
    shifted = (jax.lax.slice_in_dim(padded, i, i + images.shape[axis], axis=axis) for i in range(2 * BLUR_RADIUS + 1))
    return sum(weights[..., i : i + 1] * image for i, image in enumerate(shifted))


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


def _records(sample: samplers.Sample) -> list[int]:
    """Records of the sample, each once: draws are with replacement, and decoding costs most."""
    return np.unique(np.concatenate([sample.train_frames, sample.test_frames])).tolist()


def read_image(dataset: TrackingDataset, sequence: int, record: int) -> np.ndarray:
    """`[H, W, 3]` uint8 BGR. FrameError if it cannot be read or decoded."""
    where = f"data set {dataset.name!r}, record {record} (sequence {dataset.table.names[sequence]!r}, frame "
    where += f"{record - int(dataset.table.starts[sequence])})"
    try:
        data = dataset.frames[record]["image"]
    except Exception as error:  # whatever the storage raises, the frame must be named
        raise FrameError(f"{where}: cannot be read: {_one_line(error)}") from error
    try:
        image = decode(data)
    except cv2.error as error:
        raise FrameError(f"{where}: cannot be decoded: {_one_line(error)}") from error
    if image is None:
        raise FrameError(f"{where}: not an image, or cut short ({len(data)} bytes)")
    return image


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())}"


def _pipeline(load: Callable, config: Any, process: tuple[int, int], num_batches: int, start: int):
    """Grain's data set of the batches from `start` on. A worker makes whole batches, so their number changes none."""
    index, count = process
    share = config.batch_size // count

    def sample_number(position: int) -> int:
        batch, offset = divmod(position, share)
        return (start + batch) * config.batch_size + index * share + offset

    samples = grain.MapDataset.range(max(num_batches - start, 0) * share).map(
        lambda position: load(sample_number(position))
    )
    read = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=max(config.buffer, config.threads))
    whole = samples.batch(share, drop_remainder=True, batch_fn=_stack).to_iter_dataset(read)
    if not config.workers:
        return whole
    if not flags.FLAGS.is_parsed():  # Grain asks flags of absl for its workers, also in programs without absl
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=config.buffer)
    return whole.mp_prefetch(options, _start_worker)


def _stack(samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Samples side by side on axis 1, after the frames; numbers on axis 0."""
    return {
        name: np.stack([sample[name] for sample in samples], axis=min(1, np.ndim(samples[0][name])))
        for name in samples[0]
    }


def _start_worker(index: int, count: int) -> None:
    """Processes share the cores already: OpenCV's own threads would only get in each other's way."""
    del index, count
    cv2.setNumThreads(0)
