"""Targets of anchors: what is certain against the reference's numbers, what is drawn by its properties."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import oracle
from train.samples.anchor_targets import AnchorTargetConfig, anchor_targets, assign, choose, negative_window


def stored_config():
    high, low, positives, negatives, total, search, score, _ = oracle.arrays("train_pysot")[
        "cfg_thrhigh_thrlow_pos_neg_total_search_out_base"
    ].tolist()
    return AnchorTargetConfig(
        search_size=int(search),
        score_size=int(score),
        positive_iou=high,
        negative_iou=low,
        max_positives=int(positives),
        max_anchors=int(total),
        window_negatives=int(negatives),
    )


def stored_boxes():
    """x, y, w, h."""
    corners = oracle.arrays("train_pysot")["boxes_x1y1x2y2"]
    return jnp.asarray(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1), jnp.float32)


CONFIG = stored_config()
draw = jax.jit(partial(anchor_targets, config=CONFIG))
assign_all = jax.jit(jax.vmap(partial(assign, config=CONFIG)))
windows = jax.jit(jax.vmap(partial(negative_window, config=CONFIG)))


def test_the_defaults_are_the_peers():
    assert replace(AnchorTargetConfig(), search_size=CONFIG.search_size, score_size=CONFIG.score_size) == CONFIG


def test_golden_assignment():
    """Overlap and offsets are float32 of coordinates to 275: 1e-6 of them; labels are exact."""
    stored = oracle.arrays("train_pysot")
    overlap, labels, deltas = assign_all(stored_boxes())
    np.testing.assert_allclose(np.moveaxis(overlap, -1, 1), stored["overlap"], atol=2e-6)
    np.testing.assert_array_equal(np.moveaxis(labels, -1, 1), stored["label_unsampled"])
    counts = [[np.sum(one == 1), np.sum(one == 0)] for one in np.asarray(labels)]
    np.testing.assert_array_equal(counts, stored["n_pos_neg_unsampled"])
    oracle.assert_golden(np.transpose(deltas, (0, 4, 3, 1, 2)), "train_pysot", "delta", relative=1e-6)


def test_golden_window_of_negative_pairs():
    """Also of one that reaches over the border of the score map."""
    stored = oracle.arrays("train_pysot")["negpair_window_unsampled"]
    np.testing.assert_array_equal(windows(stored_boxes()), stored[:, 0] == 0)
    assert (stored == stored[:, :1]).all()


def test_positive_pairs_keep_some_of_each_kind():
    """As the reference's draws: subsets of what may be kept, in the same numbers, with the same weights."""
    stored = oracle.arrays("train_pysot")
    everything = (np.asarray(leaf) for leaf in assign_all(stored_boxes()))
    for row, (box, _, labels, deltas) in enumerate(zip(stored_boxes(), *everything)):
        found = draw(jax.random.key(row), box, False)
        assert found.labels.dtype == jnp.int32 and found.weights.dtype == jnp.float32
        kept = np.asarray(found.labels)
        assert set(np.unique(kept)) <= {-1, 0, 1}
        np.testing.assert_array_equal(kept[kept >= 0], labels[kept >= 0])
        expected = stored["label_sampled_npseed100plusk"][row]
        assert [np.sum(kept == 1), np.sum(kept == 0)] == [np.sum(expected == 1), np.sum(expected == 0)]
        weight = np.float32(stored["delta_weight_sampled"][row])
        np.testing.assert_allclose(found.weights, np.where(kept == 1, weight, 0), rtol=1e-6)
        np.testing.assert_allclose(found.deltas, deltas, rtol=1e-6, atol=1e-6)


def test_negative_pairs_have_negatives_near_the_target_and_nothing_else():
    for row, (box, window) in enumerate(zip(stored_boxes(), np.asarray(windows(stored_boxes())))):
        found = draw(jax.random.key(row), box, True)
        kept = np.asarray(found.labels)
        assert (kept < 1).all() and np.sum(kept == 0) == CONFIG.window_negatives
        assert window[(kept == 0).any(-1)].all()
        assert not found.deltas.any() and not found.weights.any()


def test_a_target_outside_of_the_map_leaves_nothing():
    found = draw(jax.random.key(0), jnp.array([600.0, 600, 50, 50]), True)
    assert (found.labels == -1).all()


@pytest.mark.parametrize("negative", [False, pytest.param(True, marks=pytest.mark.full)])
def test_all_candidates_are_equally_likely(negative):
    """A box with more positives than are kept; over many keys, every candidate's share is that of all."""
    box = jnp.array([99.0, 99, 60, 60])
    config = replace(CONFIG, max_positives=5)
    labels = jax.jit(
        jax.vmap(lambda key: anchor_targets(key, box, negative, config).labels)
    )(jax.random.split(jax.random.key(1), 4000))  # fmt: skip
    _, unsampled, _ = jax.tree.map(lambda leaf: leaf[0], assign_all(box[None]))
    if negative:
        kinds = [(0, np.asarray(windows(box[None]))[0, ..., None] & np.ones(unsampled.shape, bool), 16)]
    else:
        kinds = [(1, np.asarray(unsampled) == 1, 5), (0, np.asarray(unsampled) == 0, 59)]
    for kind, candidates, count in kinds:
        chosen = np.asarray(labels) == kind
        assert candidates.sum() > count and (chosen.sum((1, 2, 3)) == count).all()
        assert not chosen[:, ~candidates].any()
        share = count / candidates.sum()
        deviation = np.abs(chosen.mean(0)[candidates] - share) / np.sqrt(share * (1 - share) / 4000)
        assert deviation.max() < 5 and 0.6 < np.sqrt(np.mean(deviation**2)) < 1.4


def test_choose_keeps_all_of_few():
    few = jnp.zeros((4, 5), bool).at[2, 3].set(True).at[0, 0].set(True)
    np.testing.assert_array_equal(choose(jax.random.key(0), few, 7), few)
    assert not choose(jax.random.key(0), jnp.zeros((4, 5), bool), 7).any()
    np.testing.assert_array_equal(choose(jax.random.key(0), few, 100), few)


def test_batches_are_loops_and_jit_is_eager():
    boxes, keys = stored_boxes(), jax.random.split(jax.random.key(3), 5)
    eager = partial(anchor_targets, config=CONFIG)
    negative = jnp.array([False, True, False, True, False])
    together = jax.jit(jax.vmap(partial(anchor_targets, config=CONFIG)))(keys, boxes, negative)
    for row in range(5):
        one = (eager if row == 4 else draw)(keys[row], boxes[row], negative[row])
        np.testing.assert_array_equal(together.labels[row], one.labels)
        np.testing.assert_allclose(together.deltas[row], one.deltas, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(together.weights[row], one.weights, rtol=1e-6)
    assert (draw(keys[0], boxes[0], False).labels != draw(keys[1], boxes[0], False).labels).any()
