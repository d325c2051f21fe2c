"""A few minutes on two CPU cores: SiamRPN++ with an AlexNet on a handful of procedural clips, which are drawn first.

It shows that everything works, from drawing the clips to weights that track; the tracker it gives is a poor one.
"""

from dataclasses import replace

from eval.sources.synthetic import ClipConfig
from train import loop, program, siamrpn
from train.configs import siamfc_photos
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import pairs
from train.samples.anchor_targets import AnchorTargetConfig


def get_config():
    loader = siamfc_photos.loader(pairs.SIAMRPN, shift=24.0, stretch=0.18, batch_size=4)
    prepare = siamfc_photos.prepare(pairs.PREPARE_SIAMRPN)
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    return program.Config(
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=loop.OptimizerConfig(groups=((".", 5e-4),), warmup=10, clip=100.0),
        loop=loop.LoopConfig(steps=60, log_every=5, save_every=30),
        loss=siamrpn.LossConfig(model="siamrpnpp_alexnet"),
        loader=loader,
        prepare=replace(prepare, targets=AnchorTargetConfig(search_size=siamfc_photos.SEARCH_SIZE, score_size=9)),
    )
