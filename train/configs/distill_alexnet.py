"""The AlexNet of the Siamese trackers learns from an ImageNet ResNet-18, see `distill_resnet10`.

    python -m train.distill --config train/configs/distill_alexnet.py --weights r18.safetensors

127 + 32 pixels are 10 x 10 of its cells.
"""

from dataclasses import replace

from train import distill
from train.configs import distill_resnet10


def get_config():
    first = distill_resnet10.get_config()
    return replace(
        first,
        loop=replace(first.loop, steps=3800),
        optimizer=replace(first.optimizer, decay_every=1300),
        loss=distill.LossConfig(model="distilled_alexnet"),
        loader=distill_resnet10.loader(size=159, batch_size=8),
    )
