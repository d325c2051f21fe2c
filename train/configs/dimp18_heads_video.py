"""The classifier of DiMP-18 anew, from real video beside the photographs, harder samples, their average.

python -m train.datasets folder --source VIDEOS --data-dir data
python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --tracker dimp18 --heads HEADS
python -m train.dimp --config train/configs/dimp18_heads_video.py --weights dimp18.safetensors

HEADS are those of `dimp18_heads`, whose IoU-Net stays as it is.
"""

from dataclasses import replace

from train import loop
from train.config import DatasetConfig
from train.configs import dimp18_heads, dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import samplers

DATASETS = (
    DatasetConfig("csv", 0.4),
    DatasetConfig("folder", 0.45),
    DatasetConfig(SYNTHETIC, 0.15, synthetic=SyntheticConfig(num_clips=300)),
)


def get_config():
    first = dimp_tiny.harder(dimp18_heads.get_config())
    sampling = samplers.FrameSampling(train_frames=2, test_frames=1)
    return replace(
        first,
        datasets=DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 1e-3), ("^classifier/", 3e-4)),
            decay_every=300,
            decay=0.4,
            warmup=100,
            clip=100.0,
            average=0.995,
        ),
        loop=replace(first.loop, steps=1000, seed=1),
        loader=replace(first.loader, sampling=sampling, batch_size=16, seed=1),
        identity_classifier=True,
    )
