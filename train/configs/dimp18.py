"""DiMP-18 as published, from an ImageNet ResNet-18 (`--weights`): 50 epochs of 1,000 batches of 26."""

from dataclasses import replace

from train import dimp, loop
from train.config import Config, DatasetConfig
from train.samples import frames


def get_config(model: str = "dimp18", batch_size: int = 26, backbone: float = 2e-4, iou_net: float = 1e-3):
    """The same for both published models; rates are those of the first 15 epochs."""
    steps = 26_000 // batch_size
    return Config(
        datasets=(
            DatasetConfig("lasot", 0.25),
            DatasetConfig("got10k", 1.0),
            DatasetConfig("trackingnet", 1.0),
            DatasetConfig("coco", 1.0),
        ),
        optimizer=loop.OptimizerConfig(
            groups=(
                ("^classifier/params/optimizer/", 5e-4),
                ("^classifier/", 5e-5),
                ("^iou_net/", iou_net),
                ("^backbone/", backbone),
            ),
            decay_every=15 * steps,
            decay=0.2,
        ),
        loop=loop.LoopConfig(steps=50 * steps, save_every=steps),
        loss=dimp.LossConfig(model=model),
        loader=replace(frames.DIMP, batch_size=batch_size, workers=8),
    )
