"""Several sequences in one call: the lanes of a vmapped tracker, in lock-step.

A lane tracks one sequence after another. All sequences of a group lie on canvases of one size (`group_by_canvas`), so
that nothing is compiled after a group's first frames. Each lane has a thread that decodes images; another stacks
them while the tracker computes.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import trackers
from eval.running.compilation import CompiledPerCanvas
from eval.scoring.results import TrackResult
from eval.sources.ahead import read_ahead
from eval.sources.sequences import Sequence, SequenceError, image_size, read_image
from trackers.base import Frame, Params, State, Tracker
from trackers.images import canvas_size, xywh_to_box

IMAGES_AHEAD, STEPS_AHEAD = 2, 2  # decoded for each lane, stacked for all of them


class Lanes(NamedTuple):
    """A tracker on N states at once, compiled once per canvas size; N is fixed for each size."""

    init: Callable[..., State]  # the tracker's own, asked for shapes only
    start: CompiledPerCanvas  # (states, lane, params, key, frame, box) -> states: a new sequence in one lane
    track: CompiledPerCanvas  # (params, states, frames) -> (states, estimates)

    @classmethod
    def of(cls, tracker: Tracker) -> "Lanes":
        def start(states, lane, params, key, frame, box):
            fresh = tracker.init(params, key, frame, box)
            return jax.tree.map(lambda leaf, new: leaf.at[lane].set(new), states, fresh)

        track = CompiledPerCanvas(jax.vmap(tracker.track, in_axes=(None, 0, 0)), donate_argnums=(1,))
        return cls(tracker.init, CompiledPerCanvas(start, donate_argnums=(0,)), track)


class Start(NamedTuple):
    """What a sequence starts from."""

    key: jax.Array
    box: np.ndarray  # [4] x, y, w, h


class AloneError(Exception):
    """The sequence must be tracked alone: no other sequence has its canvas, or an image does not fit the first's."""


class Progress(NamedTuple):
    """A frame of a sequence has been tracked, or cannot be."""

    sequence: Sequence
    outcome: TrackResult | SequenceError | AloneError | None  # None: not finished yet


def group_by_canvas(
    sequences: list[Sequence],
) -> tuple[dict[tuple[int, int], list[Sequence]], dict[Sequence, SequenceError]]:
    """Sequences by the canvas of their first image, and the error of those whose first image cannot be read.

    The longest first, so that the lanes of a group end at about the same time.
    """
    groups: dict[tuple[int, int], list[Sequence]] = {}
    unreadable = {}
    for sequence in sorted(sequences, key=lambda sequence: -len(sequence.frames)):
        try:
            width, height = image_size(sequence)
            groups.setdefault(canvas_size(height, width), []).append(sequence)
        except SequenceError as error:
            unreadable[sequence] = error
    return groups, unreadable


def track_in_lanes(
    lanes: Lanes, batch: int, params: Params, sequences: list[Sequence], starts: dict[Sequence, Start]
) -> Iterator[Progress]:
    """One pass over each sequence of `starts`, up to `batch` at a time, canvas by canvas; see `track_group`.

    The number of lanes of a canvas depends on all `sequences` on it, so that a resumed run computes what an
    uninterrupted one does.
    """
    groups, unreadable = group_by_canvas(sequences)
    yield from (Progress(sequence, error) for sequence, error in unreadable.items() if sequence in starts)
    for canvas, group in groups.items():
        pending = {sequence: starts[sequence] for sequence in group if sequence in starts}
        if min(batch, len(group)) > 1:
            yield from track_group(lanes, min(batch, len(group)), params, canvas, pending)
        else:
            yield from (Progress(sequence, AloneError(sequence.name)) for sequence in pending)


def track_group(
    lanes: Lanes, count: int, params: Params, canvas: tuple[int, int], starts: dict[Sequence, Start]
) -> Iterator[Progress]:
    """One pass over each sequence of `starts`, in that order, `count` at a time, all on one `canvas` (height, width).

    A frame's time is its share of the call, divided among the lanes that tracked a sequence. An image that cannot be
    read and a box that is not finite end the sequence of that lane alone. What a lane without a sequence computes is
    dropped; its state keeps changing without meaning, since freezing it would copy every memory on every frame.
    """
    results: dict[Sequence, TrackResult] = {}
    ended: set[Sequence] = set()  # the thread that stacks need not bring more of these
    states = None
    with closing(read_ahead(_steps(list(starts), canvas, count, ended), STEPS_AHEAD)) as steps:
        for frames, rows in steps:
            rows = {lane: row for lane, row in rows.items() if row.sequence not in ended}
            tracked = {lane: row for lane, row in rows.items() if row.index and row.error is None}
            if tracked:
                boxes, confidence, states, seconds = _track(lanes, params, states, frames)
            for lane, (sequence, index, error) in rows.items():
                if error is None and index:
                    result = results[sequence]
                    result.boxes[index], result.confidence[index] = boxes[lane], confidence[lane]
                    result.seconds[index] = seconds / len(tracked)
                elif error is None:
                    total, start = len(sequence.frames), starts[sequence]
                    results[sequence] = result = TrackResult(np.empty((total, 4)), np.empty(total), np.ones(total))
                    frame = Frame(frames.image[lane], frames.extent[lane])
                    states, result.seconds[0] = _start(lanes, count, states, lane, params, start, frame)
                    result.boxes[0] = start.box
                outcome = error or _outcome(sequence, results[sequence], index)
                if outcome is not None:
                    ended.add(sequence)
                    results.pop(sequence, None)
                yield Progress(sequence, outcome)


def _outcome(sequence: Sequence, result: TrackResult, index: int) -> TrackResult | SequenceError | None:
    if not np.isfinite(result.boxes[index]).all():
        return SequenceError(f"{sequence.frames[index]}: the tracker returned a box that is not finite")
    return result if index + 1 == len(sequence.frames) else None


def _track(lanes: Lanes, params: Params, states: State, frames: Frame):
    """(boxes `[N, 4]` x, y, w, h, confidence `[N]`, states, seconds) of one call."""
    track = lanes.track.prepare(params, states, frames)
    start = perf_counter()
    states, estimates = jax.block_until_ready(track(params, states, jax.device_put(frames)))
    seconds = perf_counter() - start
    box, confidence = jax.device_get((estimates.box, estimates.confidence))
    return trackers.xywh(box), confidence, states, seconds


def _start(
    lanes: Lanes, count: int, states: State | None, lane: int, params: Params, start: Start, frame: Frame
) -> tuple[State, float]:
    """(states with a new one in `lane`, seconds); where there are none yet, `count` states of zeros are made first."""
    box, number = jax.device_put((xywh_to_box(start.box), np.int32(lane)))
    if states is None:
        shapes = jax.eval_shape(lanes.init, params, start.key, frame, box)
        states = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)
    init = lanes.start.prepare(states, number, params, start.key, frame, box)
    began = perf_counter()
    states = jax.block_until_ready(init(states, number, params, start.key, jax.device_put(frame), box))
    return states, perf_counter() - began


class Row(NamedTuple):
    """What a lane does in a step."""

    sequence: Sequence
    index: int  # of the frame
    error: SequenceError | AloneError | None  # why it has no image


def _steps(
    waiting: list[Sequence], canvas: tuple[int, int], count: int, ended: set[Sequence]
) -> Iterator[tuple[Frame, dict[int, Row]]]:
    """(frames `[count, ...]` of numpy, black in a lane without an image; what each lane does with its own)."""
    following = iter(waiting)
    feeds = [_feed(following, canvas, ended) for _ in range(count)]
    while True:
        images = np.zeros((count, *canvas, 3), np.uint8)
        extents = np.tile(np.array(canvas, np.int32), (count, 1))
        rows = {}
        for lane, feed in enumerate(feeds):
            row, image = next(feed, (None, None))
            if row is None:
                continue
            rows[lane] = row
            if image is not None:
                height, width = image.shape[:2]
                images[lane, :height, :width], extents[lane] = image, (height, width)
        if not rows:
            return
        yield Frame(images, extents), rows


def _feed(following: Iterator[Sequence], canvas: tuple[int, int], ended: set[Sequence]) -> Iterator[tuple[Row, Any]]:
    """(row, its image `[H, W, 3]` or None) of one lane, from one sequence to the next that no lane has taken."""
    for sequence in following:
        index = 0
        with closing(read_ahead(map(read_image, sequence.frames), IMAGES_AHEAD)) as images:
            try:
                for index, image in enumerate(images):
                    if sequence in ended:
                        break
                    if any(side > there for side, there in zip(image.shape, canvas)):
                        raise AloneError(sequence.name)
                    yield Row(sequence, index, None), image
            except (SequenceError, AloneError) as error:
                yield Row(sequence, index, error), None
