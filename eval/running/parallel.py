"""Work shared out: among threads of this process, and among the processes of a job."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import jax

from eval.sources.sequences import SequenceError
from trackers.rules import SettingError

Item = TypeVar("Item")

WEEK = 7 * 24 * 3600  # seconds


class Stopped(Exception):
    """The run was interrupted while this item was worked on."""


def side_by_side(
    work: Callable[[Item, threading.Event], None], items: Iterable[Item], workers: int, problems: list[str]
) -> None:
    """`work(item, stop)` for each item, on `workers` threads; a SequenceError becomes a line of `problems`.

    After any other exception, Ctrl-C among them, which is raised here, nothing new is begun and `stop` is set; `work`
    may then end with Stopped.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(work, item, stop) for item in items]):
            try:
                future.result()
            except SequenceError as error:
                problems.append(str(error))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def join_processes() -> tuple[int, int]:
    """(number of this process, number of processes) of a job that `jax.distributed` finds (Slurm, TPU pod, MPI).

    Before any other use of JAX. Each process computes on its own devices unless told otherwise, and waits at its end
    for the others. SettingError where there is no such job.
    """
    try:
        jax.distributed.initialize(shutdown_timeout_seconds=WEEK)  # the first to finish waits for the slowest
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingError(f"--distributed: no job of several processes ({reason}); start it with e.g. srun") from error
    return jax.process_index(), jax.process_count()


def wait_for_processes() -> None:
    """Return when all processes have come here or ended; nothing may be done together after that."""
    jax.distributed.shutdown()
