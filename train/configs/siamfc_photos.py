"""SiamFC from scratch on a small data set: photographs with boxes and procedural clips.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m train.siamfc --config train/configs/siamfc_photos.py

`loader` and `prepare` are shared with the heads of SiamRPN++: a photograph is both images of its pair, seen in two
ways, and parts of objects are targets, too. Search crops of 191 pixels take half the time of 255; the networks see the
same surroundings of each cell in both.
"""

from dataclasses import replace

from train import loop, siamfc
from train.config import Config, DatasetConfig
from train.configs import dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import pairs
from train.samples.augment import OcclusionConfig
from train.samples.loader import PartConfig

SEARCH_SIZE = 191  # pixels


def datasets():
    return (
        DatasetConfig("csv", 0.7),
        DatasetConfig(SYNTHETIC, 0.3, synthetic=SyntheticConfig(num_clips=300)),
    )


def loader(
    published: pairs.PairLoaderConfig, shift: float, stretch: float, batch_size: int = 16
) -> pairs.PairLoaderConfig:
    """The published crops; most photographs have a target of more than half a side, so no box is left out for it."""
    sampling = replace(published.sampling, frames=None)
    parts = PartConfig(probability=0.5)
    search = replace(published.search, size=SEARCH_SIZE, shift=shift, stretch=stretch)
    return replace(published, search=search, sampling=sampling, parts=parts, batch_size=batch_size)


def prepare(published: pairs.PairPrepareConfig) -> pairs.PairPrepareConfig:
    return replace(
        published,
        flip_probability=0.5,
        colors=dimp_tiny.COLORS,
        blur_probability=0.2,
        blur_sizes=(3, 15),
        occlusion=OcclusionConfig(probability=0.3),
    )


def get_config():
    return Config(
        datasets=datasets(),
        optimizer=loop.OptimizerConfig(
            groups=(("^head/", 1e-2), (".", 5e-4)), decay_every=350, decay=0.4, warmup=100, clip=100.0, average=0.995
        ),
        loop=loop.LoopConfig(steps=1000, log_every=20, save_every=100),
        loss=siamfc.LossConfig(),
        loader=loader(pairs.SIAMFC, shift=4.0, stretch=0.08),
        prepare=prepare(pairs.PREPARE_SIAMFC),
    )
