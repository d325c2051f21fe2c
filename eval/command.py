"""What a command does before anything else: compiled programs are kept on disk, and freed memory in the process."""

import ctypes
import os
from pathlib import Path

import jax

# mallopt's numbers in glibc's malloc.h, the environment's names for them, and our values
_MALLOC_OPTIONS = (
    (-8, "MALLOC_ARENA_MAX", 1),  # the other arenas, of threads, take large pieces from the system each time
    (-3, "MALLOC_MMAP_THRESHOLD_", 2**30),
    (-1, "MALLOC_TRIM_THRESHOLD_", 2**31 - 1),
)


def prepare_process() -> None:
    """`enable_compilation_cache` and `keep_freed_memory`; before the first array, since threads keep what they have."""
    enable_compilation_cache()
    keep_freed_memory()


def enable_compilation_cache() -> Path:
    """Keep compiled programs on disk, so that only the first run on a machine compiles; returns the folder.

    The folder is `$JAX_COMPILATION_CACHE_DIR` or `~/.cache/jaxtrack/xla` (below `$XDG_CACHE_HOME` where set);
    JAX warns and goes on where it cannot be written. Programs that compile in under half a second are not
    kept.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or base / "jaxtrack" / "xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def keep_freed_memory() -> None:
    """Let the process keep the memory that it has freed, up to its peak, for its next allocation.

    A program on the CPU allocates its temporary arrays at every call. Where they are large, glibc gets them from the
    system and gives them back each time, and the system clears every page again: frames of Siamese trackers took up to
    1.7 times as long. Does nothing with another C library; an option that the environment sets stays as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, variable, value in _MALLOC_OPTIONS:
            if variable not in os.environ:
                mallopt(option, value)
