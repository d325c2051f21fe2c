"""Figures as files; no window is ever opened. Matplotlib is imported with the first: tracking does not wait for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_track(
    path: Path | str, overlap: np.ndarray, confidence: np.ndarray, visibility: np.ndarray, title: str = ""
) -> None:
    """PNG of one track over its frames: `[T]` IoU with the truth, confidence, and the share in sight.

    All three in 0..1; nan leaves a gap. ResultError, leaving nothing, where the file cannot be written.
    """
    figure = new_figure(9, 3.6)
    axes = figure.add_subplot()
    frames = np.arange(len(overlap))
    axes.fill_between(frames, 1, visibility, color="0.85", label="hidden share of the target", linewidth=0)
    axes.plot(frames, overlap, color="tab:blue", label="IoU with the true box")
    axes.plot(frames, confidence, color="tab:orange", linewidth=1, label="confidence of the tracker")
    axes.set(xlabel="frame", ylim=(-0.02, 1.02), xlim=(0, max(len(frames) - 1, 1)), title=literal(title))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, Path(path))


def plot_roofline(path: Path | str, rows: dict[str, dict[str, Any]], peaks: dict[str, float], title: str = "") -> None:
    """PNG of GFLOP/s over FLOPs per byte: a point for each row with both counts, below the roof of the device.

    rows: of a benchmark report, with `flops`, `bytes` and `median_ms`. peaks: `eval.measure.roofline.peaks`.
    ResultError, leaving nothing, where the file cannot be written.
    """
    figure = new_figure(9, 6)
    axes = figure.add_subplot()
    points = {
        name: (row["flops"] / row["bytes"], row["flops"] / row["median_ms"] / 1e6)
        for name, row in rows.items()
        if row.get("flops") and row.get("bytes")
    }
    ridge = peaks["flops_per_second"] / peaks["bytes_per_second"]
    reach = [ridge, *(intensity for intensity, _ in points.values())]
    intensities = np.geomspace(min(reach) / 3, max(reach) * 3, 200)
    roof = np.minimum(intensities * peaks["bytes_per_second"], peaks["flops_per_second"]) / 1e9
    axes.loglog(intensities, roof, color="0.4", label="measured copy and matrix product")
    for number, (name, (intensity, rate)) in enumerate(points.items()):
        marker = "osD^vP"[number // 10 % 6]
        axes.loglog(intensity, rate, marker, color=f"C{number % 10}", label=literal(name))
    axes.set(xlabel="FLOPs per byte", ylabel="GFLOP/s", title=literal(title))
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    save(figure, Path(path))


def literal(text: str) -> str:
    """`text` as a title or label that shows it: to matplotlib `$` begins a formula, and a first `_` hides a label."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, `width` by `height` inches, drawn off screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """The figure under `path` as PNG, whole or not at all; ResultError where it cannot be written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
