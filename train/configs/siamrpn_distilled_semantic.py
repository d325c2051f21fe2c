"""`siamrpn_distilled` trained on, with DaSiamRPN's semantic negative pairs (arXiv:1808.06048, Sec. 3.2).

    python -m train.siamrpn --config train/configs/siamrpn_distilled_semantic.py \\
        --weights trackers/weights/released/siamrpn_distilled.safetensors

Other pairs than those it has learned from, each seen twice. A third are negative; of those in photographs six in ten
show another object of the template's class.
"""

from dataclasses import replace

from train import loop
from train.configs import siamrpn_distilled
from train.replay import ReplayConfig


def get_config():
    first = siamrpn_distilled.get_config()
    return replace(
        first,
        optimizer=loop.OptimizerConfig(
            groups=(("^head/", 3e-4),), decay_every=450, decay=0.35, warmup=50, clip=10.0, average=0.99
        ),
        loop=replace(first.loop, steps=1280),
        loader=replace(first.loader, seed=1, negative=0.33, same_class=0.6),
        replay=ReplayConfig(batches=640),
    )
