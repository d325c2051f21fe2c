"""The second half of the training of `dimp_tiny`: harder samples, smaller steps, their average.

python -m train.dimp --config train/configs/dimp_tiny_more.py --weights runs/dimp_tiny/weights.safetensors
"""

from dataclasses import replace

from train import loop
from train.configs import dimp_tiny
from train.samples import samplers


def get_config():
    first = dimp_tiny.harder(dimp_tiny.get_config())
    return replace(
        first,
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 5e-4), (".", 6e-4)),
            decay_every=650,
            decay=0.4,
            warmup=50,
            clip=100.0,
            average=0.998,
        ),
        loop=replace(first.loop, steps=2600, seed=1),
        loader=replace(
            first.loader, sampling=samplers.FrameSampling(train_frames=2, test_frames=1), batch_size=16, seed=1
        ),
    )
