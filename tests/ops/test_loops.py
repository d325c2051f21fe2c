"""`ops.loops.while_loop` against a Python loop, `lax.scan` and finite differences."""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.loops import any_lane, while_loop

MAX_STEPS = 6


def fixed_point(start, matrix, steps, **options):
    """`steps` of x <- tanh(matrix x) + count / 10; the state holds floats and an integer."""

    def body(state, args):
        x, count = state["x"], state["count"]
        return {"x": jnp.tanh(args[0] @ x) + count / 10, "count": count + 1}

    def unfinished(state, args):
        return state["count"] < args[1]

    init = {"x": start, "count": 0}
    return while_loop(unfinished, body, init, (matrix, steps), max_steps=MAX_STEPS, **options)


def fixed_point_python(start, matrix, steps):
    for count in range(steps):
        start = jnp.tanh(matrix @ start) + count / 10
    return start


def fixed_point_scan(start, matrix, steps):
    def body(x, count):
        return jnp.tanh(matrix @ x) + count / 10, None

    return jax.lax.scan(body, start, jnp.arange(steps))[0]


@pytest.fixture
def problem(x64, rng):
    return jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(3, 3)))


def halve(start, factor, threshold, *, max_steps=10, mode="reverse"):
    """Multiply by `factor` until the square falls below `threshold`: the step count depends on the data."""
    args = (factor, threshold)
    return while_loop(
        lambda x, args: x**2 > args[1],
        lambda x, args: args[0] * x,
        start,
        args,
        max_steps=max_steps,
        mode=mode,
    )


@pytest.mark.parametrize("steps", [0, 1, 4, MAX_STEPS])
def test_value_and_gradients_equal_a_python_loop_and_a_scan(problem, steps):
    def loss(run, start, matrix):
        return jnp.sum(jnp.cos(run(start, matrix, steps)))

    def loop(*args):
        return fixed_point(*args)["x"]

    actual = jax.jit(jax.value_and_grad(partial(loss, loop), (0, 1)))(*problem)
    for oracle in (fixed_point_python, fixed_point_scan):
        expected = jax.value_and_grad(partial(loss, oracle), (0, 1))(*problem)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), actual, expected)


def test_gradient_equals_finite_differences(problem):
    start, matrix = problem

    def loss(matrix):
        return jnp.sum(fixed_point(start, matrix, 4)["x"] ** 3)

    direction = jnp.cos(jnp.arange(9.0).reshape(3, 3))
    step = 1e-5
    expected = (loss(matrix + step * direction) - loss(matrix - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(matrix), direction), expected, rtol=1e-8)


def test_forward_mode_and_forward_over_reverse(problem):
    start, matrix = problem

    def run(matrix):
        return fixed_point(start, matrix, 4, mode="forward")["x"]

    def oracle(matrix):
        return fixed_point_python(start, matrix, 4)

    np.testing.assert_allclose(jax.jacfwd(run)(matrix), jax.jacrev(oracle)(matrix), rtol=1e-12, atol=1e-14)

    def reverse(matrix):
        return jnp.sum(fixed_point(start, matrix, 4)["x"] ** 2)

    hessian = jax.hessian(lambda matrix: jnp.sum(oracle(matrix) ** 2))(matrix)
    np.testing.assert_allclose(
        jax.jit(jax.jacfwd(jax.grad(reverse)))(matrix), hessian, rtol=1e-10, atol=1e-12
    )


def test_under_checkpoint(problem):
    start, matrix = problem

    def loss(matrix):
        return jnp.sum(fixed_point(start, matrix, 4)["x"] ** 2)

    actual = jax.jit(jax.grad(jax.checkpoint(loss)))(matrix)
    np.testing.assert_allclose(actual, jax.grad(loss)(matrix), rtol=1e-14)


def test_one_compilation_serves_every_step_count(problem):
    traces = []

    @jax.jit
    def value_and_gradient(start, matrix, steps):
        traces.append(None)
        return jax.value_and_grad(lambda start: jnp.sum(fixed_point(start, matrix, steps)["x"]))(start)

    def oracle(start, matrix, steps):
        return jnp.sum(fixed_point_python(start, matrix, steps))

    for steps in (0, 1, 2, 5):
        expected = jax.value_and_grad(oracle)(*problem, steps)
        actual = value_and_gradient(*problem, steps)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), actual, expected)
    assert len(traces) == 1


def test_max_steps_bounds_the_loop(problem):
    start, matrix = problem

    def run(start, steps):
        return jnp.sum(fixed_point(start, matrix, steps)["x"])

    assert run(start, 100) == run(start, MAX_STEPS)
    np.testing.assert_array_equal(jax.grad(run)(start, 100), jax.grad(run)(start, MAX_STEPS))
    np.testing.assert_array_equal(jax.grad(lambda x: while_loop(always, double, x, max_steps=0))(3.0), 1.0)


def always(state, args):
    return True


def double(state, args):
    return 2 * state


def test_lanes_that_stop_at_different_steps(problem):
    _, matrix = problem
    starts = jnp.arange(15.0).reshape(5, 3) / 10
    steps = jnp.array([3, 0, MAX_STEPS, 1, 4])

    def loss(start, matrix, steps):
        return jnp.sum(fixed_point(start, matrix, steps)["x"] ** 2)

    value_and_gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    lanes = jax.vmap(value_and_gradient, in_axes=(0, None, 0))(starts, matrix, steps)
    for lane in range(5):
        alone = value_and_gradient(starts[lane], matrix, steps[lane])
        of_lane = jax.tree.map(itemgetter(lane), lanes)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-13), of_lane, alone)

    def total(matrix):
        return jnp.sum(jax.vmap(loss, in_axes=(0, None, 0))(starts, matrix, steps))

    np.testing.assert_allclose(jax.grad(total)(matrix), lanes[1][1].sum(0), rtol=1e-12)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_finished_lane_is_not_poisoned_by_further_steps(x64, mode):
    """x <- sqrt(x - 1) leaves the real numbers as soon as it runs past its end."""

    def run(start, steps):
        return while_loop(
            lambda state, steps: state[1] < steps,
            lambda state, steps: (jnp.sqrt(state[0] - 1), state[1] + 1),
            (start, 0),
            steps,
            max_steps=3,
            mode=mode,
        )[0]

    starts, steps = jnp.array([0.5, 1.5, 5.0, 30.0]), jnp.array([0, 1, 2, 3])
    derivative = jax.grad(run) if mode == "reverse" else jax.jacfwd(run)
    lanes = jax.vmap(derivative)(starts, steps)
    alone = [derivative(start, count) for start, count in zip(starts, steps)]
    assert np.isnan(run(starts[0], 1)), "a further step must be NaN, else this tests nothing"
    np.testing.assert_allclose(lanes, jnp.stack(alone), rtol=1e-14)
    assert np.isfinite(lanes).all()


def test_data_dependent_stop(x64):
    starts = jnp.array([0.1, 3.0, 100.0])
    # 0.5^3 * 3 = 0.375 and 0.5^8 * 100 = 0.390625 are the first below sqrt(0.2).
    expected = jnp.array([1, 0.5**3, 0.5**8])
    gradient = jax.jit(jax.vmap(jax.grad(halve), in_axes=(0, None, None)))(starts, 0.5, 0.2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)
    lanes = jax.vmap(partial(halve, factor=0.5, threshold=0.2, mode="forward"))
    _, tangent = jax.jvp(lanes, (starts,), (jnp.ones(3),))
    np.testing.assert_allclose(tangent, expected, rtol=1e-14)


def primitives(jaxpr):
    """Names of all primitives of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def test_value_and_gradient_are_while_loops(problem):
    start, matrix = problem

    def loss(start):
        return jnp.sum(fixed_point(start, matrix, 4)["x"])

    value = list(primitives(jax.make_jaxpr(loss)(start).jaxpr))
    gradient = list(primitives(jax.make_jaxpr(jax.grad(loss))(start).jaxpr))
    assert value.count("while") == 1
    assert gradient.count("while") == 2, "one loop forward and one backward"
    assert "scan" not in value + gradient and "cond" not in value + gradient


@pytest.mark.parametrize("steps", [0, 1, 4, MAX_STEPS])
def test_body_runs_once_per_step_taken_forward_and_once_backward(steps):
    runs = []

    def body(state, args):
        jax.debug.callback(lambda: runs.append(None))
        return state[0] * args[0], state[1] + 1

    def loss(factor, steps):
        loop = while_loop(
            lambda s, args: s[1] < args[1], body, (2.0, 0), (factor, steps), max_steps=MAX_STEPS
        )
        return loop[0]

    jax.block_until_ready(jax.jit(loss)(3.0, steps))
    jax.effects_barrier()
    assert len(runs) == steps
    runs.clear()
    jax.block_until_ready(jax.jit(jax.grad(loss))(3.0, steps))
    jax.effects_barrier()
    assert len(runs) == 2 * steps


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("steps", [0, 3, MAX_STEPS])
def test_iterates_are_a_differentiable_output(problem, mode, steps):
    start, matrix = problem
    weights = jnp.arange(1.0, MAX_STEPS + 2)

    def score(states):
        return sum(weight * jnp.sum(jnp.sin(state)) for weight, state in zip(weights, states))

    def actual(matrix):
        final, tape = fixed_point(start, matrix, steps, iterates=True, mode=mode)
        return score(tape["x"][: steps + 1]) + jnp.sum(final["x"] ** 2), (final, tape)

    def expected(matrix):
        states = [fixed_point_python(start, matrix, count) for count in range(steps + 1)]
        return score(states) + jnp.sum(states[-1] ** 2), states

    value, (final, tape) = actual(matrix)
    oracle_value, states = expected(matrix)
    np.testing.assert_allclose(value, oracle_value, rtol=1e-13)
    np.testing.assert_allclose(tape["x"][: steps + 1], jnp.stack(states), rtol=1e-13)
    np.testing.assert_array_equal(
        tape["x"][steps + 1 :], jnp.broadcast_to(start[None], (MAX_STEPS - steps, 3))
    )
    np.testing.assert_array_equal(tape["count"][: steps + 1], jnp.arange(steps + 1))
    np.testing.assert_array_equal(tape["x"][steps], final["x"])
    derivative = (jax.grad if mode == "reverse" else jax.jacfwd)(actual, has_aux=True)(matrix)[0]
    np.testing.assert_allclose(
        derivative, jax.grad(expected, has_aux=True)(matrix)[0], rtol=1e-12, atol=1e-14
    )


def test_rows_past_the_last_state_are_constants(problem):
    start, matrix = problem

    def unused_rows(start):
        return jnp.sum(fixed_point(start, matrix, 2, iterates=True)[1]["x"][3:])

    np.testing.assert_array_equal(jax.grad(unused_rows)(start), jnp.zeros(3))


def test_keys_integers_and_booleans_are_carried(x64):
    def body(state, args):
        noise = jax.random.uniform(jax.random.fold_in(args["key"], state["count"]))
        scale = jnp.where(args["flip"][state["count"]], -args["scale"], args["scale"])
        return {
            "x": state["x"] * scale * noise,
            "count": state["count"] + 1,
            "key": jax.random.split(state["key"])[0],
        }

    key = jax.random.key(3)
    args = {"key": key, "flip": jnp.array([True, False, True, True]), "scale": 2.0}

    def run(x, args):
        return while_loop(always, body, {"x": x, "count": 0, "key": key}, args, max_steps=4)

    noise = np.prod([jax.random.uniform(jax.random.fold_in(key, count)) for count in range(4)])
    gradient = jax.grad(lambda x, scale: run(x, {**args, "scale": scale})["x"], (0, 1))(1.5, 2.0)
    np.testing.assert_allclose(gradient, [-(2.0**4) * noise, -4 * 2.0**3 * 1.5 * noise], rtol=1e-12)
    expected_key = key
    for _ in range(4):
        expected_key = jax.random.split(expected_key)[0]
    final = run(1.5, args)
    assert (
        final["count"] == 4 and (jax.random.key_data(final["key"]) == jax.random.key_data(expected_key)).all()
    )


def test_float32_keeps_its_type_and_strict_promotion(strict_dtypes):
    gradient = jax.grad(halve)(jnp.float32(3), jnp.float32(0.5), jnp.float32(0.2))
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, 0.125, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="mode"):
        while_loop(always, double, 1.0, max_steps=2, mode="backward")
    with pytest.raises(ValueError, match="max_steps"):
        while_loop(always, double, 1.0, max_steps=-1)
    with pytest.raises(TypeError):
        while_loop(always, lambda state, args: jnp.stack([state, state]), 1.0, max_steps=2)
    with pytest.raises(jax.errors.UnexpectedTracerError):
        jax.grad(lambda factor: while_loop(always, lambda x, args: factor * x, 1.0, max_steps=2))(2.0)


def test_a_branch_on_any_lane_stays_a_branch():
    """Under `vmap` a `lax.cond` on a lane's own flag becomes a select, which computes both sides."""

    def one(flag, x):
        return jax.lax.cond(any_lane(flag), lambda x: jnp.where(flag, 2 * x, x), lambda x: x, x)

    flags, x = jnp.array([True, False, True]), jnp.arange(3.0)
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(flags, x), [0, 1, 4])
    np.testing.assert_array_equal(jax.vmap(one)(jnp.zeros(3, bool), x), x)
    assert " cond[" in str(jax.make_jaxpr(jax.vmap(one))(flags, x))
