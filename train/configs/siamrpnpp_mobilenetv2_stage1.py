"""SiamRPN++ with a MobileNetV2 of width 1.4, epochs 1 to 10 of 20: neck and head on a frozen backbone.

pysot has published the weights, but no training file: the recipe is that of `siamrpnpp_resnet50_stage1`.
"""

from train.configs import siamrpnpp_resnet50_stage1


def get_config():
    return siamrpnpp_resnet50_stage1.get_config("siamrpnpp_mobilenetv2")
