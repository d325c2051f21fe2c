"""DiMP-18 as published, from an ImageNet ResNet-18 (`--weights`): 50 epochs of 1,000 batches of 26."""

from train import dimp, loop, program
from train.samples import frames


def get_config(model: str = "dimp18", batch_size: int = 26, backbone: float = 2e-4, iou_net: float = 1e-3):
    """The same for both published models; rates are those of the first 15 epochs."""
    steps = 26_000 // batch_size
    return program.Config(
        datasets=(
            program.DatasetConfig("lasot", 0.25),
            program.DatasetConfig("got10k", 1.0),
            program.DatasetConfig("trackingnet", 1.0),
            program.DatasetConfig("coco", 1.0),
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
        loader=frames.LoaderConfig(batch_size=batch_size, workers=8),
    )
