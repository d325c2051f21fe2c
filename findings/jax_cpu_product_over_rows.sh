#!/usr/bin/env bash
# XLA's CPU backend takes longer for the product of two arrays over their rows, x^T y, which the gradient of each dense
# layer's kernel is, than for the same numbers with x stored transposed. jax 0.12.0.1 does, too.
#
# Seen with Python 3.11.7, jax 0.10.2, two cores of an AMD EPYC with AVX-512, x of 15129 x 363 and y of 15129 x 96:
# "over rows: 89 GFLOP/s", "x transposed before: 149 GFLOP/s" (medians of 30). Needs a machine with nothing
# else on it. Fails where the second takes more than .85 of the first.
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

ROWS, LEFT, RIGHT = 15129, 363, 96
rng = np.random.default_rng(0)
x, y = (rng.normal(size=(ROWS, columns)).astype(np.float32) for columns in (LEFT, RIGHT))
ways = {
    "over rows": (lambda x, y: jax.lax.dot_general(x, y, (((0,), (0,)), ((), ()))), jax.device_put(x)),
    "x transposed before": (lambda x, y: x @ y, jax.device_put(np.ascontiguousarray(x.T))),
}
y = jax.device_put(y)
programs = {name: jax.jit(function).lower(left, y).compile() for name, (function, left) in ways.items()}
products = [np.asarray(programs[name](left, y)) for name, (_, left) in ways.items()]
np.testing.assert_allclose(*products, rtol=1e-4, atol=1e-1)  # sums of 15129 products, whose deviation is 123
seconds = {name: [] for name in ways}
for _ in range(31):  # in turns
    for name, (_, left) in ways.items():
        start = time.perf_counter()
        programs[name](left, y).block_until_ready()
        seconds[name].append(time.perf_counter() - start)
medians = {name: statistics.median(each[1:]) for name, each in seconds.items()}
for name, median in medians.items():
    print(f"{name}: {2e-9 * ROWS * LEFT * RIGHT / median:.0f} GFLOP/s")
over_rows, transposed = medians.values()
raise SystemExit(not transposed < 0.85 * over_rows)
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
