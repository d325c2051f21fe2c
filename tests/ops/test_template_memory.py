"""The template memories: determinants against recomputation, bounds, what repeats, what is never lost."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops import template_memory
from ops.template_memory import BELOW_BOUND, NOT_BETTER

SLOTS, LENGTH = 4, 12


@lru_cache
def insertion(bound="ensemble"):
    return jax.jit(partial(template_memory.insert_long_term, bound=bound))


def fill(vectors, *, bound="ensemble", lower_bound=-10.0, gamma=1.0, slots=SLOTS):
    """(memory, decisions) after the first vector started it and the others were offered."""
    vectors = jnp.asarray(vectors)
    memory, decisions = template_memory.long_term(vectors[0], slots), []
    for vector in vectors[1:]:
        numbers = jnp.asarray(gamma, vector.dtype), jnp.asarray(lower_bound, vector.dtype)
        memory, decision = insertion(bound)(memory, vector, numbers[0], lower_bound=numbers[1])
        decisions.append(int(decision))
    return memory, decisions


def views(rng, count, spread=0.5):
    """Unit vectors that resemble the first one, as views of one object do."""
    first, *others = rng.normal(size=(count, LENGTH))
    rows = np.array([first, *(first + spread * other for other in others)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def log_det(gram):
    sign, value = np.linalg.slogdet(np.asarray(gram, np.float64))
    assert sign > 0
    return value


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_determinants_are_those_of_a_new_factorization(rng, dtype, tolerance, x64):
    """After 60 templates: the factor, the determinant, and what every exchange would multiply it by, all in float64."""
    sequence = views(rng, 62)
    memory, decisions = fill(sequence[:-1].astype(dtype))
    assert memory.factor.dtype == dtype and sum(decision > 0 for decision in decisions) > 6
    kept = np.asarray(memory.vectors, np.float64)
    ridge = template_memory.RIDGE * np.finfo(dtype).eps
    gram = kept @ kept.T / (kept[0] @ kept[0]) + ridge * np.eye(SLOTS)
    order = np.asarray(memory.order)
    assert sorted(order) == list(range(SLOTS))
    np.testing.assert_allclose(memory.factor @ memory.factor.T, gram[order][:, order], atol=tolerance)
    np.testing.assert_allclose(memory.gram, kept @ kept.T, atol=tolerance)
    np.testing.assert_allclose(template_memory.log_determinant(memory), log_det(gram), atol=tolerance)

    new = sequence[-1]
    similarity, own = kept @ new / (kept[0] @ kept[0]), new @ new / (kept[0] @ kept[0])
    gains = template_memory.exchange_gains(
        memory.factor, jnp.asarray(similarity[order], dtype), jnp.asarray(own, dtype), ridge
    )
    for slot in range(SLOTS):
        exchanged = gram.copy()
        exchanged[slot] = exchanged[:, slot] = similarity
        exchanged[slot, slot] = own + ridge
        np.testing.assert_allclose(gains[list(order).index(slot)], log_det(exchanged) - log_det(gram), atol=tolerance)


def test_the_factor_without_a_row_and_with_one_more(rng, x64):
    rows = rng.normal(size=(5, 7))
    gram = rows @ rows.T
    remove = jax.jit(template_memory.remove_row)
    for row in range(5):
        rest = [i for i in range(5) if i != row]
        found = remove(jnp.linalg.cholesky(jnp.asarray(gram)), jnp.asarray(row))
        np.testing.assert_allclose(found, np.linalg.cholesky(gram[np.ix_(rest, rest)]), atol=1e-12)
    start = jnp.asarray(np.linalg.cholesky(gram[:4, :4]))
    grown = template_memory.append_row(start, jnp.asarray(gram[4, :4]), jnp.asarray(gram[4, 4]), 1e-12)
    np.testing.assert_allclose(grown, np.linalg.cholesky(gram), atol=1e-12)


def test_every_exchange_makes_the_volume_greater(rng, x64):
    memory, before = template_memory.long_term(jnp.asarray(views(rng, 1)[0]), SLOTS), -np.inf
    for vector in views(rng, 30):
        memory, decision = insertion()(memory, jnp.asarray(vector), jnp.float64(1), lower_bound=jnp.float64(-10))
        after = float(template_memory.log_determinant(memory))
        assert after >= before - 1e-9 and (int(decision) > 0 or after == before)
        before = after


def test_one_of_each_look_is_kept(rng):
    """Four looks of a target, each seen many times and never quite the same, one after the other."""
    looks = np.eye(SLOTS, LENGTH) + 0.5
    seen = np.repeat(looks, 8, 0) + 0.02 * rng.normal(size=(8 * SLOTS, LENGTH))
    memory, decisions = fill(seen.astype(np.float32))
    nearest = np.argmin(np.linalg.norm(np.asarray(memory.vectors)[:, None] - looks[None], axis=-1), 1)
    assert sorted(nearest) == list(range(SLOTS))
    # The newest ones, which a memory by age would hold, all have the last look.
    assert np.ptp(np.argmin(np.linalg.norm(seen[-SLOTS:, None] - looks[None], axis=-1), 1)) == 0
    np.testing.assert_array_equal(memory.vectors[0], seen[0].astype(np.float32))
    assert 0 not in decisions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_repeated_template_never_takes_the_place_of_another(rng, dtype, x64):
    """Nothing but the first template, over and over, then others, then repetitions of those."""
    first, second, third, fourth = views(rng, 4).astype(dtype)
    memory, decisions = fill(np.array([first] * 9))
    assert np.isfinite(float(template_memory.log_determinant(memory))) and decisions[:3] == [1, 2, 3]
    different, repeated = [second, third, fourth], [second, fourth, first, third, third, second, first, fourth]
    memory, decisions = fill(np.array([first] * 5 + different + repeated))
    assert all(decision > 0 for decision in decisions[4:7])
    kept = sorted(map(tuple, np.asarray(memory.vectors)))
    assert kept == sorted(map(tuple, np.array([first, *different])))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(memory))


def test_orthonormal_templates_cannot_be_bettered(rng):
    vectors = np.linalg.qr(rng.normal(size=(LENGTH, LENGTH)))[0].T
    mixed = vectors[:SLOTS].sum(0) / 2  # of the same length
    memory, decisions = fill(np.array([*vectors[:SLOTS], mixed]).astype(np.float32))
    assert decisions == [1, 2, 3, NOT_BETTER]
    np.testing.assert_allclose(template_memory.log_determinant(memory), 0, atol=1e-4)


def test_a_common_scale_of_the_features_changes_nothing(rng):
    sequence = views(rng, 20).astype(np.float32)
    for bound, lower_bound in (("static", 0.8), ("dynamic", 0.9), ("ensemble", 0.6)):
        options = {"bound": bound, "lower_bound": lower_bound, "gamma": 0.95}
        memory, decisions = fill(sequence, **options)
        scaled, same = fill(sequence * 300, **options)
        assert same == decisions and BELOW_BOUND in decisions and max(decisions) > 0
        np.testing.assert_allclose(scaled.factor, memory.factor, atol=1e-4)


def test_lower_bounds():
    """Similarities to the first template: 0.8 and 0.5; the second one is unlike the template in slot 1, too."""
    first, near, far = np.eye(LENGTH, dtype=np.float32)[:3]
    near, far = 0.8 * first + 0.6 * near, 0.5 * first + np.sqrt(0.75).astype(np.float32) * far
    sequence = np.array([first, near, far])

    def decisions(bound, lower_bound, gamma=1.0):
        return fill(sequence, bound=bound, lower_bound=lower_bound, gamma=gamma)[1]

    assert decisions("static", 0.75) == [1, BELOW_BOUND]
    assert decisions("static", 0.45) == [1, 2]
    assert decisions("dynamic", 0.75) == [1, BELOW_BOUND]
    assert decisions("dynamic", 0.75, gamma=0.7) == [1, 2]  # a diverse short-term memory lowers it to 0.45
    assert decisions("dynamic", 0.2, gamma=0.0) == [1, 2]
    assert decisions("ensemble", 0.45) == [1, BELOW_BOUND]  # 0.4 to slot 1
    assert decisions("ensemble", 0.35) == [1, 2]
    assert decisions("ensemble", 0.0) == [1, 2]


def test_the_short_term_memory_is_a_ring(rng):
    vectors = jnp.asarray(views(rng, 9), jnp.float32)
    insert = jax.jit(template_memory.insert_short_term)
    memory = template_memory.short_term(vectors[0], 3)
    taken = []
    for t, vector in enumerate(vectors[1:], 1):
        memory, slot, gamma = insert(memory, vector)
        taken.append(int(slot))
        newest = [vectors[max(t - age, 0)] for age in (2, 1, 0)]
        gram = np.array(newest) @ np.array(newest).T
        np.testing.assert_allclose(gamma, np.triu(gram, 1).sum() / (3 * gram[0, 0]), rtol=1e-5)
        assert all(any(np.array_equal(row, one) for row in memory.vectors) for one in newest)
    assert taken == [0, 1, 2, 0, 1, 2, 0, 1]
    memory = template_memory.refill_short_term(memory, vectors[4])
    np.testing.assert_allclose(insert(memory, vectors[4])[2], 1, rtol=1e-6)
    single = template_memory.short_term(vectors[0], 1)
    assert insert(single, vectors[1])[2] == 1


def test_rows_of_a_batch_do_not_mix(rng):
    sequence = views(rng, 8).astype(np.float32)
    one, other = fill(sequence)[0], fill(sequence[::-1])[0]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other)
    new = jnp.asarray(views(rng, 2), jnp.float32)
    batched = jax.jit(
        jax.vmap(
            lambda memory, vector: template_memory.insert_long_term(
                memory, vector, 1.0, bound="ensemble", lower_bound=jnp.float32(-10)
            )
        )
    )(both, new)
    for row, memory in enumerate((one, other)):
        alone = insertion()(memory, new[row], jnp.float32(1), lower_bound=jnp.float32(-10))
        jax.tree.map(
            lambda found, expected, row=row: np.testing.assert_allclose(found[row], expected, atol=1e-5), batched, alone
        )


def test_bad_arguments():
    vector = jnp.ones(LENGTH)
    with pytest.raises(ValueError, match="one slot"):
        template_memory.insert_long_term(template_memory.long_term(vector, 1), vector, 1, bound="static", lower_bound=0)
    with pytest.raises(ValueError, match="bound 'fixed'"):
        template_memory.insert_long_term(template_memory.long_term(vector, 2), vector, 1, bound="fixed", lower_bound=0)
    with pytest.raises(ValueError, match="diversity 'none'"):
        template_memory.insert_short_term(template_memory.short_term(vector, 2), vector, diversity="none")
