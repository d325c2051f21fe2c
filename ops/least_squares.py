"""Nonlinear least squares on pytrees: differentiable steepest descent, conjugate gradient and Gauss-Newton.

A residual function is `residual_fn(params, *args) -> pytree of residuals`; the objective is the plain sum of
squares `L(params) = |r(params, *args)|^2`, without a factor 1/2. A regularizer is one more residual,
`sqrt(weight) * params`. `params` are floating point arrays; every traced value that `residual_fn` reads
besides them goes in `args`.

    def residuals(filter, features, labels):  # an online learner: ridge regression
        return features @ filter - labels, 0.1 * filter

    filter = steepest_descent(residuals, jnp.zeros(channels), (features, labels), num_steps=5)

Step counts may be traced; then the static bound (`max_steps`, `max_cg_steps`) must be given, and one
compilation serves 0, 1, 2 or 10 steps. `differentiation` of the two nonlinear solvers is one of
  "unroll"    reverse mode through the steps taken (`ops.loops.while_loop`);
  "forward"   forward mode through the steps taken;
  "implicit"  either mode through the optimality condition `grad L = 0`, as if the result were the minimizer:
              one linear solve with the Hessian of L for any number of steps; the start gets no gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ops.loops import while_loop

Array = jax.Array
PyTree = Any


def squared_norm(tree: PyTree) -> Array:
    """`[]` sum of the squares of all elements of all leaves: the objective, given residuals."""
    return _inner(tree, tree)


def safe_sqrt(x: Array) -> Array:
    """Square root whose derivative at 0 is 0: for the weights of samples that do not count."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def steepest_descent(
    residual_fn: Callable[..., PyTree],
    params: PyTree,
    args: tuple = (),
    *,
    num_steps: int | Array,
    max_steps: int | None = None,
    step_length: float | Array = 1.0,
    min_curvature: float | Array = 1e-8,
    detach_length: float | Array = jnp.inf,
    iterates: bool = False,
    differentiation: str = "unroll",
    implicit_steps: int = 100,
) -> PyTree:
    """Steepest descent whose step length minimizes the Gauss-Newton quadratic (DiMP, Bhat et al. 2019, 3.3).

    With the residual Jacobian J and half the gradient `g = J^T r`, one step is
    `params - step_length * |g|^2 / max(|J g|^2, min_curvature) * g`.

    Args:
      residual_fn: see the module.
      params: the start.
      args: further arguments of `residual_fn`.
      num_steps: `[]` int, steps to take (at most `max_steps`).
      max_steps: static bound; may be left out where `num_steps` is a Python int.
      step_length: factor on the optimal step, > 0. DiMP learns its logarithm.
      min_curvature: floor of the denominator, > 0. DiMP's 1e-8 is one of float32: where |J g|^2 falls below it,
        convergence to further digits is slow.
      detach_length: n > 0: the gradient is stopped before each step i > 0 that is a multiple of n; n <= 0: before
        every step; infinity: never.
      iterates: also return every iterate.
      differentiation: see the module. "implicit" returns no iterates.
      implicit_steps: largest number of conjugate gradient steps of the implicit rule.

    Returns:
      The last iterate; with `iterates`, `(last, tape)`: each leaf of `tape` is `[max_steps + 1, ...]` and its
      row k is the iterate after k steps. Rows past `num_steps` repeat the start as constants.

    Raises:
      ValueError: `num_steps` is traced and `max_steps` missing; `differentiation` is unknown, or "implicit"
        with `iterates`.
    """
    max_steps = _static_bound(num_steps, max_steps, "max_steps")
    loop_args = jax.tree.map(jnp.asarray, (num_steps, step_length, min_curvature, detach_length, args))

    def body(state, loop_args):
        params, step = state
        _, step_length, min_curvature, detach_length, args = loop_args
        params = _detach(params, _is_detached(step, detach_length))
        return descent_step(residual_fn, params, args, step_length, min_curvature), step + 1

    def solve(params, mode):
        loop = partial(while_loop, _steps_left, body, max_steps=max_steps, mode=mode, iterates=iterates)
        if not iterates:
            return loop((params, jnp.int32(0)), loop_args)[0]
        (params, _), (tape, _) = loop((params, jnp.int32(0)), loop_args)
        return params, tape

    if differentiation != "implicit":
        return solve(params, _mode(differentiation))
    if iterates:
        raise ValueError('differentiation="implicit" gives the last iterate only')
    return _implicit_minimizer(residual_fn, params, args, partial(solve, mode="forward"), implicit_steps)


def descent_step(
    residual_fn: Callable[..., PyTree],
    params: PyTree,
    args: tuple = (),
    step_length: float | Array = 1.0,
    min_curvature: float | Array = 1e-8,
) -> PyTree:
    """One step of `steepest_descent`, for a loop of your own. The residuals are evaluated once."""
    residuals, jacobian = jax.linearize(lambda params: residual_fn(params, *args), params)
    (gradient,) = jax.linear_transpose(jacobian, params)(residuals)
    curvature = jnp.maximum(squared_norm(jacobian(gradient)), min_curvature)
    return _add(params, -step_length * _divide(squared_norm(gradient), curvature), gradient)


class CGState(NamedTuple):
    """What conjugate gradient carries from one call to the next (direction forgetting)."""

    direction: PyTree  # like the unknowns: last search direction p, 0 before the first step
    rho: Array  # [] <r, M r> of the last step, 1 before the first step
    previous_residual: PyTree  # like the unknowns: r of the last step


def cg_state(like: PyTree) -> CGState:
    """The state before any step of a problem whose unknowns look like `like`."""
    zeros = jax.tree.map(jnp.zeros_like, like)
    return CGState(zeros, jnp.ones((), jnp.result_type(*jax.tree.leaves(like))), zeros)


def conjugate_gradient(
    matvec: Callable[..., PyTree],
    b: PyTree,
    args: tuple = (),
    *,
    num_steps: int | Array,
    max_steps: int | None = None,
    method: str = "fletcher_reeves",
    preconditioner: Callable[..., PyTree] | None = None,
    initial: PyTree | None = None,
    state: CGState | None = None,
    forget: float | Array = 0.0,
    tolerance: float | Array = 0.0,
    mode: str = "reverse",
) -> tuple[PyTree, CGState]:
    """Solve `A x = b` for symmetric positive (semi)definite A by preconditioned conjugate gradient.

    The inner product is the sum over all leaves. With `z = M r` and `rho = <r, z>`, the direction is
    `z + max(beta, 0) p`, where `beta` is `rho / rho_prev` (Fletcher-Reeves) or
    `(rho - <r_prev, z>) / rho_prev` (Polak-Ribiere, which tolerates a matrix that changed since p was found).
    This is the rule of pytracking's ATOM.

    Args:
      matvec: `(x, *args) -> A x`.
      b: right-hand side, a pytree of floating point arrays.
      args: further arguments of `matvec` and `preconditioner`.
      num_steps: `[]` int, steps to take at most; fewer once the residual is 0 (or below `tolerance`).
      max_steps: static bound; may be left out where `num_steps` is a Python int.
      method: "fletcher_reeves" or "polak_ribiere".
      preconditioner: `(r, *args) -> M r`, M close to the inverse of A; None is the identity.
      initial: the first x; None is 0.
      state: what an earlier call returned; None starts from scratch.
      forget: direction forgetting factor in [0, 1]: 0 drops `state`, else its rho is divided by the factor,
        so that the old direction counts less.
      tolerance: stop when `<r, M r> <= tolerance^2 <b, M b>`; 0 stops at an exactly zero residual only.
      mode: "reverse" or "forward", see `ops.loops.while_loop`. The steps taken are differentiated.

    Returns:
      `(x, state)`.

    Raises:
      ValueError: unknown `method` or `mode`; `num_steps` is traced and `max_steps` is missing.
    """
    if method not in ("fletcher_reeves", "polak_ribiere"):
        raise ValueError(f'method must be "fletcher_reeves" or "polak_ribiere", not {method!r}')
    max_steps = _static_bound(num_steps, max_steps, "max_steps")

    def precondition(residual, args):
        return preconditioner(residual, *args) if preconditioner else residual

    def energy(residual, args):
        return _inner(residual, precondition(residual, args))

    def unfinished(carry, loop_args):
        _, rho, step = carry
        num_steps, threshold, _ = loop_args
        return (step < num_steps) & (rho > threshold)

    def body(carry, loop_args):
        (x, residual, last), rho, step = carry  # rho goes along: the condition and the step compute it only once
        _, _, args = loop_args
        z = precondition(residual, args)
        overlap = _inner(last.previous_residual, z) if method == "polak_ribiere" else jnp.zeros_like(rho)
        beta = jnp.maximum(_divide(rho - overlap, last.rho), 0)
        direction = _add(z, beta, last.direction)
        image = matvec(direction, *args)
        alpha = _divide(rho, _inner(direction, image))
        new = CGState(direction, rho, residual)
        residual = _add(residual, -alpha, image)
        return (_add(x, alpha, direction), residual, new), energy(residual, args), step + 1

    x = jax.tree.map(jnp.zeros_like, b) if initial is None else initial
    residual = b if initial is None else _add(b, -1.0, matvec(x, *args))
    threshold = jax.lax.stop_gradient(tolerance**2 * energy(b, args))
    start = cg_state(b) if state is None else _forget(state, forget)
    loop_args = jax.tree.map(jnp.asarray, (num_steps, threshold, args))
    carry = ((x, residual, start), energy(residual, args), jnp.int32(0))
    (x, _, state), *_ = while_loop(unfinished, body, carry, loop_args, max_steps=max_steps, mode=mode)
    return x, state


def gauss_newton(
    residual_fn: Callable[..., PyTree],
    params: PyTree,
    args: tuple = (),
    *,
    num_steps: int | Array,
    cg_steps: int | Array,
    max_steps: int | None = None,
    max_cg_steps: int | None = None,
    method: str = "fletcher_reeves",
    preconditioner: Callable[..., PyTree] | None = None,
    state: CGState | None = None,
    forget: float | Array = 0.0,
    differentiation: str = "unroll",
    implicit_steps: int = 100,
) -> PyTree:
    """Gauss-Newton with conjugate gradient inside (ATOM, Danelljan et al. 2019, Algorithm 1).

    One step linearizes the residuals at `params`, solves `J^T J d = -J^T r` from `d = 0` by `cg_steps`
    conjugate gradient steps, and adds d.

    Args:
      residual_fn, params, args: see the module.
      num_steps, max_steps: Gauss-Newton steps and their static bound.
      cg_steps, max_cg_steps: conjugate gradient steps of each, and their static bound.
      method: of `conjugate_gradient`.
      preconditioner: `(r, *args) -> M r` with the `args` of `residual_fn`; None is the identity.
      state: directions of an earlier call (`cg_state(params)` at first), to which the factor `forget` is
        applied before every Gauss-Newton step; None starts every step from scratch.
      forget: see `conjugate_gradient`.
      differentiation, implicit_steps: as in `steepest_descent`. "implicit" returns no state.

    Returns:
      The new params; with `state`, `(params, state)`.

    Raises:
      ValueError: as `steepest_descent` and `conjugate_gradient` do.
    """
    max_steps = _static_bound(num_steps, max_steps, "max_steps")
    max_cg_steps = _static_bound(cg_steps, max_cg_steps, "max_cg_steps")
    loop_args = jax.tree.map(jnp.asarray, (num_steps, cg_steps, forget, args))
    cg = partial(conjugate_gradient, max_steps=max_cg_steps, method=method)

    def body(carry, loop_args, mode):
        (params, directions), step = carry
        _, cg_steps, forget, args = loop_args
        residuals, jacobian = jax.linearize(lambda params: residual_fn(params, *args), params)
        (gradient,) = jax.linear_transpose(jacobian, params)(residuals)
        # The linearization point becomes an argument of the solver, so that its gradient flows as well.
        jacobian, point = jax.closure_convert(jacobian, params)

        def normal_matvec(direction, point, args):
            image, transpose = jax.vjp(lambda direction: jacobian(direction, *point), direction)
            return transpose(image)[0]

        update, directions_now = cg(
            normal_matvec,
            _scale(-1.0, gradient),
            (point, args),
            num_steps=cg_steps,
            mode=mode,
            preconditioner=preconditioner and (lambda residual, point, args: preconditioner(residual, *args)),
            state=directions,
            forget=forget,
        )
        return (_add(params, 1.0, update), directions if directions is None else directions_now), step + 1

    def solve(params, mode):
        loop = partial(while_loop, _steps_left, partial(body, mode=mode), max_steps=max_steps, mode=mode)
        (params, last_state), _ = loop(((params, state), jnp.int32(0)), loop_args)
        return params if state is None else (params, last_state)

    if differentiation != "implicit":
        return solve(params, _mode(differentiation))
    if state is not None:
        raise ValueError('differentiation="implicit" carries no state')
    return _implicit_minimizer(residual_fn, params, args, partial(solve, mode="forward"), implicit_steps)


def _implicit_minimizer(residual_fn, start, args, solve, steps):
    """`solve(start)`, differentiated in `args` by the implicit function theorem at `grad L = 0`."""

    def half_gradient(params):
        residuals, transpose = jax.vjp(lambda params: residual_fn(params, *args), params)
        return transpose(residuals)[0]

    def solve_hessian(hessian, b):
        return jax.lax.custom_linear_solve(hessian, b, _plain_cg(steps), symmetric=True)

    return jax.lax.custom_root(half_gradient, start, lambda _, guess: solve(guess), solve_hessian)


def _plain_cg(steps):
    def solve(matvec, b):
        tolerance = 4 * float(jnp.finfo(jnp.result_type(*jax.tree.leaves(b))).eps)
        return conjugate_gradient(matvec, b, num_steps=steps, tolerance=tolerance, mode="forward")[0]

    return solve


def _steps_left(carry, loop_args):
    return carry[1] < loop_args[0]


def _is_detached(step, detach_length):
    step = step.astype(detach_length.dtype)
    return (detach_length <= 0) | ((step > 0) & (jnp.mod(step, detach_length) == 0))


def _detach(tree, cut):
    return jax.tree.map(lambda leaf: jnp.where(cut, jax.lax.stop_gradient(leaf), leaf), tree)


def _forget(state, factor):
    """The state divided by the forgetting factor; a fresh one for factor 0."""
    keep = jnp.asarray(factor) > 0
    rho = jnp.where(keep, state.rho / jnp.where(keep, factor, 1), 1)
    zero = partial(jax.tree.map, lambda leaf: jnp.where(keep, leaf, 0))
    return CGState(zero(state.direction), rho, zero(state.previous_residual))


def _static_bound(steps, bound, name):
    if bound is None:
        if isinstance(steps, jax.core.Tracer):
            raise ValueError(f"a traced number of steps needs the static bound {name}")
        bound = int(steps)
    return bound


def _mode(differentiation):
    modes = {"unroll": "reverse", "forward": "forward"}
    if differentiation not in modes:
        known = ", ".join([*modes, "implicit"])
        raise ValueError(f"differentiation must be one of {known}, not {differentiation!r}")
    return modes[differentiation]


def _inner(a, b):
    # Multiply and add: a dot product would run at reduced precision on some accelerators.
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)))


def _add(a, factor, b):
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def _scale(factor, tree):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


@jax.custom_jvp
def _divide(numerator, denominator):
    """The quotient, 0 where the denominator is 0 (underflow near convergence)."""
    safe = jnp.where(denominator != 0, denominator, 1)
    return jnp.where(denominator != 0, numerator / safe, 0)


@_divide.defjvp
def _divide_jvp(primals, tangents):
    # The usual rule squares the denominator, which underflows while the quotient is still harmless.
    numerator, denominator = primals
    quotient = _divide(numerator, denominator)
    safe = jnp.where(denominator != 0, denominator, 1)
    tangent = (tangents[0] - quotient * tangents[1]) / safe
    return quotient, jnp.where(denominator != 0, tangent, 0)
