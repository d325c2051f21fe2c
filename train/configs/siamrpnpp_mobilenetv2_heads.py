"""SiamRPN++'s neck and head on a frozen ImageNet MobileNetV2 of width 1.0: a small data set, moderate batches.

python -m train.datasets csv --source PHOTOS --data-dir data
python -m eval.convert mobilenetv2.npz mobilenetv2.safetensors --model mobilenetv2
python -m train.siamrpn --config train/configs/siamrpnpp_mobilenetv2_heads.py --weights mobilenetv2.safetensors
"""

from dataclasses import replace

from train import loop, siamrpn
from train.config import Config
from train.configs import siamfc_photos
from train.samples import pairs
from train.samples.anchor_targets import AnchorTargetConfig


def get_config():
    targets = AnchorTargetConfig(search_size=siamfc_photos.SEARCH_SIZE, score_size=17)
    return Config(
        datasets=siamfc_photos.datasets(),
        optimizer=loop.OptimizerConfig(
            groups=(("^neck/", 5e-4), ("^head/", 5e-4)),
            decay_every=350,
            decay=0.4,
            warmup=100,
            clip=10.0,
            average=0.995,
        ),
        loop=loop.LoopConfig(steps=1000, log_every=20, save_every=100),
        loss=siamrpn.LossConfig(model="siamrpnpp_mobilenetv2_1.0", backbone_statistics="stored"),
        loader=siamfc_photos.loader(pairs.SIAMRPN, shift=40.0, stretch=0.18),
        prepare=replace(siamfc_photos.prepare(pairs.PREPARE_SIAMRPN), targets=targets),
    )
