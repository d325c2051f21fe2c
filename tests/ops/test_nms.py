"""Suppression against a slow reference in exact arithmetic."""

from fractions import Fraction
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.boxes import Box, from_xywh
from ops.nms import nms

THRESHOLDS = (0.0, 0.25, 0.5, 0.75, 1.0)


def exact_iou(a, b):
    sides = [max(min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1)]
    both = sides[0] * sides[1]
    union = a[2] * a[3] + b[2] * b[3] - both
    return Fraction(int(both), int(union)) if union else Fraction(0)


def slow_nms(boxes, scores, threshold, count):
    order = sorted((i for i in range(len(boxes)) if scores[i] > -np.inf), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if all(exact_iou(boxes[i], boxes[j]) <= Fraction(threshold) for j in kept):
            kept.append(i)
    return kept[:count]


@lru_cache
def jitted(max_boxes):
    return jax.jit(partial(nms, max_boxes=max_boxes))


def run(boxes, scores, threshold, count):
    boxes = from_xywh(jnp.asarray(boxes, jnp.float32))
    indices, valid = jitted(count)(boxes, jnp.asarray(scores, jnp.float32), threshold)
    assert indices.shape == valid.shape == (count,) and indices.dtype == jnp.int32 and valid.dtype == bool
    return np.asarray(indices), np.asarray(valid)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 9), st.integers(1, 9), st.integers(-2, 3)),
        min_size=12,
        max_size=12,
    ),
    st.sampled_from(THRESHOLDS),
    st.sampled_from((1, 5, 15)),
)
def test_against_a_slow_reference(rows, threshold, count):
    """Whole boxes and few scores: overlaps are exact, many are equal. A score of -2 means no candidate."""
    boxes = [row[:4] for row in rows]
    scores = [-np.inf if row[4] == -2 else row[4] / 4 for row in rows]
    indices, valid = run(boxes, scores, threshold, count)
    expected = slow_nms(boxes, scores, threshold, count)
    assert valid.tolist() == [True] * len(expected) + [False] * (count - len(expected))
    assert indices[valid].tolist() == expected
    assert not indices[~valid].any()


def test_equal_scores_keep_the_first():
    indices, valid = run([[0, 0, 4, 4], [20, 0, 4, 4], [0, 0, 4, 4], [20, 0, 4, 4]], [1, 2, 1, 2], 0.5, 5)
    assert indices[valid].tolist() == [1, 0]


def test_one_box_suppresses_all_others():
    indices, valid = run([[0, 0, 10, 10]] * 7, np.arange(7), 0.5, 5)
    assert indices.tolist() == [6, 0, 0, 0, 0] and valid.tolist() == [True] + [False] * 4


def test_without_candidates_nothing_is_valid():
    indices, valid = run([[0, 0, 10, 10], [30, 0, 5, 5]], [-np.inf, np.nan], 0.5, 5)
    assert not valid.any() and not indices.any()


def test_a_box_without_area_is_found_once():
    indices, valid = run([[0, 0, 0, 10], [30, 0, 5, 5]], [2, 1], 0.5, 5)
    assert indices[valid].tolist() == [0, 1]


def test_vmap_is_a_loop_and_jit_is_eager(rng):
    boxes = from_xywh(jnp.asarray(rng.uniform(1, 30, (3, 20, 4)), jnp.float32))
    scores = jnp.asarray(rng.normal(size=(3, 20)), jnp.float32)
    threshold = jnp.array([0.1, 0.3, 0.6])
    together = jax.vmap(jitted(6))(boxes, scores, threshold)
    for row in range(3):
        one = nms(Box(boxes.center[row], boxes.size[row]), scores[row], threshold[row], 6)
        for found, expected in zip(together, one):
            np.testing.assert_array_equal(found[row], expected)
    assert together[1].sum() > 3
