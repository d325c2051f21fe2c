"""What takes part in a run: one of our trackers, or a guest."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np

from eval import settings
from eval.running import restarts
from eval.running.guest import Guest, GuestError, GuestProcess
from eval.running.lanes import Lanes, Progress, Start, track_in_lanes
from eval.running.passes import Compiled, sequence_key, sequence_seed, track_sequence, track_with_guest
from eval.scoring.results import TrackResult
from eval.sources.sequences import Sequence
from trackers.base import Params, Tracker
from trackers.rules import SettingError


class Entrant(NamedTuple):
    """A tracker or a guest, as a run sees it."""

    name: str  # folder of its results
    settings: dict[str, Any]  # JSON-ready: what its results are made from
    versions: dict[str, str]
    track: Callable[..., TrackResult]  # (sequence, start_box=, on_frame=, stop=): one pass
    together: Callable[..., Iterator[Progress]] | None  # (batch, sequences, start boxes): passes, many in one call
    session: Callable[[Sequence, threading.Event], restarts.Session]  # for starts in a row; a thread has one at a time
    speed: Callable[[], dict[str, Any]]  # what summary.json says of its speed beside the times of frames


def folder_name(name: str) -> str:
    """The folder of a tracker's results: its name, and of MODULE:ATTRIBUTE one that every file system takes."""
    return name.replace(":", ".")


def tracker_entrant(
    name: str, tracker: Tracker, config: Any, params: Params, *, seed: int = 0, made_of: str | None = None
) -> Entrant:
    """Any tracker, of the registry or not, that was made of the dataclass `config`. made_of: as of `Compiled.of`."""
    compiled, lanes = Compiled.of(tracker, made_of), Lanes.of(tracker)
    made_from = {"config": settings.plain(config), "weights": settings.params_hash(params)}
    params, base_key = jax.device_put(params), jax.random.key(seed)

    def track(sequence: Sequence, **options) -> TrackResult:
        return track_sequence(compiled, params, sequence, sequence_key(base_key, sequence.name), **options)

    def together(batch: int, chosen: list[Sequence], boxes: dict[Sequence, np.ndarray]) -> Iterator[Progress]:
        begin = {item: Start(sequence_key(base_key, item.name), box) for item, box in boxes.items()}
        return track_in_lanes(lanes, batch, params, chosen, begin)

    def session(sequence: Sequence, stop: threading.Event) -> restarts.Session:
        key = sequence_key(base_key, sequence.name)
        return restarts.session_of(compiled.init, compiled.track, params, sequence, key, stop)

    def speed() -> dict[str, Any]:
        return {
            "timed": "one call of track with its transfers; no decoding, no compilation",
            "compile_seconds": round(sum(one.compile_seconds for one in (*compiled, lanes.start, lanes.track)), 3),
        }

    return Entrant(folder_name(name), made_from, settings.versions(), track, together, session, speed)


def guest_entrant(guest: Guest, stack: ExitStack, *, seed: int = 0) -> Entrant:
    """A guest, whose processes end with `stack`; SettingError where it cannot be started."""
    try:
        with GuestProcess(guest) as process:
            environment = process.environment
    except GuestError as error:
        raise SettingError(str(error)) from error
    running: dict[int, GuestProcess] = {}  # of each thread's session
    stack.callback(lambda: [process.close() for process in running.values()])

    def track(sequence: Sequence, **options) -> TrackResult:
        return track_with_guest(guest, sequence, seed=sequence_seed(seed, sequence), **options)

    def session(sequence: Sequence, stop: threading.Event) -> restarts.Session:
        def begin() -> GuestProcess:
            mine = threading.get_ident()
            if mine in running:
                running.pop(mine).close()
            running[mine] = GuestProcess(guest, seed=sequence_seed(seed, sequence), stop=stop)
            return running[mine]

        return restarts.session_of_guest(begin, sequence)

    made_from = {"config": {"guest": guest.name, "color": guest.color, "environment": environment}}
    ours = {name: value for name, value in settings.versions().items() if name in ("jaxtrack", "revision")}
    versions, speed = {**environment, **ours}, {"timed": "the guest's own init and update; no decoding, no transfer"}
    return Entrant(folder_name(guest.name), made_from, versions, track, None, session, lambda: dict(speed))
