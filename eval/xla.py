"""What XLA is asked for where a tracker is compiled for a CPU; `python -m eval.benchmark.flags` measures it."""

import functools
import os
from typing import Any

import jax

# With the old emitters of fused loops (jaxlib 0.10) LLVM's third level finds nothing more to do than the second; in
# 0.12 it takes longer to compile, for frames that take as long. Training is compiled without: what the options do there
# is not measured.
CPU_OPTIONS = {"xla_backend_optimization_level": 2}

# In jaxlib 0.10 the new emitters compile longer than those before them, and what they emit is no faster. Its YNNPACK
# keeps convolutions of up to 64 channels on one core: asked for products alone, it leaves them to Eigen. jaxlib 0.12
# has the new emitters alone, and spreads such convolutions.
OLD_EMITTERS_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


@functools.cache
def compiler_options() -> dict[str, Any]:
    """For `jax.jit` and `compile`: CPU_OPTIONS, and OLD_EMITTERS_OPTIONS where this XLA has these emitters.

    Without those that `XLA_FLAGS` names. Empty on another device, and where this XLA does not know CPU_OPTIONS.
    """
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    every = (CPU_OPTIONS | OLD_EMITTERS_OPTIONS, CPU_OPTIONS, {})
    options = next(options for options in every if _known(options))
    return {name: value for name, value in options.items() if name not in flags}


def _known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True
