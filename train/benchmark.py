"""Memory and time of the gradient through DiMP's optimizer: `python -m train.benchmark [--json FILE]`.

Three ways to unroll the same steps: the differentiable while loop of `ops.loops`, `lax.scan`, and `lax.scan`
with `jax.checkpoint` around the step. Two losses: on the final filter, and on every iterate, as DiMP is trained.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib

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


@dataclass(frozen=True)
class Config:
    """Shapes of one target's optimization; the defaults are those of DiMP-18."""

    channels: int = 256
    size: int = 18  # cells of a side of the feature map
    samples: int = 15  # images the filter is learned from
    test_frames: int = 3  # images a filter is scored on
    steps: tuple[int, ...] = (5, 10, 20, 50)
    repeats: int = 5  # timed calls; the median counts


def make_problem(config: Config) -> tuple[dict[str, Any], Array]:
    """Random inputs `{"optimizer", "filter", "features", "test_features"}` and boxes `[samples, 4]`."""
    keys = jax.random.split(jax.random.key(0), 4)
    shape = (config.size, config.size, config.channels)
    scale = (config.channels * FILTER_SIZE**2) ** -0.5
    inputs = {
        "optimizer": init_optimizer(),
        "filter": scale * jax.random.normal(keys[0], (FILTER_SIZE, FILTER_SIZE, config.channels)),
        "features": scale * jax.random.normal(keys[1], (config.samples, *shape)),
        "test_features": scale * jax.random.normal(keys[2], (config.test_frames, *shape)),
    }
    corner = jax.random.uniform(keys[3], (config.samples, 2), maxval=config.size * STRIDE / 2)
    return inputs, jnp.concatenate([corner, jnp.full_like(corner, config.size * STRIDE / 4)], axis=1)


def by_while_loop(inputs: dict[str, Any], boxes: Array, steps: int, iterates: bool) -> Array:
    """The final filter, or with `iterates` all `[steps + 1, 4, 4, C]`."""
    result = optimize_filter(
        inputs["optimizer"],
        inputs["filter"],
        inputs["features"],
        boxes,
        num_steps=steps,
        max_steps=steps,
        iterates=iterates,
    )
    return result[1] if iterates else result


def by_scan(inputs: dict[str, Any], boxes: Array, steps: int, iterates: bool, *, checkpoint: bool) -> Array:
    """As `by_while_loop`."""
    args = residual_args(inputs["optimizer"], inputs["features"], boxes)
    step_length = jnp.exp(inputs["optimizer"]["log_step_length"])

    def step(filter, args, step_length):
        return descent_step(residuals, filter, args, step_length, MIN_CURVATURE)

    step = jax.checkpoint(step) if checkpoint else step

    def body(filter, _):
        filter = step(filter, args, step_length)
        return filter, filter if iterates else None

    final, filters = jax.lax.scan(body, inputs["filter"], length=steps)
    return jnp.concatenate([inputs["filter"][None], filters]) if iterates else final


VARIANTS = {
    "while loop": by_while_loop,
    "scan": partial(by_scan, checkpoint=False),
    "scan, checkpoint": partial(by_scan, checkpoint=True),
}


def make_loss(unroll: Callable, boxes: Array, steps: int, every_iterate: bool) -> Callable[[dict], Array]:
    """`inputs -> []`: energy of the scores on the test frames, of the last filter or summed over all."""

    def score(filter, test_features):
        return squared_norm(correlate(test_features, filter))

    def loss(inputs):
        test_features = inputs["test_features"]
        if not every_iterate:
            return score(unroll(inputs, boxes, steps, False), test_features)
        # One filter at a time, its scores recomputed: scoring adds a filter's cotangent per step, no more.
        scan_score = jax.checkpoint(lambda total, filter: (total + score(filter, test_features), None))
        return jax.lax.scan(scan_score, jnp.zeros(()), unroll(inputs, boxes, steps, True))[0]

    return loss


def measure(loss: Callable, inputs: dict[str, Any], repeats: int) -> dict[str, float]:
    """Seconds to compile and to run value-and-gradient, bytes of its temporaries, and the value."""
    start = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(loss)).lower(inputs).compile()
    compile_time = time.perf_counter() - start
    value, _ = jax.block_until_ready(compiled(inputs))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(inputs))
        times.append(time.perf_counter() - start)
    return {
        "compile_s": compile_time,
        "run_s": statistics.median(times),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "loss": float(value),
    }


def run(config: Config) -> dict[str, Any]:
    """The whole benchmark as JSON-ready data: configuration, versions, one row per measurement, growth."""
    inputs, boxes = make_problem(config)
    rows, growth = [], []
    for every_iterate in (False, True):
        scored = "every iterate" if every_iterate else "final filter"
        for name, unroll in VARIANTS.items():
            of_variant = []
            for steps in config.steps:
                loss = make_loss(unroll, boxes, steps, every_iterate)
                of_variant.append(
                    {"variant": name, "scored": scored, "steps": steps} | measure(loss, inputs, config.repeats)
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
    versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": jaxlib.__version__}
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    return {"config": asdict(config), "versions": versions, "device": device, "rows": rows, "growth": growth}


def table(result: dict[str, Any]) -> str:
    """The measurements for a terminal."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    for field in fields(Config):
        several = {"nargs": "+"} if field.name == "steps" else {}
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=int, default=field.default, **several)
    options = vars(parser.parse_args())
    path = options.pop("json")
    result = run(Config(**options | {"steps": tuple(options["steps"])}))
    print(table(result))
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
