"""From data sets to batches of clips, for trackers that remember: a template and a search crop of every step.

The crops are those of `train.samples.pairs`. Step t of a clip has the template of its frame t, shifted and stretched at
random, and the search crop of its frame t + 1. A still image is a clip that does not move, seen in a new way in every
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from trackers.rules import COUNT, FRACTION, NOT_NEGATIVE, PROBABILITY
from train.samples import samplers
from train.samples.augment import PrepareConfig, change_colors, mirror, occlude_targets
from train.samples.loader import LoaderConfig, random_part, read_image
from train.samples.pairs import PairCropConfig, View, draw_view, pair_crop

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Array = jax.Array
TEMPLATE = PairCropConfig(size=127, shift=8.0, stretch=0.1)
SEARCH = PairCropConfig(size=255, shift=4.0, stretch=0.05)


@dataclass(frozen=True)
class SlipConfig:
    """Templates of a tracker that has slipped off the target for a while; the target's place is known all the same.

    From a step after the first up to a later one, or the end, both drawn evenly, all templates of a clip are cut out
    beside the target, in one direction and distance.
    """

    probability: Annotated[float, PROBABILITY] = 0.0  # of a clip
    # Range of the distance, in pixels of a template's crop
    shift: Annotated[tuple[float, float], NOT_NEGATIVE] = (16.0, 48.0)
    stretch: Annotated[float, FRACTION] = 0.3  # the template's scale is off by a factor of 1 - stretch to 1 + stretch

    def misfits(self) -> Iterator[tuple[str, str]]:
        if self.shift[0] > self.shift[1]:
            yield "shift", "(least, greatest)"


@dataclass(frozen=True, kw_only=True)
class ClipLoaderConfig(LoaderConfig):
    """What is loaded; the defaults are MemTrack's. `sampling.frames.relative_sides` is ignored."""

    template: PairCropConfig = TEMPLATE  # that of the first frame is not moved
    search: PairCropConfig = SEARCH
    # Pixels of a crop that a target with its context has, in templates and searches
    exemplar_size: Annotated[int, COUNT] = 127
    # Of width + height, added to each side; the root of the product is the exemplar's side
    context: Annotated[float, NOT_NEGATIVE] = 0.5
    slips: SlipConfig = SlipConfig()


@dataclass(frozen=True, kw_only=True)
class ClipPrepareConfig(PrepareConfig):
    """What happens on the device; the defaults are MemTrack's: nothing. The first template is never occluded."""


MEMTRACK = ClipLoaderConfig(sampling=samplers.MEMTRACK, batch_size=8)
PREPARE_MEMTRACK = ClipPrepareConfig()


def load_clip(
    datasets: Sequence[TrackingDataset], mixture: samplers.Mixture, config: ClipLoaderConfig, index: int
) -> dict[str, np.ndarray]:
    """Training sample number `index`, the same wherever it is made: a `load` of `train.samples.loader.batches`.

    Returns `sample_ids` int64 `[]` (the number), and of T steps `template_images` `[T, size, size, 3]` uint8 RGB,
    `template_boxes` `[T, 4]` float32 in the crops, `search_images` and `search_boxes`. FrameError if an image cannot be
    decoded.
    """
    sample = samplers.draw(mixture, config.sampling, config.seed, index)
    dataset = datasets[sample.dataset]
    rng = np.random.default_rng((config.seed, index, 1))  # a stream of its own, whatever the sampler has drawn
    records = np.unique(np.concatenate([sample.train_frames, sample.test_frames])).tolist()
    images = {record: read_image(dataset, sample.sequence, record) for record in records}
    boxes = {record: dataset.table.boxes[record] for record in records}
    if config.parts.probability and dataset.table.lengths[sample.sequence] == 1:
        boxes = {record: random_part(rng, box, config.parts) for record, box in boxes.items()}
    slip = _draw_slip(rng, config.slips, len(sample.train_frames))
    out = {"sample_ids": np.int64(index)}
    for name, crop, frames in (
        ("template", config.template, sample.train_frames),
        ("search", config.search, sample.test_frames),
    ):
        seen = []
        for step, record in enumerate(frames.tolist()):
            view = draw_view(rng, crop)
            if name == "template":
                view = _slipped(view, slip, step) if step else view._replace(shift=np.zeros(2))
            scale = {"exemplar_size": config.exemplar_size, "context": config.context}
            seen.append(pair_crop(images[record], boxes[record], view, crop.size, **scale))
        out[f"{name}_images"] = np.stack([cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image, _ in seen])
        out[f"{name}_boxes"] = np.stack([box for _, box in seen])
    return out


class _Slip(NamedTuple):
    steps: range
    shift: np.ndarray  # [2] pixels of the template's crop
    stretch: float


def _draw_slip(rng: np.random.Generator, config: SlipConfig, steps: int) -> _Slip | None:
    if not config.probability or rng.uniform() >= config.probability or steps < 2:
        return None
    first = rng.integers(1, steps)
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*config.shift)
    shift = distance * np.array([np.cos(angle), np.sin(angle)])
    return _Slip(range(first, rng.integers(first + 1, steps + 1)), shift, 1 + config.stretch * rng.uniform(-1, 1))


def _slipped(view: View, slip: _Slip | None, step: int) -> View:
    if slip is None or step not in slip.steps:
        return view
    return view._replace(shift=view.shift + slip.shift, stretch=view.stretch * slip.stretch)


def prepare(key: Array, batch: dict[str, Array], config: ClipPrepareConfig) -> dict[str, Array]:
    """What the networks and losses see; pure, to be jitted with a static config.

    key: of the step; each clip has its own, made of it and the clip's place in the batch. batch: of
    `train.samples.loader.batches` of `load_clip`; `sample_ids` may be left on the host. Returns `template_images`
    `[T, B, h, w, 3]` and `search_images` `[T, B, H, W, 3]` float32 RGB, 0..255, `template_boxes` and `search_boxes`
    `[T, B, 4]`, and `keys` `[B]`, a key of each clip for what is random in the networks.
    """
    count = batch["search_boxes"].shape[1]
    augment_keys, network_keys, template_keys, search_keys = jax.random.split(key, (4, count))
    names = ("template_images", "template_boxes", "search_images", "search_boxes")
    augment = jax.vmap(partial(augment_clip, config=config), in_axes=(0, 1, 1, 1, 1), out_axes=1)
    out = dict(zip(names, augment(augment_keys, *(batch[name] for name in names))))
    if config.occlusion.probability:
        occlude = jax.vmap(partial(occlude_targets, config=config.occlusion), in_axes=(0, 1, 1, 1), out_axes=1)
        for name, keys in (("template", template_keys), ("search", search_keys)):
            images = out[f"{name}_images"]
            hidden = occlude(keys, images, out[f"{name}_boxes"], jnp.roll(images, 1, 1))
            out[f"{name}_images"] = hidden.at[0].set(images[0]) if name == "template" else hidden
    return out | {"keys": network_keys}


def augment_clip(
    key: Array, templates: Array, template_boxes: Array, searches: Array, search_boxes: Array, config: ClipPrepareConfig
) -> tuple[Array, Array, Array, Array]:
    """The T templates `[T, h, w, 3]` and search crops `[T, H, W, 3]` of a clip, and their boxes `[T, 4]`: the same.

    Mirrored or gray are all or none; all else is drawn for each crop.
    """
    flip_key, gray_key, template_key, search_key = jax.random.split(key, 4)
    flip = jax.random.bernoulli(flip_key, config.flip_probability)
    to_gray = jax.random.bernoulli(gray_key, config.colors.grayscale_probability)

    def augment(key, images, boxes):
        images, boxes = mirror(flip, images.astype(jnp.float32), boxes)
        return change_colors(jax.random.split(key, 3), images, to_gray, config.colors), boxes

    return *augment(template_key, templates, template_boxes), *augment(search_key, searches, search_boxes)
