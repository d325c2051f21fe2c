"""Localization against the references' own `localize_advanced`, and its rules on maps made for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.score_maps import hann_window
from tests.golden import formula
from tests.helpers import oracle
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN
from trackers.parts import localization
from trackers.parts.localization import LocalizationConfig

FLAG = {FOUND: 0, LOST: 1, UNCERTAIN: 2, HARD_NEGATIVE: 3}  # our verdict -> the oracle's flag
DEFAULT = LocalizationConfig()
RUNS = {
    "dimp_default": DEFAULT,
    "dimp_vot": LocalizationConfig(0.0, 100.0, 0.45, 0.7),
    "dimp_vot_window_distractor_on": LocalizationConfig(0.1, 0.8, 0.45, 0.7),
    "atom_default": DEFAULT,
    "atom_vot_like_window": LocalizationConfig(-1.0, 0.8, 0.3, 0.7),
}


@pytest.mark.parametrize("run", RUNS)
def test_golden_localization(run):
    stored, numbers = oracle.arrays("localise"), oracle.settings()["localise"]
    is_dimp, windowed = run.startswith("dimp"), run not in ("dimp_default", "atom_default")
    size = numbers["dimp_map" if is_dimp else "atom_map"]
    sigma = numbers["dimp_sigma" if is_dimp else "atom_sigma"]
    locate = jax.jit(localization.locate, static_argnames="config")
    for case in range(numbers["cases"]):
        name = f"loc/{'dimp' if is_dimp else 'atom'}{case}"
        raw = jnp.asarray(formula.peaks_map(oracle.salt(), name, size, sigma))
        scale = stored["sample_scale"][case]
        # crop pixels per cell of the map; DiMP's filter of even size adds a row and a column to the features
        cell = numbers["support"] / (size - 1 if is_dimp else size)
        scores = raw
        if windowed:
            # ATOM's window has its origin at index 0 of a map that is rolled by half
            window = hann_window(size, centered=is_dimp)
            scores = raw * (window if is_dimp else jnp.roll(window, (size // 2, size // 2), (0, 1)))
        previous = stored["pos_minus_samplepos_yx"][case] / (cell * scale) if is_dimp else jnp.zeros(2)
        target = stored["target_sz_hw"][case] / (cell * scale)
        unwindowed = raw if is_dimp else scores
        peak = locate(scores, unwindowed, previous, target, config=RUNS[run])
        expected = stored[f"{run}_translation_yx_flag"][case]
        assert FLAG[int(peak.verdict)] == expected[2], case
        if int(peak.verdict) != LOST:
            # image pixels; the reference forms the product in float32 as well
            np.testing.assert_allclose(peak.displacement * cell * scale, expected[:2], atol=1e-4, err_msg=str(case))


def scene(*peaks, size=19):
    """Scores with a bump of a given height at each (y, x) displacement from the center."""
    y, x = np.mgrid[:size, :size] - size // 2
    return jnp.asarray(sum(h * np.exp(-((y - py) ** 2 + (x - px) ** 2)) for h, py, px in peaks), jnp.float32)


@pytest.mark.parametrize(
    "peaks, displacement, verdict",
    [
        ([(1.0, 2, -3)], (2, -3), FOUND),
        ([(0.2, 2, -3)], (2, -3), LOST),
        ([(1.0, 0, 0), (0.6, 6, 6)], (0, 0), HARD_NEGATIVE),
        ([(1.0, 0, 0), (0.9, 6, 6)], (0, 0), HARD_NEGATIVE),
        ([(0.9, 0, 0), (1.0, 6, 6)], (0, 0), HARD_NEGATIVE),
        ([(1.0, 0, 0), (0.9, 3, 3)], (0, 0), UNCERTAIN),
        ([(1.0, 8, 8), (0.9, -8, -8)], (8, 8), UNCERTAIN),
    ],
)
def test_rules(peaks, displacement, verdict):
    scores = scene(*peaks)
    peak = localization.locate(scores, scores, jnp.zeros(2), jnp.full(2, 2.0), DEFAULT)
    assert int(peak.verdict) == verdict
    np.testing.assert_array_equal(peak.displacement, displacement)


SHARES = LocalizationConfig(near_share=0.5, reach=2.0)  # 0.125 where the target was, 0.25 from 4 cells on


@pytest.mark.parametrize(
    "peaks, seen, verdict, without",
    [
        ([(0.14, 0, 0)], True, UNCERTAIN, LOST),  # followed, not learned
        ([(0.14, 0, 0)], False, LOST, LOST),  # a target that was lost comes back with a good score
        ([(0.14, 0, 3)], True, LOST, LOST),
        ([(0.22, 0, 3)], True, UNCERTAIN, LOST),
        ([(0.22, 5, 5)], True, LOST, LOST),
        ([(0.1, 0, 0)], True, LOST, LOST),
        ([(0.2, 0, 0), (0.19, 9, 9)], True, UNCERTAIN, LOST),  # a hard negative is learned, so this is none
        ([(0.3, 5, 5)], True, FOUND, FOUND),
    ],
)
def test_less_is_asked_of_a_peak_where_the_target_was_just_seen(peaks, seen, verdict, without):
    scores, args = scene(*peaks), (jnp.zeros(2), jnp.full(2, 2.0))
    assert int(localization.locate(scores, scores, *args, SHARES, seen).verdict) == verdict
    assert int(localization.locate(scores, scores, *args, DEFAULT, seen).verdict) == without


def test_thresholds_may_be_traced():
    scores = scene((0.3, 1, 1))
    run = jax.jit(lambda t: localization.locate(scores, scores, jnp.zeros(2), jnp.ones(2), LocalizationConfig(t)))
    assert int(run(0.2).verdict) == FOUND
    assert int(run(0.4).verdict) == LOST


@pytest.mark.parametrize("middle", [(2.3, -1.4), (-3.0, 0.0), (0.49, 4.2)])
def test_the_peak_of_a_gaussian_is_found_between_cells(middle):
    cells = np.arange(19) - 9
    scores = 0.7 * np.exp(-((cells[:, None] - middle[0]) ** 2 + (cells[None] - middle[1]) ** 2) / (2 * 0.9**2))
    place = jnp.round(jnp.array(middle))
    found = jax.jit(localization.between_cells)(jnp.asarray(scores, jnp.float32), place)
    np.testing.assert_allclose(found, middle, atol=1e-4)


def test_a_peak_without_a_parabola_stays_at_its_cell():
    place = jnp.array([-9.0, 2.0])  # at the border
    scores = jnp.zeros((19, 19)).at[0, 11].set(1.0).at[0, 12].set(0.9)
    np.testing.assert_array_equal(localization.between_cells(scores, place), place)
    middle = jnp.zeros(2)
    np.testing.assert_array_equal(localization.between_cells(jnp.ones((19, 19)), middle), middle)
    steep = jnp.zeros((19, 19)).at[9, 9].set(0.5).at[9, 10].set(5.0)  # the cell that was chosen is no maximum
    assert np.abs(localization.between_cells(steep, middle)).max() <= 0.5
