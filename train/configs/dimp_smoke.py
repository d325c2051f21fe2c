"""A few minutes on two CPU cores: `dimp_tiny` on a handful of procedural clips, which are drawn first.

It shows that everything works, from drawing the clips to weights that track; the tracker it gives is a poor one.
"""

from dataclasses import replace

from eval.sources.synthetic import ClipConfig
from train import loop, program
from train.configs import dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig


def get_config():
    config = dimp_tiny.get_config()
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    return replace(
        config,
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, warmup=20),
        loop=loop.LoopConfig(steps=150, log_every=10, save_every=50),
        loader=replace(config.loader, batch_size=4),
    )
