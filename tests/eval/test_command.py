"""What commands share: option types, one-line errors, the cache of compiled programs, memory that stays."""

import argparse
import os
import platform
import shlex
import signal
import subprocess
import sys
import time

import jax
import pytest

from eval.command import (
    enable_compilation_cache,
    make_parser,
    names,
    print_skipped,
    reports,
    whole_number,
    whole_numbers,
)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "²"])
def test_a_whole_number_of_at_least_one(text):
    assert whole_number(1)("17") == 17
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a whole number >= 1"):
        whole_number(1)(text)


def test_lists_are_separated_by_commas():
    assert whole_numbers("1,4,16") == [1, 4, 16] and names("a, b") == ["a", "b"]
    with pytest.raises(argparse.ArgumentTypeError):
        whole_numbers("1,")


def test_a_command_that_fails_prints_one_line_and_returns_its_status(capsys):
    @reports(ValueError, OSError, interrupted="run it again")
    def main(error):
        if error is not None:
            raise error

    assert main(None) == 0 and capsys.readouterr() == ("", "")
    for error, line in ((ValueError("a:\n  b"), "a: b"), (OSError(), "OSError()")):
        assert main(error) == 1 and capsys.readouterr().err == f"error: {line}\n"
    assert main(KeyboardInterrupt()) == 130 and capsys.readouterr().err == "interrupted; run it again\n"
    assert main(KeyboardInterrupt("step 3")) == 130 and capsys.readouterr().err == "interrupted: step 3\n"
    with pytest.raises(KeyError):  # a fault of ours keeps its traceback
        main(KeyError("x"))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert reports()(lambda: os.kill(os.getpid(), signal.SIGHUP))() == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_command_that_is_terminated_ends_once_as_by_ctrl_c(capsys):
    @reports(interrupted="run it again")
    def main(number):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)  # the second does not hit what cleans up
            written.append(number)

    written = []
    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        assert main(number) == status and written.pop() == number
        assert capsys.readouterr().err == "interrupted; run it again\n"
        assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_the_collection_of_garbage_is_not_lost(number, status, capsys):
    """Python ignores what is raised in a destructor."""

    class Garbage:
        def __del__(self):
            signal.raise_signal(number)

    @reports(ValueError, interrupted="run it again")
    def main():
        garbage = Garbage()
        del garbage
        for _ in range(500):
            time.sleep(0.01)

    began = time.perf_counter()
    assert main() == status and time.perf_counter() - began < 2
    assert capsys.readouterr().err == "interrupted; run it again\n"


def test_a_command_under_nohup_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert reports()(lambda: os.kill(os.getpid(), signal.SIGHUP))() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_was_skipped_is_printed_and_makes_the_status(capsys):
    assert print_skipped([]) == 0
    assert print_skipped(["a", ValueError("b")]) == 1
    assert capsys.readouterr().err == "skipped: a\nskipped: b\n"


def test_the_example_ends_the_help():
    text = make_parser("eval.run", "python -m eval.run --out results").format_help()
    assert text.startswith("usage: python -m eval.run ") and text.endswith(
        "example:\n  python -m eval.run --out results\n"
    )


def test_long_examples_are_continued_as_a_shell_reads_them():
    words = [f"--option-{number}=x" for number in range(20)]
    text = make_parser("eval.run", " ".join(["python -m eval.run", *words])).format_help()
    example = text.partition("example:\n")[2]
    assert max(map(len, example.splitlines())) <= 78
    assert shlex.split(example.replace("\\\n", "")) == ["python", "-m", "eval.run", *words]


def test_options_may_be_written_with_underscores():
    """Abbreviated too; values, and what follows `--`, stay as they are."""
    parser = make_parser("eval.run", "python -m eval.run")
    parser.add_argument("--data-dir")
    parser.add_argument("--set", action="append")
    parser.add_argument("rest", nargs="*")
    for given in ("--data-dir a_b", "--data_dir a_b", "--data_dir=a_b", "--data-d a_b", "--data_d=a_b"):
        assert parser.parse_args(given.split()).data_dir == "a_b"
    assert parser.parse_args(["--set", "a_b=c_d", "--set=a_b=--c_d"]).set == ["a_b=c_d", "a_b=--c_d"]
    assert parser.parse_args(["x_y", "--", "--data_dir"]).rest == ["x_y", "--data_dir"]
    parts = make_parser("eval.claims.siamese", "python -m eval.claims.siamese")
    parts.add_subparsers().add_parser("levels").add_argument("--data-dir")
    assert parts.parse_args(["levels", "--data_dir", "a_b"]).data_dir == "a_b"


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        assert enable_compilation_cache() == tmp_path / "jaxtrack" / "xla"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
        assert enable_compilation_cache() == tmp_path / "own"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
PAGE_FAULTS = """
import sys
import resource
from concurrent.futures import ThreadPoolExecutor
import jax
import jax.numpy as jnp
from eval.command import keep_freed_memory

keep_freed_memory(threads=sys.argv[1] == "threads")

def large(x):  # a temporary array of 64 MiB
    table = jax.lax.optimization_barrier(jnp.outer(x, x))
    return table @ x

call = jax.jit(large)
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call(jnp.ones(4096)).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def least():
    return min(page_faults() for repeat in range(20))

with ThreadPoolExecutor(1) as thread:
    print(thread.submit(least).result() if sys.argv[1] == "threads" else least())
"""


def page_faults(caller: str) -> int:
    """The fewest of any call: now and then a freed piece does not fit again. The 64 MiB are 16384 pages.

    caller: "main", this thread alone calls; "threads", others do.
    """
    out = subprocess.run([sys.executable, "-c", PAGE_FAULTS, caller], check=True, capture_output=True, text=True)
    return int(out.stdout)


@glibc
@pytest.mark.parametrize("caller", ["main", "threads"])
def test_freed_memory_is_kept(caller):
    assert page_faults(caller) < 2000


@glibc
def test_what_the_environment_sets_stays(monkeypatch):
    for variable in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(variable, "1000000")
    assert page_faults("threads") > 8000
