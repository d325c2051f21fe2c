"""A report of results: one standalone HTML page, and the same as PNG, CSV and LaTeX.

    python -m eval.report RESULTS... --data-dir DIR --out REPORT

RESULTS are folders of one tracker as `python -m eval.run` writes them, or of any format `eval.formats` reads;
NAME=FOLDER gives a name. A .json file of scores (name -> {"sequences": {sequence: auc}}) adds rows without boxes.
Folders of the same tracker and config with different seeds become one row with a standard deviation. Without
--data-dir, the page holds what summary.json says, and no curves. Trackers on different sets of sequences are not
ranked. Exit status 0; 1 where a result was skipped, is missing or belongs to no sequence, or nothing can be written.
"""

import argparse
import contextlib
import csv
import io
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from eval import command, parsers, plots
from eval.files import ResultError, read_json, write_atomically
from eval.report import figures as report_figures
from eval.report import page
from eval.report.scores import (
    SHOWN,
    Entry,
    Source,
    build_entry,
    entries_of_scores,
    entry_of_summary,
    find_sources,
    group_sources,
)
from eval.scoring import metrics, ope
from eval.sources.layouts import LAYOUTS, find_sequences, read_dataset, shortened
from eval.sources.sequences import Sequence, SequenceError

PAGE = "index.html"
_LATEX = {letter: f"\\{letter}" for letter in "_&%#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "*": "{*}",
}


@dataclass(frozen=True)
class Report:
    """All that the page and the files are made of."""

    title: str
    rule: str  # what the numbers mean
    entries: list[Entry]  # those of `ranked`, best first, then the others
    sequences: dict[str, Sequence]  # empty without --data-dir
    names: list[str]  # of all sequences
    attributes: dict[str, list[str]]
    problems: list[str]
    notes: list[str]

    @property
    def ranked(self) -> list[Entry]:
        """The entries on the largest set of sequences: means over different sets are not compared."""
        return _on_largest_set(self.entries)

    def is_best(self, entry: Entry, score: str) -> bool:
        """Whether no ranked entry has a higher mean; never of the only ranked one among several entries."""
        if entry not in self.ranked or len(self.ranked) == 1 < len(self.entries):
            return False
        return entry.mean(score) == max(other.mean(score) or 0 for other in self.ranked)

    def shown_name(self, entry: Entry) -> str:
        """The name, and of how many sequences the numbers are where that is not all."""
        count = len(entry.scores)
        return entry.name if count == len(self.names) else f"{entry.name} ({count} of {len(self.names)})"


def build_report(arguments: argparse.Namespace) -> Report:
    """Everything scored; ResultError and SequenceError where nothing can be, `problems` for what was left out."""
    problems, sequences, known = [], {}, []
    sources, notes = _with_origin(find_sources(arguments.results), arguments)
    if arguments.data_dir:
        unreadable: list[SequenceError] = []
        read = read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, unreadable)
        sequences, problems = {item.name: item for item in read}, [str(problem) for problem in unreadable]
        known = list(find_sequences(arguments.dataset, arguments.data_dir))
    if arguments.rule != "jaxtrack" and not sequences:
        raise ResultError(f"--rule {arguments.rule}: boxes are scored by another rule only with --data-dir")
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
            entries.append(build_entry(name, members, sequences, arguments.rule, problems, known))
        else:
            entries.append(entry_of_summary(name, members))
    names = list(sequences) or list(dict.fromkeys(name for entry in entries for name in entry.scores))
    for entry in entries:
        missing = [name for name in names if name not in entry.scores]
        if missing:
            of_all = "of all seeds " if entry.seeds > 1 else ""
            problems.append(f"{entry.name}: no result {of_all}of {shortened(missing)} ({len(missing)} of {len(names)})")
    entries = [entry for entry in entries if entry.scores]
    if not entries:
        raise ResultError(
            f"{', '.join(arguments.results)}: nothing could be scored" + (f" ({problems[0]})" if problems else "")
        )
    ranked = _on_largest_set(entries)
    entries.sort(key=lambda entry: (entry not in ranked, -(entry.mean("auc") or 0)))
    attributes = _read_attributes(arguments.attributes) if arguments.attributes else {}
    rule = metrics.RULE if arguments.rule == "jaxtrack" else _describe(arguments.rule, entries)
    return Report(arguments.title, rule, entries, sequences, names, attributes, problems, notes)


def _with_origin(sources: list[Source], arguments: argparse.Namespace) -> tuple[list[Source], list[str]]:
    """(sources that know what their x and y count from, notes): other programs count as the files of the dataset do."""
    origin = LAYOUTS[arguments.dataset].origin if arguments.origin is None else arguments.origin
    others = [source for source in sources if not source.made_from and source.path.suffix != ".json"]
    notes = [
        f"{source.path}: not of eval.run, so x and y are taken to count from {origin}, as the files of "
        f"{arguments.dataset} do; --origin {1 - origin} if not"
        for source in others
        if origin and arguments.origin is None
    ]
    return [source._replace(origin=origin) if source in others else source for source in sources], notes


def _on_largest_set(entries: list[Entry]) -> list[Entry]:
    sets = Counter(frozenset(entry.scores) for entry in entries)
    largest = max(sets, key=lambda names: (len(names), sets[names]))
    return [entry for entry in entries if entry.scores.keys() == largest]


def _read_attributes(path: Path) -> dict[str, list[str]]:
    attributes = read_json(path)
    for name, value in attributes.items():
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise ResultError(f'{path}: {name}: must be a list of attributes, {{"sequence": ["OCC", "FM"]}}')
    return attributes


def _describe(toolkit: str, entries: list[Entry]) -> str:
    rule = ope.rule(
        toolkit, next((entry.made_from["dataset"] for entry in entries if "dataset" in entry.made_from), "")
    )
    return f"{rule.name}: {rule.source}"


def write_report(report: Report, out: Path) -> None:
    """index.html, scores.csv, table.tex and the figures as PNG in `out`, each whole or not at all."""
    figures = report_figures.draw_all(report)
    pictures = {name: report_figures.to_svg(figure, name) for name, figure in figures.items()}
    # The page first: it tells whose the other files are, also where the last of them were not written.
    write_atomically(out / PAGE, page.render(report, pictures))
    write_atomically(out / "scores.csv", csv_text(report))
    write_atomically(out / "table.tex", latex_text(report))
    for name, figure in figures.items():
        plots.save(figure, out / f"{name}.png")


def check_folder(out: Path) -> None:
    """ResultError where a file that a report writes is there, and `out` does not hold the page of an older one."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if page.GENERATOR in (out / PAGE).read_text("utf-8"):
            return
    for name in (PAGE, "scores.csv", "table.tex", *(f"{figure}.png" for figure in report_figures.NAMES)):
        if (out / name).exists():
            raise ResultError(f"{out / name}: is there already, and not from a report; move it or choose another --out")


def csv_text(report: Report) -> str:
    """One line for each tracker and sequence, the tracker's mean first (sequence "mean")."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["tracker", "sequence", *ope.SCORES, "losses", "sequences"])
    for entry in report.entries:
        mean = {score: value for score, (value, _) in entry.spread.items()}
        lost = sum(len(starts) for starts in entry.losses.values())
        rows = {
            "mean": (mean, lost if entry.losses else ""),
            **{n: (s, len(entry.losses[n]) if n in entry.losses else "") for n, s in entry.scores.items()},
        }
        for name, (scores, losses) in rows.items():
            cells = [f"{scores[key]:.6f}" if key in scores else "" for key in ope.SCORES]
            count = f"{len(entry.scores)} of {len(report.names)}" if scores is mean else ""
            writer.writerow([entry.name, name, *cells, losses, count])
    return buffer.getvalue()


def latex_text(report: Report) -> str:
    """A tabular of the means, the best of each column in bold face; needs no package."""

    def cell(entry: Entry, score: str) -> str:
        mean = entry.mean(score)
        if mean is None:
            return "--"
        text = f"{mean:.3f}" + (rf" $\pm$ {entry.spread[score][1]:.3f}" if entry.seeds > 1 else "")
        return rf"\textbf{{{text}}}" if report.is_best(entry, score) else text

    lines = [r"\begin{tabular}{l" + "r" * (len(SHOWN) + 1) + "}", r"\hline"]
    lines += ["Tracker & " + " & ".join(page.LABELS[score] for score in SHOWN) + r" & FPS \\", r"\hline"]
    for entry in report.entries:
        name = _latex(report.shown_name(entry))
        fps = f"{entry.fps:.1f}" if entry.fps else "--"
        lines.append(" & ".join([name, *(cell(entry, score) for score in SHOWN), fps]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    """Text as LaTeX shows it: every character itself, no ligature, and nothing that ends a row's `\\\\` could take."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"-(?=-)", "-{}", escaped)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parsers.report().parse_args(argv)


@command.reports(ResultError, SequenceError, interrupted="the report is not whole, run it again")
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    check_folder(arguments.out)
    report = build_report(arguments)
    write_report(report, arguments.out)
    for note in report.notes:
        print(note, file=sys.stderr)
    status = command.print_skipped(report.problems)
    print(f"{len(report.entries)} trackers, {len(report.names)} sequences: {arguments.out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
