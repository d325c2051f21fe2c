"""Labels, windows and interpolation: where they peak, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops import score_maps


@pytest.mark.usefixtures("strict_dtypes")
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_label_peaks_where_the_scores_of_a_centered_target_do(kernel_size):
    center = score_maps.label_center(jnp.zeros(2), 18, kernel_size)
    label = score_maps.gaussian_label(center, 0.9, 18, extra_cells=(kernel_size + 1) % 2)
    peak = np.argwhere(label == label.max())
    expected = [[9, 9]] if kernel_size == 4 else [[8, 8], [8, 9], [9, 8], [9, 9]]
    np.testing.assert_array_equal(peak, expected)


def test_label_is_y_first_and_takes_two_sigmas():
    label = score_maps.gaussian_label(jnp.array([2.0, -1.0]), jnp.array([0.5, 2.0]), 9)
    assert np.unravel_index(label.argmax(), label.shape) == (6, 3)
    assert label[5, 3] < label[6, 2]


@pytest.mark.parametrize("size", [18, 19])
def test_windows_are_positive_and_symmetric(size):
    centered = np.asarray(score_maps.hann_window(size))
    np.testing.assert_allclose(centered, centered[::-1, ::-1], atol=1e-7)
    wrapped = np.asarray(score_maps.hann_window(size, centered=False))
    assert centered.min() > 0 and wrapped.min() > 0
    assert wrapped[0, 0] == wrapped.max() == 1
    np.testing.assert_allclose(wrapped[1:, 1:], wrapped[1:, 1:][::-1, ::-1], atol=1e-7)


@pytest.mark.parametrize("kernel_size", [3, 4])
def test_interpolated_peak_lies_at_the_displacement(kernel_size):
    """A target moved by 2 and -3 cells of 16 pixels shows 32 and -48 pixels from the middle."""
    size, stride = 19, 8
    label = score_maps.gaussian_label(
        score_maps.label_center(jnp.array([2.0, -3.0]) / size, size, kernel_size), 1.5, size
    )
    scores = score_maps.fourier_interpolate(label, kernel_size, size * stride)
    peak = np.array(np.unravel_index(np.argmax(scores), scores.shape)) - size * stride // 2
    np.testing.assert_array_equal(peak, [2 * stride, -3 * stride])


def test_mlu_and_its_derivatives(x64):
    x = jnp.array([-3.0, -0.2, -0.01, 0.02, 5.0])
    values = score_maps.mlu(x, 0.05)
    np.testing.assert_array_equal(values[3:], x[3:])
    assert values[0] == pytest.approx(-0.05) and jnp.isfinite(score_maps.mlu(jnp.array(-1e6), 0.05))
    check_grads(jax.jit(lambda x: score_maps.mlu(x, 0.05)), (x,), order=2, modes=("fwd", "rev"), rtol=1e-4)
    assert jnp.isfinite(jax.grad(score_maps.mlu)(1e6, 0.05))


def test_the_vertex_of_a_parabola_lies_at_most_half_a_step_away():
    place = np.array([-0.4, 0.0, 0.3, 0.9], np.float32)  # of the maximum; the last is nearer to a neighbor
    before, at, after = (2 - 3 * (step - place) ** 2 for step in (-1, 0, 1))
    np.testing.assert_allclose(score_maps.vertex(before, at, after), [-0.4, 0.0, 0.3, 0.5], atol=1e-6)
    flat, valley = score_maps.vertex(*jnp.ones((3, 2))), score_maps.vertex(*jnp.array([1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(flat, 0)
    np.testing.assert_array_equal(valley, 0)
