"""What the smoke configs have in common: a few minutes on two CPU cores, on a handful of procedural clips.

They show that everything works, from drawing the clips to weights that track; they track poorly.
"""

from dataclasses import replace

from eval.sources.synthetic import ClipConfig
from train.config import Config, DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig
from train.loop import LoopConfig


def shorten(config: Config, *, steps: int, batch_size: int, warmup: int = 10) -> Config:
    """`config` for so many steps, with procedural clips, which are drawn first, as its only data set."""
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    return replace(
        config,
        datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, warmup=warmup),
        loop=LoopConfig(steps=steps, log_every=5, save_every=50),
        loader=replace(config.loader, batch_size=batch_size),
    )
