"""How long jitted functions take: compilation and calls apart, alone or in turns."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

WARM_UP_CALLS = 1


def compile_timed(
    function: Callable, *arguments: Any, donate: tuple[int, ...] = (), options: dict[str, Any] | None = None
) -> tuple[Callable[..., Any], float]:
    """The executable and the seconds to trace and compile it; options: of the compiler."""
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile(compiler_options=options)
    return compiled, time.perf_counter() - start


def stepper(track: Callable, params: Any, state: Any, frame: Any) -> Callable[[], Any]:
    """A call that tracks one more frame and carries the state, which `track` may be donated."""

    def step():
        nonlocal state
        state, estimate = track(params, state, frame)
        return state, estimate

    return step


def interleaved(calls: dict[str, Callable[[], Any]], repeats: int, *, warm_up: int = 1) -> dict[str, np.ndarray]:
    """Seconds of each call, `[repeats]`, after `warm_up` that are not counted.

    All calls take turns, so that a disturbance of the machine affects all of them. A call that returns a float has
    measured its seconds itself, in another process.
    """
    seconds = {name: [] for name in calls}
    for _ in range(repeats + warm_up):
        for name, call in calls.items():
            start = time.perf_counter()
            found = jax.block_until_ready(call())
            seconds[name].append(found if isinstance(found, float) else time.perf_counter() - start)
    return {name: np.array(each[warm_up:]) for name, each in seconds.items()}


def time_function(
    function: Callable, arguments: Sequence[Any], repeats: int = 20, budget: float = 2.0
) -> dict[str, float]:
    """`compile_s`, and `median_ms` and `min_ms` of `calls` calls: no more than `repeats`, and none after `budget` s."""
    compiled, compile_seconds = compile_timed(function, *arguments)
    for _ in range(WARM_UP_CALLS):
        jax.block_until_ready(compiled(*arguments))
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < budget:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - start)
    return {
        "compile_s": compile_seconds,
        "median_ms": 1e3 * float(np.median(seconds)),
        "min_ms": 1e3 * float(np.min(seconds)),
        "calls": len(seconds),
    }
