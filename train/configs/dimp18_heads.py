"""DiMP-18's classifier and IoU-Net on a frozen ImageNet ResNet-18: what the released heads are trained with.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m eval.convert resnet18-f37072fd.pth r18.safetensors --tracker atom_multiscale
    python -m train.dimp --config train/configs/dimp18_heads.py --weights r18.safetensors

Crops show the target as large as the tracker's do, but less around it: networks of convolutions do not mind, and a
step costs a third.
"""

from train import dimp, loop
from train.config import Config, DatasetConfig
from train.configs import dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig

TARGET = 288 / 5  # pixels of the target's side in a crop, as in the tracker's


def get_config():
    return Config(
        datasets=(
            DatasetConfig("csv", 0.85),
            DatasetConfig(SYNTHETIC, 0.15, synthetic=SyntheticConfig(num_clips=300)),
        ),
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 1e-3), ("^classifier/", 1e-4), ("^iou_net/", 7e-4)),
            decay_every=850,
            decay=0.25,
            warmup=50,
            clip=100.0,
        ),
        loop=loop.LoopConfig(steps=1300, log_every=10, save_every=50),
        loss=dimp.LossConfig(model="dimp18", backbone_statistics="stored"),
        loader=dimp_tiny.loader(target=TARGET),
        prepare=dimp_tiny.prepare(TARGET),
        identity_classifier=True,
    )
