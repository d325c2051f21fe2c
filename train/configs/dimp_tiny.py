"""The small DiMP from scratch: photographs with boxes and procedural clips, on small crops.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m train.dimp --config train/configs/dimp_tiny.py

`loader` and `prepare` are shared with the heads of DiMP-18: they make several frames of one photograph.
"""

from dataclasses import replace

from train import dimp, loop
from train.config import Config, DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import frames, samplers
from train.samples.augment import ColorConfig, OcclusionConfig
from train.samples.loader import PartConfig

COLORS = ColorConfig(grayscale_probability=0.1, brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.6, 1.4))
SIZE = 160  # pixels of a crop
TARGET = 48.0  # pixels of the target's side there, as in the tracker's crops of 192 with four times that side


def loader(batch_size: int = 12, target: float = TARGET) -> frames.FrameLoaderConfig:
    """Two frames to learn the filter from and two to score it on: more targets for the same time than with three."""
    crops = frames.CropConfig(
        size=SIZE,
        search_scale=SIZE / target,
        train_jitter=frames.Jitter(center=1.5, scale=0.2),
        test_jitter=frames.Jitter(center=1.8, scale=0.3),
        stretch=0.2,
    )
    sampling = samplers.FrameSampling(train_frames=2, test_frames=2)
    return frames.FrameLoaderConfig(sampling=sampling, batch_size=batch_size, crops=crops)


def prepare(target: float = TARGET) -> frames.FramePrepareConfig:
    return frames.FramePrepareConfig(
        flip_probability=0.5,
        colors=COLORS,
        blur_probability=0.2,
        proposals=frames.ProposalConfig(count=24),
        labels=frames.LabelConfig(feature_size=SIZE // 16, sigma=0.25 * target / SIZE),
    )


def harder(config: Config) -> Config:
    """Parts of objects as targets, too, and test images in which something hides a part of the target."""
    loader = replace(config.loader, parts=PartConfig(probability=0.5))
    return replace(config, loader=loader, prepare=replace(config.prepare, occlusion=OcclusionConfig(probability=0.3)))


def get_config():
    return Config(
        datasets=(
            DatasetConfig("csv", 0.7),
            DatasetConfig(SYNTHETIC, 0.3, synthetic=SyntheticConfig(num_clips=300)),
        ),
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 1e-3), (".", 1e-3)),
            decay_every=1500,
            decay=0.25,
            warmup=100,
            clip=100.0,
        ),
        loop=loop.LoopConfig(steps=2000, log_every=20, save_every=100),
        loss=dimp.LossConfig(model="dimp_tiny"),
        loader=loader(),
        prepare=prepare(),
    )
