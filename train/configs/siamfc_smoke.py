"""A few minutes on two CPU cores: SiamFC on a handful of procedural clips, which are drawn first.

It shows that everything works, from drawing the clips to weights that track; the tracker it gives is a poor one.
"""

from dataclasses import replace

from eval.sources.synthetic import ClipConfig
from train import loop, program
from train.configs import siamfc_photos
from train.datasets import SYNTHETIC, SyntheticConfig


def get_config():
    config = siamfc_photos.get_config()
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    return replace(
        config,
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, warmup=10),
        loop=loop.LoopConfig(steps=60, log_every=5, save_every=30),
        loader=replace(config.loader, batch_size=4),
    )
