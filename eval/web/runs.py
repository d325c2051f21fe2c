"""Runs of trackers: one thread owns the device and does one after the other."""

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import trackers
from eval.command import one_line
from eval.running import stored
from eval.targets import Programs, Tracked, track_frames
from eval.targets import Target as Followed
from eval.web import document
from eval.web.document import BACKWARD, FORWARD, Document, Entry
from eval.web.session import Session
from trackers.base import Params

TOLD = 0.1  # seconds between two events of a run
KEPT = 4  # compiled programs, for a tracker and a number of targets each


class Span(NamedTuple):
    """What a run is to find of a target: the frames after `start` up to `end`, or before it down to `end`."""

    target: int
    start: int
    end: int


class Pass(NamedTuple):
    """Targets that are tracked together: one tracker, one first frame, one direction."""

    tracker: str
    step: int  # 1, or -1: backwards
    spans: tuple[Span, ...]

    def length(self) -> int:
        """Frames that are tracked."""
        return max(abs(span.end - span.start) for span in self.spans)


def plan(content: Document, ids: Iterable[int], frame: int, direction: int, count: int) -> list[Pass]:
    """The passes through a video of `count` frames that a page asks for.

    direction: 1 forward from `frame`, -1 backward, each to the next key frame of a target; 0: between the key frames
    around `frame`, from both. ValueError where a target has no box to start from, and where nothing is left to track.
    """
    if not 0 <= frame < count:
        raise ValueError(f"frame {frame}: the video has frames 0 to {count - 1}")
    found: dict[tuple[str, int, int], list[Span]] = {}
    for target in map(content.target, dict.fromkeys(ids)):
        before, after = document.neighbors(target, frame)
        if direction:
            here = document.shown(target, frame)
            if here is None or here.box is None:
                raise ValueError(f"{target.name}: has no box in frame {frame} to start from; draw one there")
            ends = {1: count - 1 if after is None else after - 1, -1: 0 if before is None else before + 1}
            spans = [(frame, ends[direction])]
        else:
            marks = [mark for mark in (before, frame if frame in target.keys else None, after) if mark is not None]
            if not marks:
                raise ValueError(f"{target.name}: has no key frame to start from; draw a box")
            spans = [span for a, b in itertools.pairwise(marks) for span in ((a, b - 1), (b, a + 1))]
            if len(marks) == 1:
                spans = [(marks[0], end) for end in (0, count - 1) if (end - marks[0]) * (frame - marks[0]) >= 0]
        for start, end in spans:
            if start != end:
                step = 1 if end > start else -1
                found.setdefault((target.tracker, start, step), []).append(Span(target.id, start, end))
    if not found:
        raise ValueError(f"frame {frame}: there is no frame to track before the next key frame or the end")
    return [Pass(tracker, step, tuple(spans)) for (tracker, _, step), spans in found.items()]


@dataclass(eq=False)
class Run:
    """What a page has asked for, and how far it is."""

    session: Session
    passes: list[Pass]
    direction: int
    step: int  # of the session's history
    stopped: threading.Event = field(default_factory=threading.Event)
    status: dict[str, Any] = field(default_factory=dict)  # as the event `run` has it

    def targets(self) -> list[int]:
        return sorted({span.target for one in self.passes for span in one.spans})


class Runner:
    """Runs of all videos in one thread, which starts with the first.

    weights: of each tracker that may be chosen, None where its own come with the package.
    """

    def __init__(self, weights: Mapping[str, Path | None]):
        self.weights = weights
        self._waiting: queue.Queue[Run | None] = queue.Queue()
        self._current: dict[str, Run] = {}  # by session, waiting or running
        self._programs: OrderedDict[tuple[str, int], Programs] = OrderedDict()
        self._params: dict[str, Params] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, session: Session, ids: Sequence[int], frame: int, direction: int) -> None:
        """Begins a run, in place of the one that this video may have; ValueError as of `plan`."""
        with session.changing():  # two pages may begin one at once, or change what it starts from
            passes = plan(session.document, ids, frame, direction, len(session.frames))
            self.stop(session)
            names = [session.document.target(span.target).name for one in passes for span in one.spans]
            label = f"track {', '.join(dict.fromkeys(names))}"
            starts = {(span.target, span.start) for one in passes for span in one.spans}
            step = session.edit(label, lambda content: _with_keys(content, starts), begins=True)
            run = Run(session, passes, direction, step)
            with self._lock:
                self._current[session.id] = run
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
                    self._thread.start()
            self._say(run, "waiting")
            self._waiting.put(run)

    def stop(self, session: Session, target: int | None = None) -> None:
        """From now on nothing of this video's run is kept; of a run with this target, where one is given."""
        with self._lock:
            run = self._current.get(session.id)
        if run is not None and target in (None, *run.targets()):
            with session.changing():
                run.stopped.set()

    def status(self, session: Session) -> dict[str, Any] | None:
        """Of the run of this video, as the event `run` has it; None where none goes on."""
        with self._lock:
            run = self._current.get(session.id)
            return run and {**run.status}

    def close(self) -> None:
        """Ends all runs; what they have found is saved."""
        with self._lock:
            runs, thread = list(self._current.values()), self._thread
        for run in runs:
            run.stopped.set()
        self._waiting.put(None)
        if thread is not None:
            thread.join(timeout=5)  # a compilation cannot be interrupted; it has found nothing yet

    def _work(self) -> None:
        while (run := self._waiting.get()) is not None:
            state, message = "done", ""
            try:
                self._run(run)
            except (ValueError, OSError) as error:
                state, message = "failed", one_line(error)
            except Exception as error:  # of JAX or of a tracker from outside: the next run may do
                state, message = "failed", one_line(f"{type(error).__name__}: {error}")
            if run.stopped.is_set():  # what it then met is of no interest: a target that was removed, for one
                state, message = "stopped", ""
            run.session.save()
            self._say(run, state, message=message)
            with self._lock:
                if self._current.get(run.session.id) is run:
                    del self._current[run.session.id]

    def _run(self, run: Run) -> None:
        total, done = sum(one.length() for one in run.passes), 0
        run.status.update(done=0, total=total, fps=None)
        for one in run.passes:
            if run.stopped.is_set():
                return
            with self._compilation_told(run):
                params, programs = self._load(one.tracker), self._compiled(one.tracker, len(one.spans))
            clock, told = _Rate(), 0.0
            found: dict[int, dict[int, Entry]] = {span.target: {} for span in one.spans}
            with contextlib.closing(self._frames(run, one, programs, params)) as frames:
                for at, rows in frames:
                    for target, entry in rows.items():
                        found[target][at] = entry
                    done += 1
                    run.status.update(frame=at, done=done)
                    now = time.monotonic()
                    if now - told >= TOLD:
                        told = now
                        self._keep(run, one, found)
                        self._say(run, "tracking", fps=clock.rate(done))
                    if run.stopped.is_set():
                        break
            self._keep(run, one, found)

    def _frames(
        self, run: Run, one: Pass, programs: Programs, params: Params
    ) -> Iterator[tuple[int, dict[int, Entry]]]:
        """(frame, entry of each target that is tracked so far) of a pass."""
        session, start = run.session, one.spans[0].start
        goals = [Followed(str(span.target), {start: _box(session.document, span)}) for span in one.spans]
        source = session.frames.again()
        images = itertools.islice(source.images(start, one.step), one.length() + 1)
        with self._compilation_told(run):
            tracking = track_frames(programs, params, images, goals, first=start, step=one.step, with_extras=True)
            first = next(tracking)
        try:
            numbers = itertools.count(start, one.step)
            for at, (image, tracked, extras) in zip(numbers, itertools.chain([first], tracking)):
                rows = {}
                for slot, span in enumerate(one.spans):
                    if at == start:
                        session.insights.add_start(span.target, at, image, goals[slot].starts[start])
                    elif (span.end - at) * one.step >= 0:
                        rows[span.target] = _entry(tracked, slot, at)
                        session.insights.add(
                            span.target,
                            at,
                            image,
                            tracked.boxes[slot],
                            _of_slot(extras, slot),
                            float(tracked.scores[slot]),
                            float(tracked.confidence[slot]),
                            int(tracked.verdicts[slot]),
                        )
                if at != start:
                    yield at, rows
        finally:
            tracking.close()
            source.close()

    def _keep(self, run: Run, one: Pass, found: dict[int, dict[int, Entry]]) -> None:
        """What was found becomes part of the annotation, unless the run was stopped meanwhile."""
        with run.session.changing():
            if not run.stopped.is_set() and any(found.values()):
                run.session.extend(run.step, found, FORWARD if one.step > 0 else BACKWARD)
        for entries in found.values():
            entries.clear()

    def _load(self, name: str) -> Params:
        if name not in self.weights:
            raise ValueError(f"tracker {name}: is not offered; choose another, or start with --tracker {name}=WEIGHTS")
        if name not in self._params:
            self._params[name] = trackers.load_params(name, self.weights[name])
        return self._params[name]

    def _compiled(self, name: str, count: int) -> Programs:
        known = self._programs.pop((name, count), None)
        if known is None:
            entry = trackers.get(name)
            known = Programs.of(entry.make(entry.config), count, stored.made_of(entry, entry.config))
        self._programs[name, count] = known
        while len(self._programs) > KEPT:
            self._programs.popitem(last=False)
        return known

    @contextlib.contextmanager
    def _compilation_told(self, run: Run) -> Iterator[None]:
        """What `eval.running.progress` logs of a compilation goes to the pages."""
        handler = _Telling(lambda text: self._say(run, "compiling", message=text))
        log = logging.getLogger("jaxtrack")
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.setLevel(level)
            log.removeHandler(handler)

    def _say(self, run: Run, state: str, *, message: str = "", **more: Any) -> None:
        """Told to the pages, unless another run of this video has taken its place."""
        known = {"frame": run.passes[0].spans[0].start, "done": 0, "total": 0, "fps": None}
        with self._lock:
            run.status.update({**known, **run.status, **more})
            run.status.update(state=state, targets=run.targets(), direction=run.direction, message=message)
            if self._current.get(run.session.id) is run:
                run.session.hub.tell("run", video=run.session.id, **run.status)


class _Telling(logging.Handler):
    def __init__(self, tell):
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


class _Rate:
    """Frames/s since the first one counted."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None

    def rate(self, done: int) -> float | None:
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, done
        seconds, frames = now - self._begun[0], done - self._begun[1]
        return round(frames / seconds, 1) if frames else None


def _with_keys(content: Document, starts: Iterable[tuple[int, int]]) -> Document:
    """With a key frame where a run starts from a box that is none."""
    for target, frame in starts:
        known = content.target(target)
        if frame not in known.keys:
            content, _ = document.draw(content, target, frame, document.shown(known, frame).box)
    return content


def _box(content: Document, span: Span) -> Sequence[float]:
    return content.target(span.target).keys[span.start]


def _entry(tracked: Tracked, slot: int, frame: int) -> Entry:
    """ValueError for what no tracker should say."""
    box, sure = tuple(tracked.boxes[slot].tolist()), float(tracked.confidence[slot])
    said = Entry(box, sure, int(tracked.verdicts[slot]), float(tracked.scores[slot]))
    return document.checked(frame, said, FORWARD)


def _of_slot(extras: Any, slot: int) -> Any:
    if isinstance(extras, dict):
        return {name: _of_slot(value, slot) for name, value in extras.items()}
    if isinstance(extras, tuple):
        return type(extras)(*(_of_slot(value, slot) for value in extras))
    return extras[slot]
