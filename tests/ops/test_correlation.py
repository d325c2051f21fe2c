"""Correlations against XLA's convolution or loops over the cells; derivatives by adjoints and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ops.correlation import (
    correlate,
    correlate_adjoint,
    correlate_same,
    cross_correlate,
    depthwise_correlate,
    up_channel_correlate,
)

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


SIAMESE = [((6, 5), (4, 4)), ((5, 7), (3, 2)), ((4, 4), (4, 4)), ((3, 4), (1, 1))]


def placed(search, kernels, stride=1, dilation=1):
    """`[.., h, w, C]`: for every output cell, the part of `search` that the kernels of shape `[h, w, ..]` lie on."""
    kh, kw = kernels.shape[:2]
    rows, columns = (range(0, length - (taps - 1) * dilation, stride) for length, taps in zip(search.shape, (kh, kw)))
    return np.stack(
        [
            [search[y : y + kh * dilation : dilation, x : x + kw * dilation : dilation][:kh, :kw] for x in columns]
            for y in rows
        ]
    )


@pytest.mark.parametrize("size, kernel", SIAMESE)
@pytest.mark.usefixtures("strict_dtypes")
def test_siamese_correlations_equal_sums_over_the_cells(rng, size, kernel):
    search, template = draw(rng, size, kernel)
    kernels = jnp.asarray(rng.normal(size=(*kernel, 3, 7)), jnp.float32)
    parts = placed(np.asarray(search, np.float64), template)
    single = jax.jit(cross_correlate)(search, template)
    np.testing.assert_allclose(single, np.einsum("yxijc,ijc->yx", parts, template), atol=1e-5)
    several = jax.jit(up_channel_correlate)(search, kernels)
    np.testing.assert_allclose(several, np.einsum("yxijc,ijcn->yxn", parts, kernels), atol=1e-5)
    channels = jax.jit(depthwise_correlate)(search, template)
    np.testing.assert_allclose(channels, np.einsum("yxijc,ijc->yxc", parts, template), atol=1e-5)


@pytest.mark.parametrize("stride, dilation", [(2, 1), (1, 2), (2, 2), (3, 1)])
def test_depthwise_with_stride_and_dilation(rng, stride, dilation):
    search, template = draw(rng, (9, 8), (3, 2))
    expected = np.einsum("yxijc,ijc->yxc", placed(np.asarray(search), template, stride, dilation), template)
    np.testing.assert_allclose(depthwise_correlate(search, template, stride, dilation), expected, atol=1e-5)


@pytest.mark.parametrize("function", [cross_correlate, up_channel_correlate, depthwise_correlate])
def test_siamese_correlations_of_pairs_and_of_leading_axes_equal_a_loop(rng, function):
    searches = jnp.asarray(rng.normal(size=(4, 6, 5, 3)), jnp.float32)
    ends = (2,) if function is up_channel_correlate else ()
    templates = jnp.asarray(rng.normal(size=(4, 3, 2, 3, *ends)), jnp.float32)
    pairs = jax.vmap(function)(searches, templates)
    loop = jnp.stack([function(*pair) for pair in zip(searches, templates)])
    np.testing.assert_allclose(pairs, loop, atol=1e-5)
    together = function(searches.reshape(2, 2, 6, 5, 3), templates[0]).reshape(loop.shape)
    np.testing.assert_allclose(together, jnp.stack([function(s, templates[0]) for s in searches]), atol=1e-5)


@pytest.mark.parametrize("function", [cross_correlate, up_channel_correlate])
def test_siamese_derivatives(x64, function):
    rng = np.random.default_rng(3)
    ends = (2,) if function is up_channel_correlate else ()
    search, template = rng.normal(size=(4, 5, 2)), rng.normal(size=(3, 2, 2, *ends))
    check_grads(jax.jit(function), (jnp.asarray(search), jnp.asarray(template)), order=1, modes=("fwd", "rev"))


@pytest.mark.parametrize("stride, dilation, order", [(1, 1, 2), (2, 1, 1), (2, 2, 1)])
def test_depthwise_derivatives(x64, stride, dilation, order):
    rng = np.random.default_rng(3)
    search, template = jnp.asarray(rng.normal(size=(2, 6, 7, 2))), jnp.asarray(rng.normal(size=(2, 3, 2)))

    def function(search, template):
        return depthwise_correlate(search, template, stride, dilation)

    check_grads(jax.jit(function), (search, template), order=order, modes=("rev",))


def test_depthwise_derivatives_of_pairs_equal_a_loop(rng):
    searches, templates = (jnp.asarray(rng.normal(size=(3, k, k, 4)), jnp.float32) for k in (7, 3))

    def loss(search, template):
        return jnp.sum(jnp.sin(depthwise_correlate(search, template)))

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    together = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(searches, templates)
    for index in range(3):
        for one, all_of_them in zip(gradient(searches[index], templates[index]), together):
            np.testing.assert_allclose(all_of_them[index], one, atol=1e-5)
