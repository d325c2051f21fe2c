"""SiamRPN++ with a MobileNetV2 of width 1.4, epochs 11 to 20, from the weights of `siamrpnpp_mobilenetv2_stage1`.

The recipe is that of `siamrpnpp_resnet50_stage2`, of which layers 3 to 7 come nearest to the learned ones.
"""

from train.configs import siamrpnpp_resnet50_stage2


def get_config():
    return siamrpnpp_resnet50_stage2.get_config("siamrpnpp_mobilenetv2", thawed="^backbone/params/layer[3-7]_")
