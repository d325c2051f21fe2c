"""Output files: whole or not at all, after a full disk and after a kill."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from eval.files import ResultError, cache_folder, keep_apart, write_atomically
from tests.helpers import places
from tests.helpers.disk import small_disk


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_the_cache_lies_where_linux_has_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "jaxtrack"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "jaxtrack" and not cache_folder().exists()


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


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("eval.convert", "{file} {link} --model resnet50"),
        ("eval.convert", "other.pth {file} --model dimp18 --heads {link}"),
        ("eval.convert", "other.safetensors {file} --to pysot --like {link}"),
        ("eval.export", "--tracker dimp18 --weights {file} --out {link}"),
        ("eval.claims.memory", "--weights {file} --out {link}"),
        ("eval.claims.siamese", "center-bias --data_dir . --weights a={file} --weights b=c --out {link}"),
        ("eval.claims.siamese", "levels --data_dir . --weights {file} --out {link}"),
        ("train.benchmark.__main__", "step --config {file} --json {link}"),
        ("train.release", "{file} --out {link}"),
        ("train.release", "other --backbone {file} --out {link}"),
    ],
)
def test_no_command_writes_over_what_it_reads(tmp_path, monkeypatch, capsys, module, arguments):
    monkeypatch.chdir(tmp_path)
    file, link = tmp_path / "run=1.safetensors", tmp_path / "link.safetensors"
    file.write_bytes(b"precious")
    link.symlink_to(file)
    command = importlib.import_module(module).main
    assert command([part.format(file=file, link=link) for part in arguments.split()]) in (1, 2)
    error = capsys.readouterr().err
    assert "which is read; choose another name" in error and error.count("\n") == 1
    assert file.read_bytes() == b"precious" and link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_outputs_have_names_of_their_own(tmp_path):
    keep_apart([tmp_path / "a", None, tmp_path / "b"], [tmp_path / "c", None])
    with pytest.raises(ResultError, match=r"a: two outputs have this name"):
        keep_apart([tmp_path / "a", tmp_path / "x" / ".." / "a"], [])


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_atomically(disk / "first.txt", "x" * 30_000)
        with pytest.raises(ResultError, match=r"second.txt: No space left on device") as caught:
            write_atomically(disk / "second.txt", "x" * 60_000)
        assert "\n" not in str(caught.value)
        assert [path.name for path in disk.iterdir()] == ["first.txt"]
