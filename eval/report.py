"""A report of results: one standalone HTML page, and the same as PNG, CSV and LaTeX.

    python -m eval.report RESULTS... --data_dir DIR --out REPORT

RESULTS are folders of one tracker as `python -m eval.run` writes them, or of any format `eval.formats` reads;
NAME=FOLDER gives a name. A .json file of scores (name -> {"sequences": {sequence: auc}}) adds rows without boxes.
Folders of the same tracker and config with different seeds become one row with a standard deviation. Without
--data_dir, the page holds what summary.json says, and no curves. Exit code 0; 1 where a result was skipped or nothing
can be written.
"""

import argparse
import csv
import io
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval import formats, metrics, report_figures, report_page
from eval.protocols import ope, statistics
from eval.protocols.vot_multistart import GRACE, THRESHOLD
from eval.results import ResultError, write_atomically
from eval.sequences import LAYOUTS, Sequence, SequenceError, read_dataset

SHOWN = ("auc", "op50", "op75", "precision20", "norm_precision")


class Track(NamedTuple):
    """One run of a tracker on a sequence of T frames, for the drill-down."""

    boxes: np.ndarray  # [T, 4] x, y, w, h
    overlap: np.ndarray  # [T] IoU, nan where the target is absent
    confidence: np.ndarray | None  # [T]


@dataclass
class Entry:
    """A row of the report: a tracker, over all its seeds and repetitions."""

    name: str
    made_from: dict[str, Any] = field(default_factory=dict)  # run.json of the first seed
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # sequence -> score -> mean over runs
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)  # score -> mean and deviation over seeds
    curves: ope.Curves | None = None
    tracks: dict[str, Track] = field(default_factory=dict)
    losses: dict[str, list[int]] = field(default_factory=dict)  # sequence -> first frame of each loss
    rules: dict[str, dict[str, float]] = field(default_factory=dict)  # rule -> score -> mean over sequences
    fps: float | None = None
    milliseconds: float | None = None  # median of a frame
    calibration: statistics.Calibration | None = None
    seeds: int = 1

    def mean(self, score: str) -> float | None:
        return self.spread[score][0] if score in self.spread else None


@dataclass(frozen=True)
class Report:
    """All that the page and the files are made of."""

    title: str
    rule: str  # what the numbers mean
    entries: list[Entry]  # best first
    sequences: dict[str, Sequence]  # empty without --data_dir
    names: list[str]  # of all sequences
    attributes: dict[str, list[str]]
    problems: list[str]


class Source(NamedTuple):
    """One folder or file of results."""

    name: str | None  # as the user calls it
    path: Path
    made_from: dict[str, Any]  # run.json, empty without one


def find_sources(arguments: list[str]) -> list[Source]:
    """[NAME=]PATH to sources: a folder that holds no results of its own stands for the folders in it."""
    sources = []
    for text in arguments:
        name, equals, path = text.partition("=")
        root = Path(path if equals else text)
        if not root.exists():
            raise ResultError(f"{root}: no such file or folder; give what eval.run wrote, or NAME=FOLDER")
        inside = sorted(path.parent for path in root.glob("*/run.json")) if root.is_dir() else []
        places = inside if inside and not (root / "run.json").exists() else [root]
        sources += [Source(name if equals else None, place, _read_json(place / "run.json")) for place in places]
    return sources


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not JSON ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise ResultError(f"{path}: must be an object; restore the file")
    return content


def group_sources(sources: list[Source]) -> dict[str, list[Source]]:
    """Name of a row -> its sources: those of one tracker, config and weights that differ in the seed alone."""
    groups: dict[str, tuple[str, list[Source]]] = {}
    for source in sources:
        settings = {key: value for key, value in source.made_from.items() if key != "seed"}
        same = json.dumps(settings, sort_keys=True) if settings else str(source.path)
        name = source.name or source.made_from.get("tracker") or source.path.stem
        if name in groups and groups[name][0] != same:
            name = f"{name} ({source.path.parent.name or source.path})"
        for number in range(2, len(sources) + 2):
            if name not in groups or groups[name][0] == same:
                break
            name = f"{name.partition(' #')[0]} #{number}"
        groups.setdefault(name, (same, []))[1].append(source)
    return {name: members for name, (_, members) in groups.items()}


def build_entry(
    name: str, sources: list[Source], sequences: dict[str, Sequence], rule: str, problems: list[str]
) -> Entry:
    """The row of one tracker, scored on `sequences` by the toolkit `rule`; what cannot be scored goes to `problems`."""
    entry = Entry(name, sources[0].made_from, seeds=len(sources))
    of_seeds, seconds, curves, rows, confidences = [], [], [], {}, []
    for number, source in enumerate(sources):
        faulty: list[ResultError] = []
        found = formats.read_results(source.path, problems=faulty, allow_nan=True)
        problems += [str(problem) for problem in faulty]
        scored = {}
        for sequence in sequences.values():
            runs = found.get(sequence.name, ())
            try:
                scores = [_score(rule, source, sequence, formats.boxes_of(run)) for run in runs]
            except ValueError as error:
                problems.append(f"{source.path}: {sequence.name}: {error}")
                continue
            if not scores:
                continue
            scored[sequence.name] = {key: float(np.mean([score[key] for score, _ in scores])) for key in ope.SCORES}
            curves += [curve for _, curve in scores]
            seconds += [run.seconds[1:] for run in runs if run.seconds is not None]
            if not number:
                track = _track(runs[0], sequence)
                entry.tracks[sequence.name], entry.losses[sequence.name] = track, loss_starts(track.overlap)
            confidences += [_judged_confidence(run, sequence) for run in runs if run.confidence is not None]
        if scored:
            of_seeds.append({key: float(np.mean([row[key] for row in scored.values()])) for key in ope.SCORES})
        for key, row in scored.items():
            rows.setdefault(key, []).append(row)
    entry.scores = {
        key: {score: float(np.mean([row[score] for row in many])) for score in ope.SCORES} for key, many in rows.items()
    }
    if not of_seeds:
        return entry
    entry.spread, entry.curves = statistics.over_seeds(of_seeds), ope.mean_curves(curves)
    if seconds:
        times = np.concatenate(seconds)
        entry.fps, entry.milliseconds = len(times) / float(times.sum()), float(np.median(times) * 1e3)
    if confidences:
        confidence, right = (np.concatenate(values) for values in zip(*confidences))
        if ((confidence >= 0) & (confidence <= 1)).all():
            entry.calibration = statistics.calibration(confidence, right)
    entry.rules = side_by_side(entry, sequences, sources[0].made_from.get("dataset", "folder"))
    return entry


def _score(rule: str, source: Source, sequence: Sequence, boxes: np.ndarray) -> tuple[dict[str, float], ope.Curves]:
    if not sequence.scored:
        raise ValueError("the benchmark withholds the boxes; send the results to its server (eval.formats)")
    chosen = ope.rule(rule, source.made_from.get("dataset", "folder"))
    arguments = chosen, boxes, sequence.boxes, sequence.visible
    return ope.score(*arguments), ope.curves(ope.judge(*arguments))


def _track(run: formats.ResultRun, sequence: Sequence) -> Track:
    boxes, count = formats.boxes_of(run), len(sequence.frames)
    boxes = np.concatenate([boxes[:count], np.full((max(count - len(boxes), 0), 4), np.nan)])
    overlap = np.where(sequence.visible, np.nan_to_num(metrics.overlaps(boxes, sequence.boxes)), np.nan)
    overlap[0] = 1.0
    return Track(boxes, overlap, run.confidence)


def _judged_confidence(run: formats.ResultRun, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of frames 2 on, and whether the box was right (IoU > 0.5); no box is right without the target."""
    overlap = _track(run, sequence).overlap
    count = min(len(run.confidence), len(overlap))
    return run.confidence[1:count], np.nan_to_num(overlap[1:count]) > 0.5


def loss_starts(overlap: np.ndarray) -> list[int]:
    """First frames of the losses: at least GRACE visible frames in a row with an IoU of at most THRESHOLD (VOT)."""
    starts, streak = [], []
    for index in np.flatnonzero(~np.isnan(overlap)):
        streak = [*streak, int(index)] if overlap[index] <= THRESHOLD else []
        if len(streak) == GRACE:
            starts.append(streak[0])
    return starts


def side_by_side(entry: Entry, sequences: dict[str, Sequence], dataset: str) -> dict[str, dict[str, float]]:
    """Rule -> mean scores of the same boxes, for every toolkit that scores the dataset and accepts them all."""
    table = {}
    for toolkit in ope.TOOLKITS:
        try:
            rule = ope.rule(toolkit, dataset)
            rows = [
                ope.score(rule, track.boxes, sequences[name].boxes, sequences[name].visible)
                for name, track in entry.tracks.items()
            ]
        except ValueError:
            continue  # no rule for this dataset, or one that refuses these boxes: no column of the table
        table[toolkit] = {key: float(np.mean([row[key] for row in rows])) for key in ope.SCORES}
    return table


def entries_of_scores(path: Path) -> list[Entry]:
    """Rows of a .json of scores: name -> {"sequences": {sequence: auc}}, as far as they have that form."""
    entries = []
    for name, content in _read_json(path).items():
        if isinstance(content, dict) and isinstance(content.get("sequences"), dict):
            scores = {key: {"auc": float(value)} for key, value in content["sequences"].items()}
            mean = float(np.mean([row["auc"] for row in scores.values()]))
            entries.append(Entry(name, {"scores from": path.name}, scores, {"auc": (mean, float("nan"))}))
    if not entries:
        raise ResultError(f'{path}: no scores; the form is {{"name": {{"sequences": {{"sequence": auc}}}}}}')
    return entries


def entry_of_summary(name: str, sources: list[Source]) -> Entry:
    """The row of one tracker from its summary.json alone."""
    summaries = [_read_json(source.path / "summary.json") for source in sources]
    if not all("sequences" in summary and "mean" in summary for summary in summaries):
        raise ResultError(f"{sources[0].path}: no summary.json; give --data_dir, so that the boxes can be scored")
    rows: dict[str, list[dict]] = {}
    for summary in summaries:
        for key, row in summary["sequences"].items():
            rows.setdefault(key, []).append({score: row[score] for score in SHOWN if row.get(score) is not None})
    scores = {
        key: {score: float(np.mean([row[score] for row in many])) for score in many[0]} for key, many in rows.items()
    }
    means = [
        {score: summary["mean"][score] for score in SHOWN if summary["mean"].get(score) is not None}
        for summary in summaries
    ]
    entry = Entry(name, sources[0].made_from, scores, statistics.over_seeds(means), seeds=len(sources))
    return replace(
        entry, fps=summaries[0]["mean"].get("fps"), milliseconds=summaries[0].get("speed", {}).get("ms_median")
    )


def build_report(arguments: argparse.Namespace) -> Report:
    """Everything scored; ResultError and SequenceError where nothing can be, `problems` for what was left out."""
    sources, problems, sequences = find_sources(arguments.results), [], {}
    if arguments.data_dir:
        unreadable: list[SequenceError] = []
        read = read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, unreadable)
        sequences, problems = {item.name: item for item in read}, [str(problem) for problem in unreadable]
    if arguments.rule != "jaxtrack" and not sequences:
        raise ResultError(f"--rule {arguments.rule}: boxes are scored by another rule only with --data_dir")
    entries = [entry for source in sources if source.path.suffix == ".json" for entry in entries_of_scores(source.path)]
    for name, members in group_sources([source for source in sources if source.path.suffix != ".json"]).items():
        if sequences:
            members = [
                source._replace(made_from={"dataset": arguments.dataset, **source.made_from}) for source in members
            ]
            try:
                ope.rule(arguments.rule, members[0].made_from["dataset"])
            except ValueError as error:
                raise ResultError(str(error)) from error
            entries.append(build_entry(name, members, sequences, arguments.rule, problems))
        else:
            entries.append(entry_of_summary(name, members))
    entries = sorted((entry for entry in entries if entry.scores), key=lambda entry: -(entry.mean("auc") or 0))
    if not entries:
        raise ResultError(
            f"{', '.join(arguments.results)}: nothing could be scored" + (f" ({problems[0]})" if problems else "")
        )
    names = list(sequences) or list(dict.fromkeys(name for entry in entries for name in entry.scores))
    attributes = _read_json(arguments.attributes) if arguments.attributes else {}
    rule = metrics.RULE if arguments.rule == "jaxtrack" else _describe(arguments.rule, entries)
    return Report(arguments.title, rule, entries, sequences, names, attributes, problems)


def _describe(toolkit: str, entries: list[Entry]) -> str:
    rule = ope.rule(
        toolkit, next((entry.made_from["dataset"] for entry in entries if "dataset" in entry.made_from), "")
    )
    return f"{rule.name}: {rule.source}"


def write_report(report: Report, out: Path) -> None:
    """index.html, scores.csv, table.tex and the figures as PNG in `out`, each whole or not at all."""
    figures = report_figures.draw_all(report)
    for name, figure in figures.items():
        report_figures.save_png(figure, out / f"{name}.png")
    write_atomically(out / "scores.csv", csv_text(report))
    write_atomically(out / "table.tex", latex_text(report))
    pictures = {name: report_figures.to_svg(figure, name) for name, figure in figures.items()}
    write_atomically(out / "index.html", report_page.render(report, pictures))


def csv_text(report: Report) -> str:
    """One line for each tracker and sequence, the tracker's mean first (sequence "mean")."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["tracker", "sequence", *ope.SCORES, "losses"])
    for entry in report.entries:
        mean = {score: value for score, (value, _) in entry.spread.items()}
        lost = sum(len(starts) for starts in entry.losses.values())
        rows = {
            "mean": (mean, lost if entry.losses else ""),
            **{n: (s, len(entry.losses[n]) if n in entry.losses else "") for n, s in entry.scores.items()},
        }
        for name, (scores, losses) in rows.items():
            cells = [f"{scores[key]:.6f}" if key in scores else "" for key in ope.SCORES]
            writer.writerow([entry.name, name, *cells, losses])
    return buffer.getvalue()


def latex_text(report: Report) -> str:
    """A tabular of the means, the best of each column in bold face; needs no package."""

    def cell(entry: Entry, score: str) -> str:
        mean = entry.mean(score)
        if mean is None:
            return "--"
        best = max(other.mean(score) or 0 for other in report.entries)
        text = f"{mean:.3f}" + (rf" $\pm$ {entry.spread[score][1]:.3f}" if entry.seeds > 1 else "")
        return rf"\textbf{{{text}}}" if mean == best else text

    lines = [r"\begin{tabular}{l" + "r" * (len(SHOWN) + 1) + "}", r"\hline"]
    lines += ["Tracker & " + " & ".join(report_page.LABELS[score] for score in SHOWN) + r" & FPS \\", r"\hline"]
    for entry in report.entries:
        name = "".join(f"\\{letter}" if letter in "_&%#$" else letter for letter in entry.name)
        fps = f"{entry.fps:.1f}" if entry.fps else "--"
        lines.append(" & ".join([name, *(cell(entry, score) for score in SHOWN), fps]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.report", description="A report of results as one HTML page.")
    parser.add_argument(
        "results", nargs="+", metavar="[NAME=]RESULTS", help="folders of results, .json files of scores"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of index.html, *.png, scores.csv, table.tex")
    parser.add_argument("--data_dir", type=Path, help="the sequences: for curves, other rules and pictures")
    parser.add_argument("--dataset", choices=LAYOUTS, default="folder", help="layout of data_dir (default: folder)")
    parser.add_argument("--sequences", type=lambda text: text.split(","), metavar="A,B", help="default: all")
    parser.add_argument(
        "--rule", choices=ope.TOOLKITS, default="jaxtrack", help="whose rule scores (default: jaxtrack)"
    )
    parser.add_argument("--attributes", type=Path, help='.json: {"sequence": ["OCC", "FM"]}')
    parser.add_argument("--title", default="Tracking results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        report = build_report(arguments)
        write_report(report, arguments.out)
    except (ResultError, SequenceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in report.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    print(f"{len(report.entries)} trackers, {len(report.names)} sequences: {arguments.out / 'index.html'}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
