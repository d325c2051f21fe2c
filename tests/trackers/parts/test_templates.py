"""What the Siamese trackers share: the size of a template's crop, the choice among proposals, how a size follows."""

import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from trackers.base import Frame
from trackers.parts import templates
from trackers.parts.templates import Proposals


def test_the_context_is_a_half_of_both_sides():
    np.testing.assert_allclose(templates.context_side(jnp.array([40.0, 60.0])), np.sqrt((40 + 50) * (60 + 50)))
    many = templates.context_side(jnp.array([[10.0, 10.0], [20.0, 20.0]]))
    np.testing.assert_allclose(many, [20, 40])


def test_the_highest_rank_is_chosen_whatever_its_score():
    shape = (2, 3, 3)
    score, ranked = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    score[0, 0, 0], ranked[1, 2, 1] = 0.9, 0.5
    centers = np.arange(2 * 3 * 3 * 2, dtype=np.float32).reshape(*shape, 2)
    rate, crop = np.full(shape, 0.25, np.float32), np.arange(2 * 3 * 3, dtype=np.int32).reshape(shape)
    score, ranked, rate, crop = map(jnp.asarray, (score, ranked, rate, crop))
    found = templates.choose(Proposals(score, ranked, Box(centers, centers + 1), rate, crop))
    assert int(found.index) == int(found.crop) == 9 + 7 and found.score == 0 and found.rate == 0.25
    np.testing.assert_array_equal(found.score_map, score[0])  # the other anchor's are 0
    np.testing.assert_array_equal(found.box.center, centers[1, 2, 1])
    np.testing.assert_array_equal(found.box.size, centers[1, 2, 1] + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_places_that_are_not_finite_are_not_chosen(bad):
    old = Box(jnp.array([10.0, 20.0]), jnp.array([40.0, 60.0]))
    shape = (2, 3, 3)
    centers = np.arange(2 * 3 * 3 * 2, dtype=np.float32).reshape(*shape, 2)
    good = [np.full(shape, 0.5, np.float32), np.full(shape, 0.5, np.float32), centers, centers + 1, np.ones(shape)]
    good[1][1, 2, 1] = 0.6
    for part in range(len(good)):
        spoiled = [array.astype(np.float32) for array in good]
        spoiled[1][0, 0, 0] = 0.9  # the highest rank
        spoiled[part][0, 0, 0] = bad
        score, ranked, center, size, rate = map(jnp.asarray, spoiled)
        crop = jnp.zeros(shape, jnp.int32)
        found = templates.choose(templates.finite(Proposals(score, ranked, Box(center, size), rate, crop), old))
        assert int(found.index) == 9 + 7 and found.ranked == np.float32(0.6)
        np.testing.assert_array_equal(found.box.center, centers[1, 2, 1])
        nothing = Proposals(score, jnp.full(shape, bad), Box(center, size), rate, crop)
        found = templates.choose(templates.finite(nothing, old))
        assert found.ranked == 0 and found.score == 0
        np.testing.assert_array_equal(templates.damped(old, found).center, old.center)
        np.testing.assert_array_equal(templates.damped(old, found).size, old.size)


def test_the_size_follows_by_its_rate_and_the_center_at_once():
    old = Box(jnp.array([10.0, 20.0]), jnp.array([40.0, 60.0]))
    new = Box(jnp.array([15.0, 18.0]), jnp.array([80.0, 30.0]))
    one, nothing = jnp.float32(1), jnp.int32(0)
    choice = templates.Choice(nothing, one, one, new, jnp.float32(0.25), nothing, jnp.ones((3, 3)))
    found = templates.damped(old, choice)
    np.testing.assert_array_equal(found.center, new.center)
    np.testing.assert_allclose(found.size, [50.0, 52.5])


def test_a_crop_beyond_the_frame_has_the_color_given(rng):
    image = jnp.asarray(rng.integers(0, 256, (40, 40, 3)), jnp.uint8)
    frame = Frame(image, jnp.array([30, 40], jnp.int32))
    fill = jnp.array([10.0, 20.0, 30.0])
    found = templates.square_crop(frame, jnp.array([14.5, 19.5]), 60.0, 60, fill, "continuous").image
    np.testing.assert_allclose(found[:14], jnp.broadcast_to(fill, (14, 60, 3)), atol=1e-3)
    np.testing.assert_allclose(found[-14:], jnp.broadcast_to(fill, (14, 60, 3)), atol=1e-3)
    np.testing.assert_allclose(found[15:45, 10:50], image[:30], atol=1e-3)


@pytest.mark.parametrize(("size", "cells"), [(272, 25), (97, 19), (25, 25), (26, 25)])
def test_a_coarse_map_keeps_the_best_of_its_places(rng, size, cells):
    scores = rng.normal(size=(size, size)).astype(np.float32)
    found = np.asarray(templates.coarse(jnp.asarray(scores), cells))
    expected = np.full((cells, cells), -np.inf, np.float32)
    cell_of = [next(i for i in range(cells) if place < (i + 1) * size // cells) for place in range(size)]
    np.maximum.at(expected, np.ix_(cell_of, cell_of), scores)
    np.testing.assert_array_equal(found, expected)
