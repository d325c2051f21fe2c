#!/usr/bin/env bash
# optax's Muon takes the steps of vectors (biases, scales of a normalization) by Nesterov's Adam, though its documentation
# names AdamW: `nesterov`, which is on by default, is handed to both. The first step of a bias is 1.47 times the rate, of
# optax.adamw it is the rate. A vector's rate that was tuned with AdamW is too high there.
#
# Seen with Python 3.11.7, optax 0.2.8 (0.2.7 has the same code), jax 0.10.2:
# "first step over the rate: muon 1.474, nesterov=False 1.000, adamw 1.000". Fails where Muon's becomes another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import jax.numpy as jnp
import optax
import optax.contrib

RATE = 0.01
params, gradients = {"bias": jnp.zeros(3)}, {"bias": jnp.array([1.0, -2.0, 0.5])}


def first(optimizer):
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return float(jnp.max(jnp.abs(updates["bias"]))) / RATE


found = {
    "muon": first(optax.contrib.muon(RATE)),
    "nesterov=False": first(optax.contrib.muon(RATE, nesterov=False)),
    "adamw": first(optax.adamw(RATE, weight_decay=0.0)),
}
print("first step over the rate:", ", ".join(f"{name} {step:.3f}" for name, step in found.items()))
raise SystemExit(not (found["muon"] > 1.4 and abs(found["nesterov=False"] - 1) < 0.01 and abs(found["adamw"] - 1) < 0.01))
PROGRAM
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py"
