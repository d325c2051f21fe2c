"""The outside world: read sequences, run trackers on them, score, draw, report."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _check_namesakes() -> None:
    """ImportError, and for a command one line, where `trackers` or `ops` is another project's package.

    PyPI has some of these names. This runs before a command imports them, and runs nothing of theirs.
    """
    for name in ("trackers", "ops"):
        spec = find_spec(name)
        places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
        file = Path(places[0]) if places and places[0] else None
        if not places or (file and "jaxtrack" in file.read_text().partition("\n")[0]):
            continue
        message = (
            f"import {name} finds {file or places[1]}, which is another project's package; install jaxtrack into an "
            "environment of its own, and have nothing of this name in the current folder or on PYTHONPATH"
        )
        # python -m imports the packages above its module; the other is the console script
        if sys.argv[:1] == ["-m"] or Path(sys.argv[0]).stem == "jaxtrack":
            sys.exit(f"error: {message}")
        raise ImportError(message)


def _check_arguments() -> None:
    """Of `python -m MODULE`: --help and mistaken options end here, before MODULE imports what takes seconds."""
    from eval import programs

    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    if module in programs.BY_MODULE:
        programs.parser(module).parse_args(sys.argv[1:])


_check_namesakes()
if sys.argv[:1] == ["-m"]:  # python -m imports the packages above its module first
    _check_arguments()
