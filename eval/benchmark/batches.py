"""Evaluation in batches beside one sequence after another: `python -m eval.benchmark.batches --json batches.json`.

Whole passes over the same sequences by the code of `eval.run`, decoding included, compilation and writing left out:
one after another, several side by side in threads (`--workers`), several in one call (`--batch`). The ways take turns,
so that a disturbance of the machine affects all of them.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

import trackers
from eval import command, parsers, settings
from eval.benchmark import reporting
from eval.command import prepare_process
from eval.files import ResultError
from eval.running import parallel
from eval.running.lanes import Lanes, Start, track_in_lanes
from eval.running.passes import Compiled, track_sequence
from eval.scoring import metrics
from eval.scoring.results import TrackResult
from eval.sources.layouts import read_dataset
from eval.sources.sequences import Sequence, SequenceError
from eval.sources.synthetic import ClipConfig, clip
from trackers.base import Params, Tracker

Pass = Callable[[], dict[Sequence, TrackResult]]


def ways(
    tracker: Tracker, params: Params, sequences: list[Sequence], workers: list[int], batches: list[int]
) -> dict[str, Pass]:
    """A pass over all sequences for each way; what it compiles the first time is kept for the next. A pass raises the
    SequenceError of a sequence that cannot be tracked.
    """
    compiled, lanes = Compiled.of(tracker), {count: Lanes.of(tracker) for count in batches}
    keys = jax.random.split(jax.random.key(0), len(sequences))
    starts = {sequence: Start(key, sequence.boxes[0]) for sequence, key in zip(sequences, keys)}

    def alone(found: dict, sequence: Sequence, stop: threading.Event) -> None:
        found[sequence] = track_sequence(compiled, params, sequence, starts[sequence].key, stop=stop)

    def side_by_side(count: int, remaining: list[Sequence]) -> dict[Sequence, TrackResult]:
        found: dict[Sequence, TrackResult] = {}
        problems: list[str] = []
        parallel.side_by_side(partial(alone, found), remaining, count, problems)
        if problems:
            raise SequenceError(problems[0])
        return found

    def together(count: int) -> dict[Sequence, TrackResult]:
        found, remaining = {}, []
        for sequence, outcome in track_in_lanes(lanes[count], count, params, sequences, starts):
            if isinstance(outcome, SequenceError):
                raise outcome
            if isinstance(outcome, TrackResult):
                found[sequence] = outcome
            elif outcome is not None:
                remaining.append(sequence)
        return found | side_by_side(1, remaining)

    return {
        "one after another": partial(side_by_side, 1, sequences),
        **{f"{count} workers": partial(side_by_side, count, sequences) for count in workers},
        **{f"batch {count}": partial(together, count) for count in batches},
    }


def measure(passes: dict[str, Pass], rounds: int) -> list[dict[str, Any]]:
    """A row for each way, after one uncounted pass of each; the others are compared with the first way.

    fps: frames per second of wall-clock time, median over the rounds; speedup: median over the rounds of the ratio to
    the first way of the same round; call_ms: of `track` alone, mean per frame; auc: of its boxes, which differ between
    the ways only by the order of sums.
    """
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    found = {name: one() for name, one in passes.items()}
    for _ in range(rounds):
        for name, one in passes.items():
            start = time.perf_counter()
            found[name] = one()
            seconds[name].append(time.perf_counter() - start)
    (first, *_), rows = seconds.values(), []
    for name, results in found.items():
        scores = [metrics.score_sequence(result.boxes, of.boxes, of.visible) for of, result in results.items()]
        calls = np.concatenate([result.seconds[1:] for result in results.values()])
        rows.append(
            {
                "way": name,
                "fps": sum(len(of.frames) for of in results) / float(np.median(seconds[name])),
                "speedup": float(np.median(np.divide(first, seconds[name]))),
                "call_ms": 1e3 * float(calls.mean()),
                "auc": float(np.mean([score["auc"] for score in scores])),
                "seconds": seconds[name],
            }
        )
    return rows


def drawn(folder: Path, clips: int, frames: int, height: int, width: int) -> list[Sequence]:
    """Clips as JPEG files, of `frames` frames on average and at most a third more or less."""
    sequences = []
    for number, count in enumerate(np.linspace(frames * 2 / 3, frames * 4 / 3, clips).round().astype(int).tolist()):
        config = ClipConfig(height=height, width=width, num_frames=count)
        paths, boxes = [], []
        for frame, example in enumerate(clip(config, seed=number)):
            paths.append(folder / f"{number}_{frame:04}.jpg")
            cv2.imwrite(str(paths[-1]), example.image[..., ::-1])
            boxes.append(example.box)
        sequences.append(Sequence(f"clip{number}", tuple(paths), np.array(boxes), np.ones(count, bool)))
    return sequences


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    versions, count = report["versions"], report["sequences"]
    lines = [f"{report['tracker']} on {versions['device']}, jax {versions['jax']}: {count} sequences", ""]
    lines += ["| way | frames/s | against the first | track, ms a frame | mean AUC |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        rates = f"{row['fps']:.1f} | {row['speedup']:.2f} | {row['call_ms']:.1f}"
        lines.append(f"| {row['way']} | {rates} | {row['auc']:.3f} |")
    return "\n".join(lines)


@command.reports(SequenceError, ResultError, ValueError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write JSON if asked."""
    options = parsers.benchmark_batches().parse_args(argv)
    prepare_process(threads=True)
    entry = trackers.get(options.tracker)

    def measured() -> dict[str, Any]:
        params = jax.device_put(trackers.load_params(options.tracker, options.weights))
        if options.data_dir:
            sequences = read_dataset(options.dataset, options.data_dir, options.sequences)
        else:
            sequences = drawn(Path(folder), options.clips, options.frames, options.height, options.width)
        passes = ways(entry.make(entry.config), params, sequences, options.workers, options.batches)
        report = {"tracker": options.tracker, "sequences": len(sequences), "rows": measure(passes, options.rounds)}
        return report | {"versions": settings.versions()}

    with tempfile.TemporaryDirectory() as folder:
        reporting.run(options, measured, table)


if __name__ == "__main__":
    sys.exit(main())
