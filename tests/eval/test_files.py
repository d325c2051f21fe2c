"""Output files: whole or not at all, after a full disk and after a kill."""

import os
import signal
import subprocess
import sys

import pytest

from eval.files import ResultError, write_atomically
from tests.helpers import places
from tests.helpers.disk import small_disk


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "Deer.txt"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultError, match=r"Deer.txt: No space left on device; free space"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    """A real SIGKILL, at the worst moment: everything is written, nothing is renamed."""
    path, old = tmp_path / "Deer.txt", "old" * 10_000
    write_atomically(path, old)
    killed = (
        "import os, signal, sys; from pathlib import Path; from eval.files import write_atomically\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), 'new' * 10_000)\n"
    )
    process = subprocess.run([sys.executable, "-c", killed, str(path)], cwd=places.REPOSITORY, check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == old
    assert all(other.name.startswith(".") for other in tmp_path.iterdir() if other != path)  # no result by its name
    write_atomically(path, "newer")
    assert path.read_text() == "newer"


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_atomically(disk / "first.txt", "x" * 30_000)
        with pytest.raises(ResultError, match=r"second.txt: No space left on device") as caught:
            write_atomically(disk / "second.txt", "x" * 60_000)
        assert "\n" not in str(caught.value)
        assert [path.name for path in disk.iterdir()] == ["first.txt"]
