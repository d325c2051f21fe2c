"""Convert result files to the format of a toolkit, or pack them for a benchmark's server.

    python -m eval.formats RESULTS --to FORMAT --out PATH

RESULTS is a folder, a .zip or one file of any format; PATH is a folder, or a .zip for a server. Exit status 0; 1 with
one line where a file is not a result, a number is missing or nothing can be written.
"""

import argparse
import sys
from pathlib import Path

from eval import command
from eval.files import ResultError, keep_apart
from eval.scoring.formats import FORMATS, SERVERS, files_at, pack_results, read_results, write_results


@command.reports(ResultError, interrupted="some files may be missing, run it again")
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    out, results = arguments.out, read_results(arguments.results, origin=arguments.from_origin)
    if out.suffix == ".zip":
        keep_apart([out], [arguments.results])
        pack_results(out, results, arguments.to)
    else:
        if (out / "run.json").exists():
            raise ResultError(
                f"{out}: holds results of eval.run, which are not mixed with others; choose another --out"
            )
        inputs = files_at(arguments.results)
        write_results(out, results, arguments.to, origin=arguments.origin, inputs=inputs)
    note = FORMATS[arguments.to].note
    print(f"{len(results)} sequences: {arguments.out}" + (f" ({note})" if note else ""))


def _parser() -> argparse.ArgumentParser:
    parser = command.make_parser(
        "eval.formats",
        "Convert or pack result files.",
        "python -m eval.formats results/dimp_tiny --to got10k --out submission.zip",
    )
    parser.add_argument("results", type=Path, help="folder, .zip or file, of any format")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format to write")
    parser.add_argument("--out", type=Path, required=True, help=f"folder, or .zip for a server ({', '.join(SERVERS)})")
    parser.add_argument("--origin", type=int, default=0, choices=(0, 1), help="added to x, y (OTB's files are 1-based)")
    parser.add_argument("--from_origin", type=int, default=0, choices=(0, 1), help="of x, y in RESULTS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
