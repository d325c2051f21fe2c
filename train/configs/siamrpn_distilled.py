"""A region proposal head on the AlexNet of `siamfc_distilled`, whose features are computed once (`train.replay`).

    python -m train.siamrpn --config train/configs/siamrpn_distilled.py \\
        --weights trackers/weights/released/siamfc_distilled.safetensors

Photographs, real video and drawn clips, as `distill_alexnet`. Heads without padding answer alike everywhere, so search
crops of 207 pixels teach what those of 271 need. The more pairs, the better the sizes of targets that are not among
them; these are 44,800, in 7 GB of memory.
"""

from dataclasses import replace

from train import loop, siamrpn
from train.config import Config
from train.configs import distill_resnet16, siamfc_photos
from train.replay import ReplayConfig
from train.samples import pairs
from train.samples.anchor_targets import AnchorTargetConfig
from train.samples.loader import PartConfig

SEARCH_SIZE, SCORE_SIZE = 207, 11


def get_config():
    loader = siamfc_photos.loader(pairs.SIAMRPN, shift=40.0, stretch=0.18, batch_size=32)
    return Config(
        datasets=distill_resnet16.DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^head/", 1e-3),), decay_every=2100, decay=0.35, warmup=50, clip=10.0, average=0.995
        ),
        loop=loop.LoopConfig(steps=6000, log_every=20, save_every=250),
        loss=siamrpn.LossConfig(model="siamrpn_distilled", backbone_statistics="stored"),
        loader=replace(
            loader, search=replace(loader.search, size=SEARCH_SIZE), parts=PartConfig(probability=0.3), negative=0.2
        ),
        prepare=replace(
            siamfc_photos.prepare(pairs.PREPARE_SIAMRPN),
            targets=AnchorTargetConfig(search_size=SEARCH_SIZE, score_size=SCORE_SIZE),
        ),
        replay=ReplayConfig(batches=1400),
    )
