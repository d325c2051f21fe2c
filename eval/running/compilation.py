"""Compiling ahead, so that its time is kept apart."""

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from trackers.base import Frame


class CompiledPerCanvas:
    """A jitted function of a frame, compiled when a canvas size is first seen and never while it is timed.

    The other arguments must keep their shapes and dtypes. Safe to call from several threads.
    """

    def __init__(self, function: Callable, *, donate_argnums: tuple[int, ...] = ()):
        self._jitted = jax.jit(function, donate_argnums=donate_argnums)
        self._executables: dict[tuple[int, ...], Callable] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0

    def prepare(self, *args: Any) -> Callable:
        """The executable for the canvas of the Frame among `args`, compiled now if it is new."""
        canvas = next(arg.image.shape for arg in args if isinstance(arg, Frame))
        with self._lock:
            if canvas not in self._executables:
                start = time.perf_counter()
                self._executables[canvas] = self._jitted.lower(*args).compile()
                self.compile_seconds += time.perf_counter() - start
            return self._executables[canvas]
