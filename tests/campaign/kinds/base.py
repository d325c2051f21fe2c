"""What a kind of input is."""

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from eval.files import ResultError
from eval.sources.sequences import SequenceError
from eval.sources.video import VideoError
from trackers.rules import SettingError
from trackers.weights import WeightsError

DOMAIN = (SequenceError, ResultError, VideoError, SettingError, WeightsError)


class Kind(NamedTuple):
    """Files that a command reads."""

    make: Callable[[Path], None]  # writes them, valid, into an empty folder
    read: Callable[[Path], Iterable[object] | None]  # what the command does; gives what it would print as skipped
    errors: tuple[type[Exception], ...] = DOMAIN  # those that the command turns into one line
    names_file: bool = True  # the line must name what lies in the folder
    quick: bool = True  # a few milliseconds


@cache
def fixed_folder(make: Callable[[Path], None]) -> Path:
    """A folder that `make` has filled, of this process."""
    folder = tempfile.TemporaryDirectory(prefix="fixed-")
    KEPT.append(folder)
    make(Path(folder.name))
    return Path(folder.name)


KEPT: list[tempfile.TemporaryDirectory] = []


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
