"""SiamFC on SiamRPN's AlexNet, which has learned from a ResNet-18: its last layer alone, from a white start.

    python -m train.siamfc --config train/configs/siamfc_distilled.py --weights runs/distill_alexnet/weights.safetensors

Photographs, real video and drawn clips, as `distill_alexnet`; pairs as `siamfc_photos`.
"""

from train import loop, siamfc
from train.config import Config
from train.configs import distill_resnet16, siamfc_photos
from train.samples import pairs
from train.whitening import WhiteningConfig


def get_config():
    return Config(
        datasets=distill_resnet16.DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^head/", 1e-2), ("^backbone/params/conv5/", 1e-4)),
            decay_every=150,
            decay=0.4,
            warmup=50,
            clip=10.0,
            average=0.99,
        ),
        loop=loop.LoopConfig(steps=450, log_every=20, save_every=100),
        loss=siamfc.LossConfig(model="siamfc_distilled", backbone_statistics="stored"),
        loader=siamfc_photos.loader(pairs.SIAMFC, shift=4.0, stretch=0.08),
        prepare=siamfc_photos.prepare(pairs.PREPARE_SIAMFC),
        whitening=WhiteningConfig(),
    )
