"""Run a tracker over a benchmark.

    python -m eval.run --tracker NAME --dataset folder --data_dir DIR --out OUT

Writes OUT/<tracker>/<sequence>.txt (with _time.txt and _confidence.txt) and OUT/<tracker>/summary.json, and
prints a table. The same command again goes on where an interrupted run stopped. Exit code 0; 1 where a
sequence had to be skipped or the results cannot be written; 130 after Ctrl-C. `--protocol` tre, sre, vot_reset or
vot_multistart starts the tracker several times a sequence (eval/restarted.py).
"""

import argparse
import json
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import trackers
from eval import metrics, restarted, results, sequences, settings
from eval.compilation import CompiledPerCanvas, enable_compilation_cache
from eval.frames import box_to_xywh, read_ahead, to_canvas, xywh_to_box
from eval.results import Report, ResultError, TrackResult
from eval.sequences import LAYOUTS, Sequence, SequenceError
from trackers.base import Frame, Params, Tracker

INTERRUPTED = 130  # exit code of a program ended by Ctrl-C


class Compiled(NamedTuple):
    """A tracker's two functions, compiled once per canvas size."""

    init: CompiledPerCanvas
    track: CompiledPerCanvas

    @classmethod
    def of(cls, tracker: Tracker) -> "Compiled":
        return cls(CompiledPerCanvas(tracker.init), CompiledPerCanvas(tracker.track, donate_argnums=(1,)))


class Stopped(Exception):
    """The run was interrupted while this sequence was tracked."""


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
    count = len(sequence.frames)
    result = TrackResult(np.empty((count, 4)), np.empty(count), np.ones(count))
    result.boxes[0] = sequence.boxes[0] if start_box is None else start_box
    state = None
    with closing(read_ahead(_decoded(sequence))) as images:
        for index, image in enumerate(images):
            if stop is not None and stop.is_set():
                raise Stopped(sequence.name)
            if index == 0:
                box = jax.device_put(xywh_to_box(result.boxes[0]))
                init = compiled.init.prepare(params, key, image, box)
                start = perf_counter()
                state = jax.block_until_ready(init(params, key, jax.device_put(image), box))
                result.seconds[0] = perf_counter() - start
            else:
                track = compiled.track.prepare(params, state, image)
                start = perf_counter()
                state, estimate = jax.block_until_ready(track(params, state, jax.device_put(image)))
                result.seconds[index] = perf_counter() - start
                box, confidence = jax.device_get((estimate.box, estimate.confidence))
                result.boxes[index], result.confidence[index] = box_to_xywh(box), confidence
                if not np.isfinite(result.boxes[index]).all():
                    raise SequenceError(f"{sequence.frames[index]}: the tracker returned a box that is not finite")
            on_frame()
    return result


def jittered_box(sequence: Sequence, jitter: float, seed: int) -> np.ndarray:
    """The first box x, y, w, h with its center moved and its sides changed by up to `jitter` of the sides.

    Uniform, and the same for every tracker: the numbers depend on `seed` and on the sequence's name alone.
    """
    box = np.asarray(sequence.boxes[0], np.float64)
    draws = np.random.default_rng([seed, zlib.crc32(sequence.name.encode())]).uniform(-jitter, jitter, 4)
    size = box[2:] * (1 + draws[2:])
    return np.concatenate([box[:2] + box[2:] * draws[:2] + (box[2:] - size) / 2, size])


def _decoded(sequence: Sequence) -> Iterator[Frame]:
    return (to_canvas(sequences.read_image(path)) for path in sequence.frames)


def run_sequences(
    tracker: Tracker,
    params: Params,
    selected: list[Sequence],
    folder: Path,
    *,
    made_from: dict[str, Any],
    seed: int = 0,
    jitter: float = 0.0,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    overwrite: bool = False,
    versions: dict[str, str] | None = None,
) -> Report:
    """Track those of `selected` that have no result in `folder`, then summarize all that have one.

    `made_from` (JSON-ready: tracker, config, seed, weights, ...) is what results must have been made from to
    be kept. `workers` threads track one sequence each; speed is measured with all of them running. `shard` =
    (i, n) tracks every n-th sequence from the i-th on. Each sequence has its own key from the seed and its
    name, so order and shards do not matter. `jitter`: see `jittered_box`. An unreadable sequence becomes a
    line of `problems`; ResultError where results cannot be written.
    """
    results.claim_folder(folder, made_from, overwrite=overwrite)
    mine = selected[shard[0] :: shard[1]]
    pending = [item for item in mine if overwrite or results.read_result(folder, item) is None]
    report = Report()
    compiled = Compiled.of(tracker)
    params, base_key = jax.device_put(params), jax.random.key(seed)
    stop = threading.Event()
    progress = tqdm(
        total=sum(len(item.frames) for item in pending),
        unit="frame",
        disable=not pending,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )

    def run_one(sequence: Sequence) -> None:
        key = sequence_key(base_key, sequence)
        start_box = jittered_box(sequence, jitter, seed) if jitter else None
        result = track_sequence(
            compiled, params, sequence, key, start_box=start_box, on_frame=progress.update, stop=stop
        )
        results.write_result(folder, sequence.name, result)

    with progress, ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run_one, item): item for item in pending}
        try:
            for future in as_completed(futures):
                _collect(future, report)
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    report.summary = summarize(folder, selected, made_from, versions or {})
    report.summary["speed"] |= {
        "compile_seconds": round(compiled.init.compile_seconds + compiled.track.compile_seconds, 3),
        "workers": workers,
    }
    results.write_atomically(folder / "summary.json", json.dumps(report.summary, indent=1) + "\n")
    return report


def _collect(future: Future, report: Report) -> None:
    try:
        future.result()
    except SequenceError as error:
        report.problems.append(str(error))


def summarize(
    folder: Path, selected: list[Sequence], made_from: dict[str, Any], versions: dict[str, str]
) -> dict[str, Any]:
    """Scores and speed of every finished sequence of `selected`, and their means over sequences.

    Scores are those of `metrics.score_sequence`, None where the benchmark withholds the boxes. fps of a
    sequence is (T - 1) / seconds of tracking; the mean's is over all frames. Initialization is not part of
    it.
    """
    rows, tracking = {}, []
    for sequence in selected:
        result = results.read_result(folder, sequence)
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
        "missing": [sequence.name for sequence in selected if sequence.name not in rows],
        **made_from,
        "rule": metrics.RULE,
        "speed": {**speed, "timed": "one call of track with its transfers; no decoding, no compilation"},
        "versions": versions,
    }


def _rate(seconds: np.ndarray) -> float | None:
    return round(len(seconds) / float(seconds.sum()), 3) if len(seconds) and seconds.sum() > 0 else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table(summary: dict[str, Any]) -> str:
    """The summary as lines of text: one a sequence, then the mean."""
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


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run",
        description="Run a tracker over a benchmark.",
        epilog="example: python -m eval.run --tracker dimp_tiny --data_dir SEQUENCES --out results",
    )
    parser.add_argument("--tracker", required=True, help="name in the registry of trackers")
    parser.add_argument("--weights", type=Path, help="weight file (safetensors); default: the tracker's own")
    parser.add_argument("--dataset", choices=LAYOUTS, default="folder", help="layout of data_dir (default: folder)")
    parser.add_argument("--data_dir", type=Path, required=True, help="where the sequences are")
    parser.add_argument("--out", type=Path, required=True, help="results go to OUT/<tracker>/")
    parser.add_argument("--protocol", choices=("ope", *restarted.PROTOCOLS), default="ope", help="default: one pass")
    parser.add_argument("--sequences", type=_names, metavar="A,B", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--jitter",
        type=_jitter,
        default=0.0,
        metavar="SHARE",
        help="start from boxes changed by up to this share of their sides, drawn from the seed (0: as they are)",
    )
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="sequences tracked side by side")
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="every N-th sequence from the I-th (0..N-1)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the tracker's config")
    parser.add_argument("--overwrite", action="store_true", help="run again, and delete results of other settings")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return int(text)


def _jitter(text: str) -> float:
    if not 0 <= float(text) <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..0.5")
    return float(text)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(count)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    enable_compilation_cache()
    problems: list[SequenceError] = []
    try:
        entry, params = _load(arguments.tracker, arguments.weights)
        config = settings.configure(entry.config, arguments.set)
        if arguments.protocol != "ope" and arguments.workers > 1:
            raise settings.SettingError(f"--protocol {arguments.protocol} tracks one sequence at a time; use --shard")
        if arguments.protocol != "ope" and arguments.jitter:
            raise settings.SettingError(f"--protocol {arguments.protocol} has its own starts; --jitter is for one pass")
        selected = sequences.read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, problems)
        made_from = {
            "tracker": arguments.tracker,
            "dataset": arguments.dataset,
            "config": settings.plain(config),
            "seed": arguments.seed,
            "weights": settings.params_hash(params),
            **({"jitter": arguments.jitter} if arguments.jitter else {}),
        }
        if arguments.protocol != "ope":
            return _run_restarted(arguments, entry.make(config), params, selected, made_from, problems)
        report = run_sequences(
            entry.make(config),
            params,
            selected,
            arguments.out / arguments.tracker,
            made_from=made_from,
            seed=arguments.seed,
            jitter=arguments.jitter,
            workers=arguments.workers,
            shard=arguments.shard,
            overwrite=arguments.overwrite,
            versions=settings.versions(),
        )
    except (SequenceError, ResultError, settings.SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return conclude(report, [str(problem) for problem in problems], arguments.out / arguments.tracker)


def _run_restarted(arguments, tracker: Tracker, params: Params, selected, made_from, problems) -> int:
    """The exit code of a protocol with restarts; results go to OUT/<protocol>/<tracker>/."""
    folder, compiled = arguments.out / arguments.protocol / arguments.tracker, Compiled.of(tracker)
    params, key = jax.device_put(params), jax.random.key(arguments.seed)

    def session(sequence: Sequence) -> restarted.Session:
        return restarted.session_of(compiled.init, compiled.track, params, sequence, sequence_key(key, sequence))

    report = restarted.run_protocol(
        arguments.protocol,
        session,
        selected[arguments.shard[0] :: arguments.shard[1]],
        folder,
        made_from={**made_from, "protocol": arguments.protocol},
        overwrite=arguments.overwrite,
        versions=settings.versions(),
    )
    for name, value in report.summary["mean"].items():
        print(f"{name:<20} {value:.4f}" if value is not None else f"{name:<20} -")
    print(f"results and summary.json: {folder}")
    for problem in (*map(str, problems), *report.problems):
        print(f"skipped: {problem}", file=sys.stderr)
    if report.interrupted:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 1 if problems or report.problems else 0


def sequence_key(key: jax.Array, sequence: Sequence) -> jax.Array:
    """A key of its own for each sequence, whatever the order."""
    return jax.random.fold_in(key, zlib.crc32(sequence.name.encode()))


def _load(name: str, weights: Path | None) -> tuple[Any, Params]:
    """(registry entry, parameters); SettingError for an unknown name and for weights that do not fit it."""
    try:
        entry = trackers.get(name)
        return entry, trackers.load_params(name, weights)
    except (ValueError, OSError) as error:
        raise settings.SettingError(str(error)) from error


def conclude(report: Report, unreadable: list[str], folder: Path) -> int:
    """Print the table and what went wrong; the exit code."""
    if report.summary["sequences"]:
        print(table(report.summary))
        print(f"results and summary.json: {folder}")
    for problem in (*unreadable, *report.problems):
        print(f"skipped: {problem}", file=sys.stderr)
    if report.interrupted:
        done, left = len(report.summary["sequences"]), len(report.summary["missing"])
        print(f"interrupted: {done} sequences finished, {left} left; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 1 if unreadable or report.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted before tracking started", file=sys.stderr)
        sys.exit(INTERRUPTED)
