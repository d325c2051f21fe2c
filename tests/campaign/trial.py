"""One damaged input: made, read, and judged."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from eval import command
from eval.sources.video import silence_opencv
from tests.campaign import mutants
from tests.campaign.kinds import KINDS
from tests.campaign.kinds.base import fixed_folder
from tests.campaign.kinds.sequences import encoded, rows

SECONDS, MEBIBYTES = 5.0, 500.0  # that reading may take
READ, REFUSED, MISSED = "read", "refused", "missed"


class Outcome(NamedTuple):
    """What became of an input."""

    status: str  # READ, REFUSED with one line of a domain error, or MISSED
    text: str  # the line, or what is wrong
    seconds: float = 0.0
    mebibytes: float = 0.0  # by which resident memory grew while it was read
    noise: str = ""  # the end of what was printed


def attempt(name: str, index: int, seed: int, keep: Path | None = None) -> Outcome:
    """Input `index` of a kind; index -1 is the valid one. keep: a folder for the damaged files, which stay there."""
    kind = KINDS[name]
    valid = fixed_folder(kind.make)
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        folder = Path(scratch).resolve() / "input"
        shutil.copytree(valid, folder)
        if index >= 0:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
            mutants.damage_folder(folder, rng, donors())
        if keep is not None:
            shutil.copytree(folder, keep, symlinks=True)
        return _judge(name, folder)


def _judge(name: str, folder: Path) -> Outcome:
    kind, wrong, said = KINDS[name], "", []
    silence_opencv()
    _forget_peak()
    before, start = _memory("VmRSS"), time.perf_counter()
    with _printed() as noise:
        try:
            said = list(kind.read(folder) or ())
        except kind.errors as error:
            said = [error]
            if _within(error, MemoryError):
                wrong = "more memory than there is was asked for"
        except BaseException as error:
            wrong = f"{type(error).__name__} instead of a domain error: {_last_lines(error)}"
    seconds, grown = time.perf_counter() - start, max(0.0, _memory("VmHWM") - before)
    lines = [command.one_line(one) for one in said]
    for one, line in zip(said, lines):
        if "\n" in str(one).strip():
            wrong = wrong or f"not one line: {str(one)!r:.300}"
        elif kind.names_file and str(folder) not in line:
            wrong = wrong or f"names no file: {line:.300}"
    if seconds > SECONDS:
        wrong = wrong or f"took {seconds:.1f} s"
    if grown > MEBIBYTES:
        wrong = wrong or f"took {grown:.0f} MiB"
    status = MISSED if wrong else REFUSED if lines else READ
    return Outcome(status, wrong or (lines[0] if lines else ""), seconds, grown, noise.getvalue())


def _within(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_lines(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{error!s:.200} ({places})"


@contextlib.contextmanager
def _printed() -> Iterator[io.StringIO]:
    """Collects the end of what Python and C code print meanwhile."""
    collected = io.StringIO()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with contextlib.redirect_stdout(collected), contextlib.redirect_stderr(collected):
                yield collected
        finally:
            for number, descriptor in zip((1, 2), kept):
                os.dup2(descriptor, number)
                os.close(descriptor)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
            printed = file.read().decode(errors="replace")
            collected.seek(0, os.SEEK_END)
            collected.write(printed)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """VmRSS or VmHWM in MiB; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field)), 0.0)


@cache
def donors() -> tuple[bytes, ...]:
    """Valid content of other kinds."""
    array, archive, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(6.0))
    np.savez(archive, a=np.arange(6.0))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a.txt", rows())
    return (
        *(encoded(".png"), encoded(".jpg"), rows().encode(), b'{"a": [1, {"b": null}]}\n', b"<a><b>1</b></a>\n"),
        *(array.getvalue(), archive.getvalue(), packed.getvalue(), bytes(64), b"\xff" * 64, b"\n" * 100),
        safetensors.numpy.save({"a": np.arange(6.0)}),
    )
