"""XLA's convolution beside `trackers.nets.convolution`: `python -m eval.benchmark.convolution --json F`.

Forward pass and gradient in image and kernel, in the shapes of SiamFC's AlexNet and of SiamRPN++'s head on search
regions of 255 pixels, alone and in batches. Except on a CPU both are the same, apart from groups, which ours
computes as separate convolutions.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from eval import command, parsers, settings
from eval.benchmark import reporting
from eval.command import prepare_process
from eval.files import ResultError
from eval.measure.timing import time_function
from trackers.nets.convolution import convolve

Array = jax.Array


class Layer(NamedTuple):
    """A convolution without padding."""

    name: str
    size: int  # cells of a side of its input
    kernel: int
    stride: int
    channels: int
    features: int
    groups: int


LAYERS = (
    Layer("AlexNet 1", 255, 11, 2, 3, 96, 1),
    Layer("AlexNet 2", 61, 5, 1, 96, 256, 2),
    Layer("AlexNet 3", 28, 3, 1, 256, 384, 1),
    Layer("AlexNet 4", 26, 3, 1, 384, 384, 2),
    Layer("AlexNet 5", 24, 3, 1, 384, 256, 2),
    Layer("SiamRPN++ head", 31, 3, 1, 256, 256, 1),
)
WAYS: dict[str, Callable[..., Array]] = {
    "XLA": partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")),
    "ours": convolve,
}


def measure(layer: Layer, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each way; `gflop` is that of the forward pass, and the gradient has twice as many."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch, layer.size, layer.size, layer.channels)), jnp.float32)
    shape = (layer.kernel, layer.kernel, layer.channels // layer.groups, layer.features)
    kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)
    rows = []
    for name, way in WAYS.items():
        forward = partial(way, window_strides=(layer.stride,) * 2, padding="VALID", feature_group_count=layer.groups)
        out = jax.eval_shape(forward, images, kernel)
        cotangent = jnp.asarray(rng.normal(size=out.shape), jnp.float32)

        def gradient(images, kernel, cotangent, forward=forward):
            return jax.vjp(forward, images, kernel)[1](cotangent)

        gflop = 2e-9 * out.size * shape[0] * shape[1] * shape[2]
        limits = options.repeats, options.seconds
        rows.append(
            {
                "layer": layer.name,
                "batch": batch,
                "way": name,
                "gflop": gflop,
                "forward": time_function(forward, (images, kernel), *limits),
                "gradient": time_function(gradient, (images, kernel, cotangent), *limits),
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: milliseconds of the median call, and GFLOP/s of the fastest."""
    versions = report["versions"]
    lines = [f"{versions['device']}, jax {versions['jax']}", ""]
    lines += ["| layer, batch | way | forward ms | GFLOP/s | gradient ms | GFLOP/s |", "|---|---|---|---|---|---|"]
    for row in report["rows"]:
        cells = []
        for kind, share in (("forward", 1), ("gradient", 2)):
            rate = share * row["gflop"] / (row[kind]["min_ms"] * 1e-3)
            cells.append(f"{row[kind]['median_ms']:.1f} | {rate:.0f}")
        lines.append(f"| {row['layer']}, {row['batch']} | {row['way']} | {' | '.join(cells)} |")
    return "\n".join(lines)


@command.reports(ResultError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write JSON if asked."""
    options = parsers.benchmark_convolution().parse_args(argv)
    prepare_process()

    def measured() -> dict[str, Any]:
        rows = [row for batch in options.batches for layer in LAYERS for row in measure(layer, batch, options)]
        return {"rows": rows, "versions": settings.versions()}

    reporting.run(options, measured, table)


if __name__ == "__main__":
    sys.exit(main())
