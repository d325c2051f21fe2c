"""The second half of the training of DiMP-18's heads: real video beside the photographs, harder samples, their average.

python -m train.datasets folder --source VIDEOS --data-dir data
python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --tracker dimp18_heads
python -m train.dimp --config train/configs/dimp18_heads_video.py --weights dimp18.safetensors
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
            groups=(("^classifier/params/optimizer/", 5e-4), ("^classifier/", 1e-4), ("^iou_net/", 5e-4)),
            decay_every=450,
            decay=0.4,
            warmup=50,
            clip=100.0,
            average=0.995,
        ),
        loop=replace(first.loop, steps=1600, seed=1, save_every=200),
        loader=replace(first.loader, sampling=sampling, seed=1),
        identity_classifier=False,
    )
