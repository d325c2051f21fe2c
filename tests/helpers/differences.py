"""Gradients beside finite differences."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def assert_gradient(value: Callable, learned: dict, *, step: float = 1e-6, relative: float = 1e-4) -> None:
    """The gradient of `value(learned)` `[]`, along a random direction in each part of `learned`; for float64."""
    both = jax.jit(jax.value_and_grad(value))
    total, gradient = both(learned)
    assert np.isfinite(total) and total > 0
    for part in learned:
        rng = np.random.default_rng(1)
        scaled = jax.tree.map(lambda x: rng.normal(size=x.shape) * (np.std(x) or 0.1), learned[part])  # noqa: B023
        direction = {**jax.tree.map(jnp.zeros_like, learned), part: scaled}
        ahead, behind = (
            both(jax.tree.map(lambda x, d: x + sign * step * d, learned, direction))[0]  # noqa: B023
            for sign in (1, -1)
        )
        along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
        assert along != 0
        np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=relative)
