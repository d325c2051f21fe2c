"""The backbone of `atom_multiscale_small` learns from an ImageNet ResNet-18, see `distill_resnet10`.

    python -m train.distill --config train/configs/distill_resnet16.py --weights r18.safetensors

Blocks 1, 2, 2 of 40, 80 and 160 channels: that of `dimp_tiny` is too small to give more of those features.
"""

from dataclasses import replace

from train import distill
from train.configs import distill_resnet10


def get_config():
    first = distill_resnet10.get_config()
    return replace(
        first,
        loop=replace(first.loop, steps=3900),
        optimizer=replace(first.optimizer, decay_every=1600),
        loss=distill.LossConfig(model="distilled_resnet16"),
    )
