"""Losses of the trackers' offline training."""

import jax
import jax.numpy as jnp

Array = jax.Array


def hinge_regression(scores: Array, labels: Array, threshold: float) -> Array:
    """DiMP's loss of a score map (Bhat et al. 2019, Eq. 6, as pytracking trains it), the mean over all elements `[]`.

    Where the label is below `threshold` (background), scores above 0 cost their square; elsewhere the squared
    difference counts. scores, labels: of one shape, labels in 0..1.
    """
    background = labels < threshold
    errors = jnp.where(background, jax.nn.relu(scores), scores) - jnp.where(background, 0, labels)
    return jnp.mean(errors**2)


def overlap_regression(predicted: Array, overlaps: Array) -> Array:
    """Mean squared error `[]` of the IoU-Net: its raw outputs are trained on 2 IoU - 1; both of one shape."""
    return jnp.mean((predicted - (2 * overlaps - 1)) ** 2)


def balanced_logistic(responses: Array, labels: Array) -> Array:
    """SiamFC's loss `[]`: the logistic loss of every cell, positives and negatives with half of the weight each.

    responses, labels: of one shape, whatever it is; labels 0 or 1. Cells are counted over the whole batch, as in
    siamfc-pytorch (Bertinetto et al. 2016, Sec. 2.2, balance each map; all maps having one label, it is the same). If
    there is one kind of cell only, it has all the weight.
    """
    positive = labels > 0
    shares = [_mean_over(jax.nn.softplus(sign * responses), cells) for sign, cells in ((-1, positive), (1, ~positive))]
    kinds = jnp.any(positive).astype(responses.dtype) + jnp.any(~positive).astype(responses.dtype)
    return sum(shares) / kinds


def anchor_classification(logits: Array, labels: Array) -> Array:
    """SiamRPN's classification loss `[]`: half the mean over positive anchors, half the mean over negative ones.

    logits: `[B, S, S, 2, k]`, index 1 is the target. labels: `[B, S, S, k]`, 1, 0 or -1 (ignored). Each mean is over
    the batch, and 0 where there is nothing to take it of. pysot drops a mean of exactly one anchor; this one does not.
    """
    log_probability = jax.nn.log_softmax(logits, axis=-2)
    background, target = log_probability[..., 0, :], log_probability[..., 1, :]
    return -0.5 * (_mean_over(target, labels == 1) + _mean_over(background, labels == 0))


def delta_regression(predicted: Array, deltas: Array, weights: Array, *, smoothing: float | Array = 0.0) -> Array:
    """SiamRPN's localization loss `[]`: weighted absolute errors of box offsets, their sum over the batch size.

    predicted: `[B, S, S, 4, k]`. deltas: `[B, S, S, k, 4]`, see `ops.anchors.encode`. weights: `[B, S, S, k]`, see
    `train.samples.anchor_targets`. smoothing: errors below it count as their square over twice of it, larger ones half
    of it less (smooth L1; 1 / sigma^2 in Li et al. 2018, Eq. 5); 0 is pysot's plain L1.
    """
    error = jnp.abs(predicted - jnp.moveaxis(deltas, -1, -2))
    width = jnp.where(smoothing > 0, smoothing, 1)
    cost = jnp.where(error < smoothing, error**2 / (2 * width), error - smoothing / 2)
    return jnp.sum(cost * weights[..., None, :]) / len(predicted)


def _mean_over(values: Array, chosen: Array) -> Array:
    """Mean `[]` of the chosen values, 0 if there is none."""
    return jnp.sum(jnp.where(chosen, values, 0)) / jnp.maximum(jnp.sum(chosen), 1)
