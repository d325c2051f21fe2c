"""SiamFC's rules on responses that are given: where a peak leads, what scale costs, how far the window pulls."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from trackers import siamfc
from trackers.parts import templates

CONFIG = siamfc.Config()
BOX = Box(jnp.array([100.0, 120.0]), jnp.array([40.0, 60.0]))


def response(*peaks):
    """`[3, 17, 17]`: bumps of a given height at (scale, y, x) cells from the middle."""
    y, x = np.mgrid[:17, :17] - 8
    maps = np.zeros((3, 17, 17), np.float32)
    for height, scale, py, px in peaks:
        maps[scale] += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / 4)
    return jnp.asarray(maps)


def chosen(found, config=CONFIG):
    return templates.choose(jax.jit(siamfc.make_matcher(config).decode)(found, BOX))


@pytest.mark.parametrize("cells", [(0, 0), (2, -3), (-1, 4)])
def test_a_peak_moves_the_box_by_its_cells(cells):
    found = chosen(response((5.0, 1, *cells)), replace(CONFIG, window_influence=0.0))
    pixels = 8 * float(templates.context_side(BOX.size)) / 127  # of the image, a cell
    np.testing.assert_allclose(found.box.center - BOX.center, np.array(cells) * pixels, atol=pixels / 8)
    np.testing.assert_array_equal(found.box.size, BOX.size)
    assert 0.9 < found.score < 1


def test_another_scale_must_be_better_than_the_penalty():
    small, present, large = (CONFIG.scale_step**step for step in (-1, 0, 1))
    assert CONFIG.scale_penalty == 0.9745
    for height, factor in ((1.02, present), (1.04, large)):
        found = chosen(response((1.0, 1, 0, 0), (height, 2, 0, 0)))
        np.testing.assert_allclose(found.box.size, BOX.size * factor, rtol=1e-6)
    found = chosen(response((1.0, 1, 0, 0), (1.04, 0, 0, 0)))
    np.testing.assert_allclose(found.box.size, BOX.size * small, rtol=1e-6)
    damped = templates.damped(BOX, found)
    np.testing.assert_allclose(damped.size, BOX.size * (1 + CONFIG.scale_rate * (small - 1)), rtol=1e-5)


def test_the_window_prefers_what_is_near():
    both = response((1.0, 1, 0, 0), (1.02, 1, 6, 6))
    far, near = (chosen(both, replace(CONFIG, window_influence=share)) for share in (0.0, 0.3))
    assert np.linalg.norm(far.box.center - BOX.center) > 20 > 5 > np.linalg.norm(near.box.center - BOX.center)
