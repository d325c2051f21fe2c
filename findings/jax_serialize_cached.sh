#!/usr/bin/env bash
# `jax.experimental.serialize_executable.serialize` of a program that JAX has just compiled gives bytes that another
# process can load and call. Where JAX found the same program in its persistent compilation cache instead, the bytes are
# fewer, load without an error, and fail when they are called: "NOT_FOUND: Function .. not found". So a tool that stores
# executables works on the machine that compiled them first, and breaks wherever the cache of JAX is already filled.
#
# Seen with Python 3.11.7, jax 0.10.2 on a CPU: "compiled: 0.0", "cached: NOT_FOUND"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat > "$folder/write.py" <<'PROGRAM'
import pickle
import sys

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def program(x):
    for size in (3, 5, 7):
        x = jnp.tanh(x @ jnp.ones((size, size + 2)) + jnp.arange(size + 2.0))
        x = jnp.sqrt(jnp.cumsum(x * x, -1) + 1)
    return jnp.sort(x, -1).sum() * 0


compiled = jax.jit(program).lower(jax.ShapeDtypeStruct((4, 3), jnp.float32)).compile()
with open(sys.argv[2], "wb") as file:
    pickle.dump(serialize_executable.serialize(compiled), file)
PROGRAM
cat > "$folder/read.py" <<'PROGRAM'
import pickle
import sys

import jax.numpy as jnp
from jax.experimental import serialize_executable

with open(sys.argv[1], "rb") as file:
    program = serialize_executable.deserialize_and_load(*pickle.load(file))
try:
    print(float(program(jnp.ones((4, 3)))))
except Exception as error:
    print(str(error).partition(":")[0])
PROGRAM
export JAX_PLATFORMS=cpu
seen=$(for name in compiled cached; do
  "$folder/env/bin/python" "$folder/write.py" "$folder/cache" "$folder/$name"
  echo "$name: $("$folder/env/bin/python" "$folder/read.py" "$folder/$name")"
done)
echo "$seen"
[[ $seen == "compiled: 0.0"$'\n'"cached: NOT_FOUND" ]]
