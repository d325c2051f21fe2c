"""What XLA is asked for where a tracker is compiled for a CPU; `python -m eval.benchmark.flags` measures it."""

import functools
import os
from typing import Any

import jax

# In jaxlib 0.10 the new emitters of fused loops compile longer than those before them, and what they emit is no faster;
# with the old ones LLVM's third level finds nothing more to do. Its YNNPACK keeps convolutions of up to 64 channels on
# one core: asked for products alone, it leaves them to Eigen. jaxlib 0.12 has the new emitters alone, and spreads such
# convolutions. Training is compiled without: what the options do there is not measured.
CPU_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 2,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


@functools.cache
def compiler_options() -> dict[str, Any]:
    """For `jax.jit` and `compile`: CPU_OPTIONS but for those that `XLA_FLAGS` names.

    Empty on another device, and where this XLA does not know them.
    """
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    try:
        jax.jit(lambda x: x + 1, compiler_options=CPU_OPTIONS)(0.0)
    except jax.errors.JaxRuntimeError:  # of a release without the old emitters
        return {}
    return {name: value for name, value in CPU_OPTIONS.items() if name not in flags}
