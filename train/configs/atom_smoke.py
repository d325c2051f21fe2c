"""ATOM's IoU-Net in two minutes on two CPU cores, on small crops, see `smoke`.

With an ImageNet ResNet-18 (`--weights`) the loss falls faster than on the random one.
"""

from dataclasses import replace

from train.configs import atom, dimp18_heads, dimp_tiny, smoke
from train.loop import OptimizerConfig
from train.samples import frames


def get_config():
    config = replace(
        atom.get_config(),
        optimizer=OptimizerConfig(groups=(("^iou_net/", 1e-3),)),
        loader=replace(dimp_tiny.loader(target=dimp18_heads.TARGET), sampling=frames.ATOM.sampling),
        prepare=frames.FramePrepareConfig(proposals=dimp_tiny.prepare().proposals, labels=None),
    )
    return smoke.shorten(config, steps=100, batch_size=8)
