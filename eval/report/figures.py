"""The figures of a report, drawn once: inline SVG for the page, PNG for files. No window is ever opened."""

import io
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from eval import plots
from eval.scoring import metrics

# The first eight are distinguishable to the color-blind (Okabe and Ito, Paul Tol).
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#555555"),
    *("#332288", "#999933", "#44AA99", "#AA4499", "#CC3311", "#BBBBBB"),
)
DASHES = ("-", "--", ":", "-.")  # of lines, where the colors begin again
MOST_INSIDE = 5  # trackers in a legend that stands within its axes
TRUTH_COLOR = "#FFFFFF"
MARKS = "osD^vPX*"
NAMES = ("success", "precision", "norm_precision", "speed", "calibration")  # of the figures' files


def color_of(index: int) -> str:
    """Color of the tracker of rank `index` from 0; they repeat."""
    return PALETTE[index % len(PALETTE)]


def line_of(index: int) -> dict[str, str]:
    """Color and dashes of its line, which only one of 56 trackers has."""
    return {"color": color_of(index), "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}


def draw_all(report) -> dict[str, Figure]:
    """Name of the file -> figure, of all that the report has numbers for."""
    figures = {}
    if any(entry.curves for entry in report.entries):
        curves = {
            "success": ("Success", "overlap threshold", metrics.SUCCESS_THRESHOLDS, "auc"),
            "precision": ("Precision", "center error, px", metrics.PRECISION_THRESHOLDS, "precision20"),
            "norm_precision": (
                "Normalized precision",
                "center error, target sides",
                metrics.NORM_PRECISION_THRESHOLDS,
                "norm_precision",
            ),
        }
        figures |= {name: _curves(report, name, *rest) for name, rest in curves.items()}
    if any(entry.fps and entry.mean("auc") is not None for entry in report.entries):
        figures["speed"] = _speed(report)
    if any(entry.calibration for entry in report.entries):
        figures["calibration"] = _calibration(report)
    return figures


def _new(width: float, height: float, columns: int = 1):
    figure = plots.new_figure(width, height)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.grid(color="0.9", linewidth=0.8)
        one.spines[["top", "right"]].set_visible(False)
        one.set_axisbelow(True)
    return figure, axes


def _curves(report, name: str, title: str, label: str, thresholds: np.ndarray, score: str) -> Figure:
    figure, axes = _new(4.6, _height(report))
    for index, entry in enumerate(report.entries):
        if entry.curves:
            text = plots.literal(f"{report.shown_name(entry)} [{entry.mean(score):.3f}]")
            axes.plot(thresholds, getattr(entry.curves, name), **line_of(index), linewidth=1.8, label=text)
    axes.set(title=title, xlabel=label, ylabel="share of frames", ylim=(0, 1.01), xlim=(0, thresholds[-1]))
    _legend(axes)
    return figure


def _legend(axes) -> None:
    """Within the axes where there is room, else below them."""
    count = len(axes.get_legend_handles_labels()[0])
    if count <= MOST_INSIDE:
        axes.legend(fontsize=8, frameon=False, loc="best")
    else:
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _height(report) -> float:
    """Inches of a figure with a legend of all trackers."""
    below = len(report.entries) > MOST_INSIDE
    return 4.0 + (0.18 * len(report.entries) if below else 0)


def _speed(report) -> Figure:
    """A mark for each tracker, of a form of its own, since marks may lie on each other; its name in the legend."""
    figure, axes = _new(4.6, _height(report))
    shown = [(i, one) for i, one in enumerate(report.entries) if one.fps and one.mean("auc") is not None]
    for index, entry in shown:
        fps = f"{entry.fps:.0f}" if entry.fps >= 100 else f"{entry.fps:.3g}"
        text = plots.literal(f"{report.shown_name(entry)} [{fps}]")
        mark = dict(marker=MARKS[index % len(MARKS)], markersize=8, markeredgewidth=1.8, fillstyle="none")
        axes.plot(entry.fps, entry.mean("auc"), linestyle="", color=color_of(index), label=text, **mark)
    speeds = [entry.fps for _, entry in shown]
    low, high = min(speeds) / 2, max(speeds) * 2
    axes.set(title="Speed against accuracy", xlabel="frames/s (log)", ylabel="success AUC", xscale="log")
    axes.set_xlim(low, high)
    axes.margins(y=0.2)
    # Few enough ticks that their numbers do not run into each other.
    subs = next((subs for most, subs in ((30, (1, 2, 5)), (300, (1, 3))) if high / low < most), (1,))
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", labelsize=8)
    _legend(axes)
    return figure


def _calibration(report) -> Figure:
    figure, (reliability, roc) = _new(8.6, _height(report), 2)
    for axes in (reliability, roc):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
    for index, entry in enumerate(report.entries):
        found = entry.calibration
        if found:
            known = found.count > 0
            name = plots.literal(report.shown_name(entry))
            reliability.plot(
                found.confidence[known],
                found.share_right[known],
                marker="o",
                markersize=3.5,
                **line_of(index),
                label=f"{name} [error {found.error:.3f}]",
            )
            if np.isnan(found.auc):  # frames of one kind only: there is nothing to tell apart
                only = "right" if found.hit_rate[-1] == 1 else "wrong"
                roc.plot([], [], **line_of(index), label=f"{name}: every box is {only}")
                continue
            # A point in every 500 tells the curve as well as all of them.
            step = max(len(found.hit_rate) // 500, 1)
            shown = np.unique(np.append(np.arange(0, len(found.hit_rate), step), len(found.hit_rate) - 1))
            roc.plot(
                found.false_alarms[shown],
                found.hit_rate[shown],
                **line_of(index),
                label=f"{name} [{found.auc:.3f}]",
            )
    reliability.set(title="Reliability", xlabel="confidence", ylabel="share of boxes with IoU > 0.5")
    roc.set(title="ROC of the confidence", xlabel="wrong boxes kept", ylabel="right boxes kept")
    for axes in (reliability, roc):
        _legend(axes)
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """`<svg>` for a page, its text as text; the same figure gives the same characters, ids are unlike other names'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    # Ids of groups are the same in every figure of matplotlib; nothing refers to them.
    return re.sub(r'<g id="[^"]*"', "<g", svg)
