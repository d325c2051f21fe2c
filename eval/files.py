"""Output files: written whole or not at all."""

from pathlib import Path

from trackers.weights.atomic import replace_file


class ResultError(ValueError):
    """Results cannot be written or reused; the message is one line that names the file and the fix."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put the whole content under `path`, whose folder is made if need be.

    Raises `ResultError` if that fails; whatever was there before then stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}; free space or choose another --out") from error
