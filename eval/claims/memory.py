"""What MemTrack's memory does over a video, as a picture: attention, confidence, gates, slots.

    python -m eval.claims.memory --out memory.png
    python -m eval.claims.memory --weights memtrack.safetensors --data-dir SEQUENCES --sequence NAME --out memory.png

Without a sequence a clip is drawn in which the target passes behind something. Exit status 0; 1 after an error, which
one line names.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

import trackers
from eval import command, parsers
from eval.command import prepare_process
from eval.files import ResultError, keep_apart
from eval.plots import literal, new_figure, save
from eval.running.passes import Compiled
from eval.scoring import metrics
from eval.sources.clips import Clip, drawn_clip, read_clip
from eval.sources.sequences import SequenceError
from trackers import memtrack, rules, siamfc
from trackers.base import Params
from trackers.images import xywh_to_box
from trackers.parts import templates
from trackers.rules import SettingError
from trackers.weights import WeightsError

SHOWN = 6  # frames with their attention
FACTORS = ("write nothing", "into the slots read", "into an unused slot")
COLORS = ("0.8", "tab:blue", "tab:orange")


class Trace(NamedTuple):
    """What the tracker said and did in frames 1 .. T - 1; frame 0 has the box that was given, and nan."""

    boxes: np.ndarray  # [T, 4] x, y, w, h
    confidence: np.ndarray  # [T]
    attention: np.ndarray  # [T, S, S] over the search crop
    crops: np.ndarray  # [T, 4] x, y, w, h in the image of what the attention's cells cover
    factors: np.ndarray  # [T, 3]
    decay: np.ndarray  # [T]
    read_weights: np.ndarray  # [T, N]
    write_weights: np.ndarray  # [T, N]
    residual_gate: np.ndarray  # [T, C]


def follow(config: memtrack.Config, params: Params, clip: Clip) -> Trace:
    """Tracks the target of a clip from its first box. SequenceError for an image that cannot be read."""
    compiled, params, key = Compiled.of(memtrack.make(config)), jax.device_put(params), jax.random.key(0)
    rows, boxes, state = [], [clip.boxes[0]], None
    for index in range(len(clip.boxes)):
        frame = jax.device_put(trackers.frame(clip.image(index)))
        if state is None:
            box = jax.device_put(xywh_to_box(clip.boxes[0]))
            state = compiled.init.prepare(params, key, frame, box)(params, key, frame, box)
            continue
        before = np.array(state.box.center), np.array(state.box.size)
        state, estimate = compiled.track.prepare(params, state, frame)(params, state, frame)
        estimate = jax.device_get(estimate)
        boxes.append(trackers.xywh(estimate.box))
        rows.append(
            {"confidence": estimate.confidence, **estimate.extras, "crops": _covered(config.host, *before, estimate)}
        )

    def stacked(name):
        found = np.stack([row[name] for row in rows])
        return np.concatenate([np.full((1, *found.shape[1:]), np.nan), found])

    names = ("confidence", "attention", "crops", "factors", "decay", "read_weights", "write_weights", "residual_gate")
    columns = {name: stacked(name) for name in names}
    columns["decay"] = columns["decay"][:, 0]
    return Trace(boxes=np.stack(boxes), **columns)


def _covered(config: siamfc.Config, center: np.ndarray, size: np.ndarray, estimate: Any) -> np.ndarray:
    """x, y, w, h of the square in the image that the cells of the attention share, from the box of the frame before."""
    steps = int(estimate.extras["scale"]) - config.scales // 2
    pixel = float(templates.context_side(size)) / templates.EXEMPLAR_SIZE * config.scale_step**steps
    side = siamfc.cells(config.instance_size) * templates.STRIDE * pixel
    return np.array([center[1] - side / 2, center[0] - side / 2, side, side])


def draw(path: Path, clip: Clip, trace: Trace, title: str = "") -> None:
    """The picture as PNG; ResultError, leaving nothing, where it cannot be written."""
    count = len(trace.boxes)
    shown = frames_to_show(trace, clip.visibility)
    figure = new_figure(12, 11)
    figure.suptitle(literal(title))
    grid = figure.add_gridspec(6, SHOWN, height_ratios=(1.6, 1.1, 1.1, 1.2, 1.2, 0.9))
    for column, index in enumerate(shown):
        _draw_frame(figure.add_subplot(grid[0, column]), clip, trace, index)
    rows = [figure.add_subplot(grid[row, :]) for row in range(1, 6)]
    frames = np.arange(count)

    axes = rows[0]
    axes.fill_between(frames, 1, clip.visibility, color="0.85", label="hidden share of the target", linewidth=0)
    axes.plot(frames, metrics.overlaps(trace.boxes, clip.boxes), color="tab:blue", label="IoU with the true box")
    axes.plot(frames, trace.confidence, color="tab:orange", linewidth=1, label="confidence of the tracker")
    axes.set(ylim=(-0.02, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

    axes = rows[1]
    tops = np.cumsum(np.nan_to_num(trace.factors), 1)
    for bottom, top, name, color in zip(np.hstack([0 * tops[:, :1], tops[:, :-1]]).T, tops.T, FACTORS, COLORS):
        axes.fill_between(frames, bottom, top, color=to_rgba(color), label=name, linewidth=0)
    axes.plot(frames, trace.decay, color="black", linewidth=1, label="decay of the slots read")
    axes.set(ylim=(0, 1), ylabel="gates of writing")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

    for axes, weights, name in ((rows[2], trace.read_weights, "read"), (rows[3], trace.write_weights, "written next")):
        extent = (-0.5, count - 0.5, weights.shape[1] - 0.5, -0.5)
        image = axes.imshow(weights.T, aspect="auto", extent=extent, vmin=0, cmap="magma", interpolation="none")
        axes.set(ylabel=f"slot {name}", yticks=range(weights.shape[1]))
        figure.colorbar(image, cax=axes.inset_axes((1.01, 0, 0.015, 1)), label="weight")

    axes = rows[4]
    low, middle, high = np.nanpercentile(trace.residual_gate[1:], (10, 50, 90), axis=1)
    axes.fill_between(frames[1:], low, high, color="tab:green", alpha=0.3, linewidth=0, label="10 to 90 % of channels")
    axes.plot(frames[1:], middle, color="tab:green", label="median channel")
    axes.set(ylim=(0, 1), xlabel="frame", ylabel="residual gate")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

    for axes in rows:
        axes.set(xlim=(-0.5, count - 0.5))
        for index in shown:
            axes.axvline(index, color="tab:red", linewidth=0.7, linestyle=":")
    save(figure, path)


def frames_to_show(trace: Trace, visibility: np.ndarray) -> list[int]:
    """`SHOWN` frames or fewer, spread over the video, one of them where least is seen of the target.

    Where all is seen as far as is known, that is the frame with the least confidence.
    """
    count = len(trace.boxes)
    chosen = np.unique(np.linspace(1, count - 1, SHOWN).round().astype(int))
    hidden = np.nanmin(visibility[1:]) < np.nanmax(visibility[1:])
    worst = 1 + int(np.nanargmin(visibility[1:] if hidden else trace.confidence[1:]))
    inner = range(1, len(chosen) - 1) if len(chosen) > 2 else range(len(chosen))
    chosen[min(inner, key=lambda place: abs(chosen[place] - worst))] = worst
    return chosen.tolist()


def _draw_frame(axes: Axes, clip: Clip, trace: Trace, index: int) -> None:
    """Frame `index` around its search crop, the attention over it, and the boxes."""
    image = clip.image(index)
    axes.imshow(image)
    x, y, w, h = trace.crops[index]
    attention = trace.attention[index] / trace.attention[index].max()
    extent = (x, x + w, y + h, y)
    axes.imshow(attention, extent=extent, cmap="inferno", alpha=0.7 * attention, interpolation="bilinear")
    for box, color in ((clip.boxes[index], "white"), (trace.boxes[index], "cyan")):
        if np.isfinite(box).all():
            axes.add_patch(Rectangle(box[:2] - 0.5, *box[2:], fill=False, edgecolor=color, linewidth=1.2))
    axes.set(xlim=(max(x, -0.5), min(x + w, image.shape[1] - 0.5)), xticks=[], yticks=[])
    axes.set(ylim=(min(y + h, image.shape[0] - 0.5), max(y, -0.5)))
    axes.set_title(f"frame {index}", fontsize="small")


@command.reports(SettingError, SequenceError, ResultError, WeightsError)
def main(argv: list[str] | None = None) -> None:
    """The command."""
    arguments = parsers.claims_memory().parse_args(argv)
    prepare_process()
    if (arguments.data_dir is None) != (arguments.sequence is None):
        raise SettingError("--data-dir and --sequence: give both, or none for a drawn clip")
    if arguments.frames < 3:
        raise SettingError(f"--frames {arguments.frames}: must be at least 3")
    config = rules.configure(trackers.get("memtrack").config, arguments.set)
    if not config.memory:
        raise SettingError("memory=False: there is nothing to show without the memory")
    keep_apart([arguments.out], [arguments.weights])
    params = trackers.load_params("memtrack", arguments.weights)
    if arguments.sequence is None:
        clip = drawn_clip(arguments.frames, arguments.seed)
    else:
        clip = read_clip(arguments.data_dir, arguments.sequence, arguments.frames)
    trace = follow(config, params, clip)
    draw(arguments.out, clip, trace, f"MemTrack's memory: {clip.name}")
    print(f"{arguments.out}: {len(trace.boxes)} frames of {clip.name}")


if __name__ == "__main__":
    sys.exit(main())
