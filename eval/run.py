"""Run a tracker over a benchmark.

    python -m eval.run --tracker NAME --dataset folder --data_dir DIR --out OUT
    python -m eval.run --guest csrt --guest-python ENV/bin/python --data_dir DIR --out OUT

Writes OUT/<tracker>/<sequence>.txt (with _time.txt and _confidence.txt) and OUT/<tracker>/summary.json, and
prints a table. The same command again goes on where an interrupted or killed run stopped. Exit code 0; 1 where a
sequence had to be skipped (each is named) or the results cannot be written; 130 after Ctrl-C. `--protocol` tre, sre,
vot_reset or vot_multistart starts the tracker several times a sequence (eval/restarted.py). `--guest` runs somebody
else's (eval/guest.py). At size: `--workers N` threads, `--batch N` sequences in one call (eval/lanes.py), `--shard I/N`
or `--distributed` processes on any hosts.
"""

import argparse
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import trackers
from eval import settings
from eval.command import prepare_process
from eval.files import ResultError
from eval.running import parallel, restarts
from eval.running.compilation import CompiledPerCanvas
from eval.running.guest import Guest, GuestError, GuestProcess
from eval.running.lanes import AloneError, Lanes, Progress, Start, track_in_lanes
from eval.running.parallel import Stopped
from eval.scoring import metrics, results
from eval.scoring.results import Report, TrackResult
from eval.sources import sequences
from eval.sources.ahead import read_ahead
from eval.sources.sequences import LAYOUTS, Sequence, SequenceError
from trackers.base import Frame, Params, Tracker
from trackers.images import xywh_to_box

INTERRUPTED = 130  # exit code of a program ended by Ctrl-C


class Compiled(NamedTuple):
    """A tracker's two functions, compiled once per canvas size."""

    init: CompiledPerCanvas
    track: CompiledPerCanvas

    @classmethod
    def of(cls, tracker: Tracker) -> "Compiled":
        return cls(CompiledPerCanvas(tracker.init), CompiledPerCanvas(tracker.track, donate_argnums=(1,)))


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
        function = compiled.init.prepare(params, key, image, box)
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
    """The same by a guest, in a process of its own; SequenceError also where it fails (eval.running.guest)."""
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
    """The box x, y, w, h to start from: the sequence's own, its center moved and its sides changed by up to `jitter`
    of the sides.

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


class Entrant(NamedTuple):
    """What takes part in a run: a tracker of ours, or a guest."""

    name: str  # folder of its results
    settings: dict[str, Any]  # JSON-ready: what its results are made from
    versions: dict[str, str]
    track: Callable[..., TrackResult]  # (sequence, start_box=, on_frame=, stop=): one pass
    together: Callable[..., Iterator[Progress]] | None  # (batch, sequences, start boxes): passes, many in one call
    session: Callable[[Sequence, threading.Event], restarts.Session]  # for starts in a row; a thread has one at a time
    speed: Callable[[], dict[str, Any]]  # what summary.json says of its speed beside the times of frames


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
    of one canvas are tracked in one call (eval/lanes.py), which leaves `workers` nothing to do. `shard` =
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
    progress = tqdm(
        total=sum(len(item.frames) for item in pending),
        unit="frame",
        disable=not pending,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )

    def track_alone(sequence: Sequence, stop: threading.Event) -> None:
        result = entrant.track(sequence, start_box=starts[sequence], on_frame=progress.update, stop=stop)
        results.write_result(folder, sequence.name, result)

    def track_together() -> list[Sequence]:
        """Those that must be tracked alone."""
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
        speed["timed"] += f"; a call tracks {batch} sequences and each has its share of it"
    report.summary["speed"] |= speed
    results.write_summary(folder, report, mine, None if wait is None else shard[0])
    return report


def summarize(
    folder: Path, starts: dict[Sequence, np.ndarray], made_from: dict[str, Any], versions: dict[str, str]
) -> dict[str, Any]:
    """Scores and speed of every sequence of `starts` that is finished, and their means over sequences.

    `starts`: the first box of each, which tells its result from one that started elsewhere.

    Scores are those of `metrics.score_sequence`, None where the benchmark withholds the boxes. fps of a
    sequence is (T - 1) / seconds of tracking; the mean's is over all frames. Initialization is not part of
    it.
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
        epilog="example: python -m eval.run --tracker dimp_tiny --data_dir SEQUENCES --out results --workers 2",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--tracker", help="name in the registry of trackers")
    who.add_argument("--guest", metavar="NAME", help="csrt, kcf or mil of OpenCV, or MODULE:CALLABLE (eval/guest.py)")
    parser.add_argument(
        "--guest-python", type=Path, default=sys.executable, metavar="PATH", help="guest's interpreter (default: this)"
    )
    parser.add_argument("--guest-color", choices=("bgr", "rgb"), default="bgr", help="of its images (default: bgr)")
    parser.add_argument(
        "--guest-timeout", type=positive, default=60, metavar="SECONDS", help="to start, and a frame (default: 60)"
    )
    add_arguments(parser)
    parser.add_argument("--protocol", choices=("ope", *restarts.PROTOCOLS), default="ope", help="default: one pass")
    parser.add_argument(
        "--jitter",
        type=_jitter,
        default=0.0,
        metavar="SHARE",
        help="start from boxes changed by up to this share of their sides, drawn from the seed (0: as they are)",
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="sequences tracked side by side")
    parser.add_argument(
        "--batch",
        type=positive,
        default=1,
        metavar="N",
        help="sequences of like image size tracked in one call (worth it on an accelerator)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="every N-th sequence from the I-th (0..N-1)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes (Slurm, TPU pod) that write to one OUT: each takes its shard",
    )
    return parser.parse_args(argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every program that tracks a benchmark's sequences is told."""
    parser.add_argument("--weights", type=Path, help="weight file (safetensors); default: the tracker's own")
    parser.add_argument("--dataset", choices=LAYOUTS, default="folder", help="layout of data_dir (default: folder)")
    parser.add_argument("--data_dir", type=Path, required=True, help="where the sequences are")
    parser.add_argument("--out", type=Path, required=True, help="results go below it, by tracker")
    parser.add_argument("--sequences", type=comma_separated, metavar="A,B", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the tracker's config")
    parser.add_argument("--overwrite", action="store_true", help="run again, and delete results of other settings")


def comma_separated(text: str) -> list[str]:
    """Type of an argument."""
    return [name.strip() for name in text.split(",")]


def positive(text: str) -> int:
    """Type of an argument: a whole number of at least 1."""
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
    prepare_process()
    problems: list[SequenceError] = []
    try:
        _check(arguments)
        wait = None
        if arguments.distributed:
            arguments.shard, wait = parallel.join_processes(), parallel.wait_for_processes
        with ExitStack() as stack:
            entrant = _guest(arguments, stack) if arguments.guest else _tracker(arguments)
            selected = sequences.read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, problems)
            made_from = {
                "tracker": entrant.name,
                "dataset": arguments.dataset,
                "seed": arguments.seed,
                **entrant.settings,
                **({"jitter": arguments.jitter} if arguments.jitter else {}),
            }
            options = {
                "workers": arguments.workers,
                "shard": arguments.shard,
                "wait": wait,
                "overwrite": arguments.overwrite,
            }
            if arguments.protocol == "ope":
                folder = arguments.out / entrant.name
                options |= {"seed": arguments.seed, "jitter": arguments.jitter, "batch": arguments.batch}
                report = run_sequences(entrant, selected, folder, made_from=made_from, **options)
                lines = table(report.summary)
            else:
                folder = arguments.out / arguments.protocol / entrant.name
                made_from["protocol"] = arguments.protocol
                options["versions"] = entrant.versions
                report = restarts.run_protocol(
                    arguments.protocol, entrant.session, selected, folder, made_from=made_from, **options
                )
                lines = restarts.table(report.summary)
    except (SequenceError, ResultError, settings.SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if report.summary["sequences"] and (wait is None or arguments.shard[0] == 0):
        print(f"{lines}\nresults and summary.json: {folder}")
    return conclude(report, [str(problem) for problem in problems])


def _check(arguments: argparse.Namespace) -> None:
    """SettingError for options that do not go together."""
    if arguments.guest and (arguments.weights or arguments.set):
        raise settings.SettingError("--weights and --set are for --tracker; a guest brings its own")
    if arguments.guest and arguments.batch > 1:
        raise settings.SettingError("--batch is for --tracker; use --workers for a guest")
    if arguments.batch > 1 and arguments.workers > 1:
        raise settings.SettingError("--batch tracks all its sequences in one call; leave --workers away")
    if arguments.distributed and arguments.shard != (0, 1):
        raise settings.SettingError("--distributed gives each process its shard; leave --shard away")
    if arguments.protocol != "ope" and arguments.batch > 1:
        raise settings.SettingError(f"--protocol {arguments.protocol} has no --batch; use --workers")
    if arguments.protocol != "ope" and arguments.jitter:
        raise settings.SettingError(f"--protocol {arguments.protocol} has its own starts; --jitter is for one pass")


def _tracker(arguments: argparse.Namespace) -> Entrant:
    """A tracker of the registry; SettingError for an unknown name, weights that do not fit, and a bad --set."""
    entry, params = load_tracker(arguments.tracker, arguments.weights)
    config = settings.configure(entry.config, arguments.set)
    return tracker_entrant(arguments.tracker, entry.make(config), config, params, seed=arguments.seed)


def tracker_entrant(name: str, tracker: Tracker, config: Any, params: Params, *, seed: int = 0) -> Entrant:
    """Any tracker, of the registry or not, that was made of the dataclass `config`."""
    compiled, lanes = Compiled.of(tracker), Lanes.of(tracker)
    made_from = {"config": settings.plain(config), "weights": settings.params_hash(params)}
    params, base_key = jax.device_put(params), jax.random.key(seed)

    def track(sequence: Sequence, **options) -> TrackResult:
        return track_sequence(compiled, params, sequence, sequence_key(base_key, sequence.name), **options)

    def together(batch: int, chosen: list[Sequence], boxes: dict[Sequence, np.ndarray]) -> Iterator[Progress]:
        begin = {item: Start(sequence_key(base_key, item.name), box) for item, box in boxes.items()}
        return track_in_lanes(lanes, batch, params, chosen, begin)

    def session(sequence: Sequence, stop: threading.Event) -> restarts.Session:
        key = sequence_key(base_key, sequence.name)
        return restarts.session_of(compiled.init, compiled.track, params, sequence, key, stop)

    def speed() -> dict[str, Any]:
        return {
            "timed": "one call of track with its transfers; no decoding, no compilation",
            "compile_seconds": round(sum(one.compile_seconds for one in (*compiled, lanes.start, lanes.track)), 3),
        }

    return Entrant(name, made_from, settings.versions(), track, together, session, speed)


def _guest(arguments: argparse.Namespace, stack: ExitStack) -> Entrant:
    """A guest, whose processes end with `stack`; SettingError where it cannot be started."""
    guest = Guest(arguments.guest, arguments.guest_python, arguments.guest_color, arguments.guest_timeout)
    try:
        with GuestProcess(guest) as process:
            environment = process.environment
    except GuestError as error:
        raise settings.SettingError(str(error)) from error
    mine = threading.local()  # the process of each thread's session

    def track(sequence: Sequence, **options) -> TrackResult:
        return track_with_guest(guest, sequence, seed=sequence_seed(arguments.seed, sequence), **options)

    def session(sequence: Sequence, stop: threading.Event) -> restarts.Session:
        if hasattr(mine, "process"):
            mine.process.close()
        try:
            process = GuestProcess(guest, seed=sequence_seed(arguments.seed, sequence), stop=stop)
        except GuestError as error:
            raise SequenceError(f"{sequence.name}: {error}") from error
        mine.process = stack.enter_context(process)
        return restarts.session_of_guest(process, sequence)

    made_from = {"config": {"guest": guest.name, "color": guest.color, "environment": environment}}
    ours = {name: value for name, value in settings.versions().items() if name in ("jaxtrack", "revision")}
    versions, speed = {**environment, **ours}, {"timed": "the guest's own init and update; no decoding, no transfer"}
    return Entrant(guest.name.replace(":", "."), made_from, versions, track, None, session, lambda: dict(speed))


def sequence_seed(seed: int, sequence: Sequence) -> int:
    """A seed of its own for each sequence, in 32 bits, whatever the order."""
    return zlib.crc32(f"{seed} {sequence.name}".encode())


def sequence_key(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for each sequence, whatever the order."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def load_tracker(name: str, weights: Path | None) -> tuple[Any, Params]:
    """(registry entry, parameters); SettingError for an unknown name and for weights that do not fit it."""
    try:
        entry = trackers.get(name)
        return entry, trackers.load_params(name, weights)
    except (ValueError, OSError) as error:
        raise settings.SettingError(str(error)) from error


def conclude(report: Report, unreadable: list[str]) -> int:
    """Print what went wrong; the exit code."""
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
