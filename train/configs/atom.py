"""ATOM's IoU-Net as published, on an ImageNet ResNet-18 (`--weights`): 50 epochs of 1,000 batches of 64."""

from dataclasses import replace

from train import atom, loop
from train.config import Config, DatasetConfig
from train.samples import frames


def get_config():
    return Config(
        datasets=tuple(DatasetConfig(name) for name in ("lasot", "got10k", "trackingnet", "coco")),
        optimizer=loop.OptimizerConfig(groups=(("^iou_net/", 1e-3),), decay_every=15_000, decay=0.2),
        loop=loop.LoopConfig(steps=50_000, save_every=1000),
        loss=atom.LossConfig(),
        loader=replace(frames.ATOM, workers=8),
        prepare=frames.PREPARE_ATOM,
    )
