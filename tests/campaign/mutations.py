"""Damages valid files of every kind that the project reads, and demands that each is read or refused in one line.

    python -m tests.campaign.mutations --count 10000 --seed 0
    python -m tests.campaign.mutations --only weights.npz:17 --keep FOLDER

A damaged input must be read, or be refused by a domain error of one line that names the file, within 5 s and 500 MiB of
memory. Anything else is a miss: printed, and reproduced by --only. Inputs are read in processes of their own, so that a
crash and a hang are misses, too. Exit status 1 where there is one.
"""

import argparse
import collections
import json
import multiprocessing
import queue
import resource
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.campaign.kinds import KINDS
from tests.campaign.trial import MISSED, READ, REFUSED, SECONDS, Outcome, attempt

SPARE = 4 << 30  # bytes of address space beside what a process has at its start: an end before the machine's
INVALID = "the valid input"  # is what a miss begins with that makes the others of its kind meaningless
FIRST = 120.0  # seconds for the first input of a kind, with imports, compilation and the valid files


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    if arguments.only:
        return _one(arguments)
    names = [name for name in KINDS if not arguments.kinds or any(map(name.startswith, arguments.kinds))]
    jobs: queue.Queue[tuple[str, int]] = queue.Queue()
    per_kind = [arguments.count // len(names) + (place < arguments.count % len(names)) for place in range(len(names))]
    for name, count in zip(names, per_kind):
        for index in range(count):
            jobs.put((name, index))
    rows = {name: Row() for name in names}
    lock, broken = threading.Lock(), set()

    def work() -> None:
        with Worker() as worker:
            while True:
                try:
                    name, index = jobs.get_nowait()
                except queue.Empty:
                    return
                if name in broken:
                    continue
                outcome = worker.run(name, index, arguments.seed)
                with lock:
                    if outcome.text.startswith(INVALID):
                        broken.add(name)
                    rows[name].add(outcome)
                    if outcome.status == MISSED:
                        print(f"miss: {name}:{index}: {outcome.text}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(arguments.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(table(rows))
    if arguments.json:
        content = {"count": arguments.count, "seed": arguments.seed} | {name: vars(row) for name, row in rows.items()}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(any(row.counts[MISSED] for row in rows.values()))


@dataclass
class Row:
    """What became of the inputs of a kind."""

    counts: collections.Counter = field(default_factory=collections.Counter)
    seconds: float = 0.0  # of the slowest
    mebibytes: float = 0.0  # of the largest
    noisy: int = 0  # of these C code or a library printed something
    noise: str = ""

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.status] += 1
        self.seconds, self.mebibytes = max(self.seconds, outcome.seconds), max(self.mebibytes, outcome.mebibytes)
        self.noisy += bool(outcome.noise)
        self.noise = self.noise or outcome.noise[-300:]


def table(rows: dict[str, Row]) -> str:
    lines = [f"{'kind':<22} {'inputs':>7} {'read':>6} {'refused':>8} {'missed':>7} {'s':>6} {'MiB':>6} {'printed':>8}"]
    for name, row in rows.items():
        counts = [row.counts.total(), *(row.counts[status] for status in (READ, REFUSED, MISSED))]
        numbers = " ".join(f"{count:>{width}}" for count, width in zip(counts, (7, 6, 8, 7)))
        lines.append(f"{name:<22} {numbers} {row.seconds:>6.2f} {row.mebibytes:>6.0f} {row.noisy:>8}")
    total = sum((row.counts for row in rows.values()), collections.Counter())
    counts = [total.total(), *(total[status] for status in (READ, REFUSED, MISSED))]
    lines.append(f"{'all':<22} " + " ".join(f"{count:>{width}}" for count, width in zip(counts, (7, 6, 8, 7))))
    return "\n".join(lines)


class Worker:
    """A process that reads inputs; ended and started again after one that crashes or hangs."""

    def __enter__(self) -> "Worker":
        self._start()
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._known: set[str] = set()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def run(self, name: str, index: int, seed: int) -> Outcome:
        if name not in self._known:
            valid = self._ask(name, -1, seed, FIRST)
            if valid.status != READ:
                return valid._replace(status=MISSED, text=f"{INVALID}: {valid.text}")
            self._known.add(name)
        return self._ask(name, index, seed, 2 * SECONDS)

    def _ask(self, name: str, index: int, seed: int, seconds: float) -> Outcome:
        try:
            self._pipe.send((name, index, seed))
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            wrong = f"no end after {seconds:.0f} s"
        except (EOFError, OSError):
            self._process.join(5)
            wrong = f"the process ended, exit code {self._process.exitcode}"
        self._end()
        self._start()
        return Outcome(MISSED, wrong)


def _serve(pipe: Connection) -> None:
    from tests.campaign.kinds.weights import readable_models

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with readable_models():
        while True:
            try:
                job = pipe.recv()
            except EOFError:
                return
            try:
                outcome = attempt(*job)
            except Exception as error:  # the valid files could not be written, or not be damaged
                outcome = Outcome(MISSED, f"no input: {error!r}")
            pipe.send(outcome)


def _one(arguments: argparse.Namespace) -> int:
    name, _, index = arguments.only.partition(":")
    from tests.campaign.kinds.weights import readable_models

    with readable_models():
        outcome = attempt(name, int(index), arguments.seed, arguments.keep)
    print(outcome)
    return int(outcome.status == MISSED)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.campaign.mutations", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="inputs, shared among the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="beginnings of their names (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--only", metavar="KIND:INDEX", help="one input, in this process; index -1: the valid one")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="of --only: the damaged files stay there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
