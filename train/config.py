"""What a training run is made of: its Config, how one is read, and which numbers of it fit each other."""

import math
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import trackers
from eval import settings
from trackers import siamrpn
from trackers.nets import models
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
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
from train import loop
from train.datasets import SyntheticConfig
from train.held_out import ValidationConfig
from train.samples import clips, frames, pairs
from train.samples.augment import PrepareConfig
from train.samples.loader import Load, LoaderConfig

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
    "prepare.colors.grayscale_probability": PROBABILITY,
    "prepare.color_shift": NOT_NEGATIVE,
    "prepare.blur_probability": PROBABILITY,
    "prepare.blur_sizes.0": ODD,
    "prepare.blur_sizes.1": ODD,
    "prepare.occlusion.probability": PROBABILITY,
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
    loader: LoaderConfig = frames.DIMP  # of the type that the model learns from, see `samples_of`
    prepare: PrepareConfig = frames.PREPARE_DIMP  # of that type, too
    identity_classifier: bool = False  # DiMP's classifier starts as `dimp_classifier.identity_start`
    validation: ValidationConfig = field(default_factory=ValidationConfig)


class Samples(NamedTuple):
    """How the training samples of a kind of models are made."""

    loader: type  # its configs
    prepare: type
    load: Load  # on the host
    augment: Callable  # on the device: `(key, batch, config of the type prepare) -> batch`


FRAMES = Samples(frames.FrameLoaderConfig, frames.FramePrepareConfig, frames.load_sample, frames.prepare)
PAIRS = Samples(pairs.PairLoaderConfig, pairs.PairPrepareConfig, pairs.load_pair, pairs.prepare)
CLIPS = Samples(clips.ClipLoaderConfig, clips.ClipPrepareConfig, clips.load_clip, clips.prepare)


def samples_of(model: str) -> Samples:
    """What `model` learns from."""
    return {"frames": FRAMES, "pairs": PAIRS, "clips": CLIPS}[models.get(model).samples]


def read_config(path: Path, assignments: list[str]) -> Config:
    """What `get_config()` of a Python file returns, with `field=value` assignments applied. SettingError."""
    if not path.is_file():
        raise SettingError(f"{path}: no such file; train/configs holds some")
    found = runpy.run_path(str(path)).get("get_config")
    if found is None:
        raise SettingError(f"{path}: has no function get_config")
    return override(found(), assignments)


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
            if interpolation not in pairs.INTERPOLATIONS:
                text = f"of {', '.join(pairs.INTERPOLATIONS)}"
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
