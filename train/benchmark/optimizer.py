"""The gradient through DiMP's optimizer alone, unrolled in three ways: time and memory by the number of steps.

The differentiable while loop of `ops.loops`, `lax.scan`, and `lax.scan` with `jax.checkpoint` around the step.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.measure.timing import compile_timed, interleaved
from ops.correlation import correlate
from ops.least_squares import descent_step, squared_norm
from trackers.nets.dimp_classifier import (
    FILTER_SIZE,
    MIN_CURVATURE,
    STRIDE,
    init_optimizer,
    optimize_filter,
    residual_args,
    residuals,
)

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class OptimizerOptions:
    """Shapes of one target's optimization; the defaults are those of DiMP-18."""

    channels: int = 256
    size: int = 18  # cells of a side of the feature map
    samples: int = 15  # images the filter is learned from
    test_frames: int = 3  # images a filter is scored on
    steps: tuple[int, ...] = (5, 10, 20, 50)
    repeats: int = 5  # timed calls; the median counts


def run(options: OptimizerOptions) -> dict[str, Any]:
    """The gradient through the optimizer as JSON-ready data: options, one row per measurement, growth."""
    inputs, boxes = make_problem(options)
    rows, growth = [], []
    for every_iterate in (False, True):
        scored = "every iterate" if every_iterate else "final filter"
        for name, unroll in VARIANTS.items():
            of_variant = []
            for steps in options.steps:
                loss = make_loss(unroll, boxes, steps, every_iterate)
                of_variant.append(
                    {"variant": name, "scored": scored, "steps": steps} | measure(loss, inputs, options.repeats)
                )
            rows += of_variant
            first, last = of_variant[0], of_variant[-1]
            extra = (last["temporary_bytes"] - first["temporary_bytes"]) / max(last["steps"] - first["steps"], 1)
            growth.append(
                {
                    "variant": name,
                    "scored": scored,
                    "bytes_per_step": extra,
                    "filters_per_step": extra / inputs["filter"].nbytes,
                }
            )
    return {"config": asdict(options)} | {"rows": rows, "growth": growth}


def make_problem(options: OptimizerOptions) -> tuple[dict[str, Any], Array]:
    """Random inputs `{"optimizer", "filter", "features", "test_features"}` and boxes `[samples, 4]`."""
    keys = jax.random.split(jax.random.key(0), 4)
    shape = (options.size, options.size, options.channels)
    scale = (options.channels * FILTER_SIZE**2) ** -0.5
    inputs = {
        "optimizer": init_optimizer(),
        "filter": scale * jax.random.normal(keys[0], (FILTER_SIZE, FILTER_SIZE, options.channels)),
        "features": scale * jax.random.normal(keys[1], (options.samples, *shape)),
        "test_features": scale * jax.random.normal(keys[2], (options.test_frames, *shape)),
    }
    corner = jax.random.uniform(keys[3], (options.samples, 2), maxval=options.size * STRIDE / 2)
    return inputs, jnp.concatenate([corner, jnp.full_like(corner, options.size * STRIDE / 4)], axis=1)


def make_loss(unroll: Callable, boxes: Array, steps: int, every_iterate: bool) -> Callable[[dict], Array]:
    """`inputs -> []`: energy of the scores on the test frames, of the last filter or summed over all."""

    def score(filter, test_features):
        return squared_norm(correlate(test_features, filter))

    def loss(inputs):
        test_features = inputs["test_features"]
        start = inputs["optimizer"], inputs["filter"], inputs["features"], boxes
        result = unroll(*start, num_steps=steps, max_steps=steps, iterates=every_iterate)
        if not every_iterate:
            return score(result, test_features)
        # One filter at a time, its scores recomputed: scoring adds a filter's cotangent per step, no more.
        scan_score = jax.checkpoint(lambda total, filter: (total + score(filter, test_features), None))
        return jax.lax.scan(scan_score, jnp.zeros(()), result[1])[0]

    return loss


def measure(loss: Callable, inputs: dict[str, Any], repeats: int) -> dict[str, float]:
    """Seconds to compile and to run value-and-gradient, bytes of its temporaries, and the value."""
    compiled, compile_time = compile_timed(jax.value_and_grad(loss), inputs)
    seconds = interleaved({"run": lambda: compiled(inputs)}, repeats)["run"]
    return {
        "compile_s": compile_time,
        "run_s": float(np.median(seconds)),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "loss": float(compiled(inputs)[0]),
    }


def scan_filter(
    optimizer: Params,
    filter: Array,
    features: Array,
    boxes: Array,
    *,
    num_steps: int,
    max_steps: int,
    iterates: bool,
    checkpoint: bool,
):
    """`optimize_filter` by `lax.scan`: the same values where num_steps = max_steps.

    checkpoint: with `jax.checkpoint` around the step.
    """
    if num_steps != max_steps:
        raise ValueError(f"a scan takes all of its steps: num_steps={num_steps}, max_steps={max_steps}")
    args = residual_args(optimizer, features, boxes)
    step_length = jnp.exp(optimizer["log_step_length"])

    def step(filter, args, step_length):
        return descent_step(residuals, filter, args, step_length, MIN_CURVATURE)

    step = jax.checkpoint(step) if checkpoint else step

    def body(filter, _):
        filter = step(filter, args, step_length)
        return filter, filter if iterates else None

    final, filters = jax.lax.scan(body, filter, length=max_steps)
    return (final, jnp.concatenate([filter[None], filters])) if iterates else final


VARIANTS = {  # each called as `optimize_filter`
    "while loop": optimize_filter,
    "scan": partial(scan_filter, checkpoint=False),
    "scan, checkpoint": partial(scan_filter, checkpoint=True),
}


def table(result: dict[str, Any]) -> str:
    """The measurements of `run` for a terminal."""
    lines = [f"{'scored':14} {'variant':17} {'steps':>5} {'compile s':>10} {'run ms':>8} {'temporary MiB':>14}"]
    for row in result["rows"]:
        lines.append(
            f"{row['scored']:14} {row['variant']:17} {row['steps']:5d} {row['compile_s']:10.2f} "
            f"{1e3 * row['run_s']:8.1f} {row['temporary_bytes'] / 2**20:14.2f}"
        )
    lines.append("Growth of temporary memory per extra step, in filters:")
    for row in result["growth"]:
        lines.append(f"{row['scored']:14} {row['variant']:17} {row['filters_per_step']:8.2f}")
    return "\n".join(lines)
