"""How fast training is: `python -m train.benchmark step --config train/configs/dimp_tiny.py --json step.json`.

`step` measures a training run of any config: the loader alone on one core, the programs of a step beside a matrix
product, DiMP's loss with its optimizer unrolled in three ways, and the loop as it is. `optimizer` measures the gradient
through DiMP's optimizer alone. The three ways: the differentiable while loop of `ops.loops`, `lax.scan`, and `lax.scan`
with `jax.checkpoint` around the step. `clip` compiles MemTrack's gradient for clips of several lengths, and says what
it needs of memory. Nothing is compiled through the cache on disk: compile times are those of a first run.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from eval import settings
from eval.command import keep_freed_memory
from eval.files import ResultError, write_atomically
from eval.measure import roofline
from eval.measure.flops import count_flops
from eval.measure.timing import compile_timed, interleaved
from eval.sources.sequences import SequenceError
from ops.correlation import correlate
from ops.least_squares import descent_step, squared_norm
from trackers.nets import models
from trackers.nets.dimp_classifier import (
    FILTER_SIZE,
    MIN_CURVATURE,
    STRIDE,
    init_optimizer,
    optimize_filter,
    residual_args,
    residuals,
)
from trackers.parts.templates import EXEMPLAR_SIZE
from trackers.rules import SettingError
from train import atom, dimp, loop, memtrack, program, siamfc, siamrpn
from train.datasets import DatasetError
from train.samples import clips as clip_data
from train.samples import frames, pairs, samplers

Array = jax.Array
Params = Any
Compiled = Callable[..., Any]

SMOKE = Path(__file__).parents[1] / "configs" / "dimp_smoke.py"
LOSS_TOLERANCE = 1e-4  # relative; the ways to unroll compute the same loss


@dataclass(frozen=True)
class OptimizerOptions:
    """Shapes of one target's optimization; the defaults are those of DiMP-18."""

    channels: int = 256
    size: int = 18  # cells of a side of the feature map
    samples: int = 15  # images the filter is learned from
    test_frames: int = 3  # images a filter is scored on
    steps: tuple[int, ...] = (5, 10, 20, 50)
    repeats: int = 5  # timed calls; the median counts


@dataclass(frozen=True)
class StepOptions:
    """How much of a training run is measured."""

    steps: int = 20  # of the training loop
    repeats: int = 10  # timed calls of each program
    samples: int = 100  # loaded on one core
    filter_steps: tuple[int, ...] = (5, 20)  # of DiMP's optimizer, unrolled in three ways


@dataclass(frozen=True)
class ClipOptions:
    """Clips that MemTrack is trained on; compiled only, nothing runs."""

    lengths: tuple[int, ...] = (4, 8, 16)  # steps
    template_size: int = EXEMPLAR_SIZE  # pixels of a side
    search_size: int = 255
    clips: int = 1  # of a batch
    chunk: int = 1  # frames that go through the backbone together


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


def run_optimizer(options: OptimizerOptions) -> dict[str, Any]:
    """The gradient through the optimizer as JSON-ready data: options, versions, one row per measurement, growth."""
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
    return {"config": asdict(options)} | _environment() | {"rows": rows, "growth": growth}


def run_clip(options: ClipOptions) -> dict[str, Any]:
    """Bytes of the temporaries of MemTrack's loss and gradient, by length of the clip, as JSON-ready data.

    `state_bytes`: what the scan over chunks has to keep for the way back, the memory and the running statistics.
    `states_per_frame`: growth of the temporaries per frame of the clip, in those, of one chunk shared by its frames.
    """
    params = models.expected_variables("memtrack")
    config = memtrack.LossConfig(chunk=options.chunk)
    learned = loop.trained(params, loop.OptimizerConfig(groups=((".", 1.0),)))
    rows = []

    def value(learned, params, batch):
        return memtrack.loss(loop.with_trained(params, learned), batch, config)

    for length in options.lengths:
        args = learned, params, _abstract_clips(length, options)
        compiled, seconds = compile_timed(jax.value_and_grad(value, has_aux=True), *args)
        memory = compiled.memory_analysis()
        sizes = {"temporary_bytes": memory.temp_size_in_bytes, "argument_bytes": memory.argument_size_in_bytes}
        rows.append({"steps": length, "compile_s": seconds, **sizes})
    stored = jax.tree.leaves(memtrack.carried(params, _abstract_clips(1, options)["template_images"], config))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in stored)
    first, last = rows[0], rows[-1]
    growth = (last["temporary_bytes"] - first["temporary_bytes"]) / max(last["steps"] - first["steps"], 1)
    return {
        "config": asdict(options),
        **_environment(),
        "rows": rows,
        "state_bytes": state_bytes,
        "bytes_per_frame": growth,
        "states_per_frame": growth * options.chunk / state_bytes,
    }


def _abstract_clips(length: int, options: ClipOptions) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what `train.samples.clips.prepare` gives."""
    leading = (length, options.clips)
    shapes = {"keys": jax.eval_shape(lambda: jax.random.split(jax.random.key(0), options.clips))}
    for name, side in (("template", options.template_size), ("search", options.search_size)):
        shapes[f"{name}_images"] = jax.ShapeDtypeStruct((*leading, side, side, 3), jnp.float32)
        shapes[f"{name}_boxes"] = jax.ShapeDtypeStruct((*leading, 4), jnp.float32)
    return shapes


def clip_table(result: dict[str, Any]) -> str:
    """The measurements of `run_clip` for a terminal."""
    lines = [f"{'steps':>5} {'compile s':>10} {'temporary MiB':>14} {'arguments MiB':>14}"]
    for row in result["rows"]:
        sizes = (row[f"{name}_bytes"] / 2**20 for name in ("temporary", "argument"))
        lines.append(f"{row['steps']:5d} {row['compile_s']:10.1f} " + " ".join(f"{size:14.2f}" for size in sizes))
    lines.append(
        f"growth: {result['bytes_per_frame'] / 2**20:.3f} MiB a frame, {result['states_per_frame']:.2f} of the stored "
        f"states ({result['state_bytes'] / 2**20:.3f} MiB a chunk of {result['config']['chunk']})"
    )
    return "\n".join(lines)


def run_step(config: program.Config, data_dir: Path, options: StepOptions) -> dict[str, Any]:
    """A training run as JSON-ready data: config, versions, device, and what the parts below measure.

    SettingError, DatasetError, FrameError and TrainingError as in training.
    """
    loss = _loss_of(config)
    with closing(program.open_batches(config, data_dir)) as batches:
        batch = {name: leaf for name, leaf in next(batches).items() if name != "sample_ids"}
    params = jax.device_get(
        program.initial_params(config.loss.model, config.loop.seed, None, config.identity_classifier)
    )
    report = {"config": settings.plain(config), "options": asdict(options)} | _environment()
    report["loader"] = profile_loader(config, data_dir, options.samples)
    report |= measure_programs(loss, config, params, batch, options)
    crops = crops_of(batch) // config.loader.batch_size
    report["loop"] = measure_loop(loss, config, params, data_dir, options.steps, crops)
    (step,) = (row for row in report["programs"] if row["name"] == "step")
    # With one device: how much longer a step of the loop takes than its program with the data at hand.
    report["loop"]["over_step"] = report["loop"]["step_s"] / step["median_s"]
    return report


def _loss_of(config: program.Config) -> Callable:
    """`(params, batch, loss_config)` that the config is for."""
    for module in (atom, dimp, siamfc, siamrpn, memtrack):
        if isinstance(config.loss, module.LossConfig):
            return module.loss
    raise SettingError(f"its loss, a {type(config.loss).__name__}, is of no command of train")


def crops_of(batch: dict[str, Array]) -> int:
    """Crops of a batch: its images are `[several, B, h, w, 3]`."""
    return sum(math.prod(leaf.shape[:2]) for name, leaf in batch.items() if name.endswith("_images"))


def profile_loader(config: program.Config, data_dir: Path, samples: int) -> dict[str, Any]:
    """Samples per second of one core without any work on a device, and milliseconds of a sample by stage.

    "read" is the stored file, "decode" its pixels, "crop" the windows; "rest" is drawing, colors and stacking.
    """
    datasets = [program.open_dataset(one, data_dir) for one in config.datasets]
    mixture = samplers.mix(datasets, [one.probability for one in config.datasets], config.loader.sampling)
    seconds = dict.fromkeys(("read", "decode", "crop"), 0.0)

    def timed(stage, function):
        def call(*args, **options):
            start = time.perf_counter()
            result = function(*args, **options)
            seconds[stage] += time.perf_counter() - start
            return result

        return call

    timed_datasets = [one._replace(frames=_Frames(timed("read", one.frames.__getitem__))) for one in datasets]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    load = program.samples_of(config.loss.model).load
    crop_functions = ((frames, "search_crop"), (pairs, "pair_crop"), (clip_data, "pair_crop"))
    try:
        load(datasets, mixture, config.loader, 0)  # files are opened at the first read
        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(frames, "decode", timed("decode", frames.decode)))
            for module, name in crop_functions:
                patches.enter_context(mock.patch.object(module, name, timed("crop", getattr(module, name))))
            start = time.perf_counter()
            for index in range(samples):
                load(timed_datasets, mixture, config.loader, index)
            total = time.perf_counter() - start
    finally:
        cv2.setNumThreads(threads)
    seconds["rest"] = total - sum(seconds.values())
    return {
        "samples_per_second": samples / total,
        "ms_per_sample": {stage: 1e3 * each / samples for stage, each in seconds.items()},
    }


@dataclass(frozen=True)
class _Frames:
    """Random access by a function."""

    read: Callable[[int], Any]

    def __getitem__(self, record: int) -> Any:
        return self.read(record)


def measure_programs(
    loss: Callable, config: program.Config, params: Params, batch: dict[str, np.ndarray], options: StepOptions
) -> dict[str, Any]:
    """`{"programs": rows, "gemm": {...}, "loss_difference"}` of one device, the batch lying on it.

    A row has seconds to compile, seconds of a call, crops per second, FLOPs, their rate and its share of the matrix
    product's in the same round, and bytes of the temporaries. "forward" and "forward + backward" start from prepared
    images; "step" is the whole of it. Rows with a variant are DiMP's forward + backward with another optimizer.
    """
    device = jax.devices()[0]
    params, batch = jax.device_put((params, batch), device)
    prepare = partial(program.samples_of(config.loss.model).augment, config=config.prepare)
    key = jax.random.key(config.loop.seed)
    learned = loop.trained(params, config.optimizer)
    of_dimp = isinstance(config.loss, dimp.LossConfig)
    calls, rows = {}, []

    def add(name, function, *args, loss_config=config.loss, donate=(), **about):
        steps = loss_config.filter_steps if of_dimp else 0
        compiled, seconds = compile_timed(function, *args, donate=donate)
        memory = compiled.memory_analysis().temp_size_in_bytes
        flops = count_flops(function, *args, while_steps=steps)
        rows.append({"name": name, **about, "compile_s": seconds, "flops": flops, "temporary_bytes": memory})
        calls[name] = partial(compiled, *args)
        return compiled

    def differentiate(loss_config):
        def value(learned, params, batch):
            return loss(loop.with_trained(params, learned), batch, loss_config)

        return jax.value_and_grad(value, has_aux=True)

    prepared = add("prepare", prepare, key, batch)(key, batch)
    add("forward", lambda params, batch: loss(params, batch, config.loss)[0], params, prepared)
    add("forward + backward", differentiate(config.loss), learned, params, prepared)
    step = loop.make_step(partial(loss, config=config.loss), prepare, config.optimizer, config.loop.seed)
    state = jax.tree.map(jnp.copy, loop.init_state(params, config.optimizer))  # it is donated
    calls["step"] = _runner(add("step", step, state, batch, donate=(0,)), state, batch)
    for steps in options.filter_steps if of_dimp else ():
        loss_config = replace(config.loss, filter_steps=steps)
        for variant, unroll in VARIANTS.items():
            with mock.patch.object(dimp, "optimize_filter", unroll):
                add(
                    f"{variant}, {steps} steps",
                    differentiate(loss_config),
                    learned,
                    params,
                    prepared,
                    loss_config=loss_config,
                    variant=variant,
                    filter_steps=steps,
                )

    gemm = roofline.matrix_product()
    seconds = interleaved({"gemm": gemm.call} | calls, options.repeats)
    gemm_rates = gemm.amount / seconds["gemm"]
    crops = crops_of(batch)
    for row in rows:
        each = seconds[row["name"]]
        row["median_s"], row["p90_s"] = float(np.median(each)), float(np.percentile(each, 90))
        row["crops_per_second"] = crops / row["median_s"]
        row["flops_per_second"] = row["flops"] / row["median_s"]
        row["gemm_share"] = float(np.median(row["flops"] / each / gemm_rates))
        if "variant" in row:
            row["loss"] = float(calls[row["name"]]()[0][0])
    return {
        "programs": rows,
        "gemm": {"size": roofline.MATRIX_SIDE, "flops_per_second": float(np.median(gemm_rates))},
        "loss_difference": _loss_difference(rows, options.filter_steps) if of_dimp else None,
    }


def _runner(step: Compiled, state: loop.TrainState, batch: dict[str, Array]) -> Callable[[], Any]:
    """A call that trains one more step; the donated state runs along."""

    def call():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return call


def _loss_difference(rows: Sequence[dict[str, Any]], filter_steps: Sequence[int]) -> float:
    """The largest relative difference of a loss from that by the while loop with as many steps."""
    losses = {(row["variant"], row["filter_steps"]): row["loss"] for row in rows if "variant" in row}
    reference = {steps: losses["while loop", steps] for steps in filter_steps}
    return max(abs(loss / reference[steps] - 1) for (_, steps), loss in losses.items())


def measure_loop(
    loss: Callable, config: program.Config, params: Params, data_dir: Path, steps: int, crops: int
) -> dict[str, float]:
    """The loop of `train.loop.fit` on all devices, with its loader: seconds of a step, and the share spent on waiting
    for a batch, during which the devices have nothing to do.

    Counted are `steps` steps after those whose batches were made while the step was compiled, and not the last step,
    which writes a checkpoint. crops: of a sample.
    """
    skipped = 1 + max(config.loader.buffer, config.loader.threads) * max(config.loader.workers, 1)
    config = replace(config, loop=replace(config.loop, steps=skipped + steps + 1))
    prepare = partial(program.samples_of(config.loss.model).augment, config=config.prepare)
    with closing(program.open_batches(config, data_dir)) as batches, tempfile.TemporaryDirectory() as folder:
        timed = _TimedBatches(batches)
        of_config = partial(loss, config=config.loss)
        loop.fit(params, of_config, prepare, timed, config.optimizer, config.loop, Path(folder))
    asked, given = np.array(timed.asked), np.array(timed.given)
    seconds = asked[skipped + steps] - asked[skipped]
    waited = np.sum(given[skipped:-1] - asked[skipped:-1])
    samples = config.loader.batch_size * steps / seconds
    return {
        "step_s": float(seconds / steps),
        "data_wait_share": float(waited / seconds),
        "samples_per_second": float(samples),
        "crops_per_second": float(samples * crops),
    }


class _TimedBatches:
    """Batches, and when each was asked for and given."""

    def __init__(self, batches: loop.Batches):
        self._batches = batches
        self.asked, self.given = [], []
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self) -> dict[str, np.ndarray]:
        self.asked.append(time.perf_counter())
        batch = next(self._batches)
        self.given.append(time.perf_counter())
        return batch


def _environment() -> dict[str, Any]:
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    return {"versions": settings.versions(), "device": device}


def optimizer_table(result: dict[str, Any]) -> str:
    """The measurements of `run_optimizer` for a terminal."""
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


def step_table(report: dict[str, Any]) -> str:
    """The measurements of `run_step` as Markdown."""
    loader, running = report["loader"], report["loop"]
    batch = report["config"]["loader"]["batch_size"]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in loader["ms_per_sample"].items())
    lines = [f"{report['config']['loss']['model']}, {batch} samples a batch, on {report['device']}", ""]
    lines += [f"loader, one core: {loader['samples_per_second']:.1f} samples/s; ms of a sample: {stages}", ""]
    lines.append("| program | compile s | median ms | p90 ms | crops/s | GFLOP | GFLOP/s | of GEMM | temporary MiB |")
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in report["programs"]:
        times = f"{row['compile_s']:.1f} | {1e3 * row['median_s']:.1f} | {1e3 * row['p90_s']:.1f}"
        work = f"{row['flops'] / 1e9:.2f} | {row['flops_per_second'] / 1e9:.1f} | {row['gemm_share']:.2f}"
        memory = f"{row['temporary_bytes'] / 2**20:.1f}"
        lines.append(f"| {row['name']} | {times} | {row['crops_per_second']:.1f} | {work} | {memory} |")
    gemm = report["gemm"]
    lines += ["", f"GEMM ({gemm['size']} x {gemm['size']}, float32): {gemm['flops_per_second'] / 1e9:.1f} GFLOP/s"]
    if report["loss_difference"] is not None:
        lines.append(f"losses of the ways to unroll: equal to {report['loss_difference']:.1e}")
    lines.append(
        f"training loop: {1e3 * running['step_s']:.1f} ms a step ({running['over_step']:.2f} of the program alone), "
        f"{running['samples_per_second']:.1f} samples/s, {running['crops_per_second']:.1f} crops/s; "
        f"waits for data {100 * running['data_wait_share']:.1f} % of the time"
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.benchmark",
        description="Time and memory of training.",
        epilog="example: python -m train.benchmark step --config train/configs/siamfc_smoke.py --json step.json",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    step = commands.add_parser("step", help="the loader, the training step and the loop of a config")
    step.add_argument("--config", type=Path, default=SMOKE, help="see train/configs (default: dimp_smoke.py)")
    step.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of `python -m train.datasets`")
    step.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loader.batch_size=2, ...")
    step.add_argument("--steps", type=_positive, default=StepOptions.steps, help="timed, of the training loop")
    step.add_argument("--repeats", type=_positive, default=StepOptions.repeats, help="timed calls of each program")
    step.add_argument("--samples", type=_positive, default=StepOptions.samples, help="loaded on one core")
    step.add_argument(
        "--filter_steps",
        type=_positive,
        nargs="+",
        default=StepOptions.filter_steps,
        help="of DiMP's optimizer, where its unrolling is compared",
    )

    optimizer = commands.add_parser("optimizer", help="the gradient through DiMP's optimizer alone")
    for field in fields(OptimizerOptions):
        several = {"nargs": "+"} if field.name == "steps" else {}
        name = "--" + field.name.replace("_", "-")
        optimizer.add_argument(name, type=int, default=field.default, **several)

    clip = commands.add_parser("clip", help="memory of MemTrack's gradient by the length of the clip")
    for field in fields(ClipOptions):
        several = {"nargs": "+"} if field.name == "lengths" else {}
        clip.add_argument(f"--{field.name}", type=_positive, default=field.default, **several)

    for command in (step, optimizer, clip):
        command.add_argument("--json", type=Path, help="also write the result to this file")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be positive")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run a benchmark, print a table, write JSON if asked; the exit status."""
    arguments = vars(_parser().parse_args(argv))
    keep_freed_memory()
    command, path = arguments.pop("command"), arguments.pop("json")
    if command == "optimizer":
        result = run_optimizer(OptimizerOptions(**arguments | {"steps": tuple(arguments["steps"])}))
        print(optimizer_table(result))
    elif command == "clip":
        result = run_clip(ClipOptions(**arguments | {"lengths": tuple(arguments["lengths"])}))
        print(clip_table(result))
    else:
        file, data_dir, assignments = (arguments.pop(name) for name in ("config", "data_dir", "set"))
        options = StepOptions(**arguments | {"filter_steps": tuple(arguments["filter_steps"])})
        try:
            result = run_step(program.read_config(file, assignments), data_dir, options)
        except (SettingError, loop.TrainingError, DatasetError, SequenceError, frames.FrameError, OSError) as e:
            print(f"error: {' '.join(str(e).split())}", file=sys.stderr)
            return 1
        print(step_table(result))
    if path:
        try:
            write_atomically(path, json.dumps(result, indent=1) + "\n")
        except ResultError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    if (result.get("loss_difference") or 0) > LOSS_TOLERANCE:
        print(f"error: the losses differ by more than {LOSS_TOLERANCE}: not the same function", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
