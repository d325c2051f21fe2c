"""The optimizers of DiMP and ATOM, written with `ops.least_squares`, against numbers of the reference's own code.

The reference computed in float32: the stored values themselves are good to about 1e-6, a float64 run agrees with
them to 1e-5, and a tighter bound would test the reference's rounding.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.correlation import correlate, correlate_same
from ops.least_squares import gauss_newton, squared_norm, steepest_descent
from tests.helpers.compilation import jit_as_for_users
from tests.helpers.oracle import HERE, relative_l2

STORED = json.loads((HERE / "optimisers.json").read_text())
IMAGES, STRIDE, BINS, BIN_WIDTH = 3, 16, 10, 0.5
PRECISIONS = [("float64", 1e-5), ("float32", 1e-4)]


@pytest.fixture(params=PRECISIONS, ids=[name for name, _ in PRECISIONS])
def precision(request):
    """(dtype, tolerance): relative error allowed against the stored float32 values."""
    dtype, tolerance = request.param
    with jax.enable_x64(dtype == "float64"):
        yield jnp.dtype(dtype), tolerance


def features(dtype, channels):
    sizes = (IMAGES, 6, 6, channels)
    n, i, j, c = jnp.meshgrid(*[jnp.arange(size, dtype=dtype) for size in sizes], indexing="ij")
    return jnp.sin(1 + 0.7 * n + 1.3 * c + 0.5 * i + 0.9 * j)


def first_filter(dtype, channels):
    a, b, c = jnp.meshgrid(*[jnp.arange(size, dtype=dtype) for size in (4, 4, channels)], indexing="ij")
    return 0.05 * jnp.cos(c + 0.3 * a + 0.7 * b)


def dimp_parameters(dtype):
    """Constructor values of the reference's learned loss: dimp.md, section 4."""
    distance = jnp.arange(BINS, dtype=dtype) * BIN_WIDTH
    gaussian = jnp.exp(-0.5 * (distance / 0.9) ** 2)
    return {
        "log_step_length": jnp.log(jnp.asarray(0.9, dtype)),
        "filter_reg": jnp.asarray(0.1, dtype),
        "label": gaussian - gaussian.min(),
        "mask": 3 * jnp.tanh(2 - distance),
        "spatial": jnp.ones(BINS, dtype),
    }


def dimp_maps(parameters):
    """Label, target mask and spatial weight of the three boxes, `[3, 7, 7]` each."""
    dtype = parameters["label"].dtype
    k = np.arange(IMAGES)
    boxes = np.stack([20 + 3 * k, 24 + 2 * k, 40 + 0 * k, 32 + 0 * k], axis=1)
    center = jnp.asarray((boxes[:, :2] + boxes[:, 2:] / 2)[:, ::-1] / STRIDE, dtype)
    y, x = jnp.meshgrid(jnp.arange(7, dtype=dtype), jnp.arange(7, dtype=dtype), indexing="ij")
    distance = jnp.hypot(y[None] - center[:, 0, None, None], x[None] - center[:, 1, None, None]) / BIN_WIDTH
    index = jnp.arange(BINS, dtype=dtype)
    hats = jax.nn.relu(1 - jnp.abs(distance[..., None] - index[None, None, None]))
    hats = hats.at[..., -1].set(jnp.clip(1 + distance - (BINS - 1), 0, 1))
    return hats @ parameters["label"], jax.nn.sigmoid(hats @ parameters["mask"]), hats @ parameters["spatial"]


def dimp_residuals(filter, parameters, images, weights):
    label, mask, spatial = dimp_maps(parameters)
    scores = jax.vmap(correlate, in_axes=(0, None))(images, filter)
    activated = (1 - mask) / 2 * jnp.abs(scores) + (1 + mask) / 2 * scores
    regularization = jnp.maximum(parameters["filter_reg"] ** 2, 1e-6)
    return jnp.sqrt(weights)[:, None, None] * spatial * (activated - label), jnp.sqrt(regularization) * filter


def dimp_filters(parameters, weights, *, num_steps=3):
    dtype = parameters["label"].dtype
    return steepest_descent(
        dimp_residuals,
        first_filter(dtype, 4),
        (parameters, features(dtype, 4), jnp.asarray(weights, dtype)),
        num_steps=num_steps,
        step_length=jnp.exp(parameters["log_step_length"]),
        iterates=True,
    )


def assert_close(actual, expected, tolerance, what):
    error = relative_l2(actual, expected)
    assert error <= tolerance, f"{what}: relative L2 error {error:.3g} > {tolerance:.3g}"


def assert_filter(filter, stored, tolerance):
    # A sum cancels: its error is measured against the norm of what is summed.
    scale = np.sqrt(stored["f_sq"] * filter.size)
    np.testing.assert_allclose(filter.sum(), stored["f_sum"], atol=tolerance * scale, rtol=0)
    assert_close(squared_norm(filter), stored["f_sq"], tolerance, "f_sq")
    if "f_first" in stored:
        # The oracle lists a filter as channel, row, column.
        first = filter.transpose(2, 0, 1).ravel()[: len(stored["f_first"])]
        assert_close(first, stored["f_first"], tolerance, "f_first")


def test_golden_dimp_parameters(precision):
    dtype, tolerance = precision
    parameters = dimp_parameters(dtype)
    label, mask, _ = dimp_maps(parameters)
    stored = STORED["dimp_opt"]
    for actual, key in [
        (parameters["label"], "w_label"),
        (parameters["mask"], "w_mask"),
        (label[0, 2], "label0_row2"),
        (mask[0, 2], "mask0_row2"),
    ]:
        assert_close(actual, stored[key], tolerance, key)


@pytest.mark.parametrize("name, weights", [("dimp_opt", [1 / 3] * 3), ("dimp_opt_weighted", [0.5, 0.3, 0.2])])
def test_golden_dimp_optimizer(precision, name, weights):
    dtype, tolerance = precision

    @jit_as_for_users
    def optimize(parameters, weights):
        last, filters = dimp_filters(parameters, weights)
        args = (parameters, features(dtype, 4), weights)
        return last, jax.vmap(lambda filter: squared_norm(dimp_residuals(filter, *args)))(filters)

    last, losses = optimize(dimp_parameters(dtype), jnp.asarray(weights, dtype))
    assert_close(losses, STORED[name]["losses"], tolerance, "losses")
    assert_filter(last, STORED[name], tolerance)


def test_golden_dimp_meta_gradient(precision):
    dtype, tolerance = precision

    def loss(parameters):
        return squared_norm(dimp_filters(parameters, [1 / 3] * 3)[0])

    actual = jit_as_for_users(jax.grad(loss))(dimp_parameters(dtype))
    keys = {
        "log_step_length": "d_logstep",
        "filter_reg": "d_reg",
        "label": "d_label",
        "mask": "d_mask",
        "spatial": "d_spatial",
    }
    for key, stored in keys.items():
        assert_close(actual[key], STORED["dimp_meta_grad"][stored], tolerance, stored)


def mlu(scores, alpha=0.05):
    return jax.nn.elu(jax.nn.leaky_relu(scores, 1 / alpha), alpha)


def atom_labels(dtype):
    k = jnp.arange(IMAGES, dtype=dtype)
    offset = jnp.arange(6, dtype=dtype) - 2.5
    y, x = offset[None] - (0.5 + 0.2 * k)[:, None], offset[None] - (0.5 - 0.1 * k)[:, None]
    return jnp.exp(-(y[:, :, None] ** 2 + x[:, None] ** 2) / (2 * 0.9**2))


def atom_residuals(params, images, labels, weights):
    """Filter `[4, 4, 3]` and projection `[6, 3]` together: atom.md, section 4.3."""
    filter_residuals = atom_filter_residuals(params["filter"], images @ params["projection"], labels, weights)
    return *filter_residuals, jnp.sqrt(1e-4) * params["projection"]


def atom_filter_residuals(filter, projected, labels, weights):
    scores = mlu(jax.vmap(correlate_same, in_axes=(0, None))(projected, filter))
    return jnp.sqrt(weights)[:, None, None] * (scores - labels), jnp.sqrt(0.1) * filter


def atom_start(dtype):
    channel, out = jnp.meshgrid(jnp.arange(6, dtype=dtype), jnp.arange(3, dtype=dtype), indexing="ij")
    return {"filter": first_filter(dtype, 3), "projection": 0.3 * jnp.sin(0.9 * out + 0.4 * channel) + 0.1}


def atom_precondition(residual, *_):
    return {"filter": residual["filter"] / 0.1, "projection": residual["projection"] / 1e-4}


@partial(jit_as_for_users, static_argnames="dtype")
def atom_first_frame(num_steps, dtype):
    args = (features(dtype, 6), atom_labels(dtype), jnp.full(IMAGES, 1 / 3, dtype))
    params = gauss_newton(
        atom_residuals,
        atom_start(dtype),
        args,
        num_steps=num_steps,
        max_steps=3,
        cg_steps=4,
        preconditioner=atom_precondition,
    )
    return params, squared_norm(atom_residuals(params, *args))


def test_golden_atom_first_frame(precision):
    dtype, tolerance = precision
    stored = STORED["atom_gncg"]
    params, _ = atom_first_frame(0, dtype)
    assert_close(atom_labels(dtype)[0, 3], stored["y0_row3"], tolerance, "label")
    assert_close(params["filter"].transpose(2, 0, 1).ravel()[:4], stored["f0_first"], tolerance, "f0")
    assert_close(params["projection"].T.ravel()[:4], stored["P0_first"], tolerance, "P0")
    losses = [atom_first_frame(steps, dtype)[1] for steps in range(4)]
    assert_close(jnp.stack(losses), stored["losses_after_each_GN_of_4CG"], tolerance, "losses")
    params, _ = atom_first_frame(3, dtype)
    assert_filter(params["filter"], stored, tolerance)
    assert_close(params["projection"].sum(), stored["P_sum"], tolerance, "P_sum")
    assert atom_first_frame._cache_size() <= len(PRECISIONS), "every step count shares one compilation"


def test_golden_atom_update(precision):
    dtype, tolerance = precision
    stored = STORED["atom_cg_pr"]
    params, _ = atom_first_frame(3, dtype)

    @jit_as_for_users
    def update(filter, projection):
        weights = jnp.asarray([0.5, 0.3, 0.2], dtype)
        args = (features(dtype, 6) @ projection, atom_labels(dtype), weights)
        new = gauss_newton(
            atom_filter_residuals, filter, args, num_steps=1, cg_steps=5, method="polak_ribiere"
        )
        return new, squared_norm(atom_filter_residuals(filter, *args))

    filters, losses = [params["filter"]], []
    for _ in range(3):
        filter, loss = update(filters[-1], params["projection"])
        filters, losses = [*filters, filter], [*losses, loss]
    assert_close(jnp.stack(losses), stored["losses"], tolerance, "losses")
    assert_filter(filters[2], stored, tolerance)
