"""The small DiMP from scratch: photographs with boxes, a few videos and procedural clips, on small crops.

    python -m eval.datasets csv --source PHOTOS --data_dir data
    python -m eval.datasets folder --source VIDEOS --data_dir data
    python -m train.dimp --config train/configs/dimp_tiny.py
"""

from eval.datasets import SYNTHETIC, SyntheticConfig
from train import data, dimp, loop, program

SIZE = 160  # pixels of a crop; a target has the size that it has in crops of 288 with five times its side


def get_config():
    crops = data.CropConfig(
        size=SIZE,
        search_scale=5 * SIZE / 288,
        train_jitter=data.Jitter(center=1.5, scale=0.25),
        test_jitter=data.Jitter(center=2.0, scale=0.3),
    )
    return program.Config(
        datasets=(
            program.DatasetConfig("csv", 1.0),
            program.DatasetConfig("folder", 0.3),
            program.DatasetConfig(SYNTHETIC, 1.0, synthetic=SyntheticConfig(num_clips=300)),
        ),
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 5e-4), (".", 1e-3)), decay_every=1600, warmup=100, clip=100.0
        ),
        loop=loop.LoopConfig(steps=2400, log_every=50, save_every=200),
        loss=dimp.LossConfig(model="dimp_tiny"),
        loader=data.LoaderConfig(batch_size=8, crops=crops, threads=2),
        prepare=data.PrepareConfig(labels=data.LabelConfig(feature_size=SIZE // 16, sigma=0.9 / (SIZE // 16))),
    )
