"""What a training run is made of: its Config, how one is read, and which numbers of it fit each other."""

import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import trackers
from trackers import siamrpn
from trackers.nets import models
from trackers.nets.dimp_classifier import STRIDE
from trackers.parts.templates import EXEMPLAR_SIZE, REGION
from trackers.rules import ANY, NOT_NEGATIVE, SettingError, override
from train import loop, whitening
from train.datasets import SyntheticConfig
from train.held_out import ValidationConfig
from train.replay import ReplayConfig
from train.samples import clips, crops, frames, pairs
from train.samples.augment import PrepareConfig
from train.samples.loader import Load, LoaderConfig
from train.whitening import WhiteningConfig


@dataclass(frozen=True)
class DatasetConfig:
    """One of the data sets that are mixed, as `python -m train.datasets` has prepared it."""

    name: Annotated[str, ANY]
    probability: Annotated[float, NOT_NEGATIVE] = 1.0
    split: Annotated[str, ANY] = "train"
    synthetic: SyntheticConfig | None = None  # of "synthetic_tracking": drawn and prepared where it is missing


@dataclass(frozen=True)
class Config:
    """A training run; `train/configs` holds the published ones and our own."""

    datasets: tuple[DatasetConfig, ...]
    optimizer: loop.OptimizerConfig
    loop: loop.LoopConfig
    loss: Any  # the command's own LossConfig, with the `model` that is trained
    loader: LoaderConfig = frames.DIMP  # of the type that the model learns from, see `samples_of`
    prepare: PrepareConfig = frames.PREPARE_DIMP  # of that type, too
    identity_classifier: bool = False  # DiMP's classifier starts as `dimp_classifier.identity_start`
    whitening: WhiteningConfig | None = None  # SiamFC's backbone starts as `train.whitening` makes it
    replay: ReplayConfig | None = None  # of a frozen backbone's features, see `train.replay`
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def misfits(self) -> Iterator[tuple[str, str]]:
        """What does not fit the model, or each other; for `trackers.rules.validate`."""
        samples = samples_of(self.loss.model)
        for name, kind in (("loader", samples.loader), ("prepare", samples.prepare)):
            if not isinstance(getattr(self, name), kind):
                yield name, f"a {kind.__name__} for {self.loss.model}"
                return
        if self.replay is not None:
            if samples is not PAIRS:
                yield "replay", f"None for {self.loss.model}, which does not learn from pairs"
            elif self.loss.backbone_statistics != "stored":
                yield "loss.backbone_statistics", '"stored" with replay'
            if self.whitening is not None:
                yield "whitening", "None with replay, which needs a backbone that does not change"
        if self.whitening is not None and not whitening.fits(self.loss.model):
            yield "whitening", f"None for {self.loss.model}, which is not SiamFC on an AlexNet"
        yield from samples.misfits(self)


def _frame_misfits(config: Config) -> Iterator[tuple[str, str]]:
    labels, size = config.prepare.labels, config.loader.crops.size
    if labels is not None and labels.feature_size * STRIDE != size:
        cells = f"{size // STRIDE}, loader.crops.size={size} divided by the networks' stride of {STRIDE}"
        yield "prepare.labels.feature_size", cells


def _pair_misfits(config: Config) -> Iterator[tuple[str, str]]:
    yield from _crop_misfits(config.loader)
    model, targets, size = config.loss.model, config.prepare.targets, config.loader.search.size
    if config.prepare.blur_probability and not size > max(config.prepare.blur_sizes) // 2:
        yield "prepare.blur_sizes", "smaller than twice loader.search.size"
    tracker = trackers.get(model).config
    anchors = isinstance(tracker, siamrpn.Config)
    if anchors != (targets is not None):
        yield "prepare.targets", f"{'given' if anchors else 'None'} for {model}"
    elif anchors:
        if targets.search_size != size:
            yield "prepare.targets.search_size", f"loader.search.size={size}"
        cells = siamrpn.score_size(replace(tracker, instance_size=size))
        if targets.score_size != cells:
            text = f"{cells}, the side of the score map that {model} gives for loader.search.size={size}"
            yield "prepare.targets.score_size", text


def _clip_misfits(config: Config) -> Iterator[tuple[str, str]]:
    yield from _crop_misfits(config.loader)
    sampling = config.loader.sampling
    if sampling.mode != "clip":
        yield "loader.sampling.mode", f'"clip" for {config.loss.model}'
    if sampling.train_frames % config.loss.chunk:
        yield "loss.chunk", f"a divisor of loader.sampling.train_frames={sampling.train_frames}, the steps of a clip"


def _window_misfits(config: Config) -> Iterator[tuple[str, str]]:
    """Windows fit any backbone; a student alone is no tracker."""
    if config.validation.data_dir:
        yield "validation.data_dir", f"empty for {config.loss.model}, which does not track"


def _crop_misfits(loader: pairs.PairLoaderConfig | clips.ClipLoaderConfig) -> Iterator[tuple[str, str]]:
    """The sides of crops that the trackers use, too."""
    if loader.template.size != EXEMPLAR_SIZE:
        yield "loader.template.size", str(EXEMPLAR_SIZE)
    if not REGION.holds(loader.search.size):
        yield "loader.search.size", REGION.text


class Samples(NamedTuple):
    """How the training samples of a kind of models are made."""

    loader: type  # its configs
    prepare: type
    load: Load  # on the host
    augment: Callable  # on the device: `(key, batch, config of the type prepare) -> batch`
    misfits: Callable[[Config], Iterator[tuple[str, str]]]


FRAMES = Samples(
    frames.FrameLoaderConfig, frames.FramePrepareConfig, frames.load_sample, frames.prepare, _frame_misfits
)
PAIRS = Samples(pairs.PairLoaderConfig, pairs.PairPrepareConfig, pairs.load_pair, pairs.prepare, _pair_misfits)
CLIPS = Samples(clips.ClipLoaderConfig, clips.ClipPrepareConfig, clips.load_clip, clips.prepare, _clip_misfits)
CROPS = Samples(crops.CropLoaderConfig, crops.CropPrepareConfig, crops.load_crop, crops.prepare, _window_misfits)


def samples_of(model: str) -> Samples:
    """What `model` learns from."""
    return {"frames": FRAMES, "pairs": PAIRS, "clips": CLIPS, "crops": CROPS}[models.get(model).samples]


def read_config(path: Path, assignments: list[str]) -> Config:
    """What `get_config()` of a Python file returns, with `field=value` assignments applied. SettingError."""
    if not path.is_file():
        raise SettingError(f"{path}: no such file; train/configs holds some")
    try:
        found = runpy.run_path(str(path)).get("get_config")
        config = found and found()
    except Exception as error:  # whatever the user's file raises
        reason = " ".join(str(error).split())
        raise SettingError(f"{path}: fails: {type(error).__name__}: {reason:.200}; correct the file") from error
    if found is None:
        raise SettingError(f"{path}: has no function get_config")
    if not isinstance(config, Config):
        raise SettingError(f"{path}: get_config returns a {type(config).__name__}, not a train.config.Config")
    return override(config, assignments)
