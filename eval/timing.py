"""How long a jitted function takes: compilation and calls apart."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

WARM_UP_CALLS = 1


def time_function(
    function: Callable, arguments: Sequence[Any], repeats: int = 20, budget: float = 2.0
) -> dict[str, float]:
    """`compile_s`, and `median_ms` and `min_ms` of `calls` calls: no more than `repeats`, and none after `budget` s."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
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
