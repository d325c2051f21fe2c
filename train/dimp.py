"""Meta-training of DiMP: `python -m train.dimp --config train/configs/dimp_smoke.py --out runs/smoke`.

Bhat et al., "Learning Discriminative Model Prediction for Tracking", ICCV 2019, Sec. 3.4 and 4. A filter is learned
on a few frames by the tracker's own optimizer (`trackers.nets.dimp_classifier.optimize_filter`), every iterate is
scored on other frames, and the gradient runs through the steps that were taken.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ops.correlation import correlate
from trackers.nets import models
from trackers.nets.dimp_classifier import DimpClassifier, optimize_filter
from trackers.rules import ANY, NOT_NEGATIVE
from train import command
from train.forward import DTYPES, STATISTICS, applying, backbone_taps, predicted_overlaps
from train.losses import hinge_regression, overlap_regression

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """The published numbers of DiMP-18 and DiMP-50."""

    model: Annotated[str, models.with_part(DimpClassifier)] = "dimp18"  # of `trackers.nets.models`
    filter_steps: Annotated[int, NOT_NEGATIVE] = 5  # of the optimizer; the start and every iterate are scored
    classification_weight: Annotated[float, NOT_NEGATIVE] = 100.0  # of the loss of each of them
    overlap_weight: Annotated[float, NOT_NEGATIVE] = 1.0
    hinge_threshold: Annotated[float, ANY] = 0.05
    backbone_statistics: Annotated[str, STATISTICS] = "batch"
    backbone_dtype: Annotated[str, DTYPES] = "float32"


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. batch: of `train.samples.frames.prepare`, F training and T test frames of
    B targets. The optimizer of the filter starts from the initial filter of all training frames; the IoU-Net is
    modulated by the first of them.
    """
    apply, params = applying(config.model, params)

    def features(images):
        """As in pytracking, training and test frames run apart, each with the statistics of its own batch."""
        taps = backbone_taps(apply, images, config.backbone_statistics == "batch", config.backbone_dtype)
        classification = apply("classifier", taps[1], method="extract")
        return jax.tree.map(lambda leaf: leaf.reshape(*images.shape[:2], *leaf.shape[1:]), (classification, taps))

    train_boxes = batch["train_boxes"]
    train_features, train_taps = features(batch["train_images"])
    test_features, test_taps = features(batch["test_images"])

    classifier, variables = models.networks(config.model)["classifier"], params["classifier"]
    initial = partial(classifier.apply, variables, method="initial_filter")
    start = jax.vmap(initial, in_axes=(1, 1))(train_features, train_boxes)
    steps = config.filter_steps
    learn = partial(optimize_filter, num_steps=steps, max_steps=steps, iterates=True)
    learn = jax.vmap(learn, in_axes=(None, 0, 1, 1))
    _, filters = learn(variables["params"]["optimizer"], start, train_features, train_boxes)
    score = jax.vmap(jax.vmap(correlate, in_axes=(None, 0)), in_axes=(1, 0))
    scores = score(test_features, filters)  # [B, iterates, T, ...]
    labels = jnp.moveaxis(batch["labels"], 1, 0)
    each = partial(hinge_regression, labels=labels, threshold=config.hinge_threshold)
    classification = jax.vmap(each)(jnp.moveaxis(scores, 1, 0))

    predicted = predicted_overlaps(apply, train_taps, train_boxes, test_taps, batch["proposals"])
    overlap = overlap_regression(predicted, batch["overlaps"])
    total = config.classification_weight * jnp.sum(classification) + config.overlap_weight * overlap
    return total, (params, {"classification": classification, "overlap": overlap})


main = partial(command.main, "dimp", loss, LossConfig)

if __name__ == "__main__":
    from train import dimp  # as the configs know it; this copy of the module is called __main__

    sys.exit(dimp.main())
