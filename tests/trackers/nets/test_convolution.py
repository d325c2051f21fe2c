"""The convolution of the Siamese networks is XLA's, in values, derivatives and under transformations."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from eval.benchmark import convolution as benchmark_convolution
from tests.helpers.compilation import jit_as_for_users
from trackers.nets import convolution, winograd
from trackers.nets.convolution import convolve

# images, strides, padding, kernel dilation, groups, and the kernel's side where it is not 3
CASES = {
    "one image": (1, (1, 1), "VALID", (1, 1), 1),
    "padded": (1, (1, 1), "SAME", (1, 1), 1),
    "large kernel": (2, (1, 1), "VALID", (1, 1), 1, 5),
    "large kernel, padded": (9, (1, 1), ((2, 1), (2, 0)), (1, 1), 1, 5),
    "large even kernel in groups": (1, (1, 1), ((0, 1), (0, 0)), (1, 1), 2, 4),
    "strided": (3, (2, 2), "VALID", (1, 1), 1),
    "batch": (9, (1, 1), "SAME", (1, 1), 1),
    "batch, strided": (9, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "strided, padded": (3, (2, 2), ((2, 1), (1, 2)), (1, 1), 1, 5),
    "wider border than kernel": (2, (1, 1), ((4, 3), (3, 5)), (1, 1), 1),
    "uneven steps": (2, (3, 2), "VALID", (1, 1), 1, 5),
    "groups, dilated": (2, (1, 1), "SAME", (2, 2), 2),
    "groups, strided, padded": (3, (2, 2), ((1, 1), (0, 2)), (1, 1), 2),
    "dilated, uneven steps": (2, (1, 2), "VALID", (1, 2), 1),
    "dilated, one image": (1, (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    "pointwise": (2, (1, 1), "VALID", (1, 1), 1, 1),
    "pointwise, strided, groups": (2, (2, 1), ((0, 0), (1, 1)), (1, 1), 2, 1),
}
# Also in tiles, small as they are: of 4 x 4 outputs where padded or of a large kernel, else of 3 x 3
DILATED = ("groups, dilated", "dilated, one image")
WINOGRAD = ("one image", "padded", "batch", "large kernel", "large kernel, padded", *DILATED)
FOLDED = ("strided", "strided, padded", "groups, strided, padded", "uneven steps")  # also with places as channels
TOLERANCE = 5e-6  # relative L2: float32 sums of up to 300 products, in another order


def reference(images, kernel, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision="highest",
    )


def close(actual, expected):
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) <= TOLERANCE * np.linalg.norm(expected)


WAYS = [*CASES, *(f"{name}; tiles" for name in WINOGRAD), *(f"{name}; folded" for name in FOLDED)]
ROWS = ("pointwise", "groups, dilated", "batch", "batch, strided", "strided, padded", "wider border than kernel")
OURS = [*ROWS, *(way for way in WAYS if ";" in way)]
ONE_OF_EACH = ("one image", "one image; tiles", "strided; folded")


def in_ways(default):
    """In the default tier those, in the full tier all."""
    ways = [way if way in default else pytest.param(way, marks=pytest.mark.full) for way in WAYS]
    return pytest.mark.parametrize("case", ways, indirect=True)


@pytest.fixture(params=WAYS)
def case(request, monkeypatch):
    name, _, way = request.param.partition("; ")
    monkeypatch.setattr(convolution, "FEW_CHANNELS", 4 if way == "folded" else 0)
    if way == "tiles":
        monkeypatch.setattr(convolution, "WINOGRAD_OUTPUTS", 1)
        monkeypatch.setattr(convolution, "WINOGRAD_CHANNELS", {3: 1, 5: 1})
        monkeypatch.setattr(convolution, "PLAIN_CHANNELS", 0)
        monkeypatch.setattr(convolution, "TILED_IMAGES", 2)
        monkeypatch.setattr(convolution, "TILED_PLACES", 4 * 15 * 15)  # of nine images three at once
    count, strides, padding, dilation, groups, *other = CASES[name]
    side = other[0] if other else 3
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(count, 11, 12, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, 4 // groups, 6)), jnp.float32)

    def ours(images, kernel):
        options = {"rhs_dilation": dilation, "feature_group_count": groups, "precision": lax.Precision.HIGHEST}
        return convolve(images, kernel, strides, padding, **options)

    return ours, lambda images, kernel: reference(images, kernel, strides, padding, dilation, groups), images, kernel


@in_ways(OURS)
def test_values_and_derivatives(case):
    ours, expected, images, kernel = case
    out, pull = jax.vjp(expected, images, kernel)
    close(jit_as_for_users(ours)(images, kernel), out)
    close(ours(images, kernel), out)
    cotangent = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
    for actual, wanted in zip(
        jit_as_for_users(lambda i, k, c: jax.vjp(ours, i, k)[1](c))(images, kernel, cotangent), pull(cotangent)
    ):
        close(actual, wanted)


@in_ways(ONE_OF_EACH)
def test_many_targets(case):
    """Under one and two `vmap`s, and derivatives of and under them."""
    ours, expected, images, kernel = case
    many = jnp.stack([images, -2 * images])

    def total(function):
        return lambda images, kernel: jnp.sum(jax.vmap(function, (0, None))(images, kernel) ** 2)

    close(jax.vmap(ours, (0, None))(many, kernel), jax.vmap(expected, (0, None))(many, kernel))
    twice = jax.vmap(jax.vmap(ours, (0, None)), (0, None))(many[None], kernel)[0]
    close(twice, jax.vmap(expected, (0, None))(many, kernel))
    for argument in (0, 1):
        close(jax.grad(total(ours), argument)(many, kernel), jax.grad(total(expected), argument)(many, kernel))
    alone = jax.vmap(jax.grad(lambda images: jnp.sum(ours(images, kernel) ** 2)))(many)
    close(alone, jax.grad(total(expected))(many, kernel))


@in_ways(ONE_OF_EACH)
def test_in_a_branch_that_not_all_targets_take(case):
    """There JAX has for each target what the branch is made of, constants too."""
    ours, expected, images, kernel = case
    taken, many = jnp.array([True, False]), jnp.stack([images, -2 * images])

    def either(function):
        branches = [lambda images: function(images, kernel), lambda images: 3 * function(images, kernel)]
        return jax.vmap(lambda flag, images: lax.cond(flag, *branches, images))(taken, many)

    close(either(ours), either(expected))


@pytest.mark.parametrize("dtype, pays", [("float32", True), ("float64", True), ("bfloat16", False)])
def test_where_tiles_pay(dtype, pays):
    """Large maps of many channels at stride 1, not in half precision."""

    def asked(size, channels, strides=(1, 1), dilation=(1, 1), side=3):
        images = jax.ShapeDtypeStruct((1, size, size, channels), dtype)
        kernel = jax.ShapeDtypeStruct((side, side, channels, channels), dtype)
        return convolution._winograd_pays(images, kernel, strides, dilation)

    assert asked(18, 64) == pays and asked(24, 64, dilation=(4, 4)) == pays and asked(20, 32, side=5) == pays
    assert not (asked(17, 64) or asked(18, 63) or asked(18, 64, (2, 2)) or asked(18, 64, dilation=(1, 2)))


@pytest.mark.parametrize(("side", "outputs"), [(side, m) for side, every in winograd.OUTPUTS.items() for m in every])
def test_tiles_of_every_size(side, outputs, monkeypatch):
    monkeypatch.setitem(winograd.OUTPUTS, side, (outputs,))
    rng = np.random.default_rng(outputs)
    images = jnp.asarray(rng.normal(size=(2, 15, 16, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, 8, 6)), jnp.float32)
    exact = reference(images, kernel, (1, 1), "VALID", (1, 1), 1)
    found = winograd.convolve(images, kernel, 1, lax.Precision.HIGHEST)
    assert np.linalg.norm(found - exact) < 5e-6 * np.linalg.norm(exact)  # float32 has 2e-6; a wrong tile is off by 1
    exact, pull = jax.vjp(lambda kernel: reference(images, kernel, (1, 1), "VALID", (1, 1), 1), kernel)
    cotangent = jnp.asarray(rng.normal(size=exact.shape), jnp.float32)
    (exact,) = pull(cotangent)
    tiles = partial(winograd.convolve, images, dilation=1, precision=lax.Precision.HIGHEST)
    (found,) = jax.linear_transpose(tiles, kernel)(cotangent)
    assert np.linalg.norm(found - exact) < 5e-6 * np.linalg.norm(exact)


def test_how_many_images_go_through_tiles_together():
    """All of small maps, a divisor of the batch where that would be too many, one of large maps."""

    def at_once(count, size):
        return convolution._at_once(jax.ShapeDtypeStruct((count, size, size, 8), jnp.float32))

    assert at_once(16, 32) == 16 and at_once(24, 32) == 12 and at_once(17, 32) == 1
    assert at_once(16, 46) == 1 and at_once(1, 8) == 1


def test_tiles_large_enough_for_two_threads(monkeypatch):
    """As measured on two cores: 18 to 24 cells of 256 channels."""
    monkeypatch.setattr(winograd, "UNSHARED", 2**22)
    assert [winograd.best_outputs((3, 3, 256, 256), 1, n, n) for n in (18, 20, 22, 24, 31)] == [2, 2, 2, 2, 3]
    assert winograd.best_outputs((3, 3, 128, 128), 1, 18, 18) == 3  # nothing to share: the fewest multiplications
    assert winograd.best_outputs((3, 3, 128, 128), 1, 36, 36) == 4  # shared, but with larger transforms
    assert winograd.best_outputs((3, 3, 64, 64), 1, 72, 72) == 4
    monkeypatch.setattr(winograd, "UNSHARED", 0)  # all are shared: nothing is gained by smaller ones
    assert winograd.best_outputs((3, 3, 256, 256), 1, 18, 18) == 3


def test_in_a_layer():
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 9, 9, 4)), jnp.float32)
    layer = nn.Conv(6, (3, 3), 2, "VALID", feature_group_count=2, precision="highest")
    variables = layer.init(jax.random.key(0), images)
    close(layer.clone(conv_general_dilated=convolve).apply(variables, images), layer.apply(variables, images))


def test_dilated_images_are_refused():
    with pytest.raises(ValueError, match="lhs_dilation"):
        convolve(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 1)), (1, 1), "VALID", lhs_dilation=(2, 2))


def test_benchmark(tmp_path, capsys, monkeypatch):
    layer = benchmark_convolution.Layer("tiny", 7, 3, 2, 4, 6, 2)
    monkeypatch.setattr(benchmark_convolution, "LAYERS", (layer,))
    path = tmp_path / "report.json"
    assert benchmark_convolution.main(["--batches", "1,2", "--repeats", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["batch"], row["way"]) for row in rows] == [(1, "XLA"), (1, "ours"), (2, "XLA"), (2, "ours")]
    assert rows[2]["gflop"] == pytest.approx(2e-9 * 2 * 3 * 3 * 6 * 9 * 2)
    assert "| tiny, 2 | ours |" in capsys.readouterr().out
    assert benchmark_convolution.main(["--batches", "1", "--json", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
