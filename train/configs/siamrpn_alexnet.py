"""SiamRPN++ with an AlexNet by pysot's recipe, but from scratch: 50 epochs of 292 batches of 2,048.

pysot starts from an ImageNet AlexNet, which rests for 10 epochs; then its last two convolutions are trained, at the
rate of the rest. Here all is trained all the time. The search crops are those of the ResNet-50's recipe.
The data sets are those of the published ones (VID, YouTube-BB, COCO, DET) and their kin that can be prepared.
"""

from dataclasses import replace

from train import loop, siamrpn
from train.config import Config
from train.configs import siamrpnpp_resnet50_stage1
from train.samples import pairs
from train.samples.anchor_targets import AnchorTargetConfig

EPOCHS, WARMUP, BATCH_SIZE = 50, 5, 2048


def get_config():
    steps = siamrpnpp_resnet50_stage1.PAIRS // BATCH_SIZE
    return Config(
        datasets=siamrpnpp_resnet50_stage1.DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=((".", 5e-3),),
            kind="sgd",
            weight_decay=1e-4,
            decay_every=steps,
            decay=0.05 ** (1 / (EPOCHS - WARMUP - 1)),
            warmup=WARMUP * steps,
            warmup_from=0.5,
            clip=10.0,
        ),
        loop=loop.LoopConfig(steps=EPOCHS * steps, save_every=steps),
        loss=siamrpn.LossConfig(model="siamrpnpp_alexnet"),
        loader=replace(pairs.SIAMRPN, negative=0.05, batch_size=BATCH_SIZE, workers=8),
        prepare=replace(pairs.PREPARE_SIAMRPN, targets=AnchorTargetConfig(score_size=17)),
    )
