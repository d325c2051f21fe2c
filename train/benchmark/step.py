"""A training run of any config: the loader alone on one core, the programs of a step beside a matrix product, DiMP's
loss with its optimizer unrolled in three ways (see `optimizer`), and the loop as it is.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from eval import settings
from eval.measure import roofline
from eval.measure.flops import count_flops
from eval.measure.timing import compile_timed, interleaved
from trackers.rules import SettingError
from train import dimp, loop
from train.benchmark.optimizer import VARIANTS
from train.config import Config, samples_of
from train.run import initial_params, open_batches, open_dataset
from train.samples import clips, frames, loader, pairs, samplers

Array = jax.Array
Params = Any
Compiled = Callable[..., Any]


@dataclass(frozen=True)
class StepOptions:
    """How much of a training run is measured."""

    steps: int = 20  # of the training loop
    repeats: int = 10  # timed calls of each program
    samples: int = 100  # loaded on one core
    filter_steps: tuple[int, ...] = (5, 20)  # of DiMP's optimizer, unrolled in three ways


def run(config: Config, data_dir: Path, options: StepOptions) -> dict[str, Any]:
    """A training run as JSON-ready data: config, and what the parts below measure.

    SettingError, DatasetError, FrameError and TrainingError as in training.
    """
    loss = _loss_of(config)
    with closing(open_batches(config, data_dir)) as batches:
        batch = {name: leaf for name, leaf in next(batches).items() if name != "sample_ids"}
    params = jax.device_get(initial_params(config.loss.model, config.loop.seed, None, config.identity_classifier))
    report = {"config": settings.plain(config), "options": asdict(options)}
    report["loader"] = profile_loader(config, data_dir, options.samples)
    report |= measure_programs(loss, config, params, batch, options)
    crops = crops_of(batch) // config.loader.batch_size
    report["loop"] = measure_loop(loss, config, params, data_dir, options.steps, crops)
    (step,) = (row for row in report["programs"] if row["name"] == "step")
    # With one device: how much longer a step of the loop takes than its program with the data at hand.
    report["loop"]["over_step"] = report["loop"]["step_s"] / step["median_s"]
    return report


def _loss_of(config: Config) -> Callable:
    """`(params, batch, loss_config)` that the config is for: `loss` of the module that its LossConfig is from."""
    try:
        return sys.modules[type(config.loss).__module__].loss
    except AttributeError as error:
        raise SettingError(f"its loss, a {type(config.loss).__name__}, is of no command of train") from error


def crops_of(batch: dict[str, Array]) -> int:
    """Crops of a batch: its images are `[several, B, h, w, 3]`."""
    return sum(math.prod(leaf.shape[:2]) for name, leaf in batch.items() if name.endswith("_images"))


def profile_loader(config: Config, data_dir: Path, samples: int) -> dict[str, Any]:
    """Samples per second of one core without any work on a device, and milliseconds of a sample by stage.

    "read" is the stored file, "decode" its pixels, "crop" the windows; "rest" is drawing, colors and stacking.
    """
    datasets = [open_dataset(one, data_dir) for one in config.datasets]
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
    load = samples_of(config.loss.model).load
    crop_functions = ((frames, "search_crop"), (pairs, "pair_crop"), (clips, "pair_crop"))
    try:
        load(datasets, mixture, config.loader, 0)  # files are opened at the first read
        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(loader, "decode", timed("decode", loader.decode)))
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
    loss: Callable, config: Config, params: Params, batch: dict[str, np.ndarray], options: StepOptions
) -> dict[str, Any]:
    """`{"programs": rows, "gemm": {...}, "loss_difference"}` of one device, the batch lying on it.

    A row has seconds to compile, seconds of a call, crops per second, FLOPs, their rate and its share of the matrix
    product's in the same round, and bytes of the temporaries. "forward" and "forward + backward" start from prepared
    images; "step" is the whole of it. Rows with a variant are DiMP's forward + backward with another optimizer.
    """
    device = jax.devices()[0]
    params, batch = jax.device_put((params, batch), device)
    prepare = partial(samples_of(config.loss.model).augment, config=config.prepare)
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
    loss: Callable, config: Config, params: Params, data_dir: Path, steps: int, crops: int
) -> dict[str, float]:
    """The loop of `train.loop.fit` on all devices, with its loader: seconds of a step, and the share spent on waiting
    for a batch, during which the devices have nothing to do.

    Counted are `steps` steps after those whose batches were made while the step was compiled, and not the last step,
    which writes a checkpoint. crops: of a sample.
    """
    skipped = 1 + max(config.loader.buffer, config.loader.threads) * max(config.loader.workers, 1)
    config = replace(config, loop=replace(config.loop, steps=skipped + steps + 1))
    prepare = partial(samples_of(config.loss.model).augment, config=config.prepare)
    with closing(open_batches(config, data_dir)) as batches, tempfile.TemporaryDirectory() as folder:
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


def table(report: dict[str, Any]) -> str:
    """The measurements of `run` as Markdown."""
    loading, running = report["loader"], report["loop"]
    batch = report["config"]["loader"]["batch_size"]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in loading["ms_per_sample"].items())
    lines = [f"{report['config']['loss']['model']}, {batch} samples a batch, on {report['device']}", ""]
    lines += [f"loader, one core: {loading['samples_per_second']:.1f} samples/s; ms of a sample: {stages}", ""]
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
