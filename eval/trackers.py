"""List the trackers: what each is, where its weights come from, and what was measured of it.

    python -m eval.trackers
    python -m eval.trackers --json
"""

import json
import sys

from eval import command, parsers
from eval.catalog import Row, rows


def table(found: list[Row]) -> str:
    """The rows in columns."""
    lines = [f"{'tracker':31} {'paper':10} {'weights':10}   {'AUC':>5} {'frames/s':>9}"]
    for name, paper, source, auc, speed in found:
        numbers = f"{'-' if auc is None else f'{auc:.3f}':>7} {'-' if speed is None else f'{speed:.1f}':>9}"
        lines.append(f"{name:31} {paper:10} {source:10} {numbers}")
    return "\n".join(lines)


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    arguments = parsers.trackers().parse_args(argv)
    found = rows()
    if arguments.json:
        print(json.dumps([row._asdict() for row in found], indent=1))
    else:
        print(table(found))


if __name__ == "__main__":
    sys.exit(main())
