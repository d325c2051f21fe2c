"""What every command does first: the folder of compiled programs, and memory that stays in the process."""

import platform
import subprocess
import sys

import jax
import pytest

from eval.command import enable_compilation_cache


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        assert enable_compilation_cache() == tmp_path / "jaxtrack" / "xla"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
        assert enable_compilation_cache() == tmp_path / "own"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
PAGE_FAULTS = """
import sys
import resource
import jax
import jax.numpy as jnp
from eval.command import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def large(x):  # a temporary array of 64 MiB
    table = jax.lax.optimization_barrier(jnp.outer(x, x))
    return table @ x

call = jax.jit(large)
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call(jnp.ones(4096)).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(page_faults() for repeat in range(20)))
"""


def page_faults(way: str) -> int:
    """The fewest of any call: now and then a freed piece does not fit again. The 64 MiB are 16384 pages."""
    out = subprocess.run([sys.executable, "-c", PAGE_FAULTS, way], check=True, capture_output=True, text=True)
    return int(out.stdout)


@glibc
def test_freed_memory_is_kept():
    assert page_faults("keep") < 2000


@glibc
def test_what_the_environment_sets_stays(monkeypatch):
    for variable in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(variable, "1000000")
    assert page_faults("keep") > 8000
