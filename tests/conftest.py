"""What holds for the whole test run: exact matrix products, rank promotion is an error, Ctrl-C is heard, programs are
compiled with little optimization and shared by all processes, and dropped where nothing more needs them."""

import ctypes
import gc
import os
import signal
import tempfile
from contextlib import nullcontext

import jax
import numpy as np
import pytest

from tests.helpers import oracle, places
from tests.helpers.compilation import little_optimization
from tests.helpers.narrow import plain_convolution

MOST_RESIDENT = 1.6e9  # bytes; two workers and what they start then stay below 6 GB

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background deaf to it
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup deaf to this one


def pytest_configure(config):
    """What the workers, which start after this, find in their environment: how to compile, and a folder of compiled
    programs, gone with the run unless the environment names one."""
    if not hasattr(config, "workerinput"):
        os.environ["XLA_FLAGS"] = little_optimization()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="compiled-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_collection_modifyitems(items):
    """What shares programs runs on one worker, one after the other: a row of the property table, or else a file."""
    order = {}
    for item in items:
        order.setdefault(group(item), len(order))
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: order[group(item)])


def pytest_runtest_teardown(item, nextitem):
    """Programs and cached arrays of groups are dropped once they take too much: those of a whole run are gigabytes."""
    if nextitem is not None and group(nextitem) != group(item) and resident() > MOST_RESIDENT:
        for value in [*vars(item.module).values(), *vars(oracle).values()]:
            if hasattr(type(value), "cache_clear"):
                value.cache_clear()
        jax.clear_caches()
        gc.collect()
        if hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)


def resident() -> float:
    """Bytes of this process in memory; infinite where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return float("inf")


def group(item) -> str:
    row = item.callspec.params.get("name") if item.path.stem == "test_properties" and hasattr(item, "callspec") else ""
    return f"{item.path.parent.name}.{item.path.stem}.{row}"


@pytest.fixture(scope="module", autouse=True)
def convolution(request):
    """XLA's own where networks are only passed through; the product's own has its tests in golden/ and nets/."""
    room, *rest = request.path.relative_to(places.REPOSITORY / "tests").parts
    plain = room in ("properties", "train", "trackers") and rest[0] != "nets"
    with plain_convolution() if plain else nullcontext():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x64():
    """float64 for one test: finite differences and the oracle's own precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_dtypes():
    """Implicit dtype promotion is an error for one test of `ops` (Linen and optax do not survive it)."""
    with jax.numpy_dtype_promotion("strict"):
        yield
