"""From data sets to batches of pairs, for the Siamese trackers: a template and a search crop of one target.

On the host each crop is one warp of the full frame, shifted and stretched at random; on the device, under jit, follow
mirroring, colors, blur, occlusion and the targets of the anchors (`prepare`). Boxes in crops are x, y, w, h, the
center is x + w / 2, and pixel i of a crop has its center at i: the middle is (size - 1) / 2. Every box is exactly where
the crop shows the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from trackers.rules import COUNT, FRACTION, NOT_NEGATIVE, ODD, PROBABILITY, one_of
from train.samples import samplers
from train.samples.anchor_targets import AnchorTargetConfig, anchor_targets
from train.samples.augment import PrepareConfig, change_colors, cross_blur, mirror, occlude_targets
from train.samples.loader import FrameError, LoaderConfig, PartConfig, random_part, read_image

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Array = jax.Array
INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
# Standard deviations and directions of the colors of natural images (pysot), rows R, G, B, of values 0..255.
COLOR_DIRECTIONS = (
    (-0.55919361, 0.98062831, -0.41940627),
    (1.72091413, 0.19879334, -1.82968581),
    (4.64467907, 4.73710203, 4.88324118),
)


@dataclass(frozen=True)
class PairCropConfig:
    """A crop, and how far it may be from being centered on the target and of its scale."""

    size: Annotated[int, COUNT]  # pixels of a side
    # Pixels of the crop before it is stretched: the target is moved by up to so many, uniformly
    shift: Annotated[float, NOT_NEGATIVE]
    stretch: Annotated[float, FRACTION]  # the window's sides are multiplied by 1 +- up to this, uniformly
    joint: bool = False  # both sides by the same factor
    # One is drawn: "nearest", "linear", "cubic", "lanczos"
    interpolations: Annotated[tuple[str, ...], one_of(*INTERPOLATIONS)] = ("linear",)

    def misfits(self) -> Iterator[tuple[str, str]]:
        if not self.interpolations:
            yield "interpolations", "one name or more"


@dataclass(frozen=True, kw_only=True)
class PairLoaderConfig(LoaderConfig):
    """What is loaded; the defaults are SiamRPN++'s (pysot, ResNet-50)."""

    template: PairCropConfig = PairCropConfig(size=127, shift=4.0, stretch=0.05)
    search: PairCropConfig = PairCropConfig(size=255, shift=64.0, stretch=0.18)
    # Pixels of a crop that a target with its context has, in templates and searches
    exemplar_size: Annotated[int, COUNT] = 127
    # Of width + height, added to each side; the root of the product is the exemplar's side
    context: Annotated[float, NOT_NEGATIVE] = 0.5
    negative: Annotated[float, PROBABILITY] = 0.2  # probability that the template is of another sequence
    # Of negative pairs whose search image is a photograph, the share with a template of the same class, from another
    # photograph: DaSiamRPN's semantic negative pairs (arXiv:1808.06048, Sec. 3.2)
    same_class: Annotated[float, PROBABILITY] = 0.0
    # Until a pair fits `sampling.frames.relative_sides` and, if negative, has two sequences or photographs
    max_draws: Annotated[int, COUNT] = 100


@dataclass(frozen=True, kw_only=True)
class PairPrepareConfig(PrepareConfig):
    """What happens on the device; the defaults are SiamRPN++'s (pysot, ResNet-50). Templates are never occluded."""

    # The colors of an image are shifted along `COLOR_DIRECTIONS` by so many of these, normal
    color_shift: Annotated[float, NOT_NEGATIVE] = 1.0
    blur_probability: Annotated[float, PROBABILITY] = 0.2  # of a search image
    blur_sizes: Annotated[tuple[int, int], ODD] = (5, 45)  # pixels: least and greatest side of its cross, both odd
    targets: AnchorTargetConfig | None = field(default_factory=AnchorTargetConfig)  # None: no anchors

    def misfits(self) -> Iterator[tuple[str, str]]:
        if self.blur_sizes[0] > self.blur_sizes[1]:
            yield "blur_sizes", "(least, greatest)"


SIAMRPN = PairLoaderConfig(sampling=samplers.SIAMRPN, batch_size=28)
PREPARE_SIAMRPN = PairPrepareConfig()
# siamfc-pytorch draws among the same interpolations and that by areas, once to crop and once to stretch, and shifts by
# whole pixels after it; its crops of 255 pixels lose 16 by stretching and shifting them.
SIAMFC = PairLoaderConfig(
    template=PairCropConfig(size=127, shift=4.0, stretch=0.05, joint=True, interpolations=tuple(INTERPOLATIONS)),
    search=PairCropConfig(size=239, shift=4.0, stretch=0.05, joint=True, interpolations=tuple(INTERPOLATIONS)),
    negative=0.0,
    sampling=samplers.SIAMFC,
    batch_size=8,
)
PREPARE_SIAMFC = PairPrepareConfig(color_shift=0.0, blur_probability=0.0, targets=None)


class View(NamedTuple):
    """How a crop is seen; (x, y) each."""

    shift: np.ndarray  # [2] pixels of the crop before it is stretched: the window moves right and down by it
    stretch: np.ndarray  # [2] factors of the window's sides
    interpolation: str


def draw_view(rng: np.random.Generator, config: PairCropConfig) -> View:
    """A view within the limits of `config`."""
    stretch = 1 + config.stretch * rng.uniform(-1, 1, 2)
    return View(
        config.shift * rng.uniform(-1, 1, 2),
        stretch[[0, 0]] if config.joint else stretch,
        config.interpolations[rng.integers(len(config.interpolations))],
    )


def pair_crop(
    image: np.ndarray, box: np.ndarray, view: View, size: int, *, exemplar_size: int = 127, context: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """A crop at the target's own scale: the target with its context has an area of exemplar_size^2 pixels, unstretched.

    image: `[H, W, 3]` uint8. box: `[4]` of the target, its middle at x + (w - 1) / 2. The target with its context is
    s = sqrt((w + p) (h + p)) pixels of the image wide, p = context (w + h). Returns the crop `[size, size, 3]` uint8,
    the image's mean color where there is no image, and the target's box in it, `[4]` float32.
    """
    box = np.asarray(box, np.float64)
    padding = context * box[2:].sum()
    pixel = sqrt((box[2] + padding) * (box[3] + padding)) / exemplar_size  # of the image, before stretching
    middle = (size - 1) / 2
    step = pixel * view.stretch
    first = box[:2] + (box[2:] - 1) / 2 + pixel * view.shift - middle * step
    crop = cv2.warpAffine(
        image,
        np.array([[step[0], 0, first[0]], [0, step[1], first[1]]]),
        (size, size),
        flags=INTERPOLATIONS[view.interpolation] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=cv2.mean(image),
    )
    sides = box[2:] / step
    return crop, np.concatenate([middle - view.shift / view.stretch - sides / 2, sides]).astype(np.float32)


def load_pair(
    datasets: Sequence[TrackingDataset], mixture: samplers.Mixture, config: PairLoaderConfig, index: int
) -> dict[str, np.ndarray]:
    """Training sample number `index`, the same wherever it is made: a `load` of `train.samples.loader.batches`.

    Returns `sample_ids` int64 `[]` (the number), `template_images` `[1, size, size, 3]` uint8 RGB, `template_boxes`
    `[1, 4]` float32 in the crop, `search_images`, `search_boxes`, and `negative` `[1]` bool: then the template is of
    another sequence of the mixture, and the search image shows its own target at the same place as ever. A still image
    is both, seen in two ways. With `same_class` no two targets of a negative pair are of one photograph. FrameError if
    an image cannot be decoded, or if `max_draws` draws gave no pair.
    """
    rng = np.random.default_rng((config.seed, index, 1))  # a stream of its own, whatever the sampler has drawn
    negative = rng.random() < config.negative
    alike = bool(negative and config.same_class) and rng.random() < config.same_class
    draw = partial(samplers.draw, mixture, config.sampling, config.seed, index)
    for attempt in range(config.max_draws):
        shown = draw(stream=(2, attempt) if attempt else ())
        known = draw(stream=(3, attempt), like=shown if alike else None) if negative else shown
        if negative and _one_target(mixture, known, shown, photograph=config.same_class > 0):
            continue
        pair = _read_pair(datasets, known, shown, config.sampling.frames)
        if pair is not None:
            break
    else:
        raise FrameError(
            f"sample {index}: {config.max_draws} draws gave no pair; a negative one needs two sequences (of one class: "
            "two photographs of it), and `sampling.frames.relative_sides` may leave out too much"
        )
    boxes = [box for _, box in pair]
    if config.parts.probability:
        boxes = _parts(rng, datasets, (known, shown), boxes, negative, config.parts)
    out: dict[str, Any] = {"sample_ids": np.int64(index), "negative": np.array([negative])}
    for name, crop, (image, _), box in zip(("template", "search"), (config.template, config.search), pair, boxes):
        seen, target = pair_crop(
            image, box, draw_view(rng, crop), crop.size, exemplar_size=config.exemplar_size, context=config.context
        )
        out[f"{name}_images"] = cv2.cvtColor(seen, cv2.COLOR_BGR2RGB)[None]
        out[f"{name}_boxes"] = target[None]
    return out


def prepare(key: Array, batch: dict[str, Array], config: PairPrepareConfig) -> dict[str, Array]:
    """What the networks and losses see; pure, to be jitted with a static config.

    key: of the step; each pair has its own, made of it and the pair's place in the batch. batch: of
    `train.samples.loader.batches` of `load_pair`; `sample_ids` may be left on the host. Returns `template_images`
    `[B, h, w, 3]` and `search_images` `[B, H, W, 3]` float32 RGB, 0..255 but for a shift of the colors, which is not
    cut, `template_boxes` and `search_boxes` `[B, 4]`, `negative` `[B]` bool, and, with `config.targets`, the `labels`
    `[B, S, S, k]`, `deltas` `[B, S, S, k, 4]` and `weights` `[B, S, S, k]` of `train.samples.anchor_targets`.
    """
    num_samples = batch["search_boxes"].shape[1]
    augment_keys, occlusion_keys, target_keys = jax.random.split(key, (3, num_samples))
    names = ("template_images", "template_boxes", "search_images", "search_boxes")
    parts = (batch[name][0] for name in names)
    out = dict(zip(names, jax.vmap(partial(augment_pair, config=config))(augment_keys, *parts)))
    out["negative"] = batch["negative"][0]
    if config.occlusion.probability:
        images = out["search_images"]
        occlude = jax.vmap(partial(occlude_targets, config=config.occlusion))
        others = jnp.roll(images, 1, 0)
        out["search_images"] = occlude(
            occlusion_keys, images[:, None], out["search_boxes"][:, None], others[:, None]
        )[:, 0]  # fmt: skip
    return with_targets(target_keys, out, config)


def with_targets(keys: Array, batch: dict[str, Any], config: PairPrepareConfig) -> dict[str, Any]:
    """`batch` and what its anchors are trained on, see `prepare`; keys: `[B]`, one for each pair."""
    if config.targets is None:
        return batch
    choose = jax.vmap(partial(anchor_targets, config=config.targets))
    return batch | choose(keys, batch["search_boxes"], batch["negative"])._asdict()


def augment_pair(
    key: Array, template: Array, template_box: Array, search: Array, search_box: Array, config: PairPrepareConfig
) -> tuple[Array, Array, Array, Array]:
    """A template `[h, w, 3]` and a search image `[H, W, 3]`, each with a box `[4]`, mirrored and recolored: the same.

    Mirrored or gray are both or none; all else is drawn for each, the blur for the search image only.
    """
    flip_key, gray_key, template_key, search_key, blur_key = jax.random.split(key, 5)
    flip = jax.random.bernoulli(flip_key, config.flip_probability)
    to_gray = jax.random.bernoulli(gray_key, config.colors.grayscale_probability)

    def augment(key, image, box):
        *color_keys, shift_key = jax.random.split(key, 4)
        images, boxes = mirror(flip, image[None].astype(jnp.float32), box[None])
        images = change_colors(color_keys, images, to_gray, config.colors)
        amounts = config.color_shift * jax.random.normal(shift_key, (1, 3))
        shift = jnp.sum(jnp.array(COLOR_DIRECTIONS, jnp.float32) * amounts, -1)
        return images[0] - shift[None, None], boxes[0]

    template, template_box = augment(template_key, template, template_box)
    search, search_box = augment(search_key, search, search_box)
    if config.blur_probability:
        chosen_key, size_key, share_key = jax.random.split(blur_key, 3)
        least, greatest = (side // 2 for side in config.blur_sizes)
        reach = jax.random.randint(size_key, (), least, greatest + 1)
        blurred = cross_blur(search, reach, jax.random.uniform(share_key), greatest)
        search = jnp.where(jax.random.bernoulli(chosen_key, config.blur_probability), blurred, search)
    return template, template_box, search, search_box


def _one_target(mixture: samplers.Mixture, one: samplers.Sample, other: samplers.Sample, *, photograph: bool) -> bool:
    """Whether both are of one sequence, or of targets in one photograph."""
    if one.dataset != other.dataset or one.sequence == other.sequence:
        return one.dataset == other.dataset
    stills = [mixture.tables[one.dataset].still(sample.sequence) for sample in (one, other)]
    return photograph and all(stills) and stills[0][0] == stills[1][0]


def _read_pair(datasets, known: samplers.Sample, shown: samplers.Sample, frames: samplers.FrameFilter | None):
    """(image, box) of the template and of the search frame, each image read once; None if a box does not fit."""
    pair = []
    wanted = [(known, int(known.train_frames[0])), (shown, int(shown.test_frames[0]))]
    for sample, record in wanted:
        dataset = datasets[sample.dataset]
        same = pair and (known.dataset, wanted[0][1]) == (sample.dataset, record)
        image = pair[0][0] if same else read_image(dataset, sample.sequence, record)
        if not samplers.fits_image(dataset.table.boxes[record], image.shape, frames):
            return None
        pair.append((image, dataset.table.boxes[record]))
    return pair


def _parts(rng, datasets, samples, boxes: list[np.ndarray], negative: bool, config: PartConfig):
    """The boxes, or parts of those in still images: one part if both are one target in one image."""
    still = [datasets[sample.dataset].table.lengths[sample.sequence] == 1 for sample in samples]
    if not negative:
        return [random_part(rng, boxes[0], config)] * 2 if still[0] else boxes
    return [random_part(rng, box, config) if alone else box for box, alone in zip(boxes, still)]
