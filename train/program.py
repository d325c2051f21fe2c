"""From a configuration to trained weights: what the commands `train.dimp`, `train.siamfc` and so on share."""

import argparse
import contextlib
import json
import logging
import math
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import trackers
from eval import settings
from eval.command import prepare_process
from eval.running import parallel
from eval.sources.sequences import SequenceError
from trackers import siamrpn
from trackers.nets import models
from trackers.nets.alexnet import memtrack_from_siamfc
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE, identity_start
from trackers.parts.templates import EXEMPLAR_SIZE, REGION
from trackers.rules import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    ODD,
    POSITIVE,
    PROBABILITY,
    SHARE,
    Rule,
    SettingError,
    one_of,
    override,
)
from trackers.weights import WeightsError, files
from train import checkpoint, datasets, loop, tensorboard
from train import held_out as tracking
from train.checkpoint import CheckpointError
from train.datasets import SYNTHETIC, DatasetError, SyntheticConfig, TrackingDataset
from train.held_out import ValidationConfig
from train.samples import clips, frames
from train.samples import pairs as siamese_data
from train.samples.clips import ClipLoaderConfig, ClipPrepareConfig
from train.samples.pairs import PairLoaderConfig, PairPrepareConfig

Params = Any

INTERRUPTED = 130
WEIGHTS, BEST, SETTINGS = "weights.safetensors", "best.safetensors", "config.json"  # in the folder of a run

# Fields that a run may change when it goes on, or all fields of a part: the course of training does not depend on them.
FREE = (
    "loop.steps",
    "loop.log_every",
    "loop.save_every",
    "loop.keep",
    "loader.workers",
    "loader.threads",
    "loader.buffer",
    "validation",
)
RULES = {
    "loop.steps": COUNT,
    "loop.log_every": COUNT,
    "loop.save_every": COUNT,
    "loop.keep": COUNT,
    "optimizer.kind": one_of("adam", "sgd"),
    "optimizer.momentum": FRACTION,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.decay_every": NOT_NEGATIVE,
    "optimizer.decay": Rule("in (0, 1]", lambda value: 0 < value <= 1),
    "optimizer.warmup": NOT_NEGATIVE,
    "optimizer.warmup_from": PROBABILITY,
    "optimizer.clip": POSITIVE,
    "optimizer.accumulate": COUNT,
    "optimizer.average": SHARE,
    "loader.seed": NOT_NEGATIVE,
    "loader.workers": NOT_NEGATIVE,
    "loader.threads": COUNT,
    "loader.buffer": COUNT,
    "loader.parts.probability": PROBABILITY,
    "loader.parts.min_side": POSITIVE,
    "loader.crops.size": Rule(f"a positive multiple of {STRIDE}", lambda value: value > 0 and value % STRIDE == 0),
    "loader.crops.search_scale": POSITIVE,
    "loader.template.size": one_of(EXEMPLAR_SIZE),
    "loader.template.shift": NOT_NEGATIVE,
    "loader.template.stretch": FRACTION,
    "loader.search.size": REGION,
    "loader.search.shift": NOT_NEGATIVE,
    "loader.search.stretch": FRACTION,
    "loader.exemplar_size": POSITIVE,
    "loader.context": NOT_NEGATIVE,
    "loader.negative": PROBABILITY,
    "loader.max_draws": COUNT,
    "prepare.flip_probability": PROBABILITY,
    "prepare.grayscale_probability": PROBABILITY,
    "prepare.color_shift": NOT_NEGATIVE,
    "prepare.blur_probability": PROBABILITY,
    "prepare.blur_sizes.0": ODD,
    "prepare.blur_sizes.1": ODD,
    "prepare.occlusion_probability": PROBABILITY,
    "prepare.targets.max_positives": COUNT,
    "prepare.targets.max_anchors": COUNT,
    "prepare.labels.kernel_size": one_of(FILTER_SIZE),
    "prepare.labels.sigma": POSITIVE,
    "loss.filter_steps": NOT_NEGATIVE,
    "loss.classification_weight": NOT_NEGATIVE,
    "loss.overlap_weight": NOT_NEGATIVE,
    "loss.radius": POSITIVE,
    "loss.cls_weight": NOT_NEGATIVE,
    "loss.loc_weight": NOT_NEGATIVE,
    "loss.smoothing": NOT_NEGATIVE,
    "loss.overlap": FRACTION,
    "loss.dropout": FRACTION,
    "loss.l2": NOT_NEGATIVE,
    "loss.chunk": COUNT,
    "loss.backbone_statistics": one_of("batch", "stored"),
    "loss.backbone_dtype": one_of("float32", "bfloat16"),
    "validation.every": COUNT,
    "validation.sequences": COUNT,
}


@dataclass(frozen=True)
class DatasetConfig:
    """One of the data sets that are mixed, as `python -m train.datasets` has prepared it."""

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
    loss: Any  # the command's own LossConfig, with the `model` that is trained, which has one of its PARTS
    loader: frames.LoaderConfig | PairLoaderConfig | ClipLoaderConfig = frames.DIMP  # pairs for Siamese models, clips
    prepare: frames.PrepareConfig | PairPrepareConfig | ClipPrepareConfig = frames.PREPARE_DIMP  # for a memory
    identity_classifier: bool = False  # DiMP's classifier starts as `dimp_classifier.identity_start`
    validation: ValidationConfig = field(default_factory=ValidationConfig)


class Samples(NamedTuple):
    """How the training samples of a kind of models are made."""

    loader: type  # its configs
    prepare: type
    load: Callable  # on the host, see `train.samples.frames.batches`
    augment: Callable  # on the device: `(key, batch, config of the type prepare) -> batch`


FRAMES = Samples(frames.LoaderConfig, frames.PrepareConfig, frames.load_sample, frames.prepare)
PAIRS = Samples(PairLoaderConfig, PairPrepareConfig, siamese_data.load_pair, siamese_data.prepare)
CLIPS = Samples(ClipLoaderConfig, ClipPrepareConfig, clips.load_clip, clips.prepare)


def samples_of(model: str) -> Samples:
    """What `model` learns from."""
    return {"frames": FRAMES, "pairs": PAIRS, "clips": CLIPS}[models.get(model).samples]


def initial_params(model: str, seed: int, weights: Path | None, identity_classifier: bool = False) -> Params:
    """Random parameters of `model`, the parts that a weight file has taken from there.

    weights: a file of the same model (to go on training it), of a backbone alone or, for MemTrack, of SiamFC, whose
    backbone it can start from. WeightsError, one line, if a part
    does not fit.
    """
    params = models.init_variables(model, jax.random.key(seed))
    if identity_classifier:
        try:
            params["classifier"] = identity_start(params["classifier"])
        except (KeyError, ValueError) as error:
            raise SettingError(f"identity_classifier: {model} has no such start: {error}") from error
    if weights is None:
        return params
    source = files.read_metadata(weights)["model"]
    if source not in models.names():
        raise WeightsError(f"{weights}: made for {source!r}, which is no model of {', '.join(models.names())}")
    found = files.load(weights, models.expected_variables(source))
    if source == "siamfc" and "memory" in params:
        found = {"backbone": memtrack_from_siamfc(found["backbone"])}
    for part, variables in found.items():
        if part in params and jax.tree.map(jnp.shape, variables) != jax.tree.map(jnp.shape, params[part]):
            raise WeightsError(f"{weights}: its {part} (of model {source}) does not fit {model}")
    return {part: found.get(part, variables) for part, variables in params.items()}


def check(config: Config) -> None:
    """SettingError, one line with the field, its value and what it must be, for the first mistake."""

    def wrong(name, value, text):
        return SettingError(f"{name}={value}: must be {text}")

    values = dict(_leaves(settings.plain(config)))
    rate = Rule("> 0, a learning rate", POSITIVE.holds)
    rules = {
        "loss.model": one_of(*models.having(*config.loss.PARTS)),  # what follows may build on it
        **RULES,
        **{f"optimizer.groups.{index}.1": rate for index in range(len(config.optimizer.groups))},
        **{f"datasets.{index}.probability": NOT_NEGATIVE for index in range(len(config.datasets))},
    }
    for name, rule in rules.items():
        value = values.get(name)
        if value is None:  # of another loss, or an option that is not used
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong(name, value, "finite")
        try:
            kept = rule.holds(value)
        except TypeError:  # a name where a number belongs
            kept = False
        if not kept:
            raise wrong(name, value, rule.text)
    if config.optimizer.kind == "adam" and config.optimizer.weight_decay:
        raise wrong("optimizer.weight_decay", config.optimizer.weight_decay, 'zero for "adam"')
    samples = samples_of(config.loss.model)
    for name, kind in (("loader", samples.loader), ("prepare", samples.prepare)):
        given = getattr(config, name)
        if not isinstance(given, kind):
            raise wrong(name, type(given).__name__, f"a {kind.__name__} for {config.loss.model}")
    {FRAMES: _check_labels, PAIRS: _check_targets, CLIPS: _check_clips}[samples](config, wrong)


def _check_labels(config: Config, wrong: Callable[..., SettingError]) -> None:
    labels, size = config.prepare.labels, config.loader.crops.size
    if labels is not None and labels.feature_size * STRIDE != size:
        text = f"{size // STRIDE}, loader.crops.size={size} divided by the networks' stride of {STRIDE}"
        raise wrong("prepare.labels.feature_size", labels.feature_size, text)


def _check_clips(config: Config, wrong: Callable[..., SettingError]) -> None:
    sampling = config.loader.sampling
    if sampling.mode != "clip":
        raise wrong("loader.sampling.mode", sampling.mode, f'"clip" for {config.loss.model}')
    if sampling.train_frames % config.loss.chunk:
        text = f"a divisor of loader.sampling.train_frames={sampling.train_frames}, the steps of a clip"
        raise wrong("loss.chunk", config.loss.chunk, text)
    if not 0 <= config.loader.slips.shift[0] <= config.loader.slips.shift[1]:
        raise wrong("loader.slips.shift", config.loader.slips.shift, "(least, greatest)")
    _check_interpolations(config, wrong)


def _check_interpolations(config: Config, wrong: Callable[..., SettingError]) -> None:
    for name in ("template", "search"):
        for interpolation in getattr(config.loader, name).interpolations:
            if interpolation not in siamese_data.INTERPOLATIONS:
                text = f"of {', '.join(siamese_data.INTERPOLATIONS)}"
                raise wrong(f"loader.{name}.interpolations", interpolation, text)


def _check_targets(config: Config, wrong: Callable[..., SettingError]) -> None:
    model, targets, size = config.loss.model, config.prepare.targets, config.loader.search.size
    tracker = trackers.get(model).config
    anchors = isinstance(tracker, siamrpn.Config)
    if anchors != (targets is not None):
        given = "None" if targets is None else type(targets).__name__
        raise wrong("prepare.targets", given, f"{'given' if anchors else 'None'} for {model}")
    _check_interpolations(config, wrong)
    if config.prepare.blur_probability and not size > max(config.prepare.blur_sizes) // 2:
        raise wrong("prepare.blur_sizes", config.prepare.blur_sizes, "smaller than twice loader.search.size")
    if config.prepare.blur_sizes[0] > config.prepare.blur_sizes[1]:
        raise wrong("prepare.blur_sizes", config.prepare.blur_sizes, "(least, greatest)")
    if anchors:
        if targets.search_size != size:
            raise wrong("prepare.targets.search_size", targets.search_size, f"loader.search.size={size}")
        cells = siamrpn.score_size(replace(tracker, instance_size=size))
        if targets.score_size != cells:
            text = f"{cells}, the side of the score map that {model} gives for loader.search.size={size}"
            raise wrong("prepare.targets.score_size", targets.score_size, text)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict | list):
        yield name, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves(value, f"{name}.{key}" if name else str(key))


def refuse_other_run(out: Path, now: dict[str, Any]) -> None:
    """SettingError if `out` has checkpoints and a `config.json` that differs from `now` in a field that is not FREE."""
    path = out / SETTINGS
    if path.is_file() and checkpoint.any_in(out / loop.CHECKPOINTS):
        try:
            stored = json.loads(path.read_text())
        except ValueError as error:
            raise SettingError(f"{path}: damaged ({error}); give another --out, or delete it") from error
        found = [
            f"{name} is {there}, now {here}"
            for name, there, here in _differences(stored, now)
            if not any(name == free or name.startswith(f"{free}.") for free in FREE)
        ]
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise SettingError(
                f"{out}: has a run with other settings ({', '.join(found[:3])}{more}); "
                "give another --out, or the old values"
            )


def _differences(there: Any, here: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, value there, value here) of what differs; a field that only one side has is of another version."""
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = [(key, there[key], here[key]) for key in there if key in here]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(there, here))]
    else:
        if there != here:
            yield name, there, here
        return
    for key, *pair in pairs:
        yield from _differences(*pair, f"{name}.{key}" if name else key)


def train(loss: loop.Loss, config: Config, out: Path, data_dir: Path, weights: Path | None = None) -> Params:
    """Trains, or goes on with the training in `out`, and writes `out/weights.safetensors`; the parameters.

    With validation, `out/best.safetensors` holds the parameters that had the highest AUC, and `info["validation"]` of
    that file the scores. loss: `(params, prepared batch) -> (value, (params, parts))`.
    """
    check(config)
    made_of = {**settings.plain(config), "weights_sha256": weights and _sha256(weights)}
    refuse_other_run(out, made_of)
    batches = open_batches(config, data_dir)
    prepare = partial(samples_of(config.loss.model).augment, config=config.prepare)
    start = initial_params(config.loss.model, config.loop.seed, weights, config.identity_classifier)
    track = tracking.make(config.loss.model, config.validation) if config.validation.data_dir else None
    info = {"config": settings.plain(config), "versions": settings.versions()}
    best, writer = None, None
    with contextlib.closing(batches), contextlib.ExitStack() as stack:

        def on_start(step):
            nonlocal best, writer
            files.write_atomically(out / SETTINGS, json.dumps(made_of, indent=1).encode() + b"\n")
            best = best_score(out, config.validation, step) if track else None
            writer = stack.enter_context(contextlib.closing(tensorboard.open_log(out / "tensorboard", step)))

        def on_log(step, values):
            tensorboard.add_scalars(writer, step, values)

        def validate(step, params):
            nonlocal best
            scores, overlays = track(params)
            tensorboard.add_image(writer, step, "validation/overlays", overlays)
            if best is None or scores["auc"] > best:
                best = scores["auc"]
                with_scores = {**info, "steps": step, "validation": scores}
                files.save(out / BEST, params, model=config.loss.model, info=with_scores)
            return scores

        params = loop.fit(
            start,
            loss,
            prepare,
            batches,
            config.optimizer,
            config.loop,
            out,
            on_start=on_start,
            on_log=on_log,
            validate=track and validate,
            validate_every=config.validation.every,
        )
    if jax.process_index() == 0:
        info["steps"] = config.loop.steps
        files.save(out / WEIGHTS, jax.device_get(params), model=config.loss.model, info=info)
    return params


def _sha256(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror.lower()}") from error


def best_score(out: Path, config: ValidationConfig, step: int) -> float | None:
    """The AUC of the best parameters in `out`; None where there are none up to `step` by the same sequences."""
    if not (out / BEST).is_file():
        return None
    info = files.read_metadata(out / BEST)["info"]
    then, now = ({**one, "every": 0} for one in (info["config"]["validation"], settings.plain(config)))
    return info["validation"]["auc"] if info["steps"] <= step and then == now else None


def open_batches(config: Config, data_dir: Path) -> frames.BatchIterator:
    """This process's batches of the mixture. DatasetError; SettingError where the numbers do not fit."""
    devices, size = jax.device_count(), config.loader.batch_size
    if size < 1 or size % devices:
        raise SettingError(f"loader.batch_size={size}: must be a positive multiple of the {devices} devices")
    mixed = [open_dataset(one, data_dir) for one in config.datasets]
    try:
        return frames.batches(
            mixed,
            [one.probability for one in config.datasets],
            config.loader,
            config.loop.steps,
            load=samples_of(config.loss.model).load,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    except ValueError as error:
        raise SettingError(str(error)) from error


def open_dataset(config: DatasetConfig, data_dir: Path) -> TrackingDataset:
    """The prepared data set; procedural clips are drawn first where they are missing. DatasetError."""
    if config.name == SYNTHETIC and config.synthetic is not None:
        return datasets.prepare(
            SYNTHETIC, None, data_dir, config.split, synthetic=config.synthetic, progress=jax.process_index() == 0
        )
    return datasets.load(config.name, data_dir, config.split)


def read_config(path: Path, assignments: list[str]) -> Config:
    """What `get_config()` of a Python file returns, with `field=value` assignments applied. SettingError."""
    if not path.is_file():
        raise SettingError(f"{path}: no such file; train/configs holds some")
    found = runpy.run_path(str(path)).get("get_config")
    if found is None:
        raise SettingError(f"{path}: has no function get_config")
    return override(found(), assignments)


def main(name: str, loss: Callable, loss_config: type, argv: list[str] | None = None) -> int:
    """The command `python -m train.NAME`; the exit status. loss: `(params, prepared batch, loss_config)`."""
    try:
        return _main(name, loss, loss_config, argv)
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted before training", file=sys.stderr)
        return INTERRUPTED


def _main(name, loss, loss_config, argv) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m train.{name}",
        description=f"Train {name}: see train/configs.",
        epilog=f"example: python -m train.{name} --config train/configs/{name}_smoke.py --out runs/smoke",
    )
    parser.add_argument("--config", type=Path, required=True, help="Python file with get_config(), see train/configs")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of `python -m train.datasets`")
    parser.add_argument("--weights", type=Path, help="to start from: of the same model, or of a backbone alone")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loop.steps=100, ...")
    parser.add_argument("--distributed", action="store_true", help="one of several processes (TPU pod, Slurm)")
    arguments = parser.parse_args(argv)
    prepare_process()
    for noisy in ("absl", "asyncio"):  # where Orbax's threads leave the tracebacks of what `checkpoint` says in a line
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    out = arguments.out or Path("runs") / arguments.config.stem
    try:
        if arguments.distributed:
            parallel.join_processes()
        config = read_config(arguments.config, arguments.set)
        if not isinstance(config.loss, loss_config):
            raise SettingError(f"{arguments.config}: its loss is a {type(config.loss).__module__} one")
        train(partial(loss, config=config.loss), config, out, arguments.data_dir, arguments.weights)
    except (SettingError, WeightsError, CheckpointError, loop.TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (DatasetError, SequenceError, frames.FrameError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"weights: {out / WEIGHTS} (model {config.loss.model})")
    if config.validation.data_dir and (out / BEST).is_file():
        info = files.read_metadata(out / BEST)["info"]
        print(f"best: {out / BEST} (step {info['steps']}, AUC {info['validation']['auc']:.3f} on held-out sequences)")
    return 0
