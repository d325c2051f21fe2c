#!/usr/bin/env bash
# A batch of 25 products of 64 x 256 and 256 x 256 takes longer in XLA's CPU backend than one of 68 x 256 and 256 x 256:
# up to 2^22 multiplications a matrix the whole batch runs on one core, however many matrices it has; one row more than
# that and it is spread over all. jax 0.12.0.1 spreads both.
#
# Seen with Python 3.11.7, jax 0.10.2, two cores of an AMD EPYC with AVX-512:
# "64 rows: 2.61 ms on 1.0 cores", "68 rows: 1.61 ms on 1.8 cores" (medians of 30). Needs two cores with nothing else on
# them. Fails where the first uses more than 1.3 cores, or where the second uses fewer than 1.4 or takes longer.
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

BATCH, SIDE = 25, 256
rng = np.random.default_rng(0)
programs, found = {}, {}
for rows in (2**22 // SIDE**2, 68):
    left, right = (
        jax.device_put(rng.normal(size=(BATCH, count, SIDE)).astype(np.float32)) for count in (rows, SIDE)
    )
    programs[rows], found[rows] = (jax.jit(jax.numpy.matmul).lower(left, right).compile(), left, right), []
for _ in range(31):  # in turns
    for rows, (program, *arguments) in programs.items():
        clock, used = time.perf_counter(), time.process_time()
        for _ in range(10):
            program(*arguments).block_until_ready()
        clock, used = time.perf_counter() - clock, time.process_time() - used
        found[rows].append((1e3 * clock / 10, used / clock))
ms, cores = ({rows: statistics.median(row[k] for row in each[1:]) for rows, each in found.items()} for k in (0, 1))
for rows in programs:
    print(f"{rows} rows: {ms[rows]:.2f} ms on {cores[rows]:.1f} cores")
few, more = programs
raise SystemExit(not (cores[few] < 1.3 and cores[more] > 1.4 and ms[more] < ms[few]))
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
