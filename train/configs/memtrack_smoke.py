"""A few minutes on two CPU cores: MemTrack on a handful of procedural clips, which are drawn first.

It shows that everything works, from drawing the clips to weights that track; the tracker it gives is a poor one.
"""

from dataclasses import replace

from eval.sources.synthetic import ClipConfig
from train import loop, program
from train.configs import memtrack_photos
from train.datasets import SYNTHETIC, SyntheticConfig

STEPS = 4  # of a clip


def get_config():
    config = memtrack_photos.get_config()
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    sampling = replace(config.loader.sampling, train_frames=STEPS, test_frames=STEPS)
    return replace(
        config,
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, warmup=10),
        loop=loop.LoopConfig(steps=60, log_every=5, save_every=30),
        loss=replace(config.loss, chunk=STEPS),
        loader=replace(config.loader, batch_size=2, sampling=sampling),
    )
