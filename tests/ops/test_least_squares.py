"""The solvers of `ops.least_squares`: oracles in NumPy, finite differences, pytrees, traced step counts, lanes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.least_squares import (
    cg_state,
    conjugate_gradient,
    descent_step,
    gauss_newton,
    squared_norm,
    steepest_descent,
)

START = {"slope": np.array([0.3, -0.2, 0.1]), "offset": np.array(0.2)}


def residuals(params, inputs, targets, regularization):
    """A small nonlinear regression."""
    predicted = jnp.tanh(inputs @ params["slope"] + params["offset"])
    return {"data": predicted - targets, "prior": regularization * params["slope"]}


@pytest.fixture
def data(x64, rng):
    """(inputs, targets, regularization) of a well-posed regression."""
    inputs = rng.normal(size=(8, 3))
    targets = np.tanh(inputs @ np.array([0.5, -1.0, 0.8])) + 0.1 * rng.normal(size=8)
    return jnp.asarray(inputs), jnp.asarray(targets), jnp.asarray(0.3)


def start():
    return jax.tree.map(jnp.asarray, START)


def numpy_problem(data):
    """`params [4] -> (residuals [11], Jacobian [11, 4])` by hand."""
    inputs, targets, regularization = map(np.asarray, data)

    def evaluate(params):
        predicted = np.tanh(inputs @ params[:3] + params[3])
        slopes = (1 - predicted**2)[:, None] * np.concatenate([inputs, np.ones((8, 1))], axis=1)
        prior = regularization * np.eye(3, 4)
        return np.concatenate([predicted - targets, prior @ params]), np.concatenate([slopes, prior])

    return evaluate, np.concatenate([START["slope"], START["offset"][None]])


def vector(params):
    return jnp.concatenate([params["slope"], params["offset"][None]])


def numpy_cg(matrix, b, steps, *, polak_ribiere=False, diagonal=1.0):
    x, r, p = np.zeros_like(b), b, np.zeros_like(b)
    last_rho, last_r = 1.0, np.zeros_like(b)
    for _ in range(steps):
        z = r / diagonal
        rho = r @ z
        beta = ((rho - last_r @ z) if polak_ribiere else rho) / last_rho
        p = z + max(beta, 0) * p
        q = matrix @ p
        alpha = rho / (p @ q)
        last_rho, last_r = rho, r
        x, r = x + alpha * p, r - alpha * q
    return x


def test_steepest_descent_equals_numpy(data):
    evaluate, params = numpy_problem(data)
    iterates = [params]
    for _ in range(4):
        r, jacobian = evaluate(params)
        gradient = jacobian.T @ r
        params = params - 0.8 * gradient * (gradient @ gradient) / np.sum((jacobian @ gradient) ** 2)
        iterates.append(params)
    last, tape = steepest_descent(residuals, start(), data, num_steps=4, step_length=0.8, iterates=True)
    np.testing.assert_allclose(jax.vmap(vector)(tape), np.stack(iterates), rtol=1e-12)
    np.testing.assert_array_equal(vector(last), vector(jax.tree.map(lambda leaf: leaf[4], tape)))


def test_steepest_descent_minimizes_a_quadratic_along_its_direction(data):
    """On linear residuals no other step length does better."""
    matrix, b, _ = data
    args = (lambda x: matrix @ x - b, jnp.ones(3))
    step = steepest_descent(*args, num_steps=1) - args[1]
    losses = [squared_norm(args[0](args[1] + factor * step)) for factor in (0.99, 1.0, 1.01)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_curvature_floor_bounds_the_step():
    """A residual that does not change along the gradient: |J g|^2 is 1e-12, below the floor."""
    step = descent_step(lambda x: 1e-3 * x, jnp.float32(1), min_curvature=1e-8) - 1
    np.testing.assert_allclose(step, -(1e-6**3) / 1e-8, atol=1e-7)
    flat = jax.grad(lambda x: steepest_descent(lambda y, x: 0.0 * y * x, 1.0, (x,), num_steps=3))(2.0)
    assert flat == 0


@pytest.mark.parametrize("method", ["fletcher_reeves", "polak_ribiere"])
@pytest.mark.parametrize("diagonal", [None, np.array([2.0, 1.0, 4.0, 3.0])])
def test_conjugate_gradient_equals_numpy(data, method, diagonal):
    evaluate, params = numpy_problem(data)
    r, jacobian = evaluate(params)
    matrix, b = jacobian.T @ jacobian, -jacobian.T @ r
    run = partial(
        conjugate_gradient,
        lambda x, matrix: matrix @ x,
        jnp.asarray(b),
        (jnp.asarray(matrix),),
        method=method,
        preconditioner=None if diagonal is None else lambda r, _: r / diagonal,
    )
    for steps in (0, 1, 3):
        oracle = numpy_cg(
            matrix, b, steps, polak_ribiere=method == "polak_ribiere", diagonal=1.0 if diagonal is None else diagonal
        )
        np.testing.assert_allclose(run(num_steps=steps)[0], oracle, rtol=1e-10)
    np.testing.assert_allclose(run(num_steps=4)[0], np.linalg.solve(matrix, b), rtol=1e-8)
    np.testing.assert_allclose(
        run(num_steps=2, initial=jnp.asarray(np.linalg.solve(matrix, b)))[0], np.linalg.solve(matrix, b), rtol=1e-12
    )


def test_conjugate_gradient_stops_at_a_zero_residual():
    matvecs = []

    def matvec(x):
        jax.debug.callback(lambda: matvecs.append(None))
        return 2 * x

    solve = partial(conjugate_gradient, matvec, num_steps=7)
    assert solve(jnp.float32(3))[0] == 1.5
    jax.effects_barrier()
    assert len(matvecs) == 1, "the first step of a one-dimensional problem is exact"
    value, gradient = jax.value_and_grad(lambda b: solve(b)[0])(jnp.float32(0))
    assert value == 0 and gradient == 0, "no step is taken from a zero residual"
    x, _ = conjugate_gradient(lambda x: jnp.array([1.0, 4.0]) * x, jnp.ones(2), num_steps=200)
    np.testing.assert_allclose(x, [1, 0.25], rtol=1e-6)


@pytest.mark.parametrize("method", ["fletcher_reeves", "polak_ribiere"])
def test_gradient_through_steps_past_convergence(method):
    """In float32 the residual shrinks to 1e-20 and below, then stops the loop; a lane with b = 0 takes no step."""
    diagonal = jnp.array([1.0, 2.0, 5.0])

    def solve(b, diagonal):
        return conjugate_gradient(lambda x, a: a * x, b, (diagonal,), num_steps=20, method=method)[0]

    gradient = jax.jit(jax.vmap(jax.grad(lambda b, a: solve(b, a).sum(), (0, 1)), in_axes=(0, None)))
    of_b, of_diagonal = gradient(jnp.array([[0.0, 0, 0], [1, 1, 1], [3, -2, 1]]), diagonal)
    np.testing.assert_allclose(of_b[1:], np.broadcast_to(1 / diagonal, (2, 3)), rtol=1e-5)
    np.testing.assert_allclose(of_diagonal[1:], [[-1, -0.25, -0.04], [-3, 0.5, -0.04]], rtol=1e-5)
    np.testing.assert_array_equal([of_b[0], of_diagonal[0]], 0)


def test_conjugate_gradient_tolerance(x64):
    """A looser tolerance is met, and met earlier."""
    matrix, b = jnp.diag(jnp.arange(1.0, 9)), jnp.ones(8)
    errors = []
    for tolerance in (0.3, 0.05, 0):
        x, _ = conjugate_gradient(lambda x: matrix @ x, b, num_steps=8, tolerance=tolerance)
        errors.append(float(jnp.linalg.norm(matrix @ x - b) / jnp.linalg.norm(b)))
    assert errors[0] <= 0.3 and errors[1] <= 0.05 and errors[2] < 1e-12
    assert errors[0] > errors[1] > errors[2]


def test_direction_forgetting(data):
    """Factor 1 carries on as if the steps were one run; 0 forgets; between, the old direction counts less."""
    evaluate, params = numpy_problem(data)
    r, jacobian = evaluate(params)
    matrix, b = jnp.asarray(jacobian.T @ jacobian), jnp.asarray(-jacobian.T @ r)
    solve = partial(conjugate_gradient, lambda x: matrix @ x, b, method="polak_ribiere")
    half, state = solve(num_steps=2)
    whole, whole_state = solve(num_steps=4)
    resumed, resumed_state = solve(num_steps=2, initial=half, state=state, forget=1.0)
    np.testing.assert_allclose(resumed, whole, rtol=1e-9)
    np.testing.assert_allclose(resumed_state.direction, whole_state.direction, rtol=1e-6)
    afresh, _ = solve(num_steps=2, initial=half)
    for state_now, forget in [(state, 0.0), (cg_state(b), 1.0)]:
        again, _ = jax.jit(lambda state, forget: solve(num_steps=2, initial=half, state=state, forget=forget))(
            state_now, forget
        )
        np.testing.assert_allclose(again, afresh, rtol=1e-12)
    # One step with factor 1/2: the reference divides rho by the factor, hence beta is halved.
    z = b - matrix @ half
    beta = (z @ z - state.previous_residual @ z) / (state.rho / 0.5)
    direction = z + max(float(beta), 0) * state.direction
    _, one = solve(num_steps=1, initial=half, state=state, forget=0.5)
    np.testing.assert_allclose(one.direction, direction, rtol=1e-9)


@pytest.mark.parametrize("method", ["fletcher_reeves", "polak_ribiere"])
def test_gauss_newton_equals_numpy(data, method):
    evaluate, params = numpy_problem(data)
    diagonal = np.array([0.1, 0.1, 0.1, 2.0])
    for _ in range(3):
        r, jacobian = evaluate(params)
        update = numpy_cg(
            jacobian.T @ jacobian, -jacobian.T @ r, 3, polak_ribiere=method == "polak_ribiere", diagonal=diagonal
        )
        params = params + update
    actual = gauss_newton(
        residuals,
        start(),
        data,
        num_steps=3,
        cg_steps=3,
        method=method,
        preconditioner=lambda r, *_: {"slope": r["slope"] / 0.1, "offset": r["offset"] / 2},
    )
    np.testing.assert_allclose(vector(actual), params, rtol=1e-10)


def test_gauss_newton_carries_directions(data):
    @jax.jit
    def run(params, state, steps, forget):
        options = {"num_steps": steps, "max_steps": 2, "cg_steps": 2, "forget": forget}
        return gauss_newton(residuals, params, data, state=state, **options)

    params, state = run(start(), cg_state(start()), 2, 0.7)
    once, state_once = run(start(), cg_state(start()), 1, 0.7)
    twice = run(once, state_once, 1, 0.7)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), (params, state), twice)
    forgotten, _ = run(once, state_once, 1, 0.0)
    assert np.abs(vector(forgotten) - vector(twice[0])).max() > 1e-4, "the carried direction matters"
    fresh = gauss_newton(residuals, once, data, num_steps=1, cg_steps=2)
    np.testing.assert_allclose(vector(forgotten), vector(fresh), rtol=1e-12)


SOLVERS = {
    # The default floor is for float32 and would slow the last digits down.
    "steepest_descent": partial(steepest_descent, residuals, min_curvature=1e-30),
    "gauss_newton": partial(gauss_newton, residuals, cg_steps=3),
    "gauss_newton_polak_ribiere": partial(
        gauss_newton,
        residuals,
        cg_steps=2,
        method="polak_ribiere",
        preconditioner=lambda r, inputs, targets, regularization: jax.tree.map(lambda x: x / regularization, r),
    ),
}
CONVERGED = {"steepest_descent": 400, "gauss_newton": 30, "gauss_newton_polak_ribiere": 60}


def loss_of(solver, differentiation, num_steps, params, args):
    solution = SOLVERS[solver](params, args, num_steps=num_steps, differentiation=differentiation)
    return jnp.sum(jnp.sin(vector(solution)) * jnp.arange(1.0, 5))


def finite_difference(f, x, direction, step=3e-5):
    """Derivative of `f` along `direction`: central differences of fourth order."""

    def shifted(size):
        return f(jax.tree.map(lambda x, d: x + size * step * d, x, direction))

    return (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * step)


def direction_like(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([jnp.cos(1.0 + k + jnp.arange(x.size)).reshape(x.shape) for k, x in enumerate(leaves)])


def along(gradient, direction):
    return sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_unrolled_gradient_equals_finite_differences(data, solver):
    """In the start and in every argument, after two steps: far from the minimum."""
    point = (start(), data)
    direction = direction_like(point)
    loss = jax.jit(lambda point: loss_of(solver, "unroll", 2, *point))
    expected = finite_difference(loss, point, direction)
    np.testing.assert_allclose(along(jax.jit(jax.grad(loss))(point), direction), expected, rtol=1e-7)
    forward = jax.jit(lambda point: loss_of(solver, "forward", 2, *point))
    np.testing.assert_allclose(jax.jvp(forward, (point,), (direction,))[1], expected, rtol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_implicit_gradient_equals_unrolled_and_finite_differences_at_the_minimum(data, solver):
    direction = direction_like(data)
    implicit = jax.jit(lambda args: loss_of(solver, "implicit", CONVERGED[solver], start(), args))
    gradient = jax.jit(jax.grad(implicit))(data)
    unrolled = jax.jit(jax.grad(lambda args: loss_of(solver, "unroll", CONVERGED[solver], start(), args)))(data)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9), gradient, unrolled)
    expected = finite_difference(implicit, data, direction)
    np.testing.assert_allclose(along(gradient, direction), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(implicit, (data,), (direction,))[1], expected, rtol=1e-6)


def test_implicit_gradient_ignores_the_start_and_unrolled_does_not(data):
    @partial(jax.jit, static_argnums=0)
    def gradient_of_start(differentiation):
        return jax.grad(lambda params: loss_of("steepest_descent", differentiation, 2, params, data))(start())

    assert squared_norm(gradient_of_start("implicit")) == 0
    assert squared_norm(gradient_of_start("unroll")) > 1e-4


@pytest.mark.parametrize("solver", ["steepest_descent", "gauss_newton"])
@pytest.mark.parametrize("differentiation", ["unroll", "implicit"])
def test_lanes_and_traced_step_counts(data, solver, differentiation):
    """Lanes of different step counts equal single runs, in one compilation."""
    inputs, targets, regularization = data
    bounds = {"max_steps": 4} if solver == "steepest_descent" else {"max_steps": 4, "max_cg_steps": 3}

    def loss(targets, steps):
        solution = SOLVERS[solver](
            start(), (inputs, targets, regularization), num_steps=steps, differentiation=differentiation, **bounds
        )
        return squared_norm(solution)

    single = jax.jit(jax.value_and_grad(loss))
    steps = jnp.array([0, 1, 2, 4])
    targets = jnp.stack([targets, 0.5 * targets, 0 * targets, targets])
    lanes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(targets, steps)
    alone = [single(target, count) for target, count in zip(targets, steps)]
    jax.tree.map(lambda *leaves: np.testing.assert_allclose(leaves[0], jnp.stack(leaves[1:]), rtol=1e-9), lanes, *alone)
    assert single._cache_size() == 1
    static = SOLVERS[solver](start(), data, num_steps=4)
    np.testing.assert_allclose(lanes[0][3], squared_norm(static), rtol=1e-12)


@pytest.mark.parametrize("length, cuts", [(np.inf, [False] * 4), (2, [False, False, True, False]), (0, [True] * 4)])
def test_detach_length(data, length, cuts):
    def by_hand(params):
        for cut in cuts:
            params = jax.lax.stop_gradient(params) if cut else params
            params = descent_step(residuals, params, data)
        return squared_norm(params)

    def by_loop(params, length):
        return squared_norm(steepest_descent(residuals, params, data, num_steps=4, detach_length=length))

    value, gradient = jax.jit(jax.value_and_grad(by_loop))(start(), float(length))
    oracle_value, oracle_gradient = jax.value_and_grad(by_hand)(start())
    np.testing.assert_allclose(value, oracle_value, rtol=1e-12)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-14), gradient, oracle_gradient)
    assert (squared_norm(gradient) == 0) == any(cuts)


def test_step_length_is_learnable(data):
    @jax.jit
    def loss(log_step):
        return squared_norm(steepest_descent(residuals, start(), data, num_steps=3, step_length=jnp.exp(log_step)))

    expected = finite_difference(loss, jnp.asarray(-0.1), 1.0)
    np.testing.assert_allclose(jax.grad(loss)(-0.1), expected, rtol=1e-8)


def test_scored_iterates_equal_runs_of_every_length(data):
    run = partial(steepest_descent, residuals, start(), max_steps=4)

    @jax.jit
    @jax.value_and_grad
    def scored(regularization):
        _, tape = run((*data[:2], regularization), num_steps=3, iterates=True)
        return jnp.sum(jnp.arange(1.0, 5)[:, None] * jax.vmap(vector)(tape)[:4] ** 2)

    @jax.jit
    @jax.value_and_grad
    def separate(regularization, steps):
        return (steps + 1) * squared_norm(run((*data[:2], regularization), num_steps=steps))

    runs = [separate(data[2], steps) for steps in range(4)]
    np.testing.assert_allclose(scored(data[2]), np.sum(runs, axis=0), rtol=1e-11)


def test_residuals_are_evaluated_once_a_step():
    """Products with the features in one step: r, J^T r and J g, one each; a second primal would be a fourth."""
    features, filter = jnp.ones((6, 4)), jnp.ones(4)
    jaxpr = jax.make_jaxpr(lambda f, x: descent_step(lambda f, x: jnp.abs(x @ f), f, (x,)))(filter, features)
    assert str(jaxpr).count("dot_general[") == 3


def test_errors(data):
    traced = jax.jit(lambda steps: steepest_descent(residuals, start(), data, num_steps=steps))
    with pytest.raises(ValueError, match="max_steps"):
        traced(3)
    with pytest.raises(ValueError, match="max_cg_steps"):
        jax.jit(lambda n: gauss_newton(residuals, start(), data, num_steps=1, cg_steps=n))(3)
    with pytest.raises(ValueError, match="method"):
        conjugate_gradient(lambda x: x, jnp.ones(2), num_steps=1, method="hestenes_stiefel")
    with pytest.raises(ValueError, match="differentiation"):
        steepest_descent(residuals, start(), data, num_steps=1, differentiation="none")
    with pytest.raises(ValueError, match="iterate"):
        steepest_descent(residuals, start(), data, num_steps=1, differentiation="implicit", iterates=True)
    with pytest.raises(ValueError, match="state"):
        gauss_newton(
            residuals, start(), data, num_steps=1, cg_steps=1, differentiation="implicit", state=cg_state(start())
        )


def test_an_online_learner_in_ten_lines(x64):
    """What the module promises: ridge regression by residuals, here against its normal equations."""

    def ridge(filter, features, labels, weight):
        return features @ filter - labels, weight * filter

    features = jnp.asarray(np.random.default_rng(1).normal(size=(20, 5)))
    labels = jnp.sin(jnp.arange(20.0))
    expected = jnp.linalg.solve(features.T @ features + 0.25 * jnp.eye(5), features.T @ labels)
    args = (features, labels, 0.5)
    filter = gauss_newton(ridge, jnp.zeros(5), args, num_steps=1, cg_steps=5)
    np.testing.assert_allclose(filter, expected, rtol=1e-9)
    filter = steepest_descent(ridge, jnp.zeros(5), args, num_steps=100, min_curvature=1e-30)
    np.testing.assert_allclose(filter, expected, rtol=1e-6)


def test_float32_under_strict_promotion(strict_dtypes):
    def line(x, target):
        return x - target

    args = (jnp.float32(2),)
    x = jax.grad(lambda x: steepest_descent(line, x, args, num_steps=2, step_length=jnp.float32(0.5)))(jnp.float32(0))
    np.testing.assert_allclose(x, 0.25)
    assert gauss_newton(line, jnp.float32(0), args, num_steps=1, cg_steps=1) == 2
