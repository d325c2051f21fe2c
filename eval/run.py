"""Run a tracker over a benchmark.

    python -m eval.run --tracker NAME --dataset folder --data-dir DIR --out OUT
    python -m eval.run --guest csrt --guest-python ENV/bin/python --data-dir DIR --out OUT

Writes OUT/<tracker>/<sequence>.txt (with _time.value and _confidence.value) and OUT/<tracker>/summary.json, and
prints a table. The same command again resumes an interrupted or killed run. Exit status 0; 1 where a sequence had to be
skipped (each is named) or the results cannot be written; 130 after Ctrl-C, 143 after SIGTERM. `--protocol` tre, sre,
vot_reset or vot_multistart starts the tracker several times per sequence (eval/running/restarts.py). `--guest` runs a
tracker of another project (eval/running/guest.py). At size: `--workers N` threads, `--batch N` sequences in one call
(eval/running/lanes.py), `--shard I/N` or `--distributed` processes on any hosts.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from eval import command, parsers
from eval.command import prepare_process
from eval.files import ResultError
from eval.running import parallel, restarts, stored
from eval.running.entrants import Entrant, guest_entrant, tracker_entrant
from eval.running.folder import run_sequences, table
from eval.running.guest import Guest
from eval.scoring.results import Report
from eval.sources.layouts import read_dataset
from eval.sources.sequences import Sequence, SequenceError
from trackers import rules
from trackers.rules import SettingError


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parsers.run().parse_args(argv)


@command.reports(SequenceError, ResultError, SettingError, interrupted="nothing was tracked")
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    prepare_process(threads=True)
    _check(arguments)
    wait = None
    if arguments.distributed:
        arguments.shard, wait = parallel.join_processes(), parallel.wait_for_processes
    problems: list[SequenceError] = []
    with ExitStack() as stack:
        entrant = _guest(arguments, stack) if arguments.guest else _tracker(arguments)
        selected = read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences, problems)
        report, lines, folder = _run(arguments, entrant, selected, wait)
    if report.summary["sequences"] and (wait is None or arguments.shard[0] == 0):
        print(f"{lines}\nresults and summary.json: {folder}")
    return _conclude(report, problems)


def _run(
    arguments: argparse.Namespace, entrant: Entrant, selected: list[Sequence], wait: Callable[[], None] | None
) -> tuple[Report, str, Path]:
    """(how it ended, the table, the folder of the results)."""
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
        return report, table(report.summary), folder
    folder = arguments.out / arguments.protocol / entrant.name
    made_from["protocol"] = arguments.protocol
    options["versions"] = entrant.versions
    report = restarts.run_protocol(
        arguments.protocol, entrant.session, selected, folder, made_from=made_from, **options
    )
    return report, restarts.table(report.summary), folder


def _check(arguments: argparse.Namespace) -> None:
    """SettingError for options that do not go together."""
    if arguments.guest and (arguments.weights or arguments.set):
        raise SettingError("--weights and --set are for --tracker; a guest has its own")
    if arguments.guest and arguments.batch > 1:
        raise SettingError("--batch is for --tracker; use --workers for a guest")
    if arguments.batch > 1 and arguments.workers > 1:
        raise SettingError("--batch tracks all its sequences in one call; leave out --workers")
    if arguments.distributed and arguments.shard != (0, 1):
        raise SettingError("--distributed gives each process its shard; leave out --shard")
    if arguments.protocol != "ope" and arguments.batch > 1:
        raise SettingError(f"--protocol {arguments.protocol} has no --batch; use --workers")
    if arguments.protocol != "ope" and arguments.jitter:
        raise SettingError(f"--protocol {arguments.protocol} has its own starts; --jitter is for one pass")


def _tracker(arguments: argparse.Namespace) -> Entrant:
    """A tracker of the registry; SettingError for an unknown name, weights that do not fit, and a bad --set."""
    entry, params = command.load_tracker(arguments.tracker, arguments.weights)
    config = rules.configure(entry.config, arguments.set)
    made_of = stored.made_of(entry, config)
    return tracker_entrant(arguments.tracker, entry.make(config), config, params, seed=arguments.seed, made_of=made_of)


def _guest(arguments: argparse.Namespace, stack: ExitStack) -> Entrant:
    """A guest, whose processes end with `stack`; SettingError where it cannot be started."""
    guest = Guest(arguments.guest, arguments.guest_python, arguments.guest_color, arguments.guest_timeout)
    return guest_entrant(guest, stack, seed=arguments.seed)


def _conclude(report: Report, unreadable: list[SequenceError]) -> int:
    """Print what went wrong; the exit status."""
    status = command.print_skipped([*unreadable, *report.problems])
    if not report.interrupted:
        return status
    done, left = len(report.summary["sequences"]), len(report.summary["missing"])
    print(f"interrupted: {done} sequences finished, {left} left; the same command resumes", file=sys.stderr)
    return command.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
