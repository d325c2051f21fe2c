"""List the trackers: what each is, where its weights come from, and what was measured of it.

    python -m eval.trackers
    python -m eval.trackers --json
"""

import json
import sys
from typing import NamedTuple

import trackers
from eval import command
from trackers import measured
from trackers.nets import models
from trackers.weights import released

# By the module of a tracker's `make`
PAPERS = {
    "atom": "ATOM",
    "dasiamrpn": "DaSiamRPN",
    "dimp": "DiMP",
    "memtrack": "MemTrack",
    "siamfc": "SiamFC",
    "siamrpn": "SiamRPN",
    "thor": "THOR",
}


class Row(NamedTuple):
    """A tracker of the table."""

    tracker: str
    paper: str
    weights: str  # "shipped", "to convert" from a public file, "to train", or "none" where it needs no file
    auc: float | None  # None: not measured
    frames_per_second: float | None


def rows() -> list[Row]:
    """All trackers, in the order of `trackers.names`."""
    return [
        Row(name, paper(name), weights(name), measured.AUC.get(name), measured.FRAMES_PER_SECOND.get(name))
        for name in trackers.names()
    ]


def paper(name: str) -> str:
    """Whose tracker it is."""
    found = PAPERS[trackers.get(name).make.__module__.rpartition(".")[2]]
    return found + "++" * name.startswith("siamrpnpp")


def weights(name: str) -> str:
    """How one comes by its weights."""
    model = trackers.get(name).model
    if model is None:
        return "none"
    if released.path(model):
        return "shipped"
    row = models.get(model)
    return "to convert" if row.peer or row.heads else "to train"


def table(found: list[Row]) -> str:
    """The rows in columns."""
    lines = [f"{'tracker':31} {'paper':10} {'weights':10}   {'AUC':>5} {'frames/s':>9}"]
    for name, paper, source, auc, speed in found:
        numbers = f"{'-' if auc is None else f'{auc:.3f}':>7} {'-' if speed is None else f'{speed:.1f}':>9}"
        lines.append(f"{name:31} {paper:10} {source:10} {numbers}")
    return "\n".join(lines)


def parser() -> command.Parser:
    parser = command.make_parser(
        "eval.trackers",
        "python -m eval.trackers --json",
        details="AUC: mean over 18 real sequences; frames/s: one target in 480 x 640 on two CPU cores. RESULTS.md has "
        "the commands. Weights: shipped with the package; to convert by `convert` (trackers/README.md says from which "
        "files); none needed. Your own tracker is MODULE:ATTRIBUTE.",
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    found = rows()
    if arguments.json:
        print(json.dumps([row._asdict() for row in found], indent=1))
    else:
        print(table(found))


if __name__ == "__main__":
    sys.exit(main())
