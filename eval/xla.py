"""What XLA is asked for where a tracker is compiled for a CPU; `python -m eval.benchmark.flags` measures it."""

import functools
import os
from typing import Any

import jax

# In jaxlib 0.10 the new emitters of fused loops compile longer than those before them, and what they emit is no faster;
# LLVM's third level finds nothing more to do. Its YNNPACK keeps convolutions of up to 64 channels on one core: asked
# for products alone, it leaves them to Eigen. jaxlib 0.12 has the new emitters alone, and spreads such convolutions.
# Training is compiled without: what the options do there is not measured.
CPU_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 2,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
NEW_EMITTERS_OPTIONS = {"xla_backend_optimization_level": 2}


@functools.cache
def compiler_options() -> dict[str, Any]:
    """For `jax.jit` and `compile`: CPU_OPTIONS but for those that `XLA_FLAGS` names.

    NEW_EMITTERS_OPTIONS where this XLA has no other emitters; empty where it does not know these, or on another device.
    """
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    for options in (CPU_OPTIONS, NEW_EMITTERS_OPTIONS):
        try:
            jax.jit(lambda x: x + 1, compiler_options=options)(0.0)
        except jax.errors.JaxRuntimeError:  # of a release without one of them
            continue
        return {name: value for name, value in options.items() if name not in flags}
    return {}
