#!/usr/bin/env bash
# A 3x3 convolution of 64 channels stays on one core in XLA's CPU backend: it is given to YNNPACK, as the compiled
# program shows, and the process uses little more CPU time than passes on the clock (one of 128 channels spreads). With
# the compiler option xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT YNNPACK takes products
# alone; then Eigen computes the same convolution on all cores, in less time.
#
# Seen with Python 3.11.7, jax 0.10.2, two cores of an AMD EPYC with AVX-512, 72 x 72 x 64 to 64 outputs:
# "as it is: in a YNNPACK fusion, 3.24 ms on 1.1 cores",
# "YNNPACK for products: in no YNNPACK fusion, 2.16 ms on 2.0 cores" (medians of 40). Needs two cores with nothing else
# on them. Fails where the first is in no YNNPACK fusion or uses more than 1.3 cores, or where the second is in one, uses
# fewer than 1.4 or takes longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import statistics
import time

import jax
import numpy as np
from jax import lax

PRODUCTS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def convolve(image, kernel):
    return lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


rng = np.random.default_rng(0)
image = jax.device_put(rng.normal(size=(1, 72, 72, 64)).astype(np.float32))
kernel = jax.device_put(rng.normal(size=(3, 3, 64, 64)).astype(np.float32))
lowered = jax.jit(convolve).lower(image, kernel)
programs = {"as it is": lowered.compile(), "YNNPACK for products": lowered.compile(compiler_options=PRODUCTS)}
found = {name: [] for name in programs}
for _ in range(41):  # in turns
    for name, program in programs.items():
        clock, used = time.perf_counter(), time.process_time()
        for _ in range(10):
            program(image, kernel).block_until_ready()
        clock, used = time.perf_counter() - clock, time.process_time() - used
        found[name].append((1e3 * clock / 10, used / clock))
ms, cores = ({name: statistics.median(row[k] for row in rows[1:]) for name, rows in found.items()} for k in (0, 1))
fused = {name: "ynn_fusion" in program.as_text() for name, program in programs.items()}
for name in programs:
    print(f"{name}: {'in a' if fused[name] else 'in no'} YNNPACK fusion, {ms[name]:.2f} ms on {cores[name]:.1f} cores")
first, second = programs
kept = fused[first] and not fused[second] and cores[first] < 1.3 and cores[second] > 1.4 and ms[second] < ms[first]
raise SystemExit(not kept)
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
