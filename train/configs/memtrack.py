"""MemTrack as its authors train it, from scratch: 100,000 steps, each with eight clips of 16 steps of ImageNet-VID.

The data set is GOT-10k here, whose videos are of more classes. Of a video of at least 50 frames, 17 are drawn from its
whole length.
"""

from train import loop, memtrack
from train.config import Config, DatasetConfig
from train.samples import clips


def get_config():
    return Config(
        datasets=(DatasetConfig("got10k"),),
        optimizer=loop.OptimizerConfig(groups=((".", 1e-4),), decay_every=10_000, decay=0.8, clip=20.0),
        loop=loop.LoopConfig(steps=100_000, save_every=5000),
        loss=memtrack.LossConfig(),
        loader=clips.MEMTRACK,
        prepare=clips.PREPARE_MEMTRACK,
    )
