"""Several targets through one video: who starts where, and the loop that follows them."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np

import trackers
from eval import annotations
from eval.annotations.tracks import Row, make_track, seen
from eval.annotations.tracks import Video as Annotated
from eval.files import ResultError
from eval.online import check_box
from eval.running.compilation import CompiledPerCanvas, prepare_both
from eval.running.progress import ProgressBar
from eval.sources import synthetic, video
from eval.sources.ahead import read_ahead
from eval.sources.rerun_writer import RerunWriter
from eval.sources.video import VERDICT_NAMES, Source, VideoError
from eval.sources.video_writer import VideoWriter
from ops.boxes import Box
from trackers.base import FOUND, Frame, Params, Tracker, many, set_targets
from trackers.images import xywh_to_box


class Target(NamedTuple):
    """What to follow; it is initialized on every frame that it has a box for, anew after the first."""

    name: str
    starts: Mapping[int, Sequence[float]]  # frame of the video -> x, y, w, h, 0-based


class Tracked(NamedTuple):
    """N targets in one frame; where one is initialized, the box given and no score."""

    boxes: np.ndarray  # [N, 4] float64 x, y, w, h, 0-based; nan before a target's start
    scores: np.ndarray  # [N] float64, nan where it is initialized
    confidence: np.ndarray  # [N] float64 in 0..1
    verdicts: np.ndarray  # [N] int, codes of trackers.base
    seconds: float  # for all targets: initialization in the first frame, tracking in the others


class Trail(Sequence):
    """Tracked of every frame so far: append, index, iterate.

    Kept in one array that doubles. As thousands of small arrays they would lie scattered in the memory that a large
    frame has left, and the next large one would find no room there.
    """

    def __init__(self, frames: Iterable[Tracked] = ()):
        self._rows = np.empty((0, 0))
        self._count = 0
        for tracked in frames:
            self.append(tracked)

    def __len__(self) -> int:
        return self._count

    def append(self, tracked: Tracked) -> None:
        *columns, seconds = tracked
        row = np.concatenate([*map(np.ravel, columns), [seconds]])
        if self._count == len(self._rows):
            grown = np.empty((max(256, 2 * self._count), len(row)))
            grown[: self._count] = self._rows[: self._count].reshape(-1, len(row))
            self._rows = grown
        self._rows[self._count] = row
        self._count += 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        *row, seconds = self._rows[: self._count][index]
        boxes, scores, confidence, verdicts = np.split(np.array(row), np.array([4, 5, 6]) * (len(row) // 7))
        return Tracked(boxes.reshape(-1, 4), scores, confidence, verdicts.astype(int), float(seconds))


@dataclass
class Run:
    """What came of a video, up to its end or to where it was stopped."""

    first: int = 0  # index in the video of the frame that was tracked first
    step: int = 1  # -1: backwards
    names: list[str] = field(default_factory=list)  # of the targets
    tracked: Sequence[Tracked] = field(default_factory=Trail)  # frame first, first + step, ...
    size: tuple[int, int] | None = None  # width, height of the first image
    compile_seconds: float = 0.0
    interrupted: bool = False
    problem: str | None = None  # why it ended before the end of the video


def numbered(boxes: Iterable[Sequence[float]], frame: int = 0) -> list[Target]:
    """Targets 1, 2, ... that start on one frame."""
    return [Target(str(number), {frame: box}) for number, box in enumerate(boxes, 1)]


def merged(targets: Iterable[Target]) -> list[Target]:
    """Targets of one name as one; ValueError where one has two boxes for a frame."""
    starts: dict[str, dict[int, Sequence[float]]] = {}
    for name, given in targets:
        known = starts.setdefault(name, {})
        twice = known.keys() & given.keys()
        if twice:
            raise ValueError(f"target {name}: is given twice for frame {min(twice)}; give each target its own name")
        known.update(given)
    return [Target(*item) for item in starts.items()]


def follow(
    run: Run,
    tracker: Tracker,
    params: Params,
    source: Source,
    targets: Sequence[Target] | None,
    *,
    seed: int = 0,
    out: Path | None = None,
    recording: Path | None = None,
    window: bool = False,
    truth: list[synthetic.Example] | None = None,
    again: Callable[[], Source] | None = None,
    made_of: str | None = None,
) -> None:
    """Tracks `targets` from frame `run.first` to the end; None: they are drawn there with the mouse.

    Where `run.step` is -1, `source` gives the frames from `run.first` back to the first, and `again` opens the video.
    `run` grows frame by frame, so it is of use however this ends: a source that proves damaged and Ctrl-C
    end it with a note in `run`. Where `out` is given, a video with the boxes (and `truth`) appears there, whose
    frames have the times and the order of the source's; where `recording` is given, a recording for Rerun's viewer.
    made_of: as of `Programs.of`.
    ValueError for a box that is empty, or outside the first frame; VideoError where frame `run.first` is missing, a
    box lies outside a later frame or stops being finite, or the disk is full.
    """
    images = _from_frame(source, run.first if run.step > 0 else 0)
    image = next(images)
    run.size = image.shape[1], image.shape[0]
    targets = numbered(video.select_boxes(image), run.first) if targets is None else targets
    for target in targets:
        for box in target.starts.values():
            check_box(box)  # those of later frames, too, before the first one is tracked
    run.names = [target.name for target in targets]
    programs = Programs.of(tracker, len(targets), made_of)
    readable = _until_damage(itertools.chain([image], images), run)
    total = (source.count - run.first if run.step > 0 else run.first + 1) if source.count else None
    with contextlib.ExitStack() as stack:
        options = dict(first=run.first, step=run.step, seed=seed, with_extras=recording is not None)
        tracking = track_frames(programs, params, readable, targets, **options)
        stack.enter_context(contextlib.closing(tracking))
        writer = stack.enter_context(VideoWriter(out, source.fps)) if out else None
        recorder = stack.enter_context(RerunWriter(recording)) if recording else None
        progress = stack.enter_context(ProgressBar(total, "frame"))
        try:
            for image, tracked, extras in tracking:
                index = run.first + run.step * len(run.tracked)
                begun = [any(_begun(frame, index, run.step) for frame in target.starts) for target in targets]
                if not np.isfinite(tracked.boxes[begun]).all():
                    raise VideoError(f"frame {index}: the tracker's box is not finite")
                run.tracked.append(tracked)
                run.compile_seconds = programs.compile_seconds()
                progress.update()
                if recorder:
                    _record(recorder, index, source, image, tracked, run.names, extras.get("score_map"))
                drawn_now = writer if run.step > 0 else None
                if not (drawn_now or window):
                    continue
                drawn = _annotated(image, tracked, run.names, truth[len(run.tracked) - 1] if truth else None)
                if drawn_now:
                    drawn_now.write(drawn, source.times[index] if source.times else None)
                if window and video.show(drawn):
                    break
            else:
                run.problem = run.problem or _missing(targets, run, source.name)
        except KeyboardInterrupt:
            run.interrupted = True
        if writer and run.step < 0:
            try:
                _draw_forward(run, again(), writer)
            except KeyboardInterrupt:
                run.interrupted = True


def _record(
    recorder: RerunWriter,
    index: int,
    source: Source,
    image: np.ndarray,
    tracked: Tracked,
    names: Sequence[str],
    maps: np.ndarray | None,
) -> None:
    seconds = source.times[index] if source.times else index / source.fps
    verdicts = [VERDICT_NAMES[int(verdict)] for verdict in tracked.verdicts]
    colors = [video.target_color(number) for number in range(len(names))]
    recorder.write(index, seconds, image, names, tracked.boxes, tracked.confidence, verdicts, colors, maps)


def _begun(start: int, index: int, step: int) -> bool:
    return (index - start) * step >= 0


def _missing(targets: Sequence[Target], run: Run, name: str) -> str | None:
    """What is wrong with a video that ended before a target's box came."""
    last = run.first + run.step * (len(run.tracked) - 1)
    late = [(frame, one.name) for one in targets for frame in one.starts if not _begun(frame, last, run.step)]
    if not late:
        return None
    frame, target = min(late)
    return f"{name}: has no frame {frame}, where target {target} starts; its last one is {last}"


def _draw_forward(run: Run, source: Source, writer: VideoWriter) -> None:
    """The frames that were tracked backwards, in the order of the video."""
    last = run.first - len(run.tracked) + 1
    with contextlib.closing(source.frames):
        for index, image in zip(range(run.first + 1), source.frames):
            if index >= last:
                drawn = _annotated(image, run.tracked[run.first - index], run.names, None)
                writer.write(drawn, source.times[index] if source.times else None)


def starts_of(path: Path, name: str, *, reverse: bool = False) -> list[Target]:
    """The targets in a file of `eval.annotations`, each from the first box in which it is seen, or back from the last.

    Of several videos, the one called `name`. ResultError, one line, for a file that cannot be read or has no target.
    """
    videos = annotations.read(path)
    if len(videos) > 1:
        videos = [video for video in videos if video.name == name]
    if len(videos) != 1:
        raise ResultError(f"{path}: holds several videos and not one called {name}; give a file of the video alone")
    found = []
    for track in videos[0].tracks:
        places = np.flatnonzero(seen(track))
        if len(places):
            at = places[-1 if reverse else 0]
            found.append(Target(track.name, {int(track.frames[at]): track.boxes[at].tolist()}))
    if not found:
        raise ResultError(f"{path}: no target is seen in any frame; give other boxes")
    return found


class Programs(NamedTuple):
    """What runs for a frame, compiled once per canvas size for all targets."""

    init: CompiledPerCanvas
    track: CompiledPerCanvas
    change: CompiledPerCanvas  # who is followed, on a frame after the first

    @classmethod
    def of(cls, tracker: Tracker, count: int, made_of: str | None = None) -> "Programs":
        """made_of: of `eval.running.stored`; None: the programs are not kept for the next start."""
        several, change = many(tracker, count), set_targets(tracker)
        init, track, change = (
            CompiledPerCanvas(function, donate_argnums=donated, program=made_of and f"{made_of}.{name} of {count}")
            for name, function, donated in (
                ("init", several.init, ()),
                ("track", several.track, (1,)),
                ("change", change, (3,)),
            )
        )
        return cls(init, track, change)

    def prepare(self, params: Params, keys: jax.Array, frame: Frame, boxes: Box, starting: np.ndarray | None):
        """`init` for these arguments, when all is ready that the tracking will need, which is not to wait for it.

        starting: `[N]` bool, who starts on a frame; None where nobody does later.
        """

        def change(states):
            if starting is not None:
                self.change.prepare(params, keys, frame, states, boxes, starting, ~starting)

        init = prepare_both(self.init, self.track, params, keys, frame, boxes, beside=change)
        change(self.init.shapes(params, keys, frame, boxes))  # an earlier run may have done without it
        return init

    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self)


def track_frames(
    programs: Programs,
    params: Params,
    images: Iterable[np.ndarray],
    targets: Sequence[Target],
    *,
    first: int = 0,
    step: int = 1,
    seed: int = 0,
    with_extras: bool = False,
) -> Iterator[tuple[np.ndarray, Tracked, dict[str, Any]]]:
    """(image, Tracked, extras of the Estimate with leaves `[N, ...]`) for each image, all targets in one compiled call.

    The images are frame first, first + step ...; extras come where they are asked for, in frames that are tracked.
    One target at least starts on the first image. Another thread decodes ahead; an image whose size calls for another
    canvas costs a compilation. ValueError for a box that lies outside the first image, VideoError for a later one.
    """
    params = jax.device_put(params)
    key, count = jax.random.key(seed), len(targets)
    later = any(frame != first for target in targets for frame in target.starts)
    started = np.zeros(count, bool)
    states = None
    frames = read_ahead((image, trackers.frame(image)) for image in images)
    for index, (image, frame) in zip(itertools.count(first, step), frames):
        extras: dict[str, Any] = {}
        starting = np.array([index in target.starts for target in targets])
        try:
            boxes = _boxes_on(image, [target.starts.get(index) for target in targets])
        except ValueError as error:
            if index == first:
                raise
            which = targets[int(starting.argmax())].name if starting.sum() == 1 else "that starts there"
            raise VideoError(f"frame {index}, target {which}: {error}") from error
        if index == first:
            args = params, jax.random.split(key, count), *jax.device_put((frame, xywh_to_box(boxes)))
            init = programs.prepare(*args, starting if later else None)
            start = perf_counter()
            states = jax.block_until_ready(init(*args))
            seconds = perf_counter() - start
            states = states._replace(active=jax.device_put(starting))
            rows = np.full((count, 4), np.nan), np.full(count, np.nan), np.zeros(count), np.full(count, FOUND)
        else:
            track = programs.track.prepare(params, states, frame)
            start = perf_counter()
            frame = jax.device_put(frame)
            states, estimates = track(params, states, frame)
            box, *rest = jax.device_get((estimates.box, estimates.score, estimates.confidence, estimates.verdict))
            seconds = perf_counter() - start
            extras = jax.device_get(estimates.extras) if with_extras else {}
            score, confidence, verdict = (np.array(value, np.float64) for value in rest)
            rows = trackers.xywh(box), score, confidence, verdict.astype(int)
            rows[0][~started], rows[1][~started] = np.nan, np.nan
            if starting.any():
                keys = jax.random.split(jax.random.fold_in(key, index), count)
                args = params, keys, frame, states, jax.device_put(xywh_to_box(boxes)), starting, np.zeros(count, bool)
                change = programs.change.prepare(*args)
                start = perf_counter()
                states = jax.block_until_ready(change(*args))
                seconds += perf_counter() - start
        started |= starting
        for row, given in zip(rows, (boxes, np.full(count, np.nan), np.ones(count), np.full(count, FOUND))):
            row[starting] = given[starting]
        yield image, Tracked(*rows, seconds), extras


def _boxes_on(image: np.ndarray, boxes: Sequence[Sequence[float] | None]) -> np.ndarray:
    """`[N, 4]`, checked; where there is none, one of the others in its place."""
    checked = [None if box is None else check_box(box, *image.shape[:2]) for box in boxes]
    some = next((box for box in checked if box is not None), np.ones(4))
    return np.stack([some if box is None else box for box in checked])


def _from_frame(source: Source, start: int) -> Iterator[np.ndarray]:
    """The images from frame `start` on; VideoError if there is none."""
    images = itertools.islice(source.frames, start, None)
    first = next(images, None)
    if first is None:
        raise VideoError(f"{source.name}: has no frame {start}; choose a smaller --start")
    return itertools.chain([first], images)


def _until_damage(images: Iterable[np.ndarray], run: Run) -> Iterator[np.ndarray]:
    try:
        yield from images
    except VideoError as error:
        run.problem = str(error)


def _annotated(
    image: np.ndarray, tracked: Tracked, names: Sequence[str], truth: synthetic.Example | None
) -> np.ndarray:
    """The image with the boxes: one target has the color of its verdict, of several each has its own."""
    if truth is not None and truth.visibility > 0:
        image = video.draw_boxes(image, truth.box)
    labels = [
        f"{name} {VERDICT_NAMES[int(verdict)]} {confidence:.2f}"
        for name, verdict, confidence in zip(names, tracked.verdicts, tracked.confidence)
    ]
    colors = [video.target_color(number) for number in range(len(names))] if len(names) > 1 else None
    return video.draw_boxes(image, tracked.boxes, verdicts=tracked.verdicts, labels=labels, colors=colors)


def annotated(run: Run, name: str = "", files: Sequence[str] = ()) -> Annotated:
    """The targets of a run, in the order of the video; those that never started are not among them."""
    order = range(len(run.tracked))[:: run.step]
    tracks = []
    for slot, target in enumerate(run.names or _numbers(run)):
        rows = [
            Row(
                run.first + run.step * at,
                one.boxes[slot],
                float(one.confidence[slot]),
                VERDICT_NAMES[int(one.verdicts[slot])],
                float(one.scores[slot]),
            )
            for at, one in ((at, run.tracked[at]) for at in order)
            if np.isfinite(one.boxes[slot]).all()
        ]
        if rows:
            tracks.append(make_track(slot + 1, target, rows))
    return Annotated(name, tracks, run.size, tuple(files))


def _numbers(run: Run) -> list[str]:
    return [str(number) for number in range(1, len(run.tracked[0].boxes) + 1)] if run.tracked else []
