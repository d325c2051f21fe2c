"""What the benchmarks share: the device, and reports that are printed, written and compared."""

import argparse
import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from eval import plots
from eval.files import ResultError, keep_apart, write_atomically


def run(options: argparse.Namespace, measure: Callable[[], dict[str, Any]], table: Callable[..., str]) -> None:
    """Print `table` of the report that `measure()` returns, and write the files that `options` ask for.

    The options are those of the benchmark in `eval.parsers`; with --compare two reports are compared and nothing is
    measured. ResultError where a file cannot be read or written, or the device is not there.
    """
    if getattr(options, "compare", None):
        print(compare(*options.compare))
        return
    outputs = [getattr(options, name, None) for name in ("json", "markdown", "plot")]
    keep_apart(outputs, [getattr(options, "weights", None)])
    with on_device(getattr(options, "device", None)):
        report = measure()
    text = table(report)
    print(text)
    write(report, text, options)
    if getattr(options, "plot", None):
        title = report.get("tracker", report["versions"]["device"])
        plots.plot_roofline(options.plot, report["rows"], report["peaks"], title)


def on_device(name: str | None) -> contextlib.AbstractContextManager:
    """A context in which everything runs on the first device of that kind; ResultError where there is none."""
    if name is None:
        return contextlib.nullcontext()
    try:
        return jax.default_device(jax.devices(name)[0])
    except RuntimeError as error:
        raise ResultError(f"--device {name}: JAX has no such device here; it has {jax.default_backend()}") from error


def write(report: dict[str, Any], table: str, options: argparse.Namespace) -> None:
    """The files that --json and --markdown ask for; ResultError where one cannot be written."""
    if options.json:
        write_atomically(options.json, json.dumps(report, indent=2) + "\n")
    if options.markdown:
        write_atomically(options.markdown, table + "\n")


def read(path: Path) -> dict[str, Any]:
    """A report; ResultError, one line, if the file is not a report."""
    try:
        report = json.loads(path.read_text())
        found = list(milliseconds(report).values())
        if not (all(0 < value < math.inf for value in found) and isinstance(report.get("versions", {}), dict)):
            raise ValueError
        return report
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}; give a file of --json") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ResultError(f"{path}: not a report of a benchmark; give a file of --json") from error


def milliseconds(report: dict[str, Any]) -> dict[str, float]:
    """Median milliseconds by row."""
    return {name: float(row["median_ms"]) for name, row in report["rows"].items()}


def compare(first: Path, second: Path) -> str:
    """Markdown: milliseconds of the rows of both reports, and second over first. ResultError without a common row."""
    reports = [read(path) for path in (first, second)]
    before, after = map(milliseconds, reports)
    names = [name for name in before if name in after]
    if not names:
        raise ResultError(f"{second}: has no row of {first}; compare reports of the same benchmark")
    lines = [f"A: {first}, {_device(reports[0])}", f"B: {second}, {_device(reports[1])}", ""]
    lines += ["| row | A, ms | B, ms | B / A |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {before[name]:.2f} | {after[name]:.2f} | {after[name] / before[name]:.2f} |" for name in names
    ]
    only = {path: [name for name in one if name not in other] for path, one, other in
            ((first, before, after), (second, after, before))}  # fmt: skip
    lines += [f"only in {path}: {', '.join(names)}" for path, names in only.items() if names]
    return "\n".join(lines)


def _device(report: dict[str, Any]) -> str:
    versions = report.get("versions", {})
    return f"{versions.get('device', 'unknown device')}, jax {versions.get('jax', 'unknown')}"
