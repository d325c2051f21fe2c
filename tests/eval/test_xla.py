"""What XLA is asked for: what it knows, what the user has not said otherwise, and nothing on another device."""

import jax
import jax.numpy as jnp
import pytest

from eval import xla


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    xla.compiler_options.cache_clear()
    yield
    xla.compiler_options.cache_clear()


def known(options) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def test_this_xla_compiles_with_the_options_if_it_knows_them():
    options = xla.compiler_options()
    assert options == xla.CPU_OPTIONS | (xla.OLD_EMITTERS_OPTIONS if known(xla.OLD_EMITTERS_OPTIONS) else {})
    doubled = jax.jit(lambda x: 2 * x).lower(1.0).compile(compiler_options=options)
    assert doubled(jnp.float32(4)) == 8


def test_a_release_without_the_old_emitters_is_asked_for_what_it_knows(monkeypatch):
    monkeypatch.setitem(xla.OLD_EMITTERS_OPTIONS, "xla_of_another_time", 7)
    assert xla.compiler_options() == xla.CPU_OPTIONS


def test_a_release_without_any_of_them_does_without(monkeypatch):
    monkeypatch.setitem(xla.CPU_OPTIONS, "xla_of_another_time", 7)
    assert xla.compiler_options() == {}


def test_the_user_has_the_last_word(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert "xla_backend_optimization_level" not in xla.compiler_options()


def test_another_device_has_its_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert xla.compiler_options() == {}
