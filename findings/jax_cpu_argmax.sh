#!/usr/bin/env bash
# The place of the largest number takes XLA's CPU backend far longer than the number: 1024 x 1024 numbers 20 times as
# long. The same place by rows, which is the largest of each row, the first of the largest of those and its place in its
# row, takes little more than the number alone. numpy.argmax takes as long as that.
#
# Seen with Python 3.11.7, jax 0.10.2 (the same with 0.12.0.1), one AMD EPYC with AVX-512:
# "max 0.18, argmax 4.73, by rows 0.26, numpy 0.27 ms" (medians of 60). Fails where argmax takes less than 5 times as long
# as either other way, or where the three places differ.
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


def by_rows(numbers):
    highest = jnp.max(numbers, 1)
    row = jnp.argmax(highest)
    return row * numbers.shape[1] + jnp.argmax(numbers[row])


host = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
numbers = jax.device_put(host)
calls = {
    name: jax.jit(function).lower(numbers).compile()
    for name, function in (("max", jnp.max), ("argmax", jnp.argmax), ("by rows", by_rows))
}
calls = {name: lambda call=call: call(numbers).block_until_ready() for name, call in calls.items()}
calls["numpy"] = lambda: np.argmax(host)
found = {name: [] for name in calls}
for _ in range(61):  # in turns
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        found[name].append(1e3 * (time.perf_counter() - start))
ms = {name: statistics.median(each[1:]) for name, each in found.items()}
print(", ".join(f"{name} {each:.2f}" for name, each in ms.items()), "ms")
same = int(calls["argmax"]()) == int(calls["by rows"]()) == int(calls["numpy"]())
raise SystemExit(not (same and ms["argmax"] > 5 * max(ms["max"], ms["by rows"])))
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
