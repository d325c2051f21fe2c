"""Training of ATOM's IoU-Net: `python -m train.atom --config train/configs/atom.py --weights r18.safetensors`.

Danelljan et al., "ATOM: Accurate Tracking by Overlap Maximization", CVPR 2019, Sec. 3.2. The classifier of ATOM is
learned in the video; only the IoU-Net is trained, on the features of a backbone that is given.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax

from trackers.nets import models
from trackers.nets.iou_net import IoUNet
from train import command
from train.forward import DTYPES, STATISTICS, applying, backbone_taps, predicted_overlaps
from train.losses import overlap_regression

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """The published numbers."""

    model: Annotated[str, models.with_part(IoUNet)] = "atom"  # of `trackers.nets.models`
    backbone_statistics: Annotated[str, STATISTICS] = "batch"  # its weights stay all the same
    backbone_dtype: Annotated[str, DTYPES] = "float32"


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. batch: of `train.samples.frames.prepare` without labels.
    """
    apply, params = applying(config.model, params)

    def taps(images):
        flat = backbone_taps(apply, images, config.backbone_statistics == "batch", config.backbone_dtype)
        return jax.tree.map(lambda leaf: leaf.reshape(*images.shape[:2], *leaf.shape[1:]), flat)

    train_taps, test_taps = taps(batch["train_images"]), taps(batch["test_images"])
    predicted = predicted_overlaps(apply, train_taps, batch["train_boxes"], test_taps, batch["proposals"])
    overlap = overlap_regression(predicted, batch["overlaps"])
    return overlap, (params, {"overlap": overlap})


main = partial(command.main, "atom", loss, LossConfig)

if __name__ == "__main__":
    from train import atom  # as the configs know it; this copy of the module is called __main__

    sys.exit(atom.main())
