"""A memory of training samples with a fixed number of slots; an empty slot has weight 0.

The weights follow pytracking's recursion: a sample enters with weight `rate`, the older ones decay by 1 - rate, and
the samples of frame 1 together can be kept from falling below a share.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ops.template_memory import exchange_gains

Array = jax.Array

REPLACEMENTS = ("min_weight", "next_free", "diversity")
DIVERSITY_RIDGE = 1e-3  # squared length added to every sample: what differs by less counts as equal


class SampleMemory(NamedTuple):
    """Samples and their weights."""

    samples: Any  # pytree of [slots, ...]
    weights: Array  # [slots], 0 where a slot is empty; they sum to 1 (see `_raise_initial`)
    last_slot: Array  # [] int32 written last, -1 before the first insertion
    count: Array  # [] int32 number of samples
    gram: Array | tuple[()] = ()  # [slots, slots] inner products of samples["features"]; only to replace by diversity


def create(slots: int, initial_samples: Any, *, replacement: str = "min_weight") -> SampleMemory:
    """A memory that holds the samples of frame 1, pytree of `[initial, ...]`, with equal weights.

    replacement: as for `insert`; "diversity" asks for a dict of samples with "features".
    Raises ValueError if they are more than `slots`.
    """
    leaves = jax.tree.leaves(initial_samples)
    initial = leaves[0].shape[0]
    if initial > slots:
        raise ValueError(f"{initial} initial samples do not fit into {slots} slots")

    def extend(leaf):
        return jnp.concatenate([leaf, jnp.zeros((slots - initial, *leaf.shape[1:]), leaf.dtype)])

    dtype = jnp.result_type(*[leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)])
    weights = jnp.where(jnp.arange(slots) < initial, jnp.ones(slots, dtype) / initial, jnp.zeros(slots, dtype))
    samples, gram = jax.tree.map(extend, initial_samples), ()
    if replacement == "diversity":
        rows = initial_samples["features"].reshape(initial, -1)
        gram = jnp.zeros((slots, slots), dtype).at[:initial, :initial].set(_products(rows, rows.T).astype(dtype))
    return SampleMemory(samples, weights, jnp.int32(-1), jnp.int32(initial), gram)


def insert(
    memory: SampleMemory,
    sample: Any,
    rate: Array | float,
    *,
    initial: int,
    min_initial_weight: float | Array | None,
    replacement: str = "min_weight",
    write: Array | bool = True,
) -> SampleMemory:
    """The memory after `sample` (pytree as in the memory, without the slot axis) entered with weight `rate`.

    initial: number of samples of frame 1, in the first slots. min_initial_weight: their common weight never falls
    below this and they are never replaced; None: they are samples like any other. replacement: the slot is that of
    least weight ('min_weight', ATOM; the first empty one while there is one) or the next one in order while the
    memory is not full ('next_free', DiMP; the least weight afterwards), or, once it is full, the one whose loss leaves
    the directions of all features the greatest volume ('diversity': THOR's criterion, see `ops.template_memory`; the
    new sample enters either way, and weights develop as usual). write: where False nothing changes; the
    cost is that of one slot, not of a copy of the memory.
    Raises ValueError for an unknown replacement.
    """
    if replacement not in REPLACEMENTS:
        raise ValueError(f"replacement {replacement!r} is not in {REPLACEMENTS}")
    protected = 0 if min_initial_weight is None else initial
    slots = memory.weights.shape[0]
    slot = (protected + jnp.argmin(memory.weights[protected:])).astype(jnp.int32)
    gram = memory.gram
    if replacement == "diversity":
        products = _products(memory.samples["features"].reshape(slots, -1), sample["features"].reshape(-1))
        own = jnp.sum(sample["features"].astype(gram.dtype) ** 2)
        slot = protected + jnp.argmax(_volumes(gram, products.astype(gram.dtype), own)[protected:]).astype(jnp.int32)
    if replacement in ("next_free", "diversity"):
        slot = jnp.where(memory.count < slots, memory.count, slot)
    if replacement == "diversity":
        row = jnp.where(write, products.astype(gram.dtype).at[slot].set(own), gram[slot])
        gram = gram.at[slot].set(row).at[:, slot].set(row)
    weights = _insert_weight(memory, slot, rate)
    if min_initial_weight is not None:
        weights = _raise_initial(weights, initial, min_initial_weight)
    filled = memory.weights[slot] > 0

    def store(leaf, new):
        return leaf.at[slot].set(jnp.where(write, new.astype(leaf.dtype), leaf[slot]))

    return SampleMemory(
        samples=jax.tree.map(store, memory.samples, sample),
        weights=jnp.where(write, weights, memory.weights),
        last_slot=jnp.where(write, slot, memory.last_slot),
        count=jnp.where(jnp.logical_and(write, ~filled), memory.count + 1, memory.count),
        gram=gram,
    )


def _volumes(gram: Array, products: Array, own: Array) -> Array:
    """`[slots]` logarithms of the volume of all directions if a new sample takes the slot, up to a constant.

    products: `[slots]` of the new sample with the others, own: `[]` with itself.
    """
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 1e-12))
    directions = gram / (lengths[:, None] * lengths[None])
    factor = jnp.linalg.cholesky(directions + DIVERSITY_RIDGE * jnp.eye(len(gram), dtype=gram.dtype))
    similarity = products / (lengths * jnp.sqrt(jnp.maximum(own, 1e-12)))
    return exchange_gains(factor, similarity, jnp.ones_like(own), DIVERSITY_RIDGE)


def _products(rows: Array, others: Array) -> Array:
    return jnp.matmul(rows, others, precision=jax.lax.Precision.HIGHEST)


def _insert_weight(memory: SampleMemory, slot: Array, rate: Array | float) -> Array:
    """The new sample outweighs the one written last by 1 / (1 - rate); normalizing makes the others decay.

    pytracking's first insertion weighs rate (1 - rate), before normalizing, against all older samples together.
    """
    weights, last_slot = memory.weights, memory.last_slot
    first = (weights / (1 - rate)).at[slot].set(rate)
    later = weights.at[slot].set(weights[last_slot] / (1 - rate))
    weights = jnp.where(last_slot < 0, first, later)
    return weights / jnp.sum(weights)


def _raise_initial(weights: Array, initial: int, least: float | Array) -> Array:
    """pytracking's rule: the first samples share exactly `least`, and the sum exceeds 1 until the next insertion."""
    raised = weights / (least + jnp.sum(weights[initial:]))
    raised = raised.at[:initial].set(least / initial)
    return jnp.where(jnp.sum(weights[:initial]) < least, raised, weights)
