"""Training of SiamRPN and SiamRPN++: `python -m train.siamrpn --config train/configs/siamrpn_smoke.py`.

Li et al., "High Performance Visual Tracking with Siamese Region Proposal Network", CVPR 2018, Sec. 3.2, and "SiamRPN++:
Evolution of Siamese Visual Tracking with Very Deep Networks", CVPR 2019, Sec. 3, as pysot trains them: anchors of a
search crop are classified, and the offsets of those that overlap the target are regressed.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from trackers.nets.rpn import DepthwiseRPN, UpChannelRPN
from train import command
from train.forward import applying, paired_output
from train.losses import anchor_classification, delta_regression

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """pysot's numbers."""

    PARTS: ClassVar[tuple[type, ...]] = (UpChannelRPN, DepthwiseRPN)  # what is trained has one of these
    model: str = "siamrpnpp_resnet50"  # of `trackers.nets.models`
    cls_weight: float = 1.0
    loc_weight: float = 1.2
    smoothing: float = 0.0  # of the offsets' errors, see `losses.delta_regression`; 0: absolute errors
    backbone_statistics: str = "batch"  # of its batch normalization; "stored" where the backbone is frozen


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. batch: of `train.samples.pairs.prepare` with targets.
    """
    apply, params = applying(config.model, params)
    backbone_train = config.backbone_statistics == "batch"
    logits, deltas = paired_output(
        apply, "neck" in params, batch["template_images"], batch["search_images"], backbone_train
    )
    classification = anchor_classification(logits, batch["labels"])
    localization = delta_regression(deltas, batch["deltas"], batch["weights"], smoothing=config.smoothing)
    total = config.cls_weight * classification + config.loc_weight * localization
    return total, (params, {"classification": classification, "localization": localization})


if __name__ == "__main__":
    from train import siamrpn  # as the configs know it; this copy of the module is called __main__

    sys.exit(command.main("siamrpn", siamrpn.loss, siamrpn.LossConfig))
