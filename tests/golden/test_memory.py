"""MemTrack's memory and its controller: the oracle's numbers step by step, and what must hold of any memory."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import formula
from tests.helpers import oracle
from trackers.nets import models
from trackers.nets.memory import MemoryController, read_weights, window_means, write

PARAMETERS = {  # counted from the layers; every convolution has a bias, and four a batch normalization
    "backbone": 3 * 11**2 * 96
    + 96 * 5**2 * 256
    + 3**2 * (256 * 384 + 384 * 384 + 384 * 256)
    + (96 + 256 + 384 + 384 + 256)
    + 2 * (96 + 256 + 384 + 384),
    "memory": 2 * (256 + 1) * 512  # the start of cell and hidden
    + (256 * 256 + (512 + 1) * 256 + 256)  # attention
    + ((256 + 512) * 2048 + 5 * 2 * 512)  # LSTM
    + (512 + 1) * (3 + 1 + 256 + 256 + 1),  # what the controller decides
    "head": 2,
}


def test_parameter_counts():
    expected = models.expected_variables("memtrack")
    counts = {part: sum(leaf.size for leaf in jax.tree.leaves(expected[part]["params"])) for part in expected}
    assert counts == PARAMETERS
    statistics = {part: jax.tree.leaves(variables.get("batch_stats", {})) for part, variables in expected.items()}
    assert {part: sum(leaf.size for leaf in leaves) for part, leaves in statistics.items()} == {
        "backbone": 2 * 1120,
        "memory": 0,
        "head": 2,
    }


def sizes() -> dict:
    return oracle.settings()["memtrack"]


def module() -> MemoryController:
    found = sizes()
    return MemoryController(found["slots"], found["hidden"], found["slot_shape"][-1])


def variables(dtype) -> dict:
    """The oracle's parameters in our tree."""
    found = sizes()
    peer = formula.memtrack_params(oracle.salt(), found["slot_shape"][-1], found["hidden"], found["key"])
    dense = {
        **{name: name for name in ("c_state", "h_state", "query_layer", "control_factors", "write_decay", "read_key")},
        "residual": "add_vector",
        "read_strength": "write_strengths",
    }
    params = {ours: dict(zip(("kernel", "bias"), peer[theirs])) for ours, theirs in dense.items()}
    params |= {name: {"kernel": peer[name]} for name in ("input_layer", "score", "lstm")}
    params |= {f"norm_{name}": dict(zip(("scale", "bias"), pair)) for name, pair in peer["ln"].items()}
    return {"params": jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)}


def given(name: str, dtype) -> jax.Array:
    found = sizes()
    side = found["search"]
    shape = (side, side, found["slot_shape"][-1]) if name.startswith("search") else tuple(found["slot_shape"])
    return jnp.asarray(
        formula.normal(oracle.salt(), f"memtrack/{name}", (found["batch"], *shape), 1, np.float64), dtype
    )


@lru_cache
def run(dtype):
    """The states and recalls of the oracle's steps, `[steps, B, ...]`, by scan; and the state before them."""
    first, steps = given("T0", dtype), sizes()["steps"]
    searches = jnp.stack([given(f"search{t}", dtype) for t in range(steps)])
    written = jnp.stack([first, *(given(f"template{t}", dtype) for t in range(1, steps))])

    def whole(variables):
        apply = partial(module().apply, variables)

        def step(state, inputs):
            state, recall = apply(state, first, *inputs, method="step")
            return state, (state, recall)

        start = apply(first, method="start")
        return start, jax.lax.scan(step, start, (written, searches))[1]

    return jax.jit(whole)(variables(dtype))


@pytest.mark.parametrize("dtype, relative", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_golden_steps(dtype, relative, x64):
    """float32: a few roundings of sums of at most a hundred terms."""
    start, (state, recall) = run(dtype)
    controls = state.controls
    found = {
        "h0": start.controls.hidden,
        "c0": start.controls.cell,
        "step_out": recall.template,
        "step_M": state.slots,
        "step_read_w": controls.read_weights,
        "step_write_w": controls.write_weights,
        "step_g": controls.factors,
        "step_d": controls.decay,
        "step_usage": controls.usage,
        "step_c": controls.cell,
        "step_h": controls.hidden,
        "step_att_score": recall.attention,
        "step_att": recall.attended,
        "step_residual": recall.residual_gate,
        "step_read_key": recall.read_key,
        "step_strength": recall.strength,
    }
    stored = oracle.arrays("memtrack")
    assert set(found) | {"step_alloc", "dims_B_N_slot_C_hidden_key_search_steps"} == set(stored)
    for name, value in found.items():
        assert value.dtype == dtype
        oracle.assert_golden(value, "memtrack", name, relative=relative)
    np.testing.assert_array_equal(recall.allocated, stored["step_alloc"])


# Properties, on the oracle's small network.


def test_the_first_write_is_the_first_template(x64):
    """And a memory of one template reads it, the other slots being zero."""
    _, (state, recall) = run(np.float64)
    first = given("T0", np.float64)
    np.testing.assert_array_equal(state.slots[0, :, 0], first)
    assert not np.any(state.slots[0, :, 1:])
    share = recall.residual_gate[0] * state.controls.read_weights[0, :, :1]
    np.testing.assert_allclose(recall.template[0], first * (1 + share[:, None, None, :]), rtol=1e-12)
    assert recall.allocated[0].tolist() == [1] * len(first)  # slot 0 has been used


def test_nothing_is_written_where_the_first_factor_is_one(x64):
    _, (state, _) = run(np.float64)
    last = jax.tree.map(lambda leaf: leaf[-1], state)
    controls = last.controls
    nothing = jnp.broadcast_to(jnp.array([1.0, 0, 0]), controls.factors.shape)
    slots = write(last._replace(controls=controls._replace(factors=nothing)), given("T0", np.float64))
    np.testing.assert_array_equal(slots, last.slots)


def test_scan_equals_loop_and_one_equals_many(x64):
    """One row, step by step without jit, gives what the compiled scan over all rows gives."""
    _, (state, recall) = run(np.float64)
    apply = partial(module().apply, variables(np.float64))
    first, row = given("T0", np.float64), sizes()["batch"] - 1
    one = apply(first[row], method="start")
    for t in range(min(2, sizes()["steps"])):
        written = first if t == 0 else given(f"template{t}", np.float64)
        one, seen = apply(one, first[row], written[row], given(f"search{t}", np.float64)[row], method="step")
        for actual, expected in zip(jax.tree.leaves((one, seen)), jax.tree.leaves((state, recall))):
            np.testing.assert_allclose(actual, expected[t, row], rtol=1e-10, atol=1e-12)


def test_state_is_a_fixed_point():
    first, search = given("T0", np.float32), given("search0", np.float32)
    apply = partial(module().apply, variables(np.float32))
    state = jax.eval_shape(lambda: apply(first, method="start"))
    after, _ = jax.eval_shape(lambda state: apply(state, first, first, search, method="step"), state)
    describe = lambda tree: [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]  # noqa: E731
    assert describe(after) == describe(state) and jax.tree.structure(after) == jax.tree.structure(state)


def test_unused_slots_are_filled_one_after_the_other(x64):
    """Weights of a write add up to what the factors leave, and the slot that nothing has touched is the next."""
    _, (state, recall) = run(np.float64)
    controls = state.controls
    np.testing.assert_allclose(jnp.sum(controls.write_weights, -1), 1 - controls.factors[..., 0], rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(controls.read_weights, -1), 1, rtol=1e-12)
    start = jax.nn.one_hot(jnp.zeros((1, sizes()["batch"]), int), sizes()["slots"])
    usage = jnp.concatenate([start, controls.usage[:-1]])
    np.testing.assert_array_equal(recall.allocated, jnp.argmin(usage, -1))
    assert not np.any(np.isnan(recall.template))


def test_a_dropped_input_is_as_if_it_were_not_there(x64):
    apply = partial(module().apply, variables(np.float64))
    first, search = given("T0", np.float64), given("search0", np.float64)
    start = apply(first, method="start")

    @jax.jit
    def cell(search, kept):
        return apply(start, first, first, search, kept, method="step")[0].controls.cell

    everything, nothing = jnp.ones_like(start.controls.cell), jnp.zeros_like(start.controls.cell)
    np.testing.assert_allclose(cell(search, everything), run(np.float64)[1][0].controls.cell[0], rtol=1e-12)
    dropped = cell(search, nothing)
    assert not np.allclose(dropped, cell(search, everything))
    assert not np.allclose(dropped, cell(0.5 * search, nothing))  # the gates still see the search region


def test_window_means_are_those_of_a_convolution(rng):
    features = jnp.asarray(rng.normal(size=(2, 7, 8, 3)), jnp.float32)
    kernel = jnp.full((3, 3, 1, 3), 1 / 9)
    expected = jax.lax.conv_general_dilated(
        features, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
    )
    np.testing.assert_allclose(window_means(features, 3), expected, atol=1e-6)


def test_a_sharp_key_reads_one_slot(rng):
    slots = jnp.asarray(rng.normal(size=(4, 2, 2, 8)), jnp.float32).at[3].set(0)
    key = jnp.mean(slots[2], (0, 1))
    weights = read_weights(key, jnp.array([100.0]), slots)
    np.testing.assert_allclose(weights, [0, 0, 1, 0], atol=1e-3)
    np.testing.assert_allclose(read_weights(key, jnp.array([0.0]), slots), 0.25, rtol=1e-6)


def test_the_gradient_through_sixteen_steps_against_finite_differences(x64):
    """Of parameters and inputs, along a random direction, the step under `jax.checkpoint`."""
    rng = np.random.default_rng(0)
    first = given("T0", np.float64)
    shape = (16, *given("search0", np.float64).shape)
    searches = jnp.asarray(rng.normal(size=shape))
    written = jnp.asarray(rng.normal(size=(16, *first.shape))).at[0].set(first)

    def loss(variables, searches, written):
        apply = partial(module().apply, variables)
        step = jax.checkpoint(lambda state, inputs: apply(state, first, *inputs, method="step"))

        def body(state, inputs):
            state, recall = step(state, inputs)
            return state, jnp.sum(jnp.sin(recall.template))

        return jnp.sum(jax.lax.scan(body, apply(first, method="start"), (written, searches))[1])

    at = (variables(np.float64), searches, written)
    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    gradient = both(*at)[1]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * (np.std(leaf) or 0.1), at)
    step = 1e-6
    ahead, behind = (
        both(*jax.tree.map(lambda leaf, d: leaf + sign * step * d, at, direction))[0]  # noqa: B023
        for sign in (1, -1)
    )
    along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=1e-5)
