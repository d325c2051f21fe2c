"""Correlation against XLA's convolution, and its derivatives against the adjoint identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops.correlation import correlate, correlate_adjoint, correlate_same

SHAPES = [((6, 5), (4, 4)), ((5, 7), (3, 3)), ((4, 4), (1, 1)), ((7, 6), (4, 3)), ((3, 3), (5, 2))]


def convolution(features, filter):
    padding = [(k // 2, k // 2) for k in filter.shape[:2]]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        features[None], filter[..., None], (1, 1), padding, dimension_numbers=dimensions
    )[0, :, :, 0]


def draw(rng, size, kernel, channels=3):
    return (
        jnp.asarray(rng.normal(size=(*size, channels)), jnp.float32),
        jnp.asarray(rng.normal(size=(*kernel, channels)), jnp.float32),
    )


@pytest.mark.parametrize("size, kernel", SHAPES)
@pytest.mark.usefixtures("strict_dtypes")
def test_equals_convolution(rng, size, kernel):
    features, filter = draw(rng, size, kernel)
    expected = convolution(features, filter)
    scores = jax.jit(correlate)(features, filter)
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(correlate_same(features, filter), expected[: size[0], : size[1]], atol=1e-5)


def test_size_of_dimp():
    assert jax.eval_shape(correlate, jnp.zeros((18, 18, 2)), jnp.zeros((4, 4, 2))).shape == (19, 19)


@pytest.mark.parametrize("size, kernel", SHAPES)
def test_adjoint_identity(rng, size, kernel):
    features, filter = draw(rng, size, kernel)
    scores = correlate(features, filter)
    other = jnp.asarray(rng.normal(size=scores.shape), jnp.float32)
    adjoint = correlate_adjoint(features, other, kernel)
    assert adjoint.shape == filter.shape
    np.testing.assert_allclose(jnp.vdot(scores, other), jnp.vdot(filter, adjoint), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, kernel", SHAPES)
def test_reverse_mode_is_the_adjoint(rng, size, kernel):
    features, filter = draw(rng, size, kernel)
    scores, pullback = jax.vjp(lambda filter: correlate(features, filter), filter)
    other = jnp.asarray(rng.normal(size=scores.shape), jnp.float32)
    np.testing.assert_allclose(pullback(other)[0], correlate_adjoint(features, other, kernel), atol=1e-5)
    expected = jax.vjp(lambda filter: convolution(features, filter), filter)[1](other)[0]
    np.testing.assert_allclose(pullback(other)[0], expected, atol=1e-5)


def test_derivatives(x64):
    rng = np.random.default_rng(3)
    features, filter = jnp.asarray(rng.normal(size=(4, 5, 2))), jnp.asarray(rng.normal(size=(4, 3, 2)))
    check_grads(jax.jit(correlate), (features, filter), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("batched", [jax.vmap(correlate, in_axes=(0, None)), correlate], ids=["vmap", "leading axis"])
def test_batch_of_samples_equals_a_loop(rng, batched):
    features = jnp.asarray(rng.normal(size=(3, 6, 5, 2)), jnp.float32)
    filter = jnp.asarray(rng.normal(size=(4, 4, 2)), jnp.float32)
    np.testing.assert_allclose(
        batched(features, filter), jnp.stack([correlate(f, filter) for f in features]), atol=1e-5
    )
    scores, pullback = jax.vjp(lambda filter: batched(features, filter), filter)
    adjoints = sum(correlate_adjoint(f, s, (4, 4)) for f, s in zip(features, scores))
    np.testing.assert_allclose(pullback(scores)[0], adjoints, rtol=1e-4, atol=1e-4)
