"""Long runs: memory that does not grow, nothing compiled on the way, numbers that stay finite.

    python -m tests.campaign.soak --tracker dimp_tiny --frames 20000 --set region.image_size=128

The first half of the frames goes through the loop of `eval.track`, the second through `OnlineTracker`. A drawn target
moves over a textured ground; among its frames are black, white and frozen ones, noise, frames of three other sizes, and
4K. Prints one line of JSON; exit status 1 where memory has grown by more than 20 MiB after the first frames, where
something was compiled after them, or where a number is not finite.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import jax
import numpy as np

import trackers
from eval import targets
from eval.command import prepare_process
from eval.online import OnlineTracker
from eval.sources.video import Source
from tests.helpers import narrow, small_trackers
from trackers import rules
from trackers.nets import models

SETTLED = 200  # frames until all sizes were seen and memory has its level
GROWTH = 20.0  # MiB after them
SIZE, OTHERS, LARGE = (120, 160), ((90, 200), (121, 161), (300, 260)), (2160, 3840)
BOX = (60.0, 40.0, 24.0, 20.0)  # x, y, w, h
PERIOD = 50  # frames from one kind of frames to the next
COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass
class Watch:
    """What is measured while frames are asked for."""

    seen: int = 0
    compiled: int = 0
    settled: float = 0.0  # MiB after the first frames
    largest: float = 0.0  # after that
    compiled_before: int = 0

    def frame(self) -> None:
        self.seen += 1
        if self.seen == SETTLED:
            self.settled, self.compiled_before = resident(), self.compiled
        if self.seen > SETTLED and self.seen % 20 == 0:
            self.largest = max(self.largest, resident())

    def figures(self) -> dict[str, Any]:
        return {
            "frames": self.seen,
            "settled_mib": round(self.settled, 1),
            "grown_mib": round(self.largest - self.settled, 1),
            "compiled_later": self.compiled - self.compiled_before,
        }


def resident() -> float:
    """MiB of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def images(count: int, seed: int, watch: Watch) -> Iterator[np.ndarray]:
    """`[H, W, 3]` uint8 each: the drawn scene, and every PERIOD frames ten of another kind; 4K twice in a thousand."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(60, 140, (20, 32, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    patch = np.kron(rng.integers(0, 255, (5, 6, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    large = np.tile(ground, (LARGE[0] // 320 + 1, LARGE[1] // 512 + 1, 1))[: LARGE[0], : LARGE[1]]
    before = ground[: SIZE[0], : SIZE[1]]
    for index in range(count):
        watch.frame()
        turn, place = divmod(index, PERIOD)
        kind = turn % 8 if place >= PERIOD - 10 and index > 0 else 0
        if index < SETTLED:  # every size early, one after the other
            kind = {150: 5, 155: 6, 160: 7, 165: 8}.get(index // 5 * 5, 0)
        size = OTHERS[kind - 5] if 5 <= kind <= 7 else SIZE
        x, y = _place(BOX[0], index, size[1] - 24), _place(BOX[1], index, size[0] - 20)
        if index in (60, 90, 120) or index % 1000 in (170, 670):  # several early: two are held at a time, or three
            image = large.copy()
        else:
            image = ground[: size[0], : size[1]].copy()
        image[y : y + 20, x : x + 24] = patch
        if kind == 1:
            image[:] = 0
        elif kind == 2:
            image[:] = 255
        elif kind == 3:
            image = rng.integers(0, 256, image.shape, np.uint8)
        elif kind == 4:
            image = before
        before = image
        yield image


def _place(start: float, index: int, room: int) -> int:
    """To and fro between 0 and `room`."""
    at = int(start) + index
    return at % (2 * room) if at % (2 * room) < room else 2 * room - at % (2 * room)


def by_eval_track(tracker, params, count: int, seed: int, watch: Watch) -> bool:
    """`count` frames through the loop of `eval.track`; whether all numbers were finite."""
    run, source = targets.Run(), Source("drawn", images(count, seed, watch), 25.0, count)
    targets.follow(run, tracker, params, source, targets.numbered([BOX]), seed=seed)
    assert len(run.tracked) == count and run.problem is None, run.problem
    later = run.tracked[1:]
    return all(np.isfinite(one.boxes).all() and np.isfinite([one.scores, one.confidence]).all() for one in later)


def by_online_tracker(tracker, params, count: int, seed: int, watch: Watch) -> bool:
    online, finite = OnlineTracker(tracker, params, seed=seed), True
    for index, image in enumerate(images(count, seed, watch)):
        if index == 0:
            online.init(image, BOX)
        else:
            _, box = online.update(image)
            finite &= bool(np.isfinite([*box, online.confidence]).all())
    return finite


def soak(name: str, assignments: list[str], frames: int, seed: int, small: bool = False) -> dict[str, Any]:
    """The figures of both halves."""
    entry = trackers.get(name)
    config = rules.configure(small_trackers.small(name) if small else entry.config, assignments)
    tracker = entry.make(config)
    model = entry.model
    params = narrow.start(model) if _is_narrow(model) else trackers.load_params(name)
    watch = Watch()

    def count_compilations(event: str, duration: float, **_) -> None:
        watch.compiled += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(count_compilations)
    found: dict[str, Any] = {
        "tracker": name,
        "set": assignments,
        "small": small,
        "narrow": _is_narrow(model),
    }
    for way in (by_eval_track, by_online_tracker):
        began = perf_counter()
        watch.__init__()
        finite = way(tracker, params, frames // 2, seed, watch)
        found[way.__name__] = {**watch.figures(), "finite": finite, "seconds": round(perf_counter() - began)}
    return found


def _is_narrow(model: str | None) -> bool:
    return model in narrow.MODELS and models.get(model) is narrow.MODELS[model]


def is_sound(found: dict[str, Any]) -> bool:
    halves = [part for part in found.values() if isinstance(part, dict)]
    return all(part["finite"] and not part["compiled_later"] and part["grown_mib"] <= GROWTH for part in halves)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.campaign.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--tracker", required=True)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--narrow", action="store_true", help="networks of a few channels, with random weights")
    parser.add_argument("--small", action="store_true", help="small search regions; every frame is learned from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    prepare_process()
    with contextlib.ExitStack() as stack:
        if arguments.narrow:
            stack.enter_context(narrow.narrow_models())
            stack.enter_context(narrow.plain_convolution())
        found = soak(arguments.tracker, arguments.set, arguments.frames, arguments.seed, arguments.small)
    print(json.dumps(found))
    return int(not is_sound(found))


if __name__ == "__main__":
    sys.exit(main())
