"""One pass of a tracker or of a guest over a sequence."""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np

import trackers
from eval.running.compilation import CompiledPerCanvas, prepare_both
from eval.running.guest import Guest, GuestError, GuestProcess
from eval.running.parallel import Stopped
from eval.scoring.results import TrackResult
from eval.sources import sequences
from eval.sources.ahead import read_ahead
from eval.sources.sequences import Sequence, SequenceError
from trackers.base import Frame, Params, Tracker
from trackers.images import xywh_to_box


class Compiled(NamedTuple):
    """A tracker's two functions, compiled once per canvas size."""

    init: CompiledPerCanvas
    track: CompiledPerCanvas

    @classmethod
    def of(cls, tracker: Tracker, made_of: str | None = None) -> "Compiled":
        """made_of: of `eval.running.stored`; None: the programs are not kept for the next start."""
        init = CompiledPerCanvas(tracker.init, program=made_of and f"{made_of}.init")
        return cls(init, CompiledPerCanvas(tracker.track, donate_argnums=(1,), program=made_of and f"{made_of}.track"))


def track_sequence(
    compiled: Compiled,
    params: Params,
    sequence: Sequence,
    key: jax.Array,
    *,
    start_box: np.ndarray | None = None,
    on_frame: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> TrackResult:
    """One pass over a sequence from its first box, or from `start_box` (x, y, w, h), images decoded ahead by a thread.

    `params` and `key` lie on the device. `on_frame` is called after each frame. SequenceError names an image
    that cannot be read or a frame on which the tracker's box is not finite; Stopped once `stop` is set.
    """
    state = None

    def init(image: Frame, xywh: np.ndarray) -> float:
        nonlocal state
        box = jax.device_put(xywh_to_box(xywh))
        function = prepare_both(compiled.init, compiled.track, params, key, image, box)
        start = perf_counter()
        state = jax.block_until_ready(function(params, key, jax.device_put(image), box))
        return perf_counter() - start

    def track(image: Frame) -> tuple[np.ndarray, float, float]:
        nonlocal state
        function = compiled.track.prepare(params, state, image)
        start = perf_counter()
        state, estimate = jax.block_until_ready(function(params, state, jax.device_put(image)))
        seconds = perf_counter() - start
        box, confidence = jax.device_get((estimate.box, estimate.confidence))
        return trackers.xywh(box), confidence, seconds

    return _one_pass(sequence, trackers.frame, init, track, start_box=start_box, on_frame=on_frame, stop=stop)


def track_with_guest(
    guest: Guest,
    sequence: Sequence,
    *,
    seed: int = 0,
    start_box: np.ndarray | None = None,
    on_frame: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> TrackResult:
    """The same by a guest in its own process; SequenceError also where the guest fails (eval.running.guest)."""
    options = dict(start_box=start_box, on_frame=on_frame, stop=stop)
    try:
        with GuestProcess(guest, seed=seed, stop=stop) as process:
            return _one_pass(sequence, lambda image: image, process.init, process.update, **options)
    except GuestError as error:
        raise SequenceError(f"{sequence.name}: {error}") from error


def _one_pass(sequence, prepare, init, track, *, start_box, on_frame, stop) -> TrackResult:
    """`prepare` an RGB image (in another thread), `init` on the first and its box, `track` through the others.

    init(prepared, box) -> seconds; track(prepared) -> (box, confidence, seconds).
    """
    count = len(sequence.frames)
    result = TrackResult(np.empty((count, 4)), np.empty(count), np.ones(count))
    result.boxes[0] = sequence.boxes[0] if start_box is None else start_box
    with closing(read_ahead(prepare(sequences.read_image(path)) for path in sequence.frames)) as images:
        for index, image in enumerate(images):
            if stop is not None and stop.is_set():
                raise Stopped(sequence.name)
            if index == 0:
                result.seconds[0] = init(image, result.boxes[0])
            else:
                result.boxes[index], result.confidence[index], result.seconds[index] = track(image)
                if not np.isfinite(result.boxes[index]).all():
                    raise SequenceError(f"{sequence.frames[index]}: the tracker returned a box that is not finite")
            on_frame()
    return result


def first_box(sequence: Sequence, jitter: float = 0.0, seed: int = 0) -> np.ndarray:
    """The box x, y, w, h to start from: the sequence's, with its center moved and its sides changed by up to
    `jitter` of the sides.

    Uniform, and the same for every tracker: the numbers depend on `seed` and on the sequence's name alone.
    """
    box = np.asarray(sequence.boxes[0], np.float64)
    if not jitter:
        return box
    draws = np.random.default_rng([seed, zlib.crc32(sequence.name.encode())]).uniform(-jitter, jitter, 4)
    size = box[2:] * (1 + draws[2:])
    return np.concatenate([box[:2] + box[2:] * draws[:2] + (box[2:] - size) / 2, size])


def decoded(sequence: Sequence) -> Iterator[Frame]:
    """The images of a sequence as Frames of numpy arrays."""
    return (trackers.frame(sequences.read_image(path)) for path in sequence.frames)


def sequence_seed(seed: int, sequence: Sequence) -> int:
    """A different seed for each sequence, in 32 bits, independent of the order."""
    return zlib.crc32(f"{seed} {sequence.name}".encode())


def sequence_key(key: jax.Array, name: str) -> jax.Array:
    """A different key for each sequence, independent of the order."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
