"""`eval.running.compilation`: two programs of a tracker are made ready at the same time, and each is counted once."""

import gc
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.running import compilation, progress
from eval.running.compilation import CompiledPerCanvas, prepare_both

LONG = 60.0  # seconds after which what is waited for will not come
SUM = 40 * 40 * 3  # of `frame`


def frame():
    return trackers.frame(np.ones((40, 40, 3), np.uint8))


def init(params, image):
    return {"sum": params + jnp.sum(image.image.astype(jnp.float32))}


def track(params, state, image):
    return {"sum": state["sum"] * params}, image.extent


@pytest.fixture
def slow(monkeypatch):
    """Programs are compiled only once this is set."""
    allowed, compiled = threading.Event(), CompiledPerCanvas._compile

    def wait(self, lowered, path):
        assert allowed.wait(LONG)
        return compiled(self, lowered, path)

    monkeypatch.setattr(CompiledPerCanvas, "_compile", wait)
    return allowed


def test_the_second_program_is_traced_while_the_first_is_compiled(slow):
    def traced(params, state, image):
        slow.set()  # otherwise the first waits, and fails
        return track(params, state, image)

    first, second = CompiledPerCanvas(init), CompiledPerCanvas(traced)
    image, three = frame(), jnp.float32(3)
    program = prepare_both(first, second, three, image)
    state = program(three, image)
    assert second._executables and prepare_both(first, second, three, image) is program
    assert float(second.prepare(three, state, image)(three, state, image)[0]["sum"]) == 3 * (3 + SUM)


def test_a_third_program_is_made_ready_beside_both(slow):
    seen = []

    def third(states):
        seen.append(jax.tree.map(jnp.shape, states))
        slow.set()

    first, second = CompiledPerCanvas(init), CompiledPerCanvas(track)
    prepare_both(first, second, jnp.float32(1), frame(), beside=third)
    prepare_both(first, second, jnp.float32(1), frame(), beside=third)
    assert seen == [{"sum": ()}]


def test_seconds_are_counted_once(slow):
    slow.set()

    def slowly(params, state, image):
        time.sleep(0.2)
        return track(params, state, image)

    first, second = CompiledPerCanvas(init), CompiledPerCanvas(slowly)
    start = time.perf_counter()
    prepare_both(first, second, jnp.float32(1), frame())
    seconds = time.perf_counter() - start
    assert second.compile_seconds >= 0.2
    assert 0 < first.compile_seconds + second.compile_seconds <= seconds


def test_what_fails_in_either_is_told_and_both_can_be_asked_again(monkeypatch):
    def fails(*_):
        raise ValueError("no such shape")

    image, one = frame(), jnp.float32(1)
    first = CompiledPerCanvas(init)
    with pytest.raises(ValueError, match="no such shape"):
        prepare_both(first, CompiledPerCanvas(fails), one, image)
    assert not first._executables
    with monkeypatch.context() as patch:
        patch.setattr(CompiledPerCanvas, "_compile", fails)
        with pytest.raises(ValueError, match="no such shape"):
            first.prepare(one, image)
    assert float(first.prepare(one, image)(one, image)["sum"]) == 1 + SUM


def test_the_thread_that_compiles_is_of_the_same_compilation(monkeypatch):
    """Its seconds and what JAX's cache tells are those of one line on stderr, not of two."""
    seen, compiled = [], CompiledPerCanvas._compile

    def look(self, lowered, path):
        seen.append((progress._compilation.get(), threading.current_thread()))
        return compiled(self, lowered, path)

    monkeypatch.setattr(CompiledPerCanvas, "_compile", look)
    with compilation.compiling(frame().image.shape):
        prepare_both(CompiledPerCanvas(init), CompiledPerCanvas(track), jnp.float32(1), frame())
        whole = progress._compilation.get()
    assert [one for one, _ in seen] == [whole, whole] and progress._compilation.get() is None
    assert all(thread is not threading.main_thread() for _, thread in seen)


def test_precision_is_that_of_the_caller():
    """JAX's contexts are of one thread: all that asks for them happens in the caller's."""

    def product(params, image):
        return jnp.dot(params, params)

    square = jnp.ones((8, 8))
    with jax.default_matmul_precision("highest"):
        program = CompiledPerCanvas(product).prepare(square, frame())
    assert "operand_precision={highest,highest}" in program.as_text()


def test_no_cycles_are_looked_for_while_a_program_is_traced():
    seen = []

    def traced(params, image):
        seen.append(gc.isenabled())
        return init(params, image)

    def failing(params, image):
        raise RuntimeError("cannot be traced")

    CompiledPerCanvas(traced).prepare(jnp.float32(3), frame())
    assert seen == [False] and gc.isenabled()
    with pytest.raises(RuntimeError):
        CompiledPerCanvas(failing).prepare(jnp.float32(3), frame())
    assert gc.isenabled()
    gc.disable()
    try:
        CompiledPerCanvas(traced).prepare(jnp.float32(3), frame())
        assert not gc.isenabled()  # as the caller has it
    finally:
        gc.enable()
