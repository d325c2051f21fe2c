"""Floating point operations of a traced function, loop bodies counted as often as they run.

XLA's own cost analysis counts the body of a loop once.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Callable, *args: Any, while_steps: int = 0) -> int:
    """Multiplications and additions of all matrix products and convolutions in `function(*args)`.

    A `scan` counts its body `length` times, a `while` `while_steps` times (0: such loops are left out), the
    branches of a `cond` as the dearest of them. Element-wise work is not counted: what it costs shows as time
    above the count.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, while_steps)


def _of_jaxpr(jaxpr: core.Jaxpr, while_steps: int) -> int:
    return sum(_of_equation(equation, while_steps) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn, while_steps: int) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_dot(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    if name == "cond":
        return max(_of_jaxpr(branch.jaxpr, while_steps) for branch in params["branches"])
    inner = sum(_of_jaxpr(jaxpr, while_steps) for jaxpr in _inner_jaxprs(params))
    if name == "scan":
        return inner * params["length"]
    if name == "while":
        return inner * while_steps
    return inner


def _inner_jaxprs(params: dict[str, Any]):
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _of_dot(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: core.JaxprEqn) -> int:
    """Every output value is a product over the kernel's window and input channels (padding counted as work).

    The gradient of a strided convolution dilates its input: the zeros between are not counted.
    """
    kernel = equation.invars[1].aval.shape
    output_axis = equation.params["dimension_numbers"].rhs_spec[0]
    values = 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[output_axis]
    return values // math.prod(equation.params["lhs_dilation"])
