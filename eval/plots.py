"""Figures as files; no window is ever opened."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eval.results import ResultError


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
    axes.set(xlabel="frame", ylim=(-0.02, 1.02), xlim=(0, max(len(frames) - 1, 1)), title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, Path(path))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn off screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """The figure under `path` as PNG, whole or not at all; ResultError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(part, format="png", dpi=110)
        part.replace(path)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}; free space or write elsewhere") from error
    finally:
        if part.exists():
            part.unlink()
