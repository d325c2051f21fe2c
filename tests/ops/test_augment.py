"""Transforms of frame 1: where the content goes, what a random shift may be, dropout statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.augment import Transform, channel_dropout, sample_shifts, transform_patch

OUT = 16
ALL = (
    Transform("flip"),
    Transform("identity"),
    Transform("rotate", (30.0,)),
    Transform("blur", (2.0, 0.2)),
    Transform("shift", (0.6, -0.6)),
    Transform("scale", (1.3,)),
    Transform("blur", (1.0, 3.0)),
    Transform("rotate", (-90.0,)),
)
cut = jax.jit(transform_patch, static_argnames=("transforms", "out_size"))


@pytest.fixture
def patch(rng):
    return jnp.asarray(rng.normal(size=(32, 32, 2)), jnp.float32)


def zeros(transforms):
    return np.zeros((len(transforms), 2), np.int32)


@pytest.mark.usefixtures("strict_dtypes")
def test_order_is_kept_and_every_transform_stands_alone(patch):
    shifts = np.arange(2 * len(ALL), dtype=np.int32).reshape(-1, 2) - 8
    together = cut(patch, ALL, shifts, OUT)
    assert together.shape == (len(ALL), OUT, OUT, 2)
    for i, transform in enumerate(ALL):
        alone = cut(patch, (transform,), shifts[i : i + 1], OUT)[0]
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


def test_identity_and_shift_move_the_content(patch):
    moved, still = cut(patch, (Transform("shift", (0.0, 0.0)), Transform("identity")), np.array([[3, -2], [0, 0]]), OUT)
    np.testing.assert_array_equal(still, patch[8:24, 8:24])
    np.testing.assert_array_equal(moved, patch[5:21, 10:26])


def test_border_is_replicated_where_the_patch_ends(patch):
    (moved,) = cut(patch, (Transform("identity"),), np.array([[20, 0]]), OUT)
    np.testing.assert_array_equal(moved[:12], np.broadcast_to(patch[:1, 8:24], (12, 16, 2)))


def test_flip_is_left_for_right_before_the_shift(patch):
    (flipped,) = cut(patch, (Transform("flip"),), np.array([[0, 3]]), OUT)
    np.testing.assert_array_equal(flipped, patch[:, ::-1][8:24, 5:21])


def test_quarter_turns(patch):
    transforms = (Transform("rotate", (90.0,)), Transform("rotate", (-90.0,)))
    left, right = cut(patch, transforms, zeros(transforms), OUT)
    np.testing.assert_allclose(left, np.rot90(patch, 1)[8:24, 8:24], atol=1e-4)
    np.testing.assert_allclose(right, np.rot90(patch, -1)[8:24, 8:24], atol=1e-4)


def test_blur_spreads_each_axis_by_its_sigma():
    point = jnp.zeros((32, 32, 1)).at[16, 16].set(1.0)
    (blurred,) = cut(point, (Transform("blur", (2.0, 1.0)),), np.zeros((1, 2), np.int32), OUT)
    down, across = (np.exp(-(np.arange(-r, r + 1) ** 2) / (2 * sigma**2)) for r, sigma in ((4, 2.0), (2, 1.0)))
    expected = np.zeros((OUT, OUT))
    expected[4:13, 6:11] = np.outer(down / down.sum(), across / across.sum())
    np.testing.assert_allclose(blurred[..., 0], expected, atol=1e-6)


def test_scale_shrinks_the_content():
    y, x = np.mgrid[:32, :32] - 15.5
    ramp = jnp.asarray(np.stack([y, x], -1), jnp.float32)
    (small,) = cut(ramp, (Transform("scale", (2.0,)),), np.zeros((1, 2), np.int32), 12)
    expected = (np.mgrid[:12, :12] - 5.5) * 2
    np.testing.assert_allclose(small, np.moveaxis(expected, 0, -1), atol=1e-4)


def test_shifts_are_fixed_or_random_by_kind():
    keys = jax.random.split(jax.random.key(0), 200)
    shifts = jax.vmap(lambda key: sample_shifts(key, ALL, 288, 1 / 3))(keys)
    assert shifts.dtype == jnp.int32
    kinds = [transform.kind for transform in ALL]
    np.testing.assert_array_equal(shifts[:, kinds.index("identity")], 0)
    np.testing.assert_array_equal(shifts[:, kinds.index("shift")], np.broadcast_to([86, -86], (200, 2)))
    for i, kind in enumerate(kinds):
        if kind not in ("identity", "shift"):
            assert abs(shifts[:, i]).max() in range(44, 49)
            assert abs(shifts[:, i].mean()) < 6
    np.testing.assert_array_equal(shifts[3], sample_shifts(keys[3], ALL, 288, 1 / 3))


def test_channel_dropout():
    features = jnp.ones((3, 4, 4000))
    dropped = channel_dropout(jax.random.key(1), features, 0.2)
    values = np.unique(dropped)
    np.testing.assert_allclose(values, [0, 1.25])
    np.testing.assert_array_equal(dropped.min((0, 1)), dropped.max((0, 1)))
    assert abs((dropped == 0).mean() - 0.2) < 0.03
    np.testing.assert_array_equal(channel_dropout(jax.random.key(1), features, 0.0), features)


def test_unknown_kind_is_refused(patch):
    with pytest.raises(ValueError, match="mirror"):
        transform_patch(patch, (Transform("mirror"),), np.zeros((1, 2), np.int32), OUT)
