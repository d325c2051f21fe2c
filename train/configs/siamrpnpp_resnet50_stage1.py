"""SiamRPN++ with a ResNet-50 as pysot trains it, epochs 1 to 10 of 20: neck and head on a frozen backbone.

    python -m train.siamrpn --config train/configs/siamrpnpp_resnet50_stage1.py --weights BACKBONE
    python -m train.siamrpn --config train/configs/siamrpnpp_resnet50_stage2.py \\
        --weights runs/siamrpnpp_resnet50_stage1/weights.safetensors

An epoch is 600,000 pairs in batches of 224. Five epochs of warm-up from 0.001 to 0.005, then the rate falls to 0.0005
in the last of all 20, by the same factor after each. When the backbone thaws pysot makes a new optimizer, which knows
nothing of the old one's velocities, and the schedule goes on: a second run from the first one's weights.
The data sets are those of the published ones (VID, YouTube-BB, COCO, DET) and their kin that can be prepared.
"""

from dataclasses import replace

from train import loop, siamrpn
from train.config import Config, DatasetConfig
from train.samples import pairs

PAIRS, BATCH_SIZE = 600_000, 224
STEPS = PAIRS // BATCH_SIZE  # of an epoch
EPOCHS, FROZEN, WARMUP = 20, 10, 5
DECAY = 0.1 ** (1 / (EPOCHS - WARMUP - 1))  # after an epoch
DATASETS = tuple(DatasetConfig(name) for name in ("lasot", "got10k", "trackingnet", "coco"))


def get_config(model: str = "siamrpnpp_resnet50"):
    return Config(
        datasets=DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^neck/", 5e-3), ("^head/", 5e-3)),
            kind="sgd",
            weight_decay=1e-4,
            decay_every=STEPS,
            decay=DECAY,
            warmup=WARMUP * STEPS,
            warmup_from=0.2,
            clip=10.0,
        ),
        loop=loop.LoopConfig(steps=FROZEN * STEPS, save_every=STEPS),
        loss=siamrpn.LossConfig(model=model, backbone_statistics="stored"),
        loader=replace(pairs.SIAMRPN, batch_size=BATCH_SIZE, workers=8),
        prepare=pairs.PREPARE_SIAMRPN,
    )
