"""A folder of results: claimed for one set of settings, filled sequence by sequence, resumed, summarized."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from eval.running import parallel
from eval.running.entrants import Entrant
from eval.running.lanes import AloneError
from eval.running.passes import first_box
from eval.running.progress import ProgressBar
from eval.scoring import metrics, results
from eval.scoring.results import Report, TrackResult
from eval.sources.sequences import Sequence, SequenceError


def run_sequences(
    entrant: Entrant,
    selected: list[Sequence],
    folder: Path,
    *,
    made_from: dict[str, Any],
    seed: int = 0,
    jitter: float = 0.0,
    workers: int = 1,
    batch: int = 1,
    shard: tuple[int, int] = (0, 1),
    wait: Callable[[], None] | None = None,
    overwrite: bool = False,
) -> Report:
    """Track those of `selected` that have no result in `folder`, then summarize all that have one.

    `made_from` (JSON-ready: tracker, config, seed, weights, ...) is what results must have been made from to
    be kept. `workers` threads track one sequence each; speed is measured with all of them running. `batch` sequences
    of one canvas are tracked in one call (eval.running.lanes), which makes `workers` unnecessary. `shard` =
    (i, n) tracks every n-th sequence from the i-th on. Order and shards do not matter. `jitter`, drawn from `seed`: see
    `first_box`. `wait`, of several processes, returns when the other shards are done too: the first then writes the
    summary, and what it lacks is among its problems. An unreadable sequence and one on which a guest fails become a
    line of `problems`; ResultError where results cannot be written.
    """
    results.claim_folder(folder, made_from, overwrite=overwrite)
    starts = {item: first_box(item, jitter, seed) for item in selected}
    mine = selected[shard[0] :: shard[1]]
    pending = [item for item in mine if overwrite or results.read_result(folder, item, starts[item]) is None]
    report = Report()
    progress = ProgressBar(sum(len(item.frames) for item in pending), "frame")

    def track_alone(sequence: Sequence, stop: threading.Event) -> None:
        result = entrant.track(sequence, start_box=starts[sequence], on_frame=progress.update, stop=stop)
        results.write_result(folder, sequence.name, result)

    def track_together() -> list[Sequence]:
        """The sequences that must be tracked alone."""
        alone = []
        with closing(entrant.together(batch, mine, {item: starts[item] for item in pending})) as frames:
            for sequence, outcome in frames:
                if isinstance(outcome, AloneError):
                    alone.append(sequence)
                elif isinstance(outcome, SequenceError):
                    report.problems.append(str(outcome))
                else:
                    progress.update()
                if isinstance(outcome, TrackResult):
                    results.write_result(folder, sequence.name, outcome)
        return alone

    try:
        with progress:
            alone = track_together() if batch > 1 else pending
            parallel.side_by_side(track_alone, alone, workers, report.problems)
        if wait is not None:
            wait()
    except KeyboardInterrupt:
        report.interrupted = True
    report.summary = summarize(folder, starts, made_from, entrant.versions)
    speed = {**entrant.speed(), "workers": workers, "batch": batch}
    if batch > 1:
        speed["timed"] += f"; a call tracks {batch} sequences and its time is divided among them"
    report.summary["speed"] |= speed
    results.write_summary(folder, report, mine, None if wait is None else shard[0])
    return report


def summarize(
    folder: Path, starts: dict[Sequence, np.ndarray], made_from: dict[str, Any], versions: dict[str, str]
) -> dict[str, Any]:
    """Scores and speed of every sequence of `starts` that is finished, and their means over sequences.

    `starts`: the first box of each; a result that started from another box does not count.

    Scores are those of `metrics.score_sequence`, None where the benchmark withholds the boxes. fps of a
    sequence is (T - 1) / seconds of tracking; the mean's is over all frames. Initialization does not
    count.
    """
    rows, tracking = {}, []
    for sequence, box in starts.items():
        result = results.read_result(folder, sequence, box)
        if result is None:
            continue
        scores = metrics.score_sequence(result.boxes, sequence.boxes, sequence.visible) if sequence.scored else {}
        rows[sequence.name] = {
            **{name: scores.get(name) for name in metrics.SCORES},
            "fps": _rate(result.seconds[1:]),
            "frames": len(sequence.frames),
        }
        tracking.append(result.seconds[1:])
    seconds = np.concatenate([*tracking, np.empty(0)])
    mean = {name: _mean([row[name] for row in rows.values()]) for name in metrics.SCORES}
    mean |= {"fps": _rate(seconds), "frames": sum(row["frames"] for row in rows.values())}
    milliseconds = {"mean": np.mean, "median": np.median, "p95": lambda values: np.percentile(values, 95)}
    speed = {f"ms_{name}": round(float(of(seconds)) * 1e3, 4) for name, of in milliseconds.items() if len(seconds)}
    return {
        "mean": mean,
        "sequences": rows,
        "missing": [sequence.name for sequence in starts if sequence.name not in rows],
        **made_from,
        "rule": metrics.RULE,
        "speed": speed,
        "versions": versions,
    }


def _rate(seconds: np.ndarray) -> float | None:
    return round(len(seconds) / float(seconds.sum()), 3) if len(seconds) and seconds.sum() > 0 else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table(summary: dict[str, Any]) -> str:
    """The summary as lines of text: one per sequence, then the mean."""
    columns = ("auc", "precision20", "norm_precision", "fps", "frames")
    rows = {**summary["sequences"], f"mean of {len(summary['sequences'])}": summary["mean"]}
    width = max(len(name) for name in rows)
    lines = [" ".join([" " * width, *(f"{column:>14}" for column in columns)])]
    for name, row in rows.items():
        digits = {"fps": ".1f", "frames": "d"}
        cells = [
            format(row[column], digits.get(column, ".4f")) if row[column] is not None else "-" for column in columns
        ]
        lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>14}" for cell in cells)]))
    return "\n".join(lines)
