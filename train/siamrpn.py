"""Training of SiamRPN and SiamRPN++: `python -m train.siamrpn --config train/configs/siamrpn_smoke.py`.

Li et al., "High Performance Visual Tracking with Siamese Region Proposal Network", CVPR 2018, Sec. 3.2, and "SiamRPN++:
Evolution of Siamese Visual Tracking with Very Deep Networks", CVPR 2019, Sec. 3, as pysot trains them: anchors of a
search crop are classified, and the offsets of those that overlap the target are regressed.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax

from trackers.nets import models
from trackers.nets.rpn import DepthwiseRPN, UpChannelRPN
from trackers.rules import NOT_NEGATIVE
from train import command
from train.forward import STATISTICS, applying, paired_output
from train.losses import anchor_classification, delta_regression

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """pysot's numbers."""

    model: Annotated[str, models.with_part(UpChannelRPN, DepthwiseRPN)] = "siamrpnpp_resnet50"
    cls_weight: Annotated[float, NOT_NEGATIVE] = 1.0
    loc_weight: Annotated[float, NOT_NEGATIVE] = 1.2
    # Of the offsets' errors, see `losses.delta_regression`; 0: absolute errors
    smoothing: Annotated[float, NOT_NEGATIVE] = 0.0
    backbone_statistics: Annotated[str, STATISTICS] = "batch"


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. batch: of `train.samples.pairs.prepare` with targets.
    """
    apply, params = applying(config.model, params)
    backbone_train = config.backbone_statistics == "batch"
    logits, deltas = paired_output(apply, "neck" in params, batch, backbone_train)
    classification = anchor_classification(logits, batch["labels"])
    localization = delta_regression(deltas, batch["deltas"], batch["weights"], smoothing=config.smoothing)
    total = config.cls_weight * classification + config.loc_weight * localization
    return total, (params, {"classification": classification, "localization": localization})


main = partial(command.main, "siamrpn", loss, LossConfig)

if __name__ == "__main__":
    from train import siamrpn  # as the configs know it; this copy of the module is called __main__

    sys.exit(siamrpn.main())
