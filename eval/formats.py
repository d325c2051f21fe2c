"""Convert result files to the format of a toolkit, or pack them for a benchmark's server.

    python -m eval.formats RESULTS --to FORMAT --out PATH

RESULTS is a folder, a .zip or one file of any format; PATH is a folder, or a .zip for a server. What eval.run and
eval.track wrote counts x and y from 0, and is written as the toolkit's true boxes count; what others wrote keeps its
numbers. mot, coco, youtube-vis and cvat hold all targets of a video in one file, and say what they count from. Exit
status 0; 1 with one line where a file is not a result, a number is missing or nothing can be written.
"""

import argparse
import sys
from pathlib import Path

from eval import annotations, command, parsers
from eval.annotations import is_annotation
from eval.files import ResultError, keep_apart, read_json, write_atomically
from eval.scoring.formats import (
    FORMATS,
    files_at,
    origin_of,
    pack_results,
    read_results,
    read_videos,
    write_results,
)


@command.reports(ResultError, interrupted="some files may be missing, run it again")
def main(argv: list[str] | None = None) -> None:
    arguments = parsers.formats().parse_args(argv)
    if (arguments.out / "run.json").exists():
        raise ResultError(
            f"{arguments.out}: holds results of eval.run, which are not mixed with others; choose another --out"
        )
    if arguments.to in annotations.FORMATS:
        _write_annotations(arguments)
        return
    found, origin = _origins(arguments)
    out, results = arguments.out, read_results(arguments.results, origin=found)
    if out.suffix == ".zip":
        keep_apart([out], [arguments.results])
        pack_results(out, results, arguments.to, origin=origin)
    else:
        inputs = files_at(arguments.results)
        write_results(out, results, arguments.to, origin=origin, inputs=inputs)
    shift = origin - found
    notes = [f"{abs(shift)} {'added to' if shift > 0 else 'taken from'} x and y"] * bool(shift)
    notes += [FORMATS[arguments.to].note] * bool(FORMATS[arguments.to].note)
    print(f"{len(results)} sequences: {arguments.out}" + (f" ({'; '.join(notes)})" if notes else ""))


def _write_annotations(arguments: argparse.Namespace) -> None:
    """A file for each video."""
    out, form = arguments.out, annotations.FORMATS[arguments.to]
    if arguments.origin is not None or out.suffix == ".zip":
        raise ResultError(f"{out}: --to {arguments.to} writes a folder, and says itself what x and y count from")
    videos = read_videos(arguments.results, origin=arguments.from_origin)
    texts = {out / f"{annotations.file_name(video)}{form.suffix}": form.render(video) for video in videos}
    if len(texts) < len(videos):
        raise ResultError(f"{out}: two videos have files of one name; rename one")
    keep_apart(texts, files_at(arguments.results))
    for file, text in texts.items():
        write_atomically(file, text)
    print(f"{len(videos)} {'video' if len(videos) == 1 else 'videos'}: {out}")


def _origins(arguments: argparse.Namespace) -> tuple[int, int]:
    """What x and y count from in RESULTS, and in what is written."""
    path: Path = arguments.results
    run = read_json((path if path.is_dir() else path.parent) / "run.json") if path.suffix != ".zip" else {}
    told = path.suffix != ".zip" and path.is_file() and is_annotation(path.name, path.read_text(errors="replace"))
    ours = run or told  # of eval.run, or in a format that says what it counts from
    origin = origin_of(arguments.to, str(run.get("dataset"))) if ours else 0
    return arguments.from_origin, origin if arguments.origin is None else arguments.origin


if __name__ == "__main__":
    sys.exit(main())
