"""Which templates of a target to remember: THOR's short-term and long-term memory (Sauer et al., "Tracking Holistic
Object Representations", BMVC 2019, arXiv:1907.12920).

Both memories have a fixed number of slots, hold what templates are compared by, one vector each, and say which slot a
new template takes; the templates themselves lie with the caller. The short-term memory is a ring. The long-term memory
keeps the set whose Gram matrix has the greatest determinant, the squared volume that the templates span.

Determinants of all exchanges come from one Cholesky factor G = L L^T. With P = G^-1, and a new template of products s
with the old ones and t with itself, exchanging template i for the new one multiplies det G by

    P_ii r + (P s)_i^2,    r = t - s^T P s,

which is one triangular solve for all i. L itself follows an exchange without a new factorization: removing a row
leaves a Hessenberg matrix that rotations make triangular again, and a new last row needs one more solve.

Templates may repeat. Each is taken to have, beside its vector, a component of its own of squared length `RIDGE` machine
epsilons (of the base, the first template's squared length): no determinant is 0, and sets are ordered by their rank
first, then by their volume.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

Array = jax.Array

BOUNDS = ("static", "dynamic", "ensemble")
DIVERSITIES = ("gram", "rolled")
RIDGE = 16
NOT_BETTER, BELOW_BOUND = -1, -2  # decisions of `insert_long_term` that change nothing


class ShortTerm(NamedTuple):
    """The newest templates."""

    vectors: Array  # [N, n] what they are compared by
    gram: Array  # [N, N] inner products, slot by slot; with "rolled" diversity by age, and partly stale
    count: Array  # [] int32 number of insertions; the next one goes to slot count mod N


class LongTerm(NamedTuple):
    """The templates that span the greatest volume; slot 0 is the first one for good."""

    vectors: Array  # [K, n] what they are compared by
    gram: Array  # [K, K] inner products; gram[0, 0] is the base
    factor: Array  # [K, K] lower triangular, of gram / base + ridge, its rows in `order`
    order: Array  # [K] int32 slots
    written: Array  # [] int32 slots beside the first that ever took a template, at most K - 1


def short_term(vector: Array, slots: int) -> ShortTerm:
    """A memory of `slots` times the first template, `[n]`."""
    return ShortTerm(jnp.repeat(vector[None], slots, 0), _constant_gram(vector, slots), jnp.int32(0))


def insert_short_term(memory: ShortTerm, vector: Array, *, diversity: str = "gram") -> tuple[ShortTerm, Array, Array]:
    """(memory, slot `[]` int32, gamma `[]`) after the oldest template made way for `vector` `[n]`.

    gamma = sum_{i < j} G_ij / (G_11 N (N - 1) / 2), template 1 being the oldest: near 1 where all are alike, 1 for
    N = 1. diversity: "gram" is the paper's, "rolled" what THOR's released code computes: its last column holds the
    products with the template one place on, its first update counts the new template twice, and `refill_short_term`
    leaves the matrix as it was. Raises ValueError for another name.
    """
    if diversity not in DIVERSITIES:
        raise ValueError(f"diversity {diversity!r} is not in {DIVERSITIES}")
    slots = memory.vectors.shape[0]
    slot = memory.count % slots
    vectors = memory.vectors.at[slot].set(vector)
    by_age = (slot + 1 + jnp.arange(slots, dtype=jnp.int32)) % slots  # the oldest first
    products = _products(vectors, vector)
    if diversity == "gram":
        gram = memory.gram.at[slot].set(products).at[:, slot].set(products)
        ordered = gram[by_age][:, by_age]
    else:
        aged = vectors[by_age]
        whole = jnp.einsum("in,jn->ij", aged, aged, precision=jax.lax.Precision.HIGHEST)
        gram = ordered = _roll(jnp.where(memory.count == 0, whole, memory.gram), products[by_age])
    pairs = slots * (slots - 1) / 2
    alike = jnp.ones((), vectors.dtype)
    gamma = jnp.sum(jnp.triu(ordered, 1)) / (ordered[0, 0] * pairs) if slots > 1 else alike
    return ShortTerm(vectors, gram, memory.count + 1), slot, gamma


def refill_short_term(memory: ShortTerm, vector: Array, *, diversity: str = "gram") -> ShortTerm:
    """The memory with `vector` `[n]` in every slot."""
    slots = memory.vectors.shape[0]
    gram = memory.gram if diversity == "rolled" else _constant_gram(vector, slots)
    return memory._replace(vectors=jnp.broadcast_to(vector[None], memory.vectors.shape), gram=gram)


def long_term(vector: Array, slots: int) -> LongTerm:
    """A memory of `slots` times the first template, `[n]`."""
    gram = _constant_gram(vector, slots)
    order = jnp.arange(slots, dtype=jnp.int32)
    factor = jnp.asarray(_factor_of_repeats(slots, _ridge(gram.dtype)), gram.dtype)
    return LongTerm(jnp.repeat(vector[None], slots, 0), gram, factor, order, jnp.int32(0))


def insert_long_term(
    memory: LongTerm, vector: Array, gamma: Array | float, *, bound: str, lower_bound: float | Array
) -> tuple[LongTerm, Array]:
    """(memory, decision `[]` int32) after `vector` `[n]` was offered.

    decision: the slot that was taken, 1..K - 1; BELOW_BOUND where the template is too unlike what is known to be the
    target; NOT_BETTER where no exchange gives a greater determinant (an equal one is accepted). The slots are filled
    in order before any is exchanged. gamma: `[]`, of the short-term memory. bound: with s_i the similarities to the
    slots as shares of the base, "static" asks for s_0 >= lower_bound, "dynamic" for s_0 >= lower_bound - (1 - gamma)
    clipped to 0..1, "ensemble" for every s_i > lower_bound. Raises ValueError for another bound, and for one slot.
    """
    slots = memory.vectors.shape[0]
    if slots < 2:
        raise ValueError("a long-term memory of one slot takes nothing")
    base = memory.gram[0, 0]
    products = _products(jnp.concatenate([memory.vectors, vector[None]]), vector)
    similarity, own = products[:-1] / base, products[-1] / base
    admitted = _admits(similarity, gamma, bound, lower_bound)
    gains = exchange_gains(memory.factor, similarity[memory.order], own, _ridge(similarity.dtype))
    gains = jnp.zeros_like(gains).at[memory.order].set(gains).at[0].set(-jnp.inf)
    best = jnp.argmax(gains).astype(jnp.int32)
    filling = memory.written < slots - 1
    slot = jnp.where(filling, memory.written + 1, best)
    better = filling | (gains[best] >= 0)
    decision = jnp.where(admitted, jnp.where(better, slot, NOT_BETTER), BELOW_BOUND).astype(jnp.int32)
    taken = _exchange(memory, slot, vector, products[:-1], products[-1])
    return jax.tree.map(lambda new, old: jnp.where(decision > 0, new, old), taken, memory), decision


def exchange_gains(factor: Array, products: Array, own: Array, ridge: float) -> Array:
    """`[K]` logarithms of what det(L L^T) is multiplied by if a new template takes the place of each row.

    factor: L `[K, K]`, `ridge` on the diagonal included. products: `[K]` of the new template with those of the rows,
    own: `[]` with itself, without the ridge.
    """
    sides = jnp.concatenate([products[:, None], jnp.eye(len(products), dtype=products.dtype)], 1)
    solved = solve_triangular(factor, sides, lower=True)
    along, inverse = solved[:, 0], solved[:, 1:]  # L^-1 s and L^-1
    distance = jnp.maximum(own + ridge - jnp.sum(along**2), ridge)
    weights = jnp.sum(inverse * along[:, None], 0)  # P s
    return jnp.log(jnp.sum(inverse**2, 0) * distance + weights**2)


def log_determinant(memory: LongTerm) -> Array:
    """`[]`, of the Gram matrix over the base, with the ridge."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(memory.factor)))


def remove_row(factor: Array, row: Array) -> Array:
    """The Cholesky factor `[K - 1, K - 1]` of L L^T without its row and column `row` []; L is `[K, K]`."""
    rest = jnp.arange(factor.shape[0] - 1)
    hessenberg = factor[rest + (rest >= row)]

    def rotate(column, matrix):
        """Moves what is right of the diagonal into the column before it; nothing to do above `row`."""
        pair = jax.lax.dynamic_slice_in_dim(matrix, column, 2, 1)
        cosine, sine = pair[column] / jnp.sqrt(jnp.sum(pair[column] ** 2))
        turned = jnp.stack([cosine * pair[:, 0] + sine * pair[:, 1], cosine * pair[:, 1] - sine * pair[:, 0]], 1)
        return jax.lax.dynamic_update_slice_in_dim(matrix, turned, column, 1)

    return jnp.tril(jax.lax.fori_loop(0, len(rest), rotate, hessenberg)[:, :-1])


def append_row(factor: Array, products: Array, own: Array, least: float) -> Array:
    """The Cholesky factor `[K + 1, K + 1]` with one more row: `products` `[K]` with the others, `own` [] with itself.

    least: what its squared distance from the others' span is at least, whatever rounding made of it.
    """
    along = solve_triangular(factor, products, lower=True)
    height = jnp.sqrt(jnp.maximum(own - jnp.sum(along**2), least))
    last = jnp.concatenate([along, height[None]])
    return jnp.concatenate([jnp.pad(factor, ((0, 0), (0, 1))), last[None]])


def _exchange(memory: LongTerm, slot: Array, vector: Array, products: Array, own: Array) -> LongTerm:
    """The memory with `vector` in `slot`, whose row of the factor becomes the last one."""
    base, ridge = memory.gram[0, 0], _ridge(memory.factor.dtype)
    products = products.at[slot].set(own)
    row = jnp.argmax(memory.order == slot)
    rest = jnp.arange(len(memory.order) - 1)
    kept = memory.order[rest + (rest >= row)]
    factor = append_row(remove_row(memory.factor, row), products[kept] / base, own / base + ridge, ridge)
    return LongTerm(
        vectors=memory.vectors.at[slot].set(vector),
        gram=memory.gram.at[slot].set(products).at[:, slot].set(products),
        factor=factor,
        order=jnp.concatenate([kept, slot[None]]),
        written=jnp.minimum(memory.written + 1, len(memory.order) - 1),
    )


def _admits(similarity: Array, gamma: Array | float, bound: str, lower_bound: float | Array) -> Array:
    match bound:
        case "static":
            return similarity[0] >= lower_bound
        case "dynamic":
            return similarity[0] >= jnp.clip(lower_bound - (1 - gamma), 0, 1)
        case "ensemble":
            return jnp.all(similarity > lower_bound)
    raise ValueError(f"bound {bound!r} is not in {BOUNDS}")


def _roll(gram: Array, products: Array) -> Array:
    """THOR's rolling update: one place up and to the left, then the last column, then the last row."""
    gram = gram.at[:-1, :-1].set(gram[1:, 1:])
    return gram.at[:-1, -1].set(products[1:]).at[-1].set(products)


def _products(vectors: Array, vector: Array) -> Array:
    return jnp.einsum("in,n->i", vectors, vector, precision=jax.lax.Precision.HIGHEST)


def _constant_gram(vector: Array, slots: int) -> Array:
    return jnp.broadcast_to(_products(vector[None], vector)[None], (slots, slots))


def _ridge(dtype) -> float:
    return RIDGE * float(jnp.finfo(dtype).eps)


def _factor_of_repeats(size: int, ridge: float) -> np.ndarray:
    """The Cholesky factor of a matrix of ones plus `ridge` on the diagonal."""
    index = np.arange(size)
    pivot = np.sqrt(ridge * (index + 1 + ridge) / (index + ridge))
    below = ridge / (index + ridge) / pivot
    return np.tril(np.broadcast_to(below, (size, size)), -1) + np.diag(pivot)
