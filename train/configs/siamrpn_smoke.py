"""SiamRPN++ with an AlexNet in a few minutes on two CPU cores, see `smoke`."""

from dataclasses import replace

from train import siamrpn
from train.configs import siamfc_photos, smoke
from train.loop import OptimizerConfig
from train.samples import pairs
from train.samples.anchor_targets import AnchorTargetConfig


def get_config():
    targets = AnchorTargetConfig(search_size=siamfc_photos.SEARCH_SIZE, score_size=9)
    config = replace(
        siamfc_photos.get_config(),
        optimizer=OptimizerConfig(groups=((".", 5e-4),), clip=100.0),
        loss=siamrpn.LossConfig(model="siamrpnpp_alexnet"),
        loader=siamfc_photos.loader(pairs.SIAMRPN, shift=24.0, stretch=0.18),
        prepare=replace(siamfc_photos.prepare(pairs.PREPARE_SIAMRPN), targets=targets),
    )
    return smoke.shorten(config, steps=60, batch_size=4)
