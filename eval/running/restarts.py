"""Runs that start a tracker several times a sequence: OTB's TRE and SRE, VOT with resets and VOT from anchors.

The tracker is a `Session`: any two callables on frame numbers will do. A guest gets a fresh process for each start, so
that no run depends on those before it, whatever the guest keeps beside its tracker. A run's files are
<name>/<name>_<label>.txt, which `eval.formats` reads; a sequence is finished when all of them are there.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import trackers
from eval.files import ResultError, write_atomically
from eval.running import parallel
from eval.running.compilation import prepare_both
from eval.running.guest import GuestError, GuestProcess
from eval.running.progress import ProgressBar
from eval.scoring import formats, metrics, otb_restarts, results, vot_multistart, vot_resets
from eval.scoring.regions import region_overlaps
from eval.scoring.results import Report
from eval.sources import sequences
from eval.sources.sequences import Sequence, SequenceError
from trackers.images import xywh_to_box


class Session(NamedTuple):
    """A tracker on one sequence; boxes `[4]` x, y, w, h, 0-based."""

    init: Callable[[int, np.ndarray], None]  # (frame, box): starts there, forgetting what was before
    update: Callable[[int], np.ndarray]  # frame -> box


def session_of(init, track, params, sequence: Sequence, key: jax.Array, stop: threading.Event) -> Session:
    """A tracker of this project, its two functions compiled per canvas, with a new key each start.

    SequenceError names an image that cannot be read, and a frame on which the box is not finite; Stopped once `stop`
    is set.
    """
    state, starts = None, 0

    def start(index: int, box: np.ndarray) -> None:
        nonlocal state, starts
        image = trackers.frame(sequences.read_image(sequence.frames[index]))
        arguments = params, jax.random.fold_in(key, starts), image, jax.device_put(xywh_to_box(box))
        state, starts = prepare_both(init, track, *arguments)(*arguments), starts + 1

    def update(index: int) -> np.ndarray:
        nonlocal state
        if stop.is_set():
            raise parallel.Stopped(sequence.name)
        image = trackers.frame(sequences.read_image(sequence.frames[index]))
        state, estimate = track.prepare(params, state, image)(params, state, image)
        return _finite(trackers.xywh(jax.device_get(estimate.box)), sequence, index)

    return Session(start, update)


def session_of_guest(begin: Callable[[], GuestProcess], sequence: Sequence) -> Session:
    """A guest, of which `begin` gives a fresh process; SequenceError for an unreadable image and where it fails."""
    process = None

    def ask(index: int, act: Callable[[np.ndarray], Any]) -> Any:
        try:
            return act(sequences.read_image(sequence.frames[index]))
        except GuestError as error:
            raise SequenceError(f"{sequence.name}: {error}") from error

    def start(index: int, box: np.ndarray) -> None:
        def begin_on(image: np.ndarray) -> None:
            nonlocal process
            process = begin()
            process.init(image, box)

        ask(index, begin_on)

    def update(index: int) -> np.ndarray:
        return _finite(ask(index, process.update)[0], sequence, index)

    return Session(start, update)


def _finite(box: np.ndarray, sequence: Sequence, index: int) -> np.ndarray:
    if not np.isfinite(box).all():
        raise SequenceError(f"{sequence.frames[index]}: the tracker returned a box that is not finite")
    return box


def labels(protocol: str, sequence: Sequence) -> list[str]:
    """Labels of the files of a sequence: runs from 001 on, or the 0-based frames of the anchors."""
    if protocol == "vot_multistart":
        return [f"{abs(anchor) - 1:08}" for anchor in anchors(sequence)]
    count = {
        "tre": len(otb_restarts.tre_starts(sequence.visible)),
        "sre": len(otb_restarts.SRE_DIRECTIONS + otb_restarts.SRE_SCALES),
    }
    return [f"{number:03}" for number in range(1, count.get(protocol, 1) + 1)]


def anchors(sequence: Sequence) -> list[int]:
    """The dataset's own anchors (anchor.value beside the ground truth: one number a frame), or evenly placed ones."""
    path = sequence.frames[0].parent / "anchor.value"
    path = path if path.is_file() else path.parent.parent / "anchor.value"
    if not path.is_file():
        return vot_multistart.place_anchors(sequence.visible)
    try:
        values = [float(line) if line.strip() else 0.0 for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise SequenceError(f"{path}: not a number a frame ({error}); restore the file") from error
    if len(values) > len(sequence.frames):
        raise SequenceError(f"{path}: {len(values)} values for {len(sequence.frames)} frames; restore the file")
    return [(frame if value > 0 else -frame) for frame, value in enumerate(values, 1) if value]


def track_runs(protocol: str, session: Session, sequence: Sequence) -> list[list[int | np.ndarray]]:
    """The runs of a sequence in the order of `labels`; SequenceError where the protocol cannot run on it."""
    boxes, count = sequence.boxes, len(sequence.frames)
    if not sequence.scored:
        raise SequenceError(f"{sequence.name}: the benchmark withholds the boxes that {protocol} starts from; run ope")
    if protocol == "tre":
        starts = otb_restarts.tre_starts(sequence.visible)
        return [list(otb_restarts.track_segment(*session, first, count, boxes[first])) for first in starts]
    if protocol == "sre":
        return [list(otb_restarts.track_segment(*session, 0, count, box)) for box in otb_restarts.sre_boxes(boxes[0])]
    if protocol == "vot_multistart":
        return [list(vot_multistart.track_from_anchor(*session, anchor, boxes)) for anchor in anchors(sequence)]
    return [vot_resets.track_with_resets(*session, _regions(sequence), boxes, sequences.image_size(sequence))]


def _regions(sequence: Sequence) -> np.ndarray:
    """`[T, 4 or 8]` true regions; SequenceError where a frame has none: a failure could not be detected there."""
    absent = np.flatnonzero(~sequence.visible)
    if len(absent):
        raise SequenceError(
            f"{sequence.name}: vot_reset needs the target on every frame, frame {absent[0] + 1} has none"
        )
    if sequence.masks is not None:
        raise SequenceError(f"{sequence.name}: vot_reset ends with VOT 2019, masks begin with 2020; use vot_multistart")
    return sequence.regions


def run_protocol(
    protocol: str,
    session: Callable[[Sequence, threading.Event], Session],
    selected: list[Sequence],
    folder: Path,
    *,
    made_from: dict[str, Any],
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    wait: Callable[[], None] | None = None,
    overwrite: bool = False,
    versions: dict[str, str] | None = None,
) -> Report:
    """Track those of `selected` that are not finished in `folder`, then measure all that are; writes summary.json.

    `workers`, `shard` and `wait` as for `eval.running.folder.run_sequences`; `session` is called with an event that
    ends it. A sequence that cannot be run becomes a line of `problems`; ResultError where results cannot be written.
    """
    results.claim_folder(folder, made_from, overwrite=overwrite)
    report, mine = Report(), selected[shard[0] :: shard[1]]
    progress = ProgressBar(len(mine), "sequence")

    def track(sequence: Sequence, stop: threading.Event) -> None:
        names = result_files(protocol, folder, sequence)
        if overwrite or not all(name.is_file() for name in names):
            runs = track_runs(protocol, session(sequence, stop), sequence)
            for name, run in zip(names, runs, strict=True):
                write_atomically(name, _text(run))
        progress.update()

    try:
        with progress:
            parallel.side_by_side(track, mine, workers, report.problems)
        if wait is not None:
            wait()
    except KeyboardInterrupt:
        report.interrupted = True
    finished = {sequence.name: sequence for sequence in selected if _finished(protocol, folder, sequence)}
    measured = {name: _measure_finished(protocol, folder, sequence) for name, sequence in finished.items()}
    report.summary = {
        "mean": overall(protocol, measured, finished),
        "sequences": {name: scores for name, (scores, _) in measured.items()},
        "missing": [sequence.name for sequence in selected if sequence.name not in finished],
        **made_from,
        "rule": "vot-toolkit" if protocol.startswith("vot") else metrics.RULE,
        "versions": versions or {},
    }
    results.write_summary(folder, report, mine, None if wait is None else shard[0])
    return report


def result_files(protocol: str, folder: Path, sequence: Sequence) -> list[Path]:
    """The files of a finished sequence; SequenceError where its anchors cannot be read."""
    return [folder / sequence.name / f"{sequence.name}_{label}.txt" for label in labels(protocol, sequence)]


def _finished(protocol: str, folder: Path, sequence: Sequence) -> bool:
    try:
        return all(name.is_file() for name in result_files(protocol, folder, sequence))
    except SequenceError:
        return False  # is among the problems


def table(summary: dict[str, Any]) -> str:
    """The means of the summary as lines of text."""
    rows = summary["mean"].items()
    return "\n".join(f"{name:<20} {value:.4f}" if value is not None else f"{name:<20} -" for name, value in rows)


def _text(run: list[int | np.ndarray]) -> str:
    return "".join(
        f"{entry}\n" if isinstance(entry, int) else ",".join(f"{value:.6f}" for value in entry) + "\n" for entry in run
    )


def _measure_finished(protocol: str, folder: Path, sequence: Sequence) -> tuple[dict[str, float], Any]:
    try:
        return measure(protocol, folder, sequence)
    except (ValueError, KeyError) as error:
        raise ResultError(
            f"{folder / sequence.name}: not results of this sequence ({error}); delete the folder or give --overwrite"
        ) from error


def measure(protocol: str, folder: Path, sequence: Sequence) -> tuple[dict[str, float], Any]:
    """(scores of a finished sequence, what `overall` needs of it)."""
    runs = formats.read_results(folder / sequence.name)[sequence.name]
    if protocol == "vot_reset":
        read = vot_resets.Runs(_regions(sequence), [run.regions for run in runs], sequences.image_size(sequence))
        return vot_resets.accuracy_and_robustness([read]), read
    if protocol == "vot_multistart":
        by_label = {run.label: formats.boxes_of(run) for run in runs}
        pairs = [(anchor, by_label[label]) for anchor, label in zip(anchors(sequence), labels(protocol, sequence))]
        starts = [_start(sequence, anchor, boxes) for anchor, boxes in pairs]
        return vot_multistart.accuracy_and_robustness(starts), starts
    firsts = otb_restarts.tre_starts(sequence.visible) if protocol == "tre" else [0] * len(runs)
    scores = [
        metrics.score_sequence(formats.boxes_of(run), sequence.boxes[first:], sequence.visible[first:])
        for first, run in zip(firsts, runs, strict=True)
    ]
    return otb_restarts.segment_mean(scores), None


def _start(sequence: Sequence, anchor: int, boxes: np.ndarray) -> vot_multistart.Start:
    frames = vot_multistart.frames_of(anchor, len(sequence.frames))
    there = sequence.visible[frames]
    truth = [sequence.regions[frame] if seen else None for frame, seen in zip(frames, there)]
    overlaps = region_overlaps(boxes, truth, sequences.image_size(sequence))
    overlaps[0] = 1.0
    return vot_multistart.Start(overlaps, there)


def overall(protocol: str, measured: dict[str, tuple[dict[str, float], Any]], finished) -> dict[str, float | None]:
    """Means over the finished sequences by the protocol's own weights; None for an EAO no run is long enough for."""
    if not measured:
        return {}
    if protocol == "vot_reset":
        read = [kept for _, kept in measured.values()]
        curve = vot_resets.eao_curve(read)
        eao = {f"eao_{year}": vot_resets.eao(curve, year) for year in ("vot2016", "vot2018", "vot2019")}
        return vot_resets.accuracy_and_robustness(read) | {k: None if np.isnan(v) else v for k, v in eao.items()}
    if protocol == "vot_multistart":
        lengths = {name: len(sequence.frames) for name, sequence in finished.items()}
        total, active = np.sum([vot_multistart.eao_curve(kept) for _, kept in measured.values()], 0)
        # The toolkit says 0 where no run is long enough.
        long_enough = active[vot_multistart.EAO_INTERVAL[0] :].any()
        eao = {"eao": vot_multistart.eao(vot_multistart.mean_curve(total, active)) if long_enough else None}
        return vot_multistart.average({name: scores for name, (scores, _) in measured.items()}, lengths) | eao
    return otb_restarts.segment_mean([scores for scores, _ in measured.values()])
