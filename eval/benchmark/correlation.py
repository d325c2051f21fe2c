"""How fast the ways to compute a depthwise correlation are: `python -m eval.benchmark.correlation --json F`.

Forward pass and gradient, for one pair of template and search region and for batches of pairs, in the sizes of
SiamRPN++ on its ResNet and AlexNet. `ops.correlation.depthwise_correlate` is the first row of each block; the others
are alternatives. A gradient is that of the sum of squares in both arguments.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval import command, parsers, settings
from eval.benchmark import reporting
from eval.command import keep_freed_memory
from eval.files import ResultError
from eval.measure.timing import time_function
from ops.correlation import depthwise_correlate

Array = jax.Array
Correlate = Callable[[Array, Array], Array]

SIZES = ((29, 5), (22, 4))  # cells of the search region and of the template


def grouped_convolution(search: Array, template: Array) -> Array:
    """XLA's convolution with as many groups as channels."""
    return jax.lax.conv_general_dilated(
        search[None],
        template[:, :, None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=search.shape[-1],
        precision=jax.lax.Precision.HIGHEST,
    )[0]


def shifted_sum(search: Array, template: Array) -> Array:
    """A sum of shifted maps, one for each cell of the template, derived by autodiff."""
    return sum(part * template[i : i + 1, j : j + 1] for i, j, part in _shifted(search, template))


def scanned_sum(search: Array, template: Array) -> Array:
    """The same sum as a loop over the cells of the template."""
    kh, kw, channels = template.shape
    size = (search.shape[0] - kh + 1, search.shape[1] - kw + 1, channels)

    def add(total: Array, cell: Array) -> tuple[Array, None]:
        i, j = cell // kw, cell % kw
        return total + jax.lax.dynamic_slice(search, (i, j, 0), size) * template[i, j].reshape(1, 1, channels), None

    total, _ = jax.lax.scan(add, jnp.zeros(size, search.dtype), jnp.arange(kh * kw))
    return total


def patches(search: Array, template: Array) -> Array:
    """A product, channel by channel, of the search region's patches with the template."""
    parts = jnp.stack([part for *_, part in _shifted(search, template)], -2)
    cells = template.reshape(-1, template.shape[-1])
    return jnp.einsum("yxkc,kc->yxc", parts, cells, precision=jax.lax.Precision.HIGHEST)


CANDIDATES: dict[str, Correlate] = {
    "depthwise_correlate": depthwise_correlate,
    "shifted_sum": shifted_sum,
    "scanned_sum": scanned_sum,
    "patches": patches,
    "grouped_convolution": grouped_convolution,
}


@command.reports(ResultError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write JSON if asked."""
    options = parsers.benchmark_correlation().parse_args(argv)
    keep_freed_memory()

    def measured() -> dict[str, Any]:
        rows = [
            row
            for size, template_size in SIZES
            for batch in options.batches
            for row in measure(size, template_size, options.channels, batch, options)
        ]
        return {"channels": options.channels, "rows": rows, "versions": settings.versions()}

    reporting.run(options, measured, table)


def measure(
    size: int, template_size: int, channels: int, batch: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each candidate; batch 1 is a call without `vmap`."""
    rng = np.random.default_rng(0)
    shapes = [(batch, side, side, channels) for side in (size, template_size)]
    pair = [jnp.asarray(rng.normal(size=shape if batch > 1 else shape[1:]), jnp.float32) for shape in shapes]
    rows = []
    for name, correlate in CANDIDATES.items():
        forward = jax.vmap(correlate) if batch > 1 else correlate
        gradient = jax.grad(partial(_energy, forward), (0, 1))
        row = {"search": size, "template": template_size, "batch": batch, "candidate": name}
        for kind, function in (("forward", forward), ("gradient", gradient)):
            row[kind] = time_function(function, pair, options.repeats, options.seconds)
        rows.append(row)
    return rows


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    versions = report["versions"]
    lines = [f"{report['channels']} channels on {versions['device']}, jax {versions['jax']}", ""]
    lines += ["| search, template, batch | candidate | forward, median ms | min | gradient, median ms | min |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in report["rows"]:
        times = " | ".join(
            f"{row[kind]['median_ms']:.2f} | {row[kind]['min_ms']:.2f}" for kind in ("forward", "gradient")
        )
        lines.append(f"| {row['search']}, {row['template']}, {row['batch']} | {row['candidate']} | {times} |")
    return "\n".join(lines)


def _shifted(search: Array, template: Array):
    """(i, j, the part of the search map that cell i, j of the template meets), for all cells."""
    kh, kw = template.shape[:2]
    rows, columns = search.shape[0] - kh + 1, search.shape[1] - kw + 1
    for i in range(kh):
        for j in range(kw):
            yield i, j, search[i : i + rows, j : j + columns]


def _energy(correlate: Correlate, search: Array, template: Array) -> Array:
    return jnp.sum(correlate(search, template) ** 2)


if __name__ == "__main__":
    sys.exit(main())
