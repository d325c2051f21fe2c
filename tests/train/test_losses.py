"""Losses of the Siamese trackers against the references' numbers; what differs on purpose is named."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops.anchors import anchors, encode
from ops.boxes import Box
from ops.score_maps import disk_label
from tests.golden import formula
from tests.helpers import oracle
from train.losses import anchor_classification, balanced_logistic, delta_regression

LOCALIZATION_WEIGHT = 1.2  # of the stored total, and of its gradients


classify = jax.jit(jax.value_and_grad(anchor_classification))
localize = jax.jit(jax.value_and_grad(delta_regression))
balance = jax.jit(jax.value_and_grad(balanced_logistic))


# SiamFC.


def maps():
    """(side, batch) of every stored loss."""
    found = [re.fullmatch(r"loss_(\d+)_n(\d+)", key) for key in oracle.arrays("train_siamfc")]
    return [tuple(map(int, match.groups())) for match in found if match]


@pytest.mark.parametrize("metric", ["city_block", "euclidean"])
def test_golden_siamfc_labels(metric):
    sides = {side for side, _ in maps()}
    assert sides
    for side in sides:
        label = disk_label(side, 16 / 8, metric=metric)
        np.testing.assert_array_equal(label, oracle.arrays("train_siamfc")[f"labels_{side}"])
        assert label.sum() == 13
    with pytest.raises(ValueError, match="unknown metric 'taxi'"):
        disk_label(15, 2, metric="taxi")


def test_golden_balanced_logistic():
    for side, batch in maps():
        responses = formula.normal(oracle.salt(), f"train/siamfc_{side}", (batch, 1, side, side), 1.5)[:, 0]
        labels = np.broadcast_to(disk_label(side, 2), responses.shape)
        value, gradient = balance(responses, labels)
        oracle.assert_golden(value[None], "train_siamfc", f"loss_{side}_n{batch}", relative=1e-5)
        oracle.assert_golden(gradient[:, None], "train_siamfc", f"grad_{side}", relative=1e-5)


def test_both_kinds_of_cells_have_half_the_weight(rng):
    labels = (rng.random((2, 9, 9)) < 0.1).astype(np.float32)
    _, gradient = balance(np.zeros(labels.shape, np.float32), labels)
    np.testing.assert_allclose(gradient[labels == 1].sum(), -0.25, rtol=1e-5)
    np.testing.assert_allclose(gradient[labels == 0].sum(), 0.25, rtol=1e-5)
    for label in (0.0, 1.0):
        value, _ = balance(np.zeros((2, 9, 9), np.float32), np.full((2, 9, 9), label, np.float32))
        np.testing.assert_allclose(value, np.log(2), rtol=1e-5)


# SiamRPN.


@lru_cache
def stored_batch():
    """Predictions and targets of the stored losses, in our layout."""
    stored = oracle.arrays("train_pysot")
    boxes, labels = stored["boxes_x1y1x2y2"], stored["label_sampled_npseed100plusk"]
    batch, k, size = labels.shape[:3]
    search = oracle.settings()["train_pysot"]["search"]
    logits = formula.normal(oracle.salt(), "train/cls", (batch, 2 * k, size, size))
    predicted = formula.normal(oracle.salt(), "train/loc", (batch, 4 * k, size, size), 0.5)
    corners = np.float32(boxes).reshape(batch, 1, 1, 1, 4)[..., [1, 0, 3, 2]] - search // 2
    targets = Box((corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2])
    labels = labels.transpose(0, 2, 3, 1)
    weights = np.where(labels == 1, stored["delta_weight_sampled"].reshape(-1, 1, 1, 1), 0)
    arrays = {
        "logits": logits.reshape(batch, 2, k, size, size).transpose(0, 3, 4, 1, 2),
        "predicted": predicted.reshape(batch, 4, k, size, size).transpose(0, 3, 4, 1, 2),
        "labels": labels,
        "deltas": jax.jit(jax.vmap(encode, in_axes=(None, 0)))(anchors(size), targets),
        "weights": weights.astype(np.float32),
    }
    return {name: jnp.asarray(value, value.dtype) for name, value in arrays.items()}


def as_channels(gradient):
    """`[B, S, S, c, k]` -> the reference's `[B, c k, S, S]`."""
    return np.moveaxis(np.asarray(gradient).reshape(*gradient.shape[:3], -1), -1, 1)


def test_golden_anchor_losses():
    batch, stored = stored_batch(), oracle.arrays("train_pysot")
    classification, to_logits = classify(batch["logits"], batch["labels"])
    localization, to_predicted = localize(batch["predicted"], batch["deltas"], batch["weights"])
    total = classification + LOCALIZATION_WEIGHT * localization
    np.testing.assert_allclose([classification, localization, total], stored["loss_cls_loc_total"], rtol=1e-5)
    to_logits, to_predicted = as_channels(to_logits), LOCALIZATION_WEIGHT * as_channels(to_predicted)
    oracle.assert_golden(to_logits, "train_pysot", "grad_cls", relative=1e-5)
    oracle.assert_golden(to_predicted, "train_pysot", "grad_loc", relative=1e-5)
    norms = [np.linalg.norm(gradient) for gradient in (to_logits, to_predicted)]
    np.testing.assert_allclose(norms, stored["grad_norms"], rtol=1e-5)


def test_golden_without_positives_and_with_one():
    """pysot's `squeeze` makes nothing of a single positive: its loss stays that of none, ours has the term."""
    batch, stored = stored_batch(), oracle.arrays("train_pysot")
    none = jnp.where(batch["labels"] == 1, -1, batch["labels"])
    without, _ = classify(batch["logits"], none)
    np.testing.assert_allclose(without, stored["loss_cls_without_positives"][0], rtol=1e-5)

    sample, anchor, y, x = (int(n) for n in stored["one_positive_index"])
    with_one, _ = classify(batch["logits"], none.at[sample, y, x, anchor].set(1))
    term = -0.5 * jax.nn.log_softmax(batch["logits"][sample, y, x, :, anchor])[1]
    assert term > 0.01
    np.testing.assert_allclose(with_one - without, term, atol=1e-6)
    np.testing.assert_allclose(with_one - term, stored["loss_cls_with_exactly_one_positive"][0], rtol=1e-5)


def test_one_negative_counts_too_and_ignored_anchors_do_not(rng):
    logits = rng.normal(size=(2, 3, 3, 2, 5)).astype(np.float32)
    labels = np.full((2, 3, 3, 5), -1)
    value, gradient = classify(logits, labels)
    assert value == 0 and not gradient.any()
    labels[1, 2, 0, 3] = 0
    value, gradient = classify(logits, labels)
    np.testing.assert_allclose(value, -0.5 * jax.nn.log_softmax(logits[1, 2, 0, :, 3])[0], rtol=1e-6)
    assert set(zip(*(index.tolist() for index in np.nonzero(gradient)))) == {(1, 2, 0, 0, 3), (1, 2, 0, 1, 3)}


def test_smooth_errors(rng):
    """Quadratic below the width, with one slope at it; a width of 0 is the plain loss, also when it is traced."""
    predicted = jnp.asarray(rng.normal(size=(2, 3, 3, 4, 5)), jnp.float32)
    deltas = jnp.zeros((2, 3, 3, 5, 4))
    weights = jnp.asarray(rng.random((2, 3, 3, 5)), jnp.float32)
    error = np.abs(predicted)
    scale = np.asarray(weights)[..., None, :] / 2
    loss = jax.jit(delta_regression)
    for width in (0.0, 0.5, 1 / 9):
        expected = np.where(error < width, error**2 / (2 * (width or 1)), error - width / 2)
        np.testing.assert_allclose(
            loss(predicted, deltas, weights, smoothing=width), (expected * scale).sum(), rtol=1e-5
        )


def test_gradients_against_finite_differences(x64, rng):
    responses = jnp.asarray(rng.normal(size=(2, 5, 5)))
    cells = jnp.asarray(rng.integers(0, 2, (2, 5, 5)))
    logits, predicted = (jnp.asarray(rng.normal(size=(2, 3, 3, n, 5))) for n in (2, 4))
    labels = jnp.asarray(rng.integers(-1, 2, (2, 3, 3, 5)))
    deltas, weights = jnp.asarray(rng.normal(size=(2, 3, 3, 5, 4))), jnp.asarray(rng.random((2, 3, 3, 5)))

    @jax.jit
    def losses(responses, logits, predicted):
        plain, smooth = (delta_regression(predicted, deltas, weights, smoothing=width) for width in (0.0, 0.3))
        return balanced_logistic(responses, cells), anchor_classification(logits, labels), plain, smooth

    check_grads(losses, (responses, logits, predicted), 1, modes=["rev"])
