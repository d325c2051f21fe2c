#!/usr/bin/env bash
# jaxlib 0.10 gives XLA's CPU backend a fast convolution only where it has a border: of 48 images of 42 x 42 places and 32
# channels, the 3 x 3 convolution without padding takes several times as long as the one with a border of zeros, whose
# inner outputs are the same numbers. The gradient of its kernel does so, too. In jaxlib 0.12 both take the same.
#
# Seen with Python 3.11.7, jax 0.10.2, two cores of an AMD EPYC with AVX-512: "without padding 68, with a border, cut 18,
# gradient without padding 71, with a border 19 ms" (medians of 15; with other work beside 131, 35, 146 and 42, and with
# 0.12.0.1 then 26, 28, 34 and 33). Fails where one without padding takes less than twice as long, or the numbers differ.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

rng = np.random.default_rng(0)
images = jnp.asarray(rng.normal(size=(48, 42, 42, 32)), jnp.float32)
kernel = jnp.asarray(rng.normal(size=(3, 3, 32, 32)), jnp.float32)
cotangents = jnp.asarray(rng.normal(size=(48, 40, 40, 32)), jnp.float32)


def unpadded(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cut(images, kernel):
    whole = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return whole[:, 1:-1, 1:-1]


def gradient(function):
    return lambda images, kernel: jax.vjp(lambda kernel: function(images, kernel), kernel)[1](cotangents)[0]


functions = {
    "without padding": unpadded,
    "with a border, cut": cut,
    "gradient without padding": gradient(unpadded),
    "with a border": gradient(cut),
}
calls = {name: jax.jit(function).lower(images, kernel).compile() for name, function in functions.items()}
found, outputs = {name: [] for name in calls}, {}
for _ in range(16):  # in turns
    for name, call in calls.items():
        start = time.perf_counter()
        outputs[name] = call(images, kernel).block_until_ready()
        found[name].append(1e3 * (time.perf_counter() - start))
ms = [statistics.median(each[1:]) for each in found.values()]
print(", ".join(f"{name} {each:.0f}" for name, each in zip(found, ms)), "ms")
first, second, third, fourth = outputs.values()
same = np.allclose(first, second, atol=1e-3) and np.allclose(third, fourth, atol=1e-1)
raise SystemExit(not (same and ms[0] > 2 * ms[1] and ms[2] > 2 * ms[3]))
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
