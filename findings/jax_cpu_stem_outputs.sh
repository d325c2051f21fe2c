#!/usr/bin/env bash
# The time of a 7x7 convolution at stride 2 of an RGB image (a ResNet's stem, without padding) does not grow with its
# outputs in XLA's CPU backend: with 24 of them it takes many times as long as with 16, and several times as long as
# with 64, which hold the 24. A narrow network can so spend most of a frame in its first layer, and is faster with
# outputs that nobody reads.
#
# Seen with Python 3.11.7, jax 0.10.2, one core of an Intel Xeon with AVX-512, 294 x 294 pixels:
# "16 outputs: 3.1 ms", "24 outputs: 27.1 ms", "64 outputs: 4.9 ms" (the least of 20). Fails where 24 outputs take less
# than three times as long as 16, or than twice as long as 64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import time

import jax
import numpy as np
from jax import lax


@jax.jit
def stem(image, kernel):
    return lax.conv_general_dilated(image, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


rng = np.random.default_rng(0)
image = rng.normal(size=(1, 294, 294, 3)).astype(np.float32)
kernels = {outputs: rng.normal(size=(7, 7, 3, outputs)).astype(np.float32) for outputs in (16, 24, 64)}
times = {outputs: [] for outputs in kernels}
for _ in range(21):  # in turns; the first of each is compiled
    for outputs, kernel in kernels.items():
        start = time.perf_counter()
        stem(image, kernel).block_until_ready()
        times[outputs].append(1e3 * (time.perf_counter() - start))
least = {outputs: min(found[1:]) for outputs, found in times.items()}
for outputs, found in least.items():
    print(f"{outputs} outputs: {found:.1f} ms")
raise SystemExit(not (least[24] > 3 * least[16] and least[24] > 2 * least[64]))
PROGRAM
JAX_PLATFORMS=cpu taskset -c 0 "$folder/env/bin/python" "$folder/program.py"
