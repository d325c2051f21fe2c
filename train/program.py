"""From a configuration to trained weights: what the commands `train.dimp` and `train.atom` share."""

import argparse
import contextlib
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tensorboardX import SummaryWriter

from eval import datasets, settings
from eval.compilation import enable_compilation_cache
from eval.datasets import SYNTHETIC, DatasetError, SyntheticConfig, TrackingDataset
from eval.sequences import SequenceError
from trackers.nets import models
from trackers.nets.dimp_classifier import identity_start
from trackers.weights import WeightsError, files
from train import data, loop
from train import validation as tracking
from train.checkpoint import CheckpointError
from train.validation import ValidationConfig

Params = Any

INTERRUPTED = 130


@dataclass(frozen=True)
class DatasetConfig:
    """One of the data sets that are mixed, as `python -m eval.datasets` has prepared it."""

    name: str
    probability: float = 1.0
    split: str = "train"
    synthetic: SyntheticConfig | None = None  # of "synthetic_tracking": drawn and prepared where it is missing


@dataclass(frozen=True)
class Config:
    """A training run; `train/configs` holds the published ones and our own."""

    datasets: tuple[DatasetConfig, ...]
    optimizer: loop.OptimizerConfig
    loop: loop.LoopConfig
    loss: Any  # the command's own LossConfig, with the `model` that is trained
    loader: data.LoaderConfig = data.DIMP
    prepare: data.PrepareConfig = data.PREPARE_DIMP
    identity_classifier: bool = False  # DiMP's classifier starts as `dimp_classifier.identity_start`
    validation: ValidationConfig = field(default_factory=ValidationConfig)


def initial_params(model: str, seed: int, weights: Path | None, identity_classifier: bool = False) -> Params:
    """Random parameters of `model`, the parts that a weight file has taken from there.

    weights: a file of the same model (to go on training it) or of a backbone alone. WeightsError, one line, if a part
    does not fit.
    """
    params = models.init_variables(model, jax.random.key(seed))
    if identity_classifier:
        try:
            params["classifier"] = identity_start(params["classifier"])
        except (KeyError, ValueError) as error:
            raise settings.SettingError(f"identity_classifier: {model} has no such start: {error}") from error
    if weights is None:
        return params
    source = files.read_metadata(weights)["model"]
    if source not in models.MODELS:
        raise WeightsError(f"{weights}: made for {source!r}, which is no model of {', '.join(models.MODELS)}")
    found = files.load(weights, models.expected_variables(source))
    for part, variables in found.items():
        if part in params and jax.tree.map(jnp.shape, variables) != jax.tree.map(jnp.shape, params[part]):
            raise WeightsError(f"{weights}: its {part} (of model {source}) does not fit {model}")
    return {part: found.get(part, variables) for part, variables in params.items()}


def train(loss: loop.Loss, config: Config, out: Path, data_dir: Path, weights: Path | None = None) -> Params:
    """Trains, or goes on with the training in `out`, and writes `out/weights.safetensors`; the parameters.

    loss: `(params, prepared batch) -> (value, (params, parts))`.
    """
    batches = open_batches(config, data_dir)
    prepare = partial(data.prepare, config=config.prepare)
    start = initial_params(config.loss.model, config.loop.seed, weights, config.identity_classifier)
    track = tracking.make(config.loss.model, config.validation) if config.validation.data_dir else None
    with contextlib.closing(batches), SummaryWriter(str(out / "tensorboard")) as writer:

        def validate(step, params):
            scores, overlays = track(params)
            writer.add_image("validation/overlays", overlays, step, dataformats="HWC")
            return scores

        params = loop.fit(
            start,
            loss,
            prepare,
            batches,
            config.optimizer,
            config.loop,
            out,
            on_log=_to_tensorboard(writer),
            validate=track and validate,
            validate_every=config.validation.every,
        )
    if jax.process_index() == 0:
        info = {"config": settings.plain(config), "steps": config.loop.steps, "versions": settings.versions()}
        files.save(out / "weights.safetensors", jax.device_get(params), model=config.loss.model, info=info)
    return params


def open_batches(config: Config, data_dir: Path) -> data.BatchIterator:
    """This process's batches of the mixture. DatasetError; SettingError where the numbers do not fit."""
    devices, size = jax.device_count(), config.loader.batch_size
    if size < 1 or size % devices:
        raise settings.SettingError(f"loader.batch_size={size}: must be a positive multiple of the {devices} devices")
    mixed = [open_dataset(one, data_dir) for one in config.datasets]
    try:
        return data.batches(
            mixed,
            [one.probability for one in config.datasets],
            config.loader,
            config.loop.steps,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    except ValueError as error:
        raise settings.SettingError(str(error)) from error


def open_dataset(config: DatasetConfig, data_dir: Path) -> TrackingDataset:
    """The prepared data set; procedural clips are drawn first where they are missing. DatasetError."""
    if config.name == SYNTHETIC and config.synthetic is not None:
        return datasets.prepare(
            SYNTHETIC, None, data_dir, config.split, synthetic=config.synthetic, progress=jax.process_index() == 0
        )
    return datasets.load(config.name, data_dir, config.split)


def _to_tensorboard(writer: SummaryWriter) -> Callable[[int, dict[str, Any]], None]:
    def log(step, values):
        for name, value in values.items():
            for index, scalar in enumerate(value if isinstance(value, list) else [value]):
                writer.add_scalar(f"{name}/{index}" if isinstance(value, list) else name, scalar, step)

    return log


def read_config(path: Path, assignments: list[str]) -> Config:
    """What `get_config()` of a Python file returns, with `field=value` assignments applied. SettingError."""
    if not path.is_file():
        raise settings.SettingError(f"{path}: no such file; train/configs holds some")
    found = runpy.run_path(str(path)).get("get_config")
    if found is None:
        raise settings.SettingError(f"{path}: has no function get_config")
    return settings.override(found(), assignments)


def main(name: str, loss: Callable, loss_config: type, argv: list[str] | None = None) -> int:
    """The command `python -m train.NAME`; the exit status. loss: `(params, prepared batch, loss_config)`."""
    try:
        return _main(name, loss, loss_config, argv)
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted before training", file=sys.stderr)
        return INTERRUPTED


def _main(name, loss, loss_config, argv) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m train.{name}", description=f"Train {name}: see train/configs.")
    parser.add_argument("--config", type=Path, required=True, help="Python file with get_config(), see train/configs")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of `python -m eval.datasets`")
    parser.add_argument("--weights", type=Path, help="to start from: of the same model, or of a backbone alone")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loop.steps=100, ...")
    parser.add_argument("--distributed", action="store_true", help="one of several processes (TPU pod, Slurm)")
    arguments = parser.parse_args(argv)
    enable_compilation_cache()
    out = arguments.out or Path("runs") / arguments.config.stem
    try:
        if arguments.distributed:
            jax.distributed.initialize()
        config = read_config(arguments.config, arguments.set)
        if not isinstance(config.loss, loss_config):
            raise settings.SettingError(f"{arguments.config}: its loss is a {type(config.loss).__module__} one")
        train(partial(loss, config=config.loss), config, out, arguments.data_dir, arguments.weights)
    except (settings.SettingError, WeightsError, CheckpointError, loop.TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (DatasetError, SequenceError, data.FrameError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"weights: {out / 'weights.safetensors'} (model {config.loss.model})")
    return 0
