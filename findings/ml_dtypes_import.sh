#!/usr/bin/env bash
# ml_dtypes 0.7.0, which JAX imports first of all, takes more than half a second to be imported, 0.6.0 under a hundredth:
# it adds loops for pairs of its types to NumPy's ufuncs, and NumPy compares each new loop with all that were added.
# `import jax` then takes more than twice as long as with 0.6.0, and jax asks for no version below 0.5.
#
# Seen with Python 3.11.7, numpy 2.4.6, jax 0.10.2, two cores of an AMD EPYC (medians of 5 processes): "ml_dtypes 0.6.0:
# 0.006 s, import jax 0.39 s" and "ml_dtypes 0.7.0: 0.711 s, import jax 1.47 s". Fails where 0.7.0 takes less than ten
# times as long as 0.6.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
cat > "$folder/program.py" <<'PROGRAM'
import statistics
import subprocess
import sys

CODE = "import numpy, time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module):
    """A median over processes; the first, which reads the files from disk, does not count."""
    found = [float(subprocess.check_output([sys.executable, "-c", CODE.format(module)])) for _ in range(6)]
    return statistics.median(found[1:])


print(f"{seconds('ml_dtypes'):.3f} s, import jax {seconds('jax'):.2f} s")
PROGRAM
for version in 0.6.0 0.7.0; do
  "$folder/env/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 "ml_dtypes==$version"
  seen=$("$folder/env/bin/python" "$folder/program.py")
  echo "ml_dtypes $version: $seen"
  echo "${seen%% *}" >> "$folder/seconds"
done
python3 -c 'import sys; quick, slow = map(float, open(sys.argv[1])); sys.exit(slow < 10 * quick)' "$folder/seconds"
