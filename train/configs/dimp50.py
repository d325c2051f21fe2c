"""DiMP-50 as published, from an ImageNet ResNet-50 (`--weights`): 50 epochs of 2,600 batches of 10."""

from train.configs import dimp18


def get_config():
    return dimp18.get_config("dimp50", batch_size=10, backbone=2e-5, iou_net=2e-4)
