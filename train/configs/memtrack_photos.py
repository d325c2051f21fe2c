"""MemTrack from scratch on a CPU, on a small data set: photographs with boxes and procedural clips.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m train.memtrack --config train/configs/memtrack_photos.py

Clips of six steps out of 36 frames, search crops of 191 pixels: what goes through the backbone in a step is a tenth of
the published. A photograph is a clip that does not move, whose crops differ by colors, view and what hides them; only
the drawn clips, with look-alikes and occluders, teach what a memory is for, and half of the samples are theirs.
"""

from dataclasses import replace

from train import loop, memtrack
from train.config import Config, DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import clips as clip_data
from train.samples import samplers
from train.samples.augment import ColorConfig, OcclusionConfig
from train.samples.loader import PartConfig

STEPS = 6  # of a clip


def get_config():
    clips = SyntheticConfig(num_clips=300)
    sampling = replace(samplers.MEMTRACK, train_frames=STEPS, test_frames=STEPS, max_gap=36, min_length=20)
    published = clip_data.MEMTRACK
    return Config(
        datasets=(
            DatasetConfig("csv", 0.5),
            DatasetConfig(SYNTHETIC, 0.5, synthetic=clips),
        ),
        optimizer=loop.OptimizerConfig(groups=((".", 5e-4),), decay_every=1000, decay=0.4, warmup=100, clip=20.0),
        loop=loop.LoopConfig(steps=3000, log_every=20, save_every=100),
        loss=memtrack.LossConfig(chunk=STEPS),
        loader=replace(
            published,
            search=replace(published.search, size=191, shift=8.0, stretch=0.1),
            parts=PartConfig(probability=0.5),
            sampling=sampling,
            batch_size=4,
        ),
        prepare=replace(
            clip_data.PREPARE_MEMTRACK,
            flip_probability=0.5,
            colors=ColorConfig(
                grayscale_probability=0.1, brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.7, 1.3)
            ),
            occlusion=OcclusionConfig(probability=0.2),
        ),
    )
