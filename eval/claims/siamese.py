"""Three findings of the Siamese papers, as figures and tables for your weights.

* `center-bias`: a network with padding learns where targets are in its training crops unless they are moved there
  (Li et al. 2019, section 3.1): the mean response, and the score of a target away from the middle.
* `levels`: what each level of SiamRPN++ contributes alone, and all of them together (section 3.2).
* `heads`: the parameters and the time of an up-channel and of a depthwise head (section 3.3).

    python -m eval.claims.siamese center-bias --tracker siamrpnpp_mobilenetv2_1.0 --data-dir clips --out bias.png \
        --weights 0=shift0.safetensors --weights 32=shift32.safetensors
    python -m eval.claims.siamese levels --tracker siamrpnpp_mobilenetv2_1.0 --data-dir clips --out levels.png
    python -m eval.claims.siamese heads --out heads.json
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import trackers
from eval import command, parsers, plots, settings
from eval.command import prepare_process
from eval.files import keep_apart, write_atomically
from eval.measure.timing import time_function
from eval.running.passes import Compiled, track_sequence
from eval.scoring import metrics
from eval.sources import layouts, sequences
from ops.boxes import Box
from ops.crop import mean_color
from trackers import siamrpn
from trackers.base import Frame
from trackers.images import xywh_to_box
from trackers.nets import rpn
from trackers.parts import templates
from trackers.rules import SettingError

Params = Any
RINGS = (0, 16, 32, 48, 64, 80)  # crop pixels: bounds of the rings of distance


class Example(NamedTuple):
    """A target in two frames of its sequence."""

    name: str
    first: Frame
    first_box: Box
    frame: Frame
    box: Box


class CenterBias(NamedTuple):
    """Where a network responds when targets are equally likely everywhere."""

    response: np.ndarray  # [S, S] mean of the best anchor's score in each cell
    score: np.ndarray  # [rings] mean score at the target, by its distance from the middle (`RINGS`)


def examples(chosen: list[sequences.Sequence], frames: int) -> Iterator[Example]:
    """Of each sequence `frames` frames after the first, evenly spread over those with a box."""
    for sequence in chosen:
        known = np.flatnonzero(np.isfinite(sequence.boxes).all(1) & (sequence.boxes[:, 2:] > 0).all(1))
        known = known[known > 0]
        read = sequences.read_image
        first, first_box = trackers.frame(read(sequence.frames[0])), xywh_to_box(sequence.boxes[0])
        for index in known[np.linspace(0, len(known) - 1, min(frames, len(known))).astype(int)] if len(known) else ():
            frame, box = trackers.frame(read(sequence.frames[index])), xywh_to_box(sequence.boxes[index])
            yield Example(sequence.name, first, first_box, frame, box)


def responder(config: siamrpn.Config):
    """Jitted `(params, example, displacement [2]) -> (search crop [H, W, 3], score [S, S])` in 0..1.

    displacement: y, x of the target from the crop's middle, crop pixels. The score of a cell is its best anchor's.
    """
    matcher = siamrpn.make_matcher(config)

    @jax.jit
    def respond(params, first, first_box, frame, box, displacement):
        fill = mean_color(first.image, first.extent)
        template = matcher.embed(params, first, first_box, fill)
        pixel = templates.context_side(box.size) / templates.EXEMPLAR_SIZE  # of the image, per crop pixel
        around = Box(box.center - displacement * pixel, box.size)
        region = matcher.region(frame, around, fill)
        response = matcher.match(params, template, matcher.features(params, region.image))
        return region.image[0], jnp.max(matcher.decode(response, around).score, 0)

    return lambda params, example, displacement: respond(params, *example[1:], displacement)


def measure_center_bias(
    params: Params, config: siamrpn.Config, shown: list[Example], places: int, seed: int = 0
) -> CenterBias:
    """Each example with its target at `places` places, uniform over a square of `RINGS[-1]` pixels to each side."""
    rng, respond, cells = np.random.default_rng(seed), responder(config), siamrpn.score_size(config)
    total, sums, counts = np.zeros((cells, cells)), np.zeros(len(RINGS) - 1), np.zeros(len(RINGS) - 1)
    for example in shown:
        for displacement in rng.uniform(-RINGS[-1], RINGS[-1], (places, 2)).astype(np.float32):
            _, score = respond(params, example, displacement)
            total += np.asarray(score)
            y, x = np.clip(np.rint(cells // 2 + displacement / templates.STRIDE).astype(int), 0, cells - 1)
            ring = np.searchsorted(RINGS, np.abs(displacement).max(), "right") - 1
            sums[ring] += np.asarray(score)[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
            counts[ring] += 1
    return CenterBias(total / (len(shown) * places), sums / np.maximum(counts, 1))


def levels(params: Params) -> dict[str, dict[str, float]]:
    """{"cls", "loc"}: the share of every level of the features in that output of a depthwise head; they sum to 1."""
    head = params["head"]["params"]
    count = sum(name.startswith("cls_") and name != "cls_weight" for name in head)
    if count < 2:
        raise SettingError("the head of this tracker has one level only; siamrpnpp_mobilenetv2 has three")
    logits = {output: head.get(f"{output}_weight", np.zeros(count)) for output in ("cls", "loc")}
    return {
        output: {f"level {i + 1}": float(share) for i, share in enumerate(jax.nn.softmax(values))}
        for output, values in logits.items()
    }


def with_level(params: Params, name: str) -> Params:
    """The parameters of a head that uses only one of its `levels`: the last layers of the others are 0."""
    head = dict(params["head"]["params"])
    for output, shares in levels(params).items():
        for index, (level, share) in enumerate(shares.items()):
            branch = head[f"{output}_{index}"]
            factor = 1 / share if level == name else 0.0
            scaled = jax.tree.map(lambda leaf, factor=factor: leaf * factor, branch["output"])
            head[f"{output}_{index}"] = {**branch, "output": scaled}
    return {**params, "head": {**params["head"], "params": head}}


def mean_auc(params: Params, tracker: trackers.base.Tracker, chosen: list[sequences.Sequence]) -> float:
    """Mean AUC over the sequences, by the rule of `eval.scoring.metrics`."""
    compiled, key = Compiled.of(tracker), jax.device_put(jax.random.key(0))
    scores = []
    for sequence in chosen:
        boxes = track_sequence(compiled, params, sequence, key).boxes
        scores.append(metrics.score_sequence(boxes, sequence.boxes, sequence.visible)["auc"])
    return float(np.mean(scores))


def compare_heads(channels: int = 256, search: int = 22, template: int = 6) -> list[dict[str, Any]]:
    """Parameters and times of both heads on feature maps of one size: SiamRPN++'s on its AlexNet."""
    rng = np.random.default_rng(0)
    z, x = ((jnp.asarray(rng.normal(size=(1, size, size, channels)), jnp.float32),) for size in (template, search))
    rows = []
    for name, head in {"up-channel": rpn.UpChannelRPN(channels), "depthwise": rpn.DepthwiseRPN((channels,))}.items():
        variables = head.init(jax.random.key(0), z, x)
        known, seen = (head.apply(variables, taps, method=way) for taps, way in ((z, "template"), (x, "search")))

        def timed(method, *taps, head=head, variables=variables):
            return time_function(
                lambda variables, *taps: head.apply(variables, *taps, method=method), (variables, *taps)
            )

        rows.append(
            {
                "head": name,
                "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
                "template": timed("template", z),
                "search": timed("search", x),
                "correlate": timed("correlate", known, seen),
            }
        )
    return rows


def heads_table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| head | parameters | template, once: ms | search region: ms | correlation: ms |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        times = " | ".join(f"{row[part]['median_ms']:.2f}" for part in ("template", "search", "correlate"))
        lines.append(f"| {row['head']} | {row['parameters']:,} | {times} |")
    return "\n".join(lines)


def plot_center_bias(path: Path, found: dict[str, CenterBias]) -> None:
    """A heat map of the mean response for each network, and the score at the target by its distance."""
    figure = plots.new_figure(3.1 * (len(found) + 1.3), 3.4)
    *maps, curve = figure.subplots(1, len(found) + 1, width_ratios=[1] * len(found) + [1.3])
    low, high = (function([one.response for one in found.values()]) for function in (np.min, np.max))
    for axes, (name, one) in zip(maps, found.items()):
        reach = one.response.shape[0] * templates.STRIDE / 2
        image = axes.imshow(one.response, vmin=low, vmax=high, extent=(-reach, reach, reach, -reach), cmap="magma")
        axes.set(title=plots.literal(f"mean response, {name}"), xlabel="crop pixels from the middle")
    figure.colorbar(image, ax=maps, shrink=0.8)
    middles = (np.array(RINGS[:-1]) + np.array(RINGS[1:])) / 2
    for name, one in found.items():
        curve.plot(middles, one.score, marker="o", label=plots.literal(name))
    curve.set(title="score at the target", xlabel="distance from the middle, crop pixels", ylim=(0, 1))
    curve.grid(alpha=0.3)
    curve.legend(frameon=False)
    plots.save(figure, path)


def plot_levels(
    path: Path, ways: dict[str, Params], config: siamrpn.Config, shown: list[Example], auc: dict[str, float]
) -> None:
    """A row for each example: its search crop, and the scores with each of the parameters."""
    respond = responder(config)
    figure = plots.new_figure(2.3 * (len(ways) + 1), 2.45 * len(shown) + 0.4)
    grid = figure.subplots(len(shown), len(ways) + 1, squeeze=False)
    for row, example in zip(grid, shown):
        for axes, (name, params) in zip(row[1:], ways.items()):
            crop, score = respond(params, example, np.zeros(2, np.float32))
            axes.imshow(score, vmin=0, vmax=1, cmap="magma")
            axes.set_title(f"{name}, AUC {auc[name]:.3f}" if name in auc else name, fontsize=9)
        row[0].imshow(np.clip(np.asarray(crop), 0, 255).astype(np.uint8))
        row[0].set_title(plots.literal(example.name), fontsize=9)
        for axes in row:
            axes.set_axis_off()
    plots.save(figure, path)


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    """One line on stderr for what is wrong."""
    arguments = parsers.claims_siamese().parse_args(argv)
    weights = getattr(arguments, "weights", None)
    read = [command.named_path(text)[1] for text in weights] if isinstance(weights, list) else [weights]
    keep_apart([arguments.out], read)
    prepare_process()
    measured = {"center-bias": _center_bias, "levels": _levels, "heads": _heads}[arguments.command]
    print(measured(arguments))
    print(f"written: {arguments.out}")


def _center_bias(arguments: argparse.Namespace) -> str:
    chosen, config = _sequences(arguments), _config(arguments.tracker)
    shown = list(examples(chosen, arguments.frames))
    if not shown:
        raise sequences.SequenceError(f"{arguments.data_dir}: no frame after the first has a box")
    found = {}
    for text in arguments.weights:
        name, file = command.named_path(text)
        params = trackers.load_params(arguments.tracker, file)
        found[name or file.stem] = measure_center_bias(params, config, shown, arguments.places)
    plot_center_bias(arguments.out, found)
    lines = ["| weights | " + " | ".join(f"{a}-{b} px" for a, b in pairwise(RINGS)) + " |"]
    lines.append("|---" * len(RINGS) + "|")
    lines += [f"| {name} | " + " | ".join(f"{score:.3f}" for score in one.score) + " |" for name, one in found.items()]
    return "\n".join(lines)


def _levels(arguments: argparse.Namespace) -> str:
    chosen, config = _sequences(arguments), _config(arguments.tracker)
    params = trackers.load_params(arguments.tracker, arguments.weights)
    shares = levels(params)["cls"]
    ways = {**{name: with_level(params, name) for name in shares}, "all": params}
    auc = {}
    if arguments.track:
        auc = {name: mean_auc(way, siamrpn.make(config), chosen) for name, way in ways.items()}
    plot_levels(arguments.out, ways, config, list(examples(chosen, 1)), auc)
    said = " ".join(f"{name} {share:.3f}" for name, share in shares.items())
    return "\n".join([f"shares: {said}", *(f"AUC {name}: {value:.4f}" for name, value in auc.items())])


def _heads(arguments: argparse.Namespace) -> str:
    rows = compare_heads()
    text = json.dumps({"rows": rows, "versions": settings.versions()}, indent=2) + "\n"
    write_atomically(arguments.out, text)
    return heads_table(rows)


def _sequences(arguments: argparse.Namespace) -> list[sequences.Sequence]:
    return layouts.read_dataset(arguments.dataset, arguments.data_dir, arguments.sequences)


def _config(tracker: str) -> siamrpn.Config:
    config = trackers.get(tracker).config
    if not isinstance(config, siamrpn.Config):
        raise SettingError(f"{tracker} is not of the SiamRPN family")
    return config


if __name__ == "__main__":
    sys.exit(main())
