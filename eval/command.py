"""What commands share: the parser, types of arguments, exit statuses, one-line errors, the set-up of the process."""

import argparse
import contextlib
import ctypes
import functools
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import programs
from eval.files import cache_folder
from eval.programs import INTERRUPTED
from eval.sources.layouts import LAYOUTS

if TYPE_CHECKING:  # importing jax and trackers takes seconds, which parsers need not spend
    import trackers
    from trackers.base import Params

FAILED = 1  # exit status after an error, and where something had to be skipped
LONGEST_LINE = 1500  # characters of an error: an unreadable file may be quoted in it
COLUMNS = 78  # of a help, as argparse fills a terminal of 80

# mallopt's numbers in glibc's malloc.h, the environment's names for them, and our values
_KEPT_PIECES = ((-3, "MALLOC_MMAP_THRESHOLD_", 2**30), (-1, "MALLOC_TRIM_THRESHOLD_", 2**31 - 1))
_ONE_ARENA = (-8, "MALLOC_ARENA_MAX", 1)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose long options may be written with `_` for `-`: --data-dir is --data-dir."""

    def parse_known_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else list(args)
        last = given.index("--") if "--" in given else len(given)
        spelled = [_UNDERSCORED.sub(_dashed, text) for text in given[:last]]
        return super().parse_known_args(spelled + given[last:], namespace)


_UNDERSCORED = re.compile(r"^--\w[\w-]*(?==|$)")


def _dashed(option: re.Match[str]) -> str:
    return option[0].replace("_", "-")


def make_parser(module: str, *examples: str, details: str = "", kind: type[Parser] = Parser) -> Parser:
    """The parser of the program that is `module`, described by its row in `eval.programs` and by `details`.

    The help fits 80 columns: of `details` every paragraph is filled, and `examples`, command lines, are continued.
    kind: a Parser that checks more than argparse does.
    """
    program = programs.BY_MODULE[module]
    paragraphs = [program.summary, *details.strip().split("\n\n")] if details else [program.summary]
    more = [other.words for other in programs.PROGRAMS if other.words.startswith(f"{program.words} ")]
    if more:
        paragraphs.append(f"More: {', '.join(more)}.")
    texts = [textwrap.fill(" ".join(text.split()), COLUMNS) for text in paragraphs]
    lines = [_continued(programs.spelled(" ".join(example.split()))) for example in examples]
    return kind(
        prog=programs.spelled(f"python -m {module}"),
        description=programs.spelled("\n\n".join(texts)),
        epilog="\n  ".join([f"example{'s' * (len(lines) > 1)}:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _continued(line: str) -> str:
    """A command line as a shell reads it from several lines that fit the help."""
    parts = textwrap.wrap(line, COLUMNS - 6, break_long_words=False, break_on_hyphens=False)
    return " \\\n      ".join(parts)


def add_tracker_changes(parser: argparse.ArgumentParser) -> None:
    """--weights and --set: what a tracker is made with."""
    parser.add_argument("--weights", type=Path, help="weights, ours or public; default: the tracker's own")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the tracker's config")


def add_sequences(
    parser: argparse.ArgumentParser, text: str = "where the sequences are", *, required: bool = True
) -> None:
    """--data-dir, --dataset and --sequences: the arguments of `eval.sources.layouts.read_dataset`."""
    parser.add_argument("--data-dir", type=Path, required=required, metavar="DIR", help=text)
    layouts = f"layout of the files: {', '.join(LAYOUTS)} (default: folder)"
    parser.add_argument("--dataset", choices=LAYOUTS, default="folder", metavar="LAYOUT", help=layouts)
    parser.add_argument("--sequences", type=names, metavar="A,B", help="default: all")


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """The options of every command that tracks a benchmark's sequences."""
    add_tracker_changes(parser)
    add_sequences(parser)
    parser.add_argument("--out", type=Path, required=True, help="results go below it, by tracker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="run again, and delete results of other settings")


def whole_number(lowest: int) -> Callable[[str], int]:
    """Type of an argument: a whole number of at least `lowest`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= {lowest}")
        return int(text)

    return read


def whole_numbers(text: str) -> list[int]:
    """Type of an argument: 1,4,16."""
    return [whole_number(1)(number) for number in text.split(",")]


def names(text: str) -> list[str]:
    """Type of an argument: A,B."""
    return [name.strip() for name in text.split(",")]


def named_path(text: str) -> tuple[str, Path]:
    """NAME=PATH as (NAME, PATH), PATH alone as ("", PATH); what exists is a path, although its name holds a `=`."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and not Path(text).exists() else ("", Path(text))


def reports(*errors: type[Exception], interrupted: str = "nothing was written") -> Callable:
    """Decorator of a command's `main`, which returns its exit status or None for 0.

    One of `errors` becomes one line on stderr and status 1. Ctrl-C becomes one line and status 130: the
    exception's own words, or `interrupted`, which says what is left and what to do. SIGTERM and SIGHUP end it as
    Ctrl-C does, with status 143 and 129. OpenCV prints nothing of its own.
    """

    def decorate(main: Callable[..., int | None]) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(*args, **options) -> int:
            from eval.sources.video import silence_opencv

            silence_opencv()
            with _ended_by_signals() as received:
                try:
                    status = main(*args, **options) or 0
                except errors as error:
                    fail(error)
                    status = FAILED
                except KeyboardInterrupt as stop:
                    print(f"interrupted: {stop}" if str(stop) else f"interrupted; {interrupted}", file=sys.stderr)
                    status = INTERRUPTED
            return 128 + received[0] if status == INTERRUPTED and received else status

        return guarded

    return decorate


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """SIGTERM and, where it exists and is not ignored (nohup), SIGHUP raise KeyboardInterrupt; their numbers.

    Only the first does: `timeout` and schedulers send it twice, and the second would hit what writes the results.
    Python ignores what is raised in a destructor or while it collects garbage: it is then raised again, Ctrl-C's, too.
    """
    received: list[int] = []
    ignored: list[bool] = []

    def end(number: int, frame: object) -> None:
        received.append(number)
        if len(received) == 1 or ignored:
            ignored.clear()
            raise KeyboardInterrupt

    def unraisable(what: Any) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            shown(what)
            return
        ignored.append(True)
        threading.Timer(0.01, signal.raise_signal, [received[0] if received else signal.SIGINT]).start()

    before, shown = {}, sys.unraisablehook
    if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
        ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        ends = [number for number in ends if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in ends}
        sys.unraisablehook = unraisable
    try:
        yield received
    finally:
        sys.unraisablehook = shown
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it is not Python's


def fail(error: Exception | str) -> int:
    """Print an error as one line on stderr; the exit status."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return FAILED


def one_line(error: Exception | str) -> str:
    """What an error says, in one line; its type where it says nothing, and the ends of what is very long."""
    text = " ".join(str(error).split()) or repr(error)
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 300]} ... {text[-300:]}"


def print_skipped(problems: Iterable[Any]) -> int:
    """Print what had to be left out, a line each, on stderr; the exit status: 0 where there is nothing."""
    lines = [f"skipped: {one_line(problem)}" for problem in problems]
    for line in lines:
        print(line, file=sys.stderr)
    return FAILED if lines else 0


def load_tracker(name: str, weights: Path | None) -> "tuple[trackers.Entry, Params]":
    """(registry entry, parameters); SettingError for an unknown name and for weights that do not fit it."""
    import trackers
    from trackers.rules import SettingError

    try:
        return trackers.get(name), trackers.load_params(name, weights)
    except (ValueError, OSError) as error:
        raise SettingError(str(error)) from error


def prepare_process(*, threads: bool = False) -> None:
    """`enable_compilation_cache` and `keep_freed_memory`; before the first array, since threads keep what they have."""
    enable_compilation_cache()
    keep_freed_memory(threads=threads)


def enable_compilation_cache() -> Path:
    """Keep compiled programs on disk, so that only the first run on a machine compiles; returns the folder.

    The folder is `$JAX_COMPILATION_CACHE_DIR`, or `xla` in the user's `cache_folder`. Where it cannot be written, JAX
    warns and continues. Programs that compile in under half a second are not kept.
    """
    import jax

    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder() / "xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def keep_freed_memory(*, threads: bool = False) -> None:
    """Let the process keep the memory that it has freed, up to its peak, for its next allocation.

    A program on the CPU allocates its temporary arrays at every call. Where they are large, glibc gets them from the
    system and gives them back each time, and the system clears every page again: frames of Siamese trackers took up to
    1.7 times as long. glibc keeps large pieces in the main thread's arena alone, so a program has to run in the thread
    that calls it (`jax_cpu_enable_async_dispatch` off), and that has to be the main one. threads: others call programs,
    too; then all threads share that arena. XLA's wait for it while they compile, which took 1.1 to 1.5 times as long.

    Does nothing with another C library; an option that the environment sets stays as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return
    for option, variable, value in (*_KEPT_PIECES, *([_ONE_ARENA] if threads else [])):
        if variable not in os.environ:
            mallopt(option, value)
    if not threads:
        import jax

        jax.config.update("jax_cpu_enable_async_dispatch", False)
