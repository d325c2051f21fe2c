"""Masks of VOT: run lengths, pixels, boxes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.sources.masks import Mask, mask_to_box, parse_mask

PIXELS = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(lambda shape: arrays(bool, shape))


def line_of(pixels: np.ndarray, left: int, top: int) -> str:
    """As the toolkit writes a mask: whole runs, the first of them outside."""
    flat = pixels.ravel().astype(int)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    runs = [0] * bool(flat[0]) + [int(end - start) for start, end in pairwise(ends)]
    return "m" + ",".join(map(str, (left, top, pixels.shape[1], pixels.shape[0], *runs)))


def mask_of(pixels: np.ndarray) -> Mask:
    return parse_mask(line_of(pixels, 3, -2))


def overlap(pixels: np.ndarray, box: np.ndarray) -> float:
    x, y, w, h = (box - [3, -2, 0, 0]).astype(int)
    drawn = np.zeros_like(pixels)
    drawn[y : y + h, x : x + w] = True
    return (drawn & pixels).sum() / (w * h + pixels.sum() - (drawn & pixels).sum())


@given(PIXELS)
def test_pixels_come_back(pixels):
    np.testing.assert_array_equal(mask_of(pixels).pixels(), pixels)


def test_what_follows_the_last_run_is_outside():
    np.testing.assert_array_equal(parse_mask("m0,0,3,2,1,2").pixels(), [[0, 1, 1], [0, 0, 0]])
    assert not parse_mask("m0,0,3,2").pixels().any()


@given(PIXELS)
def test_boxes_hold_what_they_say(pixels):
    tight, fitted = mask_to_box(mask_of(pixels)), mask_to_box(mask_of(pixels), "fitted")
    if not pixels.any():
        assert np.isnan(tight).all() and np.isnan(fitted).all()
        return
    x, y, w, h = (tight - [3, -2, 0, 0]).astype(int)
    inside = pixels[y : y + h, x : x + w]
    assert inside.sum() == pixels.sum() and inside[[0, -1]].any(1).all() and inside[:, [0, -1]].any(0).all()
    assert (fitted[2:] >= 1).all() and overlap(pixels, fitted) >= overlap(pixels, tight)
    for change in np.eye(4)[[0, 1, 2, 3]]:  # no side can be moved to gain
        for sign in (-1, 1):
            moved = fitted + sign * change - sign * np.roll(change, 2) * (change[:2].sum() > 0)
            if (moved[2:] >= 1).all() and overlap(pixels, fitted) < 1 and (moved[:2] >= [3, -2]).all():
                assert overlap(pixels, moved) <= overlap(pixels, fitted) + 1e-12


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="choose one of tight, fitted"):
        mask_to_box(parse_mask("m0,0,1,1,0,1"), "loose")
