"""SiamRPN++ with a ResNet-50 as pysot trains it, epochs 11 to 20: its layers 2 to 4 learn at a tenth of the rate.

See `siamrpnpp_resnet50_stage1`, whose weights it takes. pysot uses the statistics of the batch in those layers and
stored ones in the frozen ones before; here they are the batch's in the whole backbone.
"""

from dataclasses import replace

from train import loop
from train.configs import siamrpnpp_resnet50_stage1
from train.configs.siamrpnpp_resnet50_stage1 import DECAY, EPOCHS, FROZEN, STEPS, WARMUP


def get_config(model: str = "siamrpnpp_resnet50", thawed: str = "^backbone/params/layer[234]_"):
    first = siamrpnpp_resnet50_stage1.get_config(model)
    rate = 5e-3 * DECAY ** (FROZEN - WARMUP)
    groups = (("^neck/", rate), ("^head/", rate), (thawed, 0.1 * rate))
    return replace(
        first,
        optimizer=replace(first.optimizer, groups=groups, warmup=0, warmup_from=0.0),
        loop=loop.LoopConfig(steps=(EPOCHS - FROZEN) * STEPS, save_every=STEPS, seed=1),
        loss=replace(first.loss, backbone_statistics="batch"),
        loader=replace(first.loader, seed=1),
    )
