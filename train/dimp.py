"""The training loss of DiMP: a filter is learned on a few frames and every iterate is scored on others.

Bhat et al., "Learning Discriminative Model Prediction for Tracking", ICCV 2019, Sec. 3.4 and 4. The loss runs through
the tracker's own optimizer (`trackers.nets.dimp_classifier.optimize_filter`), and its gradient through the steps
that were taken.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ops.correlation import correlate
from trackers.nets import models, resnet
from trackers.nets.dimp_classifier import optimize_filter
from train.losses import hinge_regression, overlap_regression

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """The published numbers of DiMP-18 and DiMP-50."""

    model: str = "dimp18"  # of `trackers.nets.models`
    filter_steps: int = 5  # of the optimizer; the start and every iterate are scored
    classification_weight: float = 100.0  # of the loss of each of them
    overlap_weight: float = 1.0
    hinge_threshold: float = 0.05
    backbone_statistics: str = "batch"  # of its batch normalization; "stored" where the backbone is frozen


class Batch(NamedTuple):
    """F training and T test frames of B targets; boxes are x, y, w, h in pixels of the crop."""

    train_images: Array  # [F, B, H, W, 3] RGB 0..255
    train_boxes: Array  # [F, B, 4]
    test_images: Array  # [T, B, H, W, 3]
    proposals: Array  # [T, B, P, 4]
    overlaps: Array  # [T, B, P] IoU of the proposals with the target
    labels: Array  # [T, B, H / 16 + 1, H / 16 + 1] classification labels


def loss(params: Params, batch: Batch, config: LossConfig) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. The optimizer of the filter starts from the initial filter of all training
    frames; the IoU-Net is modulated by the first of them.
    """
    networks = models.networks(config.model)
    params = dict(params)

    def apply(part, *args, method=None, train=True):
        network, variables = networks[part], params[part]
        if not train:
            return network.apply(variables, *args, method=method)
        out, changed = network.apply(variables, *args, train=True, method=method, mutable=["batch_stats"])
        params[part] = {**variables, **changed}
        return out

    def features(images):
        """The peers run training and test frames apart, each with the statistics of its own batch."""
        flat = resnet.normalize(images.reshape(-1, *images.shape[2:]))
        taps = apply("backbone", flat, train=config.backbone_statistics == "batch")
        classification = apply("classifier", taps["layer3"], method="extract")
        taps = (taps["layer2"], taps["layer3"])
        return jax.tree.map(lambda leaf: leaf.reshape(*images.shape[:2], *leaf.shape[1:]), (classification, taps))

    train_features, train_taps = features(batch.train_images)
    test_features, test_taps = features(batch.test_images)

    classifier, variables = networks["classifier"], params["classifier"]
    initial = partial(classifier.apply, variables, method="initial_filter")
    start = jax.vmap(initial, in_axes=(1, 1))(train_features, batch.train_boxes)
    learn = partial(
        optimize_filter, num_steps=config.filter_steps, max_steps=config.filter_steps, iterates=True
    )
    learn = jax.vmap(learn, in_axes=(None, 0, 1, 1))
    _, filters = learn(variables["params"]["optimizer"], start, train_features, batch.train_boxes)
    score = jax.vmap(jax.vmap(correlate, in_axes=(None, 0)), in_axes=(1, 0))
    scores = score(test_features, filters)  # [B, iterates, T, ...]
    each = partial(hinge_regression, labels=jnp.moveaxis(batch.labels, 1, 0), threshold=config.hinge_threshold)
    classification = jax.vmap(each)(jnp.moveaxis(scores, 1, 0))

    reference = [tap[0] for tap in train_taps]
    modulation = apply("iou_net", *reference, batch.train_boxes[0], method="modulation")
    maps = apply("iou_net", *test_taps, method="features")
    frames = batch.test_images.shape[0]
    modulation = [jnp.broadcast_to(vector, (frames, *vector.shape)) for vector in modulation]
    predicted = apply("iou_net", modulation, maps, batch.proposals, method="predict")
    overlap = overlap_regression(predicted, batch.overlaps)

    total = config.classification_weight * jnp.sum(classification) + config.overlap_weight * overlap
    parts = {"classification": classification, "overlap": overlap}
    return total, (params, parts)
