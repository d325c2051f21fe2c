"""The backbone of `dimp_tiny` and `atom_multiscale_small` learns from an ImageNet ResNet-18.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m train.datasets folder --source VIDEOS --data-dir data
    python -m eval.convert resnet18-f37072fd.pth r18.safetensors --tracker atom_multiscale
    python -m train.distill --config train/configs/distill_resnet16.py --weights r18.safetensors

Photographs, video and drawn clips, in crops of 160 pixels; blocks 1, 2, 2 of 64, 128 and 256 channels. `loader` and
`prepare` are shared with the AlexNet. The released backbone went on from there: train/NOTES.md, December 2.
"""

from train import distill, loop
from train.config import Config, DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import crops
from train.samples.augment import ColorConfig

DATASETS = (
    DatasetConfig("csv", 0.55),
    DatasetConfig("folder", 0.35),
    DatasetConfig(SYNTHETIC, 0.1, synthetic=SyntheticConfig(num_clips=300)),
)


def loader(size: int = 160, batch_size: int = 16) -> crops.CropLoaderConfig:
    return crops.CropLoaderConfig(
        sampling=crops.FRAMES, batch_size=batch_size, size=size, small_probability=0.25, jpeg_probability=0.25
    )


def prepare() -> crops.CropPrepareConfig:
    return crops.CropPrepareConfig(
        flip_probability=0.5,
        colors=ColorConfig(
            grayscale_probability=0.1, brightness=(0.4, 1.25), contrast=(0.7, 1.25), saturation=(0.6, 1.3)
        ),
        blur_probability=0.25,
        noise_probability=0.25,
    )


def get_config():
    return Config(
        datasets=DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^backbone/", 2e-2), ("^maps/", 2e-2)),
            kind="muon",  # fewer steps than Adam at first, each a fifth longer: train/NOTES.md
            decay_every=350,
            decay=0.6,
            warmup=50,
            clip=10.0,
            average=0.99,
        ),
        loop=loop.LoopConfig(steps=2500, log_every=10, save_every=200),
        loss=distill.LossConfig(model="distilled_resnet16"),
        loader=loader(),
        prepare=prepare(),
    )
