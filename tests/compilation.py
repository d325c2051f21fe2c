"""`jax.jit` for tests whose time is compilation: a third of the time, with the same arithmetic."""

from collections.abc import Callable
from functools import lru_cache

import jax

LITTLE_OPTIMIZATION = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Of the CPU compiler of recent releases: the present emitters of fused loops take most of the time of a compilation.
OLD_EMITTERS = {"xla_cpu_use_fusion_emitters": False}


@lru_cache
def compiler_options() -> dict[str, object]:
    """The options that the installed XLA knows."""
    options = LITTLE_OPTIMIZATION | OLD_EMITTERS
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except (jax.errors.JaxRuntimeError, ValueError):  # a release without the option
        return LITTLE_OPTIMIZATION
    return options


def jit(function: Callable) -> Callable:
    return jax.jit(function, compiler_options=compiler_options())
