"""List the trackers: what each is, where its weights come from, and what was measured of it.

    python -m eval.trackers
    python -m eval.trackers --json
"""

import json
import sys

from eval import command
from eval.catalog import Row, rows


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
