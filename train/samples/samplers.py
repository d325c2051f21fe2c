"""Which frames a training sample is made of: a data set, a sequence of it, frames of the sequence.

Sample k is drawn from its own generator, seeded by (seed, k): it is the same whoever draws it, and in which order.
Frames are numbers of records, so nothing is read from disk here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np

from trackers.rules import COUNT, NOT_NEGATIVE, one_of

if TYPE_CHECKING:
    from train.datasets import SequenceTable, TrackingDataset

MODES = ("causal", "interval", "clip")


@dataclass(frozen=True)
class FrameFilter:
    """Which visible frames are used, by their boxes; the defaults are those of siamfc-pytorch.

    That one also reads how much of the target is covered, of which tables keep only whether it is visible.
    """

    min_area: Annotated[float, NOT_NEGATIVE] = 20.0  # square pixels
    sides: Annotated[tuple[float, float], NOT_NEGATIVE] = (20.0, 500.0)  # pixels
    aspect: Annotated[tuple[float, float], NOT_NEGATIVE] = (0.25, 4.0)  # width over height
    # Of the image's, so only who reads the image can tell
    relative_sides: Annotated[tuple[float, float], NOT_NEGATIVE] = (0.01, 0.5)


@dataclass(frozen=True)
class FrameSampling:
    """How frames are chosen; the defaults are DiMP's.

    "causal": a base frame b, the other train frames before it, from [b - gap, b), the test frames after it, from
    (b, b + gap). "interval": a reference frame b, all others from [b - gap, b + gap), b among them. Both draw visible
    frames only, with replacement. "clip": T + 1 visible frames in their order, without replacement, out of a window of
    `max_gap` frames: consecutive ones if that is T + 1. The first T are the train frames, the last T the test frames,
    so that step t of a clip goes from frame t to frame t + 1.
    """

    mode: Annotated[str, one_of(*MODES)] = "causal"
    train_frames: Annotated[int, COUNT] = 3
    test_frames: Annotated[int, COUNT] = 3
    max_gap: Annotated[int, COUNT] = 30  # frames
    gap_growth: Annotated[int, COUNT] = 5  # frames, after every try that found no visible frame
    min_length: Annotated[int, COUNT] = 20  # frames of a video
    # A video has more visible frames than this times the frames of a sample
    visibility: Annotated[int, NOT_NEGATIVE] = 2
    frames: FrameFilter | None = None  # what it leaves out counts as not visible; None: all visible frames are used


DIMP = FrameSampling()
ATOM = FrameSampling(mode="interval", train_frames=1, test_frames=1, max_gap=50)
SIAMRPN = FrameSampling(mode="interval", train_frames=1, test_frames=1, max_gap=100, min_length=2, visibility=0)
SIAMFC = replace(SIAMRPN, max_gap=99, frames=FrameFilter())
MEMTRACK = FrameSampling(  # from the whole video, however long
    mode="clip", train_frames=16, test_frames=16, max_gap=10**6, min_length=50, visibility=0
)


class Mixture(NamedTuple):
    """D data sets to draw from."""

    tables: tuple[SequenceTable, ...]  # D; what may be drawn is visible
    usable: tuple[np.ndarray, ...]  # D times [U] int64 numbers of the sequences that can be drawn
    probabilities: np.ndarray  # [D] float64, they add up to 1
    # D times {class: numbers of the usable sequences whose target is one}, of still images, whose classes are known
    classes: tuple[dict[str, np.ndarray], ...]


class Sample(NamedTuple):
    """The frames of one training sample."""

    dataset: int
    sequence: int
    train_frames: np.ndarray  # [train frames] int64 records; the first is the base (reference) frame
    test_frames: np.ndarray  # [test frames] int64 records


def mix(datasets: Sequence[TrackingDataset], probabilities: Sequence[float], options: FrameSampling) -> Mixture:
    """The data sets, each drawn with its probability (any positive scale; 0 leaves a data set out).

    ValueError of one line for an unknown mode, for probabilities that do not fit, for a data set without a usable
    sequence, and for one that calls a frame visible that has no box of positive size.
    """
    if options.mode not in MODES:
        raise ValueError(f"unknown mode {options.mode!r}; choose one of {', '.join(MODES)}")
    if min(options.train_frames, options.test_frames) < 1:
        raise ValueError("a sample needs at least one train frame and one test frame")
    if options.mode == "clip" and options.train_frames != options.test_frames:
        raise ValueError(f"a clip of {options.train_frames} steps has as many test frames, not {options.test_frames}")
    weights = np.asarray(probabilities, np.float64)
    if weights.shape != (len(datasets),) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum():
        raise ValueError(f"probabilities {tuple(probabilities)} do not fit {len(datasets)} data sets")
    usable = []
    tables = tuple(_filtered(dataset.table, options.frames) for dataset in datasets)
    for dataset, table, weight in zip(datasets, tables, weights):
        usable.append(usable_sequences(table, options) if weight else np.zeros(0, np.int64))
        if weight:
            _check(dataset, usable[-1], options)
    classes = tuple(_classes(table, numbers) for table, numbers in zip(tables, usable))
    return Mixture(tables, tuple(usable), weights / weights.sum(), classes)


def _classes(table: SequenceTable, usable: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {}
    for number in usable.tolist():
        if still := table.still(number):
            found.setdefault(still[1], []).append(number)
    return {name: np.array(numbers) for name, numbers in found.items()}


def fits_image(box: np.ndarray, shape: tuple[int, ...], frames: FrameFilter | None) -> bool:
    """Whether the sides of a box `[4]`, relative to those of its image (`shape`: height, width), pass the filter."""
    relative = np.asarray(box[2:]) / shape[1::-1]
    return frames is None or bool(
        ((frames.relative_sides[0] <= relative) & (relative <= frames.relative_sides[1])).all()
    )


def _filtered(table: SequenceTable, frames: FrameFilter | None) -> SequenceTable:
    if frames is None:
        return table
    width, height = table.boxes[:, 2], table.boxes[:, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        fits = (width * height >= frames.min_area) & (width > 0) & (height > 0)
        for value, (low, high) in ((width, frames.sides), (height, frames.sides), (width / height, frames.aspect)):
            fits &= (low <= value) & (value <= high)
    return table._replace(visible=table.visible & fits)


def usable_sequences(table: SequenceTable, options: FrameSampling) -> np.ndarray:
    """`[U]` int64: videos that are long and visible enough, and single images with a visible target."""
    before = np.concatenate([[0], np.cumsum(table.visible)])
    visible = before[table.starts + table.lengths] - before[table.starts]
    video = (visible > _wanted(options)) & (table.lengths >= options.min_length)
    return np.flatnonzero(video | ((table.lengths == 1) & (visible == 1)))


def draw(
    mixture: Mixture,
    options: FrameSampling,
    seed: int,
    index: int,
    *,
    stream: tuple[int, ...] = (),
    like: Sample | None = None,
) -> Sample:
    """Sample number `index` (from 0). A sequence of one image gives the same frame every time.

    stream: another draw of the same number; (1,) is what `train.samples.frames` draws crops from. Zeros at its end
    do not count. like: only a target of the class of this one's, of the same data set, where its class is known.
    """
    rng = np.random.default_rng((seed, index, *stream))
    dataset = int(rng.choice(len(mixture.tables), p=mixture.probabilities))
    among = mixture.usable[dataset]
    if like is not None and (still := mixture.tables[like.dataset].still(like.sequence)):
        dataset, among = like.dataset, mixture.classes[like.dataset][still[1]]
    sequence = int(rng.choice(among))
    table = mixture.tables[dataset]
    start, length = int(table.starts[sequence]), int(table.lengths[sequence])
    if length == 1:
        train, test = np.zeros(options.train_frames, np.int64), np.zeros(options.test_frames, np.int64)
    else:
        visible = np.flatnonzero(table.visible[start : start + length])
        choose = {"causal": _causal, "interval": _interval, "clip": _clip}[options.mode]
        train, test = choose(rng, visible, length, options)
    return Sample(dataset, sequence, start + train, start + test)


def _causal(rng: np.random.Generator, visible: np.ndarray, length: int, options: FrameSampling):
    """Frames `[train]`, `[test]` of the sequence. Every try draws a new base frame.

    A usable sequence has visible frames before and after some base in the range, so a growing gap ends the tries.
    """
    gap = options.max_gap
    while True:
        base = _choose(rng, visible, options.train_frames - 1, length - options.test_frames, 1)
        train = np.concatenate([base, _choose(rng, visible, base[0] - gap, base[0], options.train_frames - 1)])
        test = _choose(rng, visible, base[0] + 1, base[0] + gap, options.test_frames)
        if len(train) == options.train_frames and len(test) == options.test_frames:
            return train, test
        gap += options.gap_growth


def _interval(rng: np.random.Generator, visible: np.ndarray, length: int, options: FrameSampling):
    """Frames `[train]`, `[test]` of the sequence; the reference frame is in its own interval, so one try is enough."""
    base = _choose(rng, visible, 0, length, 1)
    others = options.train_frames - 1 + options.test_frames
    frames = np.concatenate([base, _choose(rng, visible, base[0] - options.max_gap, base[0] + options.max_gap, others)])
    return np.split(frames, [options.train_frames])


def _clip(rng: np.random.Generator, visible: np.ndarray, length: int, options: FrameSampling):
    """Frames `[T]`, `[T]` of the sequence. Every try draws a new window, and in the end the whole video is one."""
    count, gap = options.train_frames + 1, options.max_gap
    while True:
        first = rng.integers(max(length - gap, 0) + 1)
        low, stop = np.searchsorted(visible, (first, first + gap))
        if stop - low >= count:
            frames = visible[low + np.sort(rng.choice(stop - low, count, replace=False))]
            return frames[:-1], frames[1:]
        gap += options.gap_growth


def _wanted(options: FrameSampling) -> int:
    """A video needs more visible frames than this."""
    wanted = options.visibility * (options.train_frames + options.test_frames)
    return max(wanted, options.train_frames) if options.mode == "clip" else wanted


def _choose(rng: np.random.Generator, visible: np.ndarray, low: int, high: int, count: int) -> np.ndarray:
    """`[count]` of the visible frames in [low, high), with replacement; none if there is none."""
    first, stop = np.searchsorted(visible, (low, high))
    return visible[rng.integers(first, stop, count)] if first < stop else visible[:0]


def _check(dataset: TrackingDataset, usable: np.ndarray, options: FrameSampling) -> None:
    table = dataset.table
    if not len(usable):
        raise ValueError(
            f"data set {dataset.name!r} has no usable sequence among {len(table.lengths)}: a video needs "
            f"{options.min_length} frames and more than {_wanted(options)} visible ones, an image a visible target"
            + ("" if options.frames is None else f", of those that pass {options.frames}")
        )
    with np.errstate(invalid="ignore"):
        boxed = np.isfinite(table.boxes).all(1) & (table.boxes[:, 2:] > 0).all(1)
    wrong = np.flatnonzero(table.visible & ~boxed)
    if len(wrong):
        box = table.boxes[wrong[0]].tolist()
        raise ValueError(f"data set {dataset.name!r}, record {wrong[0]}: called visible, but its box is {box}")
