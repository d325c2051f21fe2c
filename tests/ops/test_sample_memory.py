"""The sample memory: invariants of the weights, replacement rules, masked writes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.sample_memory import create, insert

SLOTS, INITIAL = 6, 2


def start(replacement="min_weight"):
    samples = {"features": jnp.arange(2.0)[:, None] * jnp.ones((1, 3)), "box": jnp.zeros((2, 4))}
    return create(SLOTS, samples, replacement=replacement)


def sample(value):
    return {"features": jnp.full(3, value, jnp.float32), "box": jnp.full(4, value, jnp.float32)}


step = jax.jit(
    partial(insert, initial=INITIAL), static_argnames=("min_initial_weight", "replacement")
)


@pytest.mark.usefixtures("strict_dtypes")
def test_start():
    memory = start()
    np.testing.assert_allclose(memory.weights, [0.5, 0.5, 0, 0, 0, 0])
    assert memory.count == INITIAL and memory.last_slot == -1
    assert memory.samples["features"].shape == (SLOTS, 3)
    after = step(memory, sample(7.0), 0.1, min_initial_weight=None)
    np.testing.assert_allclose(after.weights, np.array([0.5, 0.5, 0.09, 0, 0, 0]) / 1.09, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([None, 0.25]),
    st.sampled_from(["min_weight", "next_free", "diversity"]),
)
def test_invariants(inserts, least, replacement):
    memory, written = start(replacement), 0
    for i, (rate, write) in enumerate(inserts):
        before = memory
        memory = step(
            memory, sample(i + 10.0), rate, min_initial_weight=least, replacement=replacement, write=write
        )
        written += write
        raised = least is not None and np.isclose(memory.weights[:INITIAL].sum(), least, rtol=1e-5)
        assert 1 - 1e-5 <= memory.weights.sum() <= (1.1 if raised else 1 + 1e-5)
        assert memory.count == min(INITIAL + written, SLOTS) == (memory.weights > 0).sum()
        if write:
            assert (memory.samples["features"][memory.last_slot] == i + 10).all()
            assert (memory.samples["box"][memory.last_slot] == i + 10).all()
        else:
            jax.tree.map(np.testing.assert_array_equal, memory, before)
    if least is not None:
        assert memory.weights[:INITIAL].sum() >= least - 1e-5
        np.testing.assert_array_equal(memory.samples["features"][:INITIAL], start().samples["features"][:INITIAL])


def test_initial_samples_are_raised_to_their_share():
    """The third insertion at rate 0.7 would leave them too little; the references' formula fills it up."""
    kept, plain = start(), start()
    for i in range(3):
        assert plain.weights[:INITIAL].sum() > 0.25
        np.testing.assert_allclose(kept.weights, plain.weights, rtol=1e-5)
        kept, plain = (step(m, sample(float(i)), 0.7, min_initial_weight=w) for m, w in ((kept, 0.25), (plain, None)))
    assert plain.weights[:INITIAL].sum() < 0.25
    new = plain.weights[INITIAL:]
    np.testing.assert_allclose(kept.weights[INITIAL:], new / (0.25 + new.sum()), rtol=1e-5)
    np.testing.assert_allclose(kept.weights[:INITIAL], 0.25 / INITIAL, rtol=1e-5)


def test_rates_follow_the_recursion():
    """After the first insertions every sample but the new one decays by 1 - rate."""
    memory = step(start(), sample(1.0), 0.1, min_initial_weight=None)
    for rate in (0.1, 0.3, 0.05):
        before = memory
        memory = step(memory, sample(2.0), rate, min_initial_weight=None)
        old = before.weights > 0
        ratios = memory.weights[old] / before.weights[old]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)
        last = before.weights[before.last_slot]
        np.testing.assert_allclose(memory.weights[memory.last_slot] / ratios[0], last / (1 - rate), rtol=1e-5)


def test_full_memory_replaces_the_least_weight():
    for replacement in ("min_weight", "next_free"):
        memory = start()
        for i in range(SLOTS - INITIAL):
            memory = step(memory, sample(i + 1.0), 0.2, min_initial_weight=None, replacement=replacement)
            assert memory.last_slot == INITIAL + i
        least = int(jnp.argmin(memory.weights))
        memory = step(memory, sample(9.0), 0.2, min_initial_weight=None, replacement=replacement)
        assert memory.last_slot == least


def test_replacement_by_diversity_keeps_every_look(rng):
    """Five looks, the first two of frame 1, then many samples of the last ones: by age, the others would be gone."""
    looks = np.eye(5, 8) + 0.3
    seen = [looks[i] + 0.02 * rng.normal(size=8) for i in [2] * 4 + [3] * 9 + [4] * 9]

    def kept(replacement):
        samples = {"features": jnp.asarray(looks[:2], jnp.float32)}
        memory = create(SLOTS, samples, replacement=replacement)
        for features in seen:
            memory = step(
                memory,
                {"features": jnp.asarray(features, jnp.float32)},
                0.1,
                min_initial_weight=0.25,
                replacement=replacement,
            )
        rows = np.asarray(memory.samples["features"])
        if replacement == "diversity":
            np.testing.assert_allclose(memory.gram, rows @ rows.T, rtol=1e-5)
            np.testing.assert_array_equal(rows[:2], looks[:2].astype(np.float32))
        return set(np.argmin(np.linalg.norm(rows[:, None] - looks[None], axis=-1), 1).tolist())

    assert kept("diversity") == {0, 1, 2, 3, 4}
    assert kept("next_free") == {0, 1, 4}


def test_rows_of_a_batch_do_not_mix():
    memories = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), start())
    samples = jax.vmap(lambda value: sample(value))(jnp.arange(3.0))
    write = jnp.array([True, False, True])
    rates = jnp.array([0.1, 0.2, 0.3])
    inserted = jax.vmap(
        lambda memory, new, rate, write: insert(
            memory, new, rate, initial=INITIAL, min_initial_weight=0.25, write=write
        )
    )(memories, samples, rates, write)
    for i in range(3):
        alone = step(start(), sample(float(i)), rates[i], min_initial_weight=0.25, write=write[i])
        jax.tree.map(lambda batch, one: np.testing.assert_allclose(batch[i], one, rtol=1e-6), inserted, alone)  # noqa: B023


def test_bad_arguments():
    with pytest.raises(ValueError, match="do not fit"):
        create(1, jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="replacement"):
        insert(start(), sample(1.0), 0.1, initial=INITIAL, min_initial_weight=None, replacement="oldest")
