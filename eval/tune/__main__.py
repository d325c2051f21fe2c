"""Search over a tracker's settings: the floats of its Config, many of them in one compiled call.

    python -m eval.tune --tracker siamfc --weights siamfc.safetensors --data-dir SEQUENCES --out tuning \\
        --range window_influence=0.05:0.6 --range scale_step=1.01:1.1:log --search halving --trials 32

Never tune on sequences that the result is reported on. The gain is measured by cross-validation: a search that has
not seen a sequence chooses the setting that is scored on it. The last line printed is the setting chosen on all
sequences, with that gain and its confidence interval. Writes OUT/tune/<tracker>/trials.json (every setting's AUC on
every sequence, as soon as it is known) and summary.json; the same command resumes after an interruption, also with more
trials or another search. `--search random` tries every setting on every sequence, `halving` drops the worse half on few
sequences, and `optuna`, which learns from the scores, starts over in every fold and so costs several times as much.
`--benchmark` measures settings per minute instead. Exit status as for eval.run.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import numpy as np

from eval import command, parsers, settings
from eval.command import prepare_process
from eval.files import ResultError, write_atomically
from eval.running.entrants import folder_name
from eval.running.passes import Compiled, decoded, sequence_key, track_sequence
from eval.running.progress import ProgressBar
from eval.scoring import metrics, results
from eval.sources import layouts
from eval.sources.sequences import Sequence, SequenceError
from eval.tune import batch as tune_batch
from eval.tune import search as tune_search
from eval.tune.batch import Setting
from eval.tune.search import Fold, Range, Search
from trackers import rules
from trackers.base import Tracker
from trackers.rules import SettingError

ROUNDS = 3  # of the benchmark


@dataclass
class Scores:
    """What is known: AUCs by setting and sequence, on disk after every call."""

    path: Path
    fields: tuple[str, ...]
    frames: dict[str, int]  # of each sequence
    table: dict[Setting, dict[str, float]] = field(default_factory=dict)

    def load(self) -> None:
        """Take what the file holds, but for sequences of other lengths; ResultError where another program wrote it."""
        try:
            stored = json.loads(self.path.read_text())
            changed = {name for name, count in self.frames.items() if stored["frames"].get(name) != count}
            for trial in stored["trials"]:
                known = {name: float(auc) for name, auc in trial["auc"].items() if name not in changed}
                self.table[tuple(map(float, trial["values"]))] = known
                if not np.isfinite(list(known.values())).all():
                    raise ValueError("a score is not finite")
            self.frames = {**stored["frames"], **self.frames}
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ResultError(f"{self.path}: not trials of this program ({error!s:.200}); give --overwrite") from error

    def add(self, setting: Setting, name: str, auc: float) -> None:
        self.table.setdefault(setting, {})[name] = auc

    def save(self) -> None:
        trials = [{"values": setting, "auc": auc} for setting, auc in self.table.items()]
        content = {"fields": self.fields, "frames": self.frames, "trials": trials}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")


def evaluator(
    track: Callable[[list[Setting], Sequence], np.ndarray],
    selected: list[Sequence],
    scores: Scores,
    batch: int,
    on_run: Callable[[int], Any] = lambda runs: None,
) -> tune_search.Evaluate:
    """Scores of settings on sequences: known ones from `scores`, the others tracked `batch` at a time and added.

    track: boxes `[K, T, 4]` of K settings. on_run: called with the number of settings that were run on a sequence.
    """
    by_name = {sequence.name: sequence for sequence in selected}

    def evaluate(chosen: list[Setting], names: list[str]) -> np.ndarray:
        for name in names:
            pending = [one for one in dict.fromkeys(chosen) if name not in scores.table.get(one, {})]
            for chunk in tune_batch.chunks(pending, batch):
                for setting, boxes in zip(chunk, track(chunk, by_name[name]), strict=True):
                    scores.add(setting, name, tune_batch.auc(boxes, by_name[name]))
                scores.save()
                on_run(len(set(chunk)))
        return np.array([[scores.table[setting][name] for name in names] for setting in chosen])

    return evaluate


def tune(
    search: Search, name: str, evaluate: tune_search.Evaluate, selected: list[Sequence], folds: int
) -> dict[str, Any]:
    """Cross-validated search `name`, then the same on all sequences; JSON-ready."""
    names, driver = [sequence.name for sequence in selected], tune_search.SEARCHES[name]
    found = tune_search.cross_validate(search, driver, evaluate, names, folds)
    chosen = driver(search, evaluate, names)
    auc, default = evaluate([chosen, search.default], names)
    gains = {name: gain for fold in found for name, gain in fold.gains.items()}
    return {
        "chosen": _by_field(search, chosen),
        "auc": float(auc.mean()),
        "default": _by_field(search, search.default),
        "default_auc": float(default.mean()),
        "held_out_gain": float(np.mean(list(gains.values()))),
        "held_out_interval": metrics.bootstrap_interval(list(gains.values()), seed=search.seed),
        "held_out_gains": {name: gains[name] for name in names},
        "folds": [_fold(search, fold) for fold in found],
    }


def _by_field(search: Search, setting: Setting) -> dict[str, float]:
    return {each.field: value for each, value in zip(search.ranges, setting, strict=True)}


def _fold(search: Search, fold: Fold) -> dict[str, Any]:
    held_out = float(np.mean(list(fold.gains.values())))
    return {
        "chosen": _by_field(search, fold.setting),
        "training_gain": fold.training_gain,
        "held_out_gain": held_out,
        "held_out": list(fold.gains),
    }


def report(summary: dict[str, Any]) -> str:
    """Lines of text; the last one is the recommendation."""
    fields = list(summary["default"])
    header = ["", *fields, "gain on the others", "gain on its own"]
    rows = [
        [f"fold {number} ({len(fold['held_out'])})", *_values(fold), f"{fold['training_gain']:+.4f}"]
        + [f"{fold['held_out_gain']:+.4f}"]
        for number, fold in enumerate(summary["folds"], 1)
    ]
    count, default = len(summary["held_out_gains"]), summary["default_auc"]
    rows.append(["default", *map(str, summary["default"].values()), "", ""])
    rows.append([f"all ({count})", *_values(summary), f"{summary['auc'] - default:+.4f}", ""])
    lines = [*_columns([header, *rows]), f"mean AUC of all: {summary['auc']:.4f}, default {default:.4f}"]
    low, high = summary["held_out_interval"]
    proof = "; the interval contains zero: no gain is shown" if low <= 0 <= high else ""
    gain = f"held-out gain {summary['held_out_gain']:+.4f} AUC, 95 % interval {low:+.4f} to {high:+.4f}"
    changed = summary["chosen"] != summary["default"]
    assignments = " ".join(f"--set {name}={value!r}" for name, value in summary["chosen"].items())
    what = assignments if changed else "keep the default settings"
    return "\n".join([*lines, f"{what}  # {gain}, {count} sequences{proof}"])


def _values(row: dict[str, Any]) -> list[str]:
    return [str(value) for value in row["chosen"].values()]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]


def benchmark(
    make: Callable[[Any], Tracker], config: Any, search: Search, params, selected: list[Sequence]
) -> dict[str, Any]:
    """Settings per minute at 1, 2, 4, .. `batch` settings a call, and with a program for each setting, as in eval.run.

    Every round runs the same `batch` settings on all sequences with each size, sizes in turns, compiled before; and one
    setting with a program of its own, whose compilation is part of its time.
    """
    fields = tuple(each.field for each in search.ranges)
    chosen = tune_search.random_settings(search._replace(trials=max(search.batch, ROUNDS)))
    batch = chosen[: search.batch]
    sizes = [*(1 << n for n in range(search.batch.bit_length()) if 1 << n < search.batch), search.batch]
    track = tune_batch.tracking(tune_batch.batched(make, config, fields), params, search.seed)
    short = list({_canvas(sequence): _cut(sequence, 2) for sequence in selected}.values())
    compile_seconds = {size: _seconds(_run_all, track, batch[:size], size, short) for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    own_compile, own_seconds = [], []
    progress = ProgressBar(ROUNDS * (len(sizes) + 1), "pass")
    with progress:
        for turn in range(ROUNDS):
            for size in sizes[turn % len(sizes) :] + sizes[: turn % len(sizes)]:
                seconds[size].append(_seconds(_run_all, track, batch, size, selected))
                progress.update()
            one = rules.substitute(config, dict(zip(fields, chosen[turn], strict=True)))
            compiled = Compiled.of(make(one))
            own_seconds.append(_seconds(_run_own, compiled, params, selected, search.seed))
            own_compile.append(compiled.init.compile_seconds + compiled.track.compile_seconds)
            progress.update()

    def row(of: list[float], count: int, compiling: float) -> dict[str, float]:
        per_setting = np.array(of) / count
        return {
            "settings_per_minute": 60 / float(np.median(per_setting)),
            "times_one_at_a_time": float(np.median(np.array(seconds[1]) / len(batch) / per_setting)),
            "compile_seconds": compiling,
        }

    rows = {str(size): row(seconds[size], len(batch), compile_seconds[size]) for size in sizes}
    rows["1, program of its own"] = row(own_seconds, 1, float(np.median(own_compile)))
    frames = sum(len(sequence.frames) for sequence in selected)
    return {"settings_a_call": rows, "settings": len(batch), "frames_a_setting": frames, "rounds": ROUNDS}


def _seconds(function: Callable, *arguments: Any) -> float:
    start = perf_counter()
    function(*arguments)
    return perf_counter() - start


def _run_all(track, chosen: list[Setting], size: int, selected: list[Sequence]) -> None:
    for sequence in selected:
        for chunk in tune_batch.chunks(chosen, size):
            track(chunk, sequence)


def _run_own(compiled: Compiled, params, selected: list[Sequence], seed: int) -> None:
    params, key = jax.device_put(params), jax.random.key(seed)
    for sequence in selected:
        track_sequence(compiled, params, sequence, sequence_key(key, sequence.name))


def _canvas(sequence: Sequence) -> tuple[int, ...]:
    return next(decoded(_cut(sequence, 1))).image.shape


def benchmark_table(measured: dict[str, Any]) -> str:
    """Lines of text."""
    rows = [["settings a call", "settings/minute", "one at a time = 1", "compile s"]]
    for name, row in measured["settings_a_call"].items():
        times = f"{row['times_one_at_a_time']:.2f}"
        rows.append([name, f"{row['settings_per_minute']:.2f}", times, f"{row['compile_seconds']:.1f}"])
    return "\n".join([*_columns(rows), f"{measured['frames_a_setting']} frames a setting"])


def parse_ranges(config: Any, texts: list[str]) -> tuple[Range, ...]:
    """`field=low:high` or `field=low:high:log` each; none: those at the fields of the config.

    SettingError, one line, for a malformed range, and where one of its ends breaks a rule of the config.
    """
    ranges = tuple(map(_parse_range, texts))
    ranges = ranges or tuple(Range(field, *where) for field, where in rules.searches(config).items())
    if not ranges:
        choices = ", ".join(rules.float_fields(config))
        raise SettingError(f"no usual ranges for {type(config).__name__}; give --range, of {choices}")
    if len({each.field for each in ranges}) < len(ranges):
        raise SettingError("--range: a field is named twice")
    tune_batch.check_floats(config, tuple(each.field for each in ranges))
    for each in ranges:
        for end in (each.low, each.high):
            rules.configure(config, [f"{each.field}={end}"])
    return ranges


def _parse_range(text: str) -> Range:
    name, _, bounds = text.partition("=")
    low, _, high = bounds.partition(":")
    high, _, scale = high.partition(":")
    try:
        found = Range(name, float(low), float(high), scale == "log")
    except ValueError:
        raise SettingError(f"--range {text}: not field=low:high or field=low:high:log") from None
    if scale not in ("", "log") or not found.low < found.high or (found.log and found.low <= 0):
        raise SettingError(f"--range {text}: needs low < high, low > 0 with :log, and no other scale")
    return found


def _cut(sequence: Sequence, frames: int | None) -> Sequence:
    parts = {name: getattr(sequence, name)[:frames] for name in ("frames", "boxes", "visible")}
    return dataclasses.replace(sequence, **parts, cover=None, polygons=None, masks=None)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parsers.tune().parse_args(argv)


@command.reports(SequenceError, ResultError, SettingError, interrupted="the same command resumes")
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    problems: list[SequenceError] = []
    entry, params = command.load_tracker(arguments.tracker, arguments.weights)
    config = rules.configure(entry.config, arguments.set)
    ranges = parse_ranges(config, arguments.range)
    fields = tuple(each.field for each in ranges)
    tune_batch.check_arguments(entry.make, config, fields, params)
    selected = layouts.read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, problems)
    selected = [_cut(sequence, arguments.frames) for sequence in selected]
    default = tuple(rules.float_fields(config)[name] for name in fields)
    search = Search(default, ranges, arguments.trials, arguments.batch, arguments.seed)
    folder = arguments.out / "tune" / folder_name(arguments.tracker)
    if arguments.benchmark:
        _run_benchmark(entry.make, config, search, params, selected, folder)
    else:
        _run_search(arguments, entry.make, config, search, params, selected, folder)
    return command.print_skipped(problems)


def _run_search(arguments, make, config, search: Search, params, selected: list[Sequence], folder: Path) -> None:
    """The search, with its files, its progress and its printed result."""
    prepare_process()
    withheld = [sequence.name for sequence in selected if not sequence.scored]
    if withheld:
        raise SettingError(f"{withheld[0]}: the benchmark withholds the boxes, so there is nothing to tune on")
    if not 2 <= arguments.folds <= len(selected):
        raise SettingError(f"--folds {arguments.folds}: must be 2 to {len(selected)}, the number of sequences")
    fields = tuple(each.field for each in search.ranges)
    made_from = {
        "tracker": arguments.tracker,
        "dataset": arguments.dataset,
        "config": settings.plain(config),
        "seed": arguments.seed,
        "weights": settings.params_hash(params),
        "fields": fields,
        "first_frames": arguments.frames,
    }
    results.claim_folder(folder, made_from, overwrite=arguments.overwrite, patterns=("trials.json",))
    scores = Scores(folder / "trials.json", fields, {one.name: len(one.frames) for one in selected})
    if not arguments.overwrite:
        scores.load()
    total = (search.trials + 1) * len(selected) if arguments.search == "random" else None
    known = sum(one.name in auc for auc in scores.table.values() for one in selected)
    progress = ProgressBar(total, "run", initial=known)
    track = tune_batch.tracking(tune_batch.batched(make, config, fields), params, search.seed)
    with progress:
        evaluate = evaluator(track, selected, scores, search.batch, progress.update)
        summary = tune(search, arguments.search, evaluate, selected, arguments.folds)
    print(report(summary))
    summary |= {
        "search": arguments.search,
        "trials": search.trials,
        "ranges": [each._asdict() for each in search.ranges],
    }
    summary |= {**made_from, "rule": metrics.RULE, "versions": settings.versions()}
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def _run_benchmark(make, config, search: Search, params, selected: list[Sequence], folder: Path) -> None:
    """The benchmark, without the compilation cache, which would hold what is measured the second time."""
    jax.config.update("jax_enable_compilation_cache", False)
    measured = benchmark(make, config, search, params, selected)
    print(benchmark_table(measured))
    measured |= {"config": settings.plain(config), "versions": settings.versions()}
    write_atomically(folder / "benchmark.json", json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
