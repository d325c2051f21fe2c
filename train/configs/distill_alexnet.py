"""The AlexNet of the Siamese trackers learns from an ImageNet ResNet-18, see `distill_resnet16`.

    python -m train.distill --config train/configs/distill_alexnet.py --weights r18.safetensors

127 + 32 pixels are 10 x 10 of its cells.
"""

from dataclasses import replace

from train import distill, loop
from train.configs import distill_resnet16


def get_config():
    first = distill_resnet16.get_config()
    return replace(
        first,
        loop=replace(first.loop, steps=3800, log_every=20),
        optimizer=loop.OptimizerConfig(
            groups=(("^backbone/", 2e-3), ("^maps/", 2e-3)),
            decay_every=1300,
            decay=0.4,
            warmup=100,
            clip=10.0,
            average=0.99,
        ),
        loss=distill.LossConfig(model="distilled_alexnet"),
        loader=distill_resnet16.loader(size=159, batch_size=8),
    )
