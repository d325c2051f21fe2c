"""A few minutes on two CPU cores: the small DiMP from scratch on procedural clips, on small crops.

It shows that everything works, from drawing the clips to weights that track; the tracker it gives is a poor one.
"""

from eval.datasets import SYNTHETIC, SyntheticConfig
from eval.synthetic import ClipConfig
from train import data, dimp, loop, program

SIZE = 160  # pixels of a crop; a target has the size that it has in crops of 288 with five times its side


def get_config():
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    crops = data.CropConfig(
        size=SIZE,
        search_scale=5 * SIZE / 288,
        train_jitter=data.Jitter(center=1.5, scale=0.25),
        test_jitter=data.Jitter(center=2.0, scale=0.3),
    )
    return program.Config(
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 5e-4), (".", 1e-3)), warmup=20, clip=100.0
        ),
        loop=loop.LoopConfig(steps=150, log_every=10, save_every=50),
        loss=dimp.LossConfig(model="dimp_tiny"),
        loader=data.LoaderConfig(batch_size=4, crops=crops, threads=2),
        prepare=data.PrepareConfig(labels=data.LabelConfig(feature_size=SIZE // 16, sigma=0.9 / (SIZE // 16))),
    )
