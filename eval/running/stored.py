"""Compiled programs on disk: a second start loads them, and neither traces a tracker nor asks XLA.

JAX's own cache is found only after tracing, which takes longer than all else of a second start. A program is known
here by what it is made of: the tracker's numbers, the source of `trackers` and `ops`, the shapes of its arguments, the
versions, the processor and what XLA is asked for. As those of JAX's cache beside which they lie, these files hold
native code: whoever can write them can run what he likes.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable

import ops
import trackers
from trackers.weights import files

FOLDER, SUFFIX = "programs", ".program"  # in the folder of JAX's cache
KEPT = 100  # programs; the ones that were not used for longest go
DIGEST = 32  # bytes at the start of a file: SHA-256 of the others
LAPACK = b"lapack_"  # in the name of each of its functions that a program calls

_here = threading.local()  # .found: programs that this thread has found in JAX's cache


def made_of(entry: trackers.Entry, config: Any) -> str | None:
    """What distinguishes the programs of `entry.make(config)`; None for a tracker whose code is not of this package."""
    ours = getattr(entry.make, "__module__", "").split(".")[0] == trackers.__name__
    return f"{entry.make.__module__}.{entry.make.__qualname__}({config!r})" if ours else None


def path_of(program: str, args: tuple, options: Any) -> Path | None:
    """Where the program lies that `program` and the shapes of `args` describe; None where none is kept.

    `jax_compilation_cache_dir` says whether any is, as `eval.command.prepare_process` sets it. options: of `compile`.
    """
    folder = jax.config.jax_compilation_cache_dir
    if not folder or jax.device_count() > 1:  # a stored program belongs to one device
        return None
    leaves, tree = jax.tree.flatten(args)
    shapes = [(np.shape(leaf), str(leaf.dtype), getattr(leaf, "weak_type", False)) for leaf in leaves]
    described = repr((program, shapes, str(tree), sorted(options.items()), _surroundings(), _numerics()))
    return Path(folder) / FOLDER / f"{hashlib.sha256(described.encode()).hexdigest()}{SUFFIX}"


def load(path: Path) -> Callable | None:
    """The program in `path`, ready to be called; None where there is none, or one that is damaged or does not run."""
    with contextlib.suppress(Exception):  # whatever is wrong with it, it can be compiled
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
            if LAPACK in data:
                _find_lapack()
            program = serialize_executable.deserialize_and_load(*pickle.loads(data[DIGEST:]))
            path.touch()
            return program
    return None


@functools.cache
def _find_lapack() -> None:
    """jaxlib looks for LAPACK when one of its functions is lowered; until then a program that calls one would crash."""
    jax.jit(jax.numpy.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], bool]]:
    """Yields whether what this thread compiles inside was compiled by XLA, all of it, and not found in JAX's cache.

    jaxlib writes of an executable that it has read itself only a part: it loads, and fails when it is called.
    """
    _listen()
    before = getattr(_here, "found", 0)
    yield lambda: getattr(_here, "found", 0) == before


@functools.cache
def _listen() -> None:
    jax.monitoring.register_event_listener(_count)


def _count(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _here.found = getattr(_here, "found", 0) + 1


def save(path: Path, program: jax.stages.Compiled) -> None:
    """Keep `program`, which XLA has compiled now (`watching`); those that were not used for longest go.

    Nothing is said where it cannot be kept.
    """
    with contextlib.suppress(Exception):  # not every backend can give its programs away, nor every folder take them
        data = pickle.dumps(serialize_executable.serialize(program))
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, hashlib.sha256(data).digest() + data)
        every = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime)
        for old in every[:-KEPT]:
            old.unlink(missing_ok=True)


@functools.cache
def _surroundings() -> tuple:
    device = jax.devices()[0]
    sources = hashlib.sha256()
    for package in (ops, trackers):
        for file in sorted(Path(package.__file__).parent.rglob("*.py")):
            sources.update(file.read_bytes())
    versions = jax.__version__, jaxlib.__version__, flax.__version__, device.client.platform_version
    flags = os.environ.get("XLA_FLAGS", "")
    return versions, device.platform, device.device_kind, _processor(), flags, sources.hexdigest()


def _processor() -> str:
    """What machine code depends on: Linux names what the processor can do."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.machine()
    return platform.machine() + platform.processor()


def _numerics() -> tuple:
    """Options of JAX that change what is traced."""
    config = jax.config
    return config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_default_prng_impl
