"""The measured peak of a device and what a program asks of it: the share of the roofline.

No program is faster than its floating point operations at the rate of a large matrix product, nor than the bytes it
moves at the rate of a large copy (Williams, Waterman and Patterson, "Roofline", CACM 2009). The share is that bound
over the time taken, round by round, the two yardsticks measured in the same rounds.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MATRIX_SIDE = 2048  # rows and columns
COPIED_BYTES = 2**28  # far more than any cache holds
LEAST_SECONDS = 0.05  # a call takes at least as long, so that what it costs to start one does not count
PRODUCT, COPY = "matrix product", "copy"  # names of the yardsticks among the rows of a benchmark


class Yardstick(NamedTuple):
    """A call, and how much work it is."""

    call: Callable[[], Any]
    amount: float  # FLOPs or bytes


class Work(NamedTuple):
    """What one call of a program asks for."""

    flops: float
    bytes: float


def matrix_product(dtype: Any = jnp.float32, least_seconds: float = LEAST_SECONDS) -> Yardstick:
    """Products of square matrices on the default device, at the precision of the networks; amount: FLOPs."""
    left = jax.random.normal(jax.random.key(0), (MATRIX_SIDE, MATRIX_SIDE)).astype(dtype)
    mirror = jax.random.normal(jax.random.key(1), (MATRIX_SIDE,))
    right = jnp.eye(MATRIX_SIDE) - 2 * jnp.outer(mirror, mirror) / jnp.sum(mirror**2)
    right = right.astype(dtype)  # orthogonal, so that products keep their size however often they are repeated

    def call(count):
        return repeated(count, left, right)

    repeated = jax.jit(lambda count, left, right: jax.lax.fori_loop(0, count, lambda _, product: product @ right, left))
    count = _enough(call, least_seconds)
    return Yardstick(lambda: call(count), 2.0 * MATRIX_SIDE**3 * count)


def stream_copy(size: int = COPIED_BYTES, least_seconds: float = LEAST_SECONDS) -> Yardstick:
    """An array read and written in place on the default device; amount: bytes, of both ways."""
    values = jnp.zeros(size // 4, jnp.float32)
    increase = jax.jit(lambda values: values + 1, donate_argnums=0)

    def call(count):
        nonlocal values
        for _ in range(count):
            values = increase(values)
        return values

    count = _enough(call, least_seconds)
    return Yardstick(lambda: call(count), 2.0 * size * count)


def _enough(call: Callable[[int], Any], least_seconds: float) -> int:
    """How often something must be done to take so long; compiles it first."""
    jax.block_until_ready(call(1))
    count, seconds = 1, 0.0
    while seconds < least_seconds:
        count *= 2 if seconds else 1
        start = time.perf_counter()
        jax.block_until_ready(call(count))
        seconds = time.perf_counter() - start
    return count


def yardsticks(dtype: Any = jnp.float32) -> dict[str, Yardstick]:
    """Both, by name."""
    return {PRODUCT: matrix_product(dtype), COPY: stream_copy()}


def work(compiled: Any) -> Work:
    """XLA's count for a compiled program; what a loop does is counted once, however often it runs."""
    counts = compiled.cost_analysis() or {}
    return Work(max(counts.get("flops", 0.0), 0.0), max(counts.get("bytes accessed", 0.0), 0.0))


def peaks(sticks: dict[str, Yardstick], seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians of what the yardsticks reached: `flops_per_second` and `bytes_per_second`."""
    rates = {name: stick.amount / float(np.median(seconds[name])) for name, stick in sticks.items()}
    return {"flops_per_second": rates[PRODUCT], "bytes_per_second": rates[COPY]}


def share(name: str, asked: Work, sticks: dict[str, Yardstick], seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """`{"roofline_share", "bound"}` of the row `name`: the median over rounds, and what bounds it.

    seconds: of every row and of both yardsticks, round by round. A share above 1: data that stayed in a cache, or a
    method with fewer operations than counted.
    """
    ideal = {
        "compute": asked.flops * seconds[PRODUCT] / sticks[PRODUCT].amount,
        "memory": asked.bytes * seconds[COPY] / sticks[COPY].amount,
    }
    bound = max(ideal, key=lambda kind: float(np.median(ideal[kind])))
    found = float(np.median(np.maximum(*ideal.values()) / seconds[name]))
    return {"roofline_share": found if math.isfinite(found) else None, "bound": bound}
