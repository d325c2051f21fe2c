"""Files: outputs, written whole or not at all and never over what they were made from; JSON read back; the cache."""

import json
import os
import tempfile
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import platformdirs


class ResultError(ValueError):
    """Results cannot be written or reused; the message is one line that names the file and the fix."""


def cache_folder() -> Path:
    """The user's folder for what can be made or fetched again, which need not exist; `$XDG_CACHE_HOME` moves it."""
    return platformdirs.user_cache_path("jaxtrack", appauthor=False)


def hidden_beside(path: Path) -> Path:
    """A new empty file beside `path`, for what is written piece by piece; `publish` gives it the name. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(path.suffix.lower(), f".{path.stem}.", path.parent)
    os.close(handle)
    return Path(name)


def publish(hidden: Path, path: Path) -> None:
    """`hidden` becomes `path`, for everyone whom the umask allows to read it. OSError."""
    mask = os.umask(0)  # mkstemp's files are private to the user; a result has the mode of any other new file
    os.umask(mask)
    hidden.chmod(0o666 & ~mask)
    hidden.replace(path)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put the whole content under `path`, whose folder is made if need be.

    Raises `ResultError` if that fails; whatever was there before then stays as it was.
    """
    from trackers.weights.atomic import replace_file  # with it comes jax, which readers of files need not wait for

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}; free space or choose another --out") from error


def keep_apart(outputs: Iterable[Path | None], inputs: Iterable[Path | str | None]) -> None:
    """ResultError, one line, where an output is an input, by a link as well, or another output; None: no file."""
    read = {_identity(Path(path)): path for path in inputs if path is not None}
    written: set[Hashable] = set()
    for output in outputs:
        if output is None:
            continue
        identity = _identity(output)
        if identity in read:
            fix = "choose another name for the output"
            raise ResultError(f"{output}: would replace {read[identity]}, which is read; {fix}")
        if identity in written:
            raise ResultError(f"{output}: two outputs have this name; give each its own")
        written.add(identity)


def _identity(path: Path) -> Hashable:
    try:
        return path.stat().st_dev, path.stat().st_ino
    except OSError:  # not there
        return path.resolve()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a .json file, empty where there is no such file; ResultError where it holds something else."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not JSON ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise ResultError(f"{path}: must be an object; restore the file")
    return content
