"""Prepares a data set for training: `python -m train.datasets NAME --source DIR --data-dir OUT`."""

import argparse
import sys
from pathlib import Path

from eval.command import Parser, fail, make_parser, reports
from trackers import rules
from train.datasets import LAYOUTS, SYNTHETIC, DatasetError, SyntheticConfig, TrackingDataset, prepare
from train.datasets.records import folder_of


def parser() -> Parser:
    parser = make_parser(
        "train.datasets",
        "python -m train.datasets got10k --source GOT-10k --data-dir data",
        details="Writes one record per frame, and a table of the boxes. "
        f"NAME without --source says which files it reads; {SYNTHETIC} draws its clips.",
    )
    names = [*LAYOUTS, SYNTHETIC]
    parser.add_argument("name", choices=names, metavar="NAME", help=f"layout of the files: {', '.join(names)}")
    parser.add_argument("--source", type=Path, metavar="DIR", help="folder of the benchmark, or of one's own sequences")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="OUT", help="folder of prepared data sets")
    parser.add_argument("--split", default="train", help="name of the part (default: train)")
    parser.add_argument("--list", type=Path, metavar="FILE", help="sequences to take, a name or place from 0 a line")
    parser.add_argument(
        "--unlike", type=Path, metavar="DIR", help="leave out sequences with a frame like an image there"
    )
    parser.add_argument("--decode", action="store_true", help="decode every image first (folder: always done)")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out sequences with a fault")
    parser.add_argument("--overwrite", action="store_true", help="build it again if it is there")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"of {SYNTHETIC}: num_clips=100, seed=1, quality=95, clip.num_frames=60, clip.distractors=3, ...",
    )
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parser().parse_args(argv)


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
