"""How the tests compile.

Nearly all their time is compilation, so that XLA optimizes little, here and in every process that a test starts: a
quarter of the time, with the same arithmetic. The golden numbers of operators and optimizers and of ATOM's and DiMP's
networks, the convolution, and the training that is long are compiled as for users.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from jax import jit

LITTLE_OPTIMIZATION = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Of the CPU compiler of recent releases: the present emitters of fused loops take most of the time of a compilation.
OLD_EMITTERS = {"xla_cpu_use_fusion_emitters": False}


def little_optimization() -> str:
    """`XLA_FLAGS` of what the installed XLA knows: it aborts at one that it does not know."""
    flags = _flags(LITTLE_OPTIMIZATION | OLD_EMITTERS)
    compiles = [sys.executable, "-c", "import jax; jax.jit(lambda x: x + 1)(0.0)"]
    known = subprocess.run(compiles, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, check=False)
    return flags if known.returncode == 0 else _flags(LITTLE_OPTIMIZATION)


def jit_as_for_users(function: Callable, *, compiler_options: dict | None = None, **more) -> Callable:
    """`jax.jit` as if `XLA_FLAGS` named nothing of `little_optimization`."""
    usual = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    if _flags(OLD_EMITTERS) in os.environ.get("XLA_FLAGS", ""):
        usual |= dict.fromkeys(OLD_EMITTERS, True)
    return jit(function, compiler_options=usual | (compiler_options or {}), **more)


def _flags(options: dict[str, object]) -> str:
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())
