"""The IoU-Net of DiMP-18 and ATOM alone, on harder samples, going on from trained heads.

    python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --tracker dimp18 --heads HEADS
    python -m train.dimp --config train/configs/dimp18_iou_net.py --weights dimp18.safetensors

HEADS are those of `dimp18_heads`. A sample for the IoU-Net needs two crops, not four: three times as many targets in
the same time. The outcome is in train/NOTES.md: better on held-out clips, worse on the test sequences, not released.
"""

from dataclasses import replace

from train import dimp, loop
from train.config import Config, DatasetConfig
from train.configs import dimp18_heads, dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import samplers


def get_config():
    config = Config(
        datasets=(
            DatasetConfig("csv", 0.8),
            DatasetConfig(SYNTHETIC, 0.2, synthetic=SyntheticConfig(num_clips=300)),
        ),
        optimizer=loop.OptimizerConfig(
            groups=(("^iou_net/", 5e-4),), decay_every=650, decay=0.4, warmup=50, clip=100.0, average=0.998
        ),
        loop=loop.LoopConfig(steps=2600, log_every=20, save_every=100),
        loss=dimp.LossConfig(model="dimp18", backbone_statistics="stored"),
        loader=replace(
            dimp_tiny.loader(16, dimp18_heads.TARGET),
            sampling=samplers.FrameSampling(train_frames=1, test_frames=1),
            seed=1,
        ),
        prepare=dimp_tiny.prepare(dimp18_heads.TARGET),
    )
    return dimp_tiny.harder(config)
