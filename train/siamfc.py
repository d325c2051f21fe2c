"""Training of SiamFC: `python -m train.siamfc --config train/configs/siamfc_smoke.py --out runs/smoke`.

Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", ECCVW 2016, Sec. 2.2 and 4.1, with the
numbers of siamfc-pytorch: the response of a pair is high where the target is, in the middle of the search crop, and
low elsewhere.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ops.score_maps import disk_label
from trackers.nets import models
from trackers.nets.rpn import SiamFCHead
from trackers.rules import POSITIVE
from train import command
from train.forward import STATISTICS, applying, paired_output
from train.losses import balanced_logistic

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """The published numbers."""

    model: Annotated[str, models.with_part(SiamFCHead)] = "siamfc"  # of `trackers.nets.models`
    # Cells of the response (16 pixels): nearer ones to the middle are the target's
    radius: Annotated[float, POSITIVE] = 2.0
    backbone_statistics: Annotated[str, STATISTICS] = "batch"


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and two mean responses, to be watched.

    params: `{part: variables}` of the model. batch: of `train.samples.pairs.prepare` without targets. Labels are fixed:
    that the crop is shifted by a few pixels is augmentation. A negative pair has no cell of the target.
    """
    apply, params = applying(config.model, params)
    backbone_train = config.backbone_statistics == "batch"
    responses = paired_output(apply, False, batch, backbone_train)
    disk = disk_label(responses.shape[-1], config.radius).astype(responses.dtype)
    labels = jnp.where(batch["negative"][:, None, None], 0, disk[None])
    total = balanced_logistic(responses, labels)
    parts = {
        "target_response": jnp.sum(responses * labels) / jnp.maximum(jnp.sum(labels), 1),
        "background_response": jnp.sum(responses * (1 - labels)) / jnp.maximum(jnp.sum(1 - labels), 1),
    }
    return total, (params, parts)


main = partial(command.main, "siamfc", loss, LossConfig)

if __name__ == "__main__":
    from train import siamfc  # as the configs know it; this copy of the module is called __main__

    sys.exit(siamfc.main())
