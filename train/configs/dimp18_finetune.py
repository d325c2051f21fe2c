"""DiMP-18 as a whole, backbone included, from weights that track already; small data, small steps.

    python -m train.dimp --config train/configs/dimp18_finetune.py --weights dimp18.safetensors

The statistics of the backbone's batch normalization stay as they are: on a small data set those of a batch are worse,
and weights converted from a file with folded batch normalization have no others.
"""

from dataclasses import replace

from train import loop
from train.configs import dimp18_heads


def get_config():
    config = dimp18_heads.get_config()
    groups = (
        ("^classifier/params/optimizer/", 2e-4),
        ("^classifier/", 5e-5),
        ("^iou_net/", 1e-4),
        ("^backbone/", 1e-5),
    )
    return replace(
        config,
        optimizer=replace(config.optimizer, groups=groups, decay_every=400),
        loop=loop.LoopConfig(steps=1000, log_every=10, save_every=50),
        identity_classifier=False,
    )
