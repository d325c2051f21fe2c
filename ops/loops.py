"""A `lax.while_loop` that can be differentiated, in reverse and forward mode, through the steps it took."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any


def while_loop(
    cond_fun: Callable[[PyTree, PyTree], Array],
    body_fun: Callable[[PyTree, PyTree], PyTree],
    init: PyTree,
    args: PyTree = (),
    *,
    max_steps: int,
    mode: str = "reverse",
    iterates: bool = False,
) -> PyTree:
    """`while cond_fun(state, args) and steps < max_steps: state = body_fun(state, args)`.

    The value is a real `lax.while_loop`: it stops early, and the stopping step may depend on traced values.

    Args:
      cond_fun: `(state, args) -> bool []`; never differentiated.
      body_fun: `(state, args) -> state`, same structure, shapes and dtypes in and out.
      init: the first state, a pytree of arrays; integer, bool and key leaves are carried, not differentiated.
      args: pytree of every traced value that `cond_fun` and `body_fun` read and that does not change.
      max_steps: static bound on the number of steps, and the length of the tape.
      mode: "reverse" or "forward": which derivative the result can have.
        "reverse" (`grad`, `vjp`, and `jvp` of a `grad`): the forward pass records the state before each step
        on a tape of `max_steps` states. The backward pass is again a while loop, from the last step taken
        down to the first, that repeats and transposes one step at a time. Memory: `max_steps` states, plus
        what one step needs. Without differentiation no tape exists.
        "forward" (`jvp`, `jacfwd`): tangents run along in the same loop, nothing is stored.
      iterates: also return every state.

    Returns:
      The final state; with `iterates`, `(state, tape)`: each leaf of `tape` is `[max_steps + 1, ...]` and its
      row k is the state after k steps. The tape is differentiable. Rows past the last state repeat `init` as
      constants: no gradient flows through them.

    Raises:
      ValueError: `mode` is unknown or `max_steps` is negative.
      TypeError: `body_fun` changes the structure, a shape or a dtype of the state (from `lax.while_loop`).
      jax.errors.UnexpectedTracerError: `cond_fun` or `body_fun` closes over a value that is being
        differentiated; hand it over in `args`.

    Under `vmap` each lane gets exactly its own result and gradient: what a finished lane's body computes
    while others run on, NaN included, is dropped.
    """
    if mode not in ("reverse", "forward"):
        raise ValueError(f'mode must be "reverse" or "forward", not {mode!r}')
    if max_steps < 0:
        raise ValueError(f"max_steps must not be negative, got {max_steps}")
    init, args = jax.tree.map(_strongly_typed, (init, args))
    if mode == "forward":
        state, tape, _ = _run(cond_fun, body_fun, max_steps, max_steps + 1 if iterates else 0, init, args)
    else:
        state, tape = _reverse_loop(cond_fun, body_fun, max_steps, iterates, init, args)
    return (state, tape) if iterates else state


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _reverse_loop(cond_fun, body_fun, max_steps, iterates, init, args):
    """`(final state, tape)`; the tape is None unless `iterates`."""
    state, tape, _ = _run(cond_fun, body_fun, max_steps, max_steps + 1 if iterates else 0, init, args)
    return state, tape


def _reverse_loop_fwd(cond_fun, body_fun, max_steps, iterates, init, args):
    rows = max_steps + 1 if iterates else max_steps
    state, tape, steps = _run(cond_fun, body_fun, max_steps, rows, init, args)
    # One buffer serves as the output and as the residual: scoring every iterate adds only its cotangent.
    return (state, tape if iterates else None), (tape, steps, args)


def _reverse_loop_bwd(cond_fun, body_fun, max_steps, iterates, residuals, cotangents):
    tape, steps, args = residuals
    if max_steps == 0 and not iterates:
        return cotangents[0], jax.tree.map(_zero_cotangent, args)
    tape, state_structure = jax.tree.flatten(tape)
    args, args_structure = jax.tree.flatten(args)
    smooth_state = [_is_smooth(row) for row in tape]
    smooth_args = [_is_smooth(arg) for arg in args]
    state_cotangent = _keep(smooth_state, state_structure.flatten_up_to(cotangents[0]))
    tape_cotangent = _keep(smooth_state, state_structure.flatten_up_to(cotangents[1])) if iterates else []

    def body_of_smooth(state, other_state, args_now):
        state = state_structure.unflatten(_merge(smooth_state, state, other_state))
        full_args = args_structure.unflatten(_merge(smooth_args, args_now, _drop(smooth_args, args)))
        return _keep(smooth_state, jax.tree.leaves(body_fun(state, full_args)))

    def add_row(cotangent, step):
        return [c + _read(row, step) for c, row in zip(cotangent, tape_cotangent)] if iterates else cotangent

    def backward_step(carry):
        step, cotangent, args_cotangent = carry
        step = step - 1
        before = [_read(row, step) for row in tape]
        other = _drop(smooth_state, before)
        _, transpose = jax.vjp(
            lambda state, now: body_of_smooth(state, other, now),
            _keep(smooth_state, before),
            _keep(smooth_args, args),
        )
        cotangent, contribution = transpose(cotangent)
        return step, add_row(cotangent, step), jax.tree.map(jnp.add, args_cotangent, contribution)

    zeros = [jnp.zeros_like(arg) for arg in _keep(smooth_args, args)]
    first = (steps, add_row(state_cotangent, steps), zeros)
    _, init_cotangent, args_cotangent = jax.lax.while_loop(lambda carry: carry[0] > 0, backward_step, first)
    # None stands for the absent cotangent of a leaf that is not differentiated.
    init_cotangent = _merge(smooth_state, init_cotangent, [None] * smooth_state.count(False))
    args_cotangent = _merge(smooth_args, args_cotangent, [None] * smooth_args.count(False))
    return state_structure.unflatten(init_cotangent), args_structure.unflatten(args_cotangent)


_reverse_loop.defvjp(_reverse_loop_fwd, _reverse_loop_bwd)


def _run(cond_fun, body_fun, max_steps, rows, init, args):
    """The loop itself: `(final state, tape, steps)`; the tape has `rows` states, None if 0.

    Row k is the state after k steps; a tape of `max_steps` rows leaves out the final state of a full run.
    """
    tape = jax.lax.stop_gradient(jax.tree.map(partial(_repeat, rows), init)) if rows else None

    def condition(carry):
        step, state, _ = carry
        return (step < max_steps) & cond_fun(state, args)

    def body(carry):
        step, state, tape = carry
        tape = jax.tree.map(partial(_write, step), tape, state) if rows else None
        return step + 1, body_fun(state, args), tape

    steps, state, tape = jax.lax.while_loop(condition, body, (jnp.int32(0), init, tape))
    if rows > max_steps:
        tape = jax.tree.map(partial(_write, steps), tape, state)
    return state, tape, steps


def _repeat(rows, leaf):
    return jnp.broadcast_to(leaf[None], (rows, *leaf.shape))


def _write(row, tape, value):
    return jax.lax.dynamic_update_index_in_dim(tape, value, row, 0)


def _read(tape, row):
    return jax.lax.dynamic_index_in_dim(tape, row, 0, keepdims=False)


def _strongly_typed(leaf):
    leaf = jnp.asarray(leaf)
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)


def _is_smooth(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _zero_cotangent(leaf):
    return jnp.zeros_like(leaf) if _is_smooth(leaf) else None


def _keep(mask, leaves):
    return [leaf for kept, leaf in zip(mask, leaves) if kept]


def _drop(mask, leaves):
    return [leaf for kept, leaf in zip(mask, leaves) if not kept]


def _merge(mask, kept, dropped):
    kept, dropped = iter(kept), iter(dropped)
    return [next(kept) if keep else next(dropped) for keep in mask]


@jax.custom_batching.custom_vmap
def any_lane(flag: Array) -> Array:
    """`flag` `[]` bool itself; under `vmap` whether it holds in any lane, so that a `lax.cond` on it stays a branch."""
    return flag


@any_lane.def_vmap
def _any_of(size: int, batched: list[bool], flags: Array) -> tuple[Array, bool]:
    del size, batched
    return any_lane(jnp.any(flags, 0)), False
