"""Losses of the trackers' offline training."""

import jax
import jax.numpy as jnp

Array = jax.Array


def hinge_regression(scores: Array, labels: Array, threshold: float) -> Array:
    """DiMP's loss of a score map (Bhat et al. 2019, Eq. 6, as the peer trains it), the mean over all elements `[]`.

    Where the label is below `threshold` (background), scores above 0 cost their square; elsewhere the squared
    difference counts. scores, labels: of one shape, labels in 0..1.
    """
    background = labels < threshold
    errors = jnp.where(background, jax.nn.relu(scores), scores) - jnp.where(background, 0, labels)
    return jnp.mean(errors**2)


def overlap_regression(predicted: Array, overlaps: Array) -> Array:
    """Mean squared error `[]` of the IoU-Net: its raw outputs are trained on 2 IoU - 1; both of one shape."""
    return jnp.mean((predicted - (2 * overlaps - 1)) ** 2)
