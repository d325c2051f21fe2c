"""Prepares a data set for training: `python -m train.datasets NAME --source DIR --data-dir OUT`."""

import argparse
import sys

from eval.command import fail, reports
from trackers import rules
from train import parsers
from train.datasets import SYNTHETIC, DatasetError, SyntheticConfig, TrackingDataset, prepare
from train.datasets.records import folder_of


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parsers.datasets().parse_args(argv)


@reports(ValueError, OSError, interrupted="nothing was prepared, the same command starts again")
def main(argv: list[str] | None = None) -> int:
    """Prepare the data set; the exit status."""
    arguments = parse_arguments(argv)
    problems: list[str] | None = [] if arguments.skip_faulty else None
    notes: list[str] = []
    folder = folder_of(arguments.name, arguments.data_dir, arguments.split)
    was_there = folder.is_dir() and not arguments.overwrite
    try:
        if arguments.set and arguments.name != SYNTHETIC:
            raise DatasetError(f"--set changes what {SYNTHETIC} draws; {arguments.name} has nothing to set")
        chosen = arguments.list.read_text().split() if arguments.list else None
        dataset = prepare(
            arguments.name,
            arguments.source,
            arguments.data_dir,
            arguments.split,
            chosen=chosen,
            unlike=arguments.unlike,
            synthetic=rules.configure(SyntheticConfig(), arguments.set),
            problems=problems,
            notes=notes,
            decode=arguments.decode,
            overwrite=arguments.overwrite,
            progress=True,
        )
    except DatasetError as error:
        for fault in error.faults[1:]:
            print(f"fault: {fault}", file=sys.stderr)
        return fail(error)
    for problem in problems or ():
        print(f"left out: {problem}", file=sys.stderr)
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{folder}: {'was prepared already' if was_there else 'prepared'}; {counts(dataset)}")
    return 0


def counts(dataset: TrackingDataset) -> str:
    table = dataset.table
    share = 100 * table.visible.mean()
    return f"{len(table.names)} sequences, {len(table.visible)} frames, {share:.1f} % of them visible"


if __name__ == "__main__":
    sys.exit(main())
