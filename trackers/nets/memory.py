"""MemTrack's networks behind its backbone: a memory of templates, the controller that reads and writes it, the head.

Yang and Chan, "Learning Dynamic Memory Networks for Object Tracking", ECCV 2018 (arXiv:1803.07268), Sec. 3, as the
authors' code computes it. Any number of leading axes; a template is a `[k, k, C]` feature map, and its key the mean
over its cells.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ops.correlation import cross_correlate
from trackers.nets import windows
from trackers.nets.alexnet import MEMTRACK_BATCH_NORM, siamfc_init
from trackers.nets.resnet import batch_norm

Array = jax.Array
Taps = tuple[Array, ...]

LAYER_NORM_EPSILON = 1e-12
FORGET_BIAS = 1.0
NORM_EPSILON = 1e-6  # of keys, and of the product of two norms
USAGE_DECAY = 0.99


class Controls(NamedTuple):
    """The controller's own state, and what it decided in the last frame."""

    cell: Array  # [..., H]
    hidden: Array  # [..., H]
    read_weights: Array  # [..., N] they add up to 1 (0 before the first frame)
    write_weights: Array  # [..., N] of the template that is written next; they add up to 1 - factors[..., 0]
    factors: Array  # [..., 3] shares that add up to 1: write nothing, into the slots just read, into an unused slot
    decay: Array  # [..., 1] in 0..1, how much of a slot that was read is replaced
    usage: Array  # [..., N] >= 0


class MemoryState(NamedTuple):
    """All that MemTrack remembers beside its first template."""

    slots: Array  # [..., N, k, k, C]
    controls: Controls


class Recall(NamedTuple):
    """What a frame made of the memory, and how."""

    template: Array  # [..., k, k, C] what to look for
    attention: Array  # [..., h, w] over the places of the search region, they add up to 1
    attended: Array  # [..., C] features where the attention is
    residual_gate: Array  # [..., C] in 0..1, the share of each channel that the memory adds
    read_key: Array  # [..., C]
    strength: Array  # [...] > 0, how sharply the key chooses
    allocated: Array  # [...] int32 the slot that was used least


class MemoryController(nn.Module):
    """An LSTM that looks at the search region, reads a template from memory and decides where the next one is written.

    slots: N. hidden: H, units of the LSTM. channels: C, of the backbone.
    """

    slots: int = 8
    hidden: int = 512
    channels: int = 256

    def setup(self):
        def dense(units, *, bias=True, bias_init=nn.initializers.zeros):
            return nn.Dense(units, use_bias=bias, kernel_init=siamfc_init, bias_init=bias_init)

        def norm():
            return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, use_fast_variance=False)

        self.c_state, self.h_state = dense(self.hidden), dense(self.hidden)
        self.input_layer, self.query_layer = dense(self.channels, bias=False), dense(self.channels)
        self.score = dense(1, bias=False)
        self.lstm = dense(4 * self.hidden, bias=False)
        self.norm_input, self.norm_transform, self.norm_forget, self.norm_output = norm(), norm(), norm(), norm()
        self.norm_state = norm()
        self.control_factors, self.write_decay = dense(3), dense(1)
        self.residual, self.read_key = dense(self.channels), dense(self.channels)
        self.read_strength = dense(1, bias_init=nn.initializers.ones)

    def __call__(self, z_taps: Taps, x_taps: Taps) -> tuple[MemoryState, Recall]:
        """The first two frames, of a template `[..., k, k, C]` and a search region `[..., H, W, C]`."""
        template, search = z_taps[0], x_taps[0]
        return self.step(self.start(template), template, template, search)

    def start(self, template: Array) -> MemoryState:
        """The state before the first frame: the first write puts `template` `[..., k, k, C]` into slot 0 as it is."""
        leading, key = template.shape[:-3], jnp.mean(template, (-3, -2))

        def rows(values):
            return jnp.broadcast_to(jnp.asarray(values, template.dtype), (*leading, len(values)))

        slot = rows([1.0] + [0.0] * (self.slots - 1))
        controls = Controls(
            cell=jnp.tanh(self.c_state(key)),
            hidden=jnp.tanh(self.h_state(key)),
            read_weights=jnp.zeros_like(slot),
            write_weights=slot,
            factors=rows([0.0, 0.0, 1.0]),
            decay=rows([0.0]),
            usage=slot,
        )
        return MemoryState(jnp.zeros((*leading, self.slots, *template.shape[-3:]), template.dtype), controls)

    def step(
        self, state: MemoryState, first: Array, written: Array, search: Array, kept: Array | None = None
    ) -> tuple[MemoryState, Recall]:
        """One frame: `write`, then `decide`. written: `[..., k, k, C]` the template of the frame before."""
        slots = write(state, written)
        controls, recall = self.decide(state.controls, slots, first, search, kept)
        return MemoryState(slots, controls), recall

    def decide(
        self, controls: Controls, slots: Array, first: Array, search: Array, kept: Array | None = None
    ) -> tuple[Controls, Recall]:
        """Reads the memory for one search region `[..., H, W, C]`, and decides where its template will be written.

        slots: `[..., N, k, k, C]`. first: `[..., k, k, C]` the template of frame 1. kept: `[..., H]` factors of the
        LSTM's new input, of dropout in training; None: 1.
        """
        places = window_means(search, first.shape[-2])
        attention, attended = self._attend(places, controls.hidden)
        cell, hidden = self._think(attended, controls, kept)
        factors, decay = nn.softmax(self.control_factors(hidden)), nn.sigmoid(self.write_decay(hidden))
        gate, key = nn.sigmoid(self.residual(hidden)), self.read_key(hidden)
        strength = nn.softplus(self.read_strength(hidden))
        read = read_weights(key, strength, slots)
        retrieved = jnp.einsum("...n,...nyxc->...yxc", read, slots)
        allocated = jnp.argmin(controls.usage, -1)
        unused = jax.nn.one_hot(allocated, self.slots, dtype=read.dtype)
        write_weights = factors[..., 1:2] * read + factors[..., 2:3] * unused
        usage = USAGE_DECAY * controls.usage + write_weights + read
        after = Controls(cell, hidden, read, write_weights, factors, decay, usage)
        template = first + gate[..., None, None, :] * retrieved
        recall = Recall(template, attention, attended, gate, key, strength[..., 0], allocated.astype(jnp.int32))
        return after, recall

    def _attend(self, places: Array, hidden: Array) -> tuple[Array, Array]:
        """The paper's soft attention: weights of the places `[..., h, w, C]`, and their weighted mean `[..., C]`."""
        query = self.query_layer(hidden)[..., None, None, :]
        scores = self.score(jnp.tanh(self.input_layer(places) + query))[..., 0]
        attention = nn.softmax(scores, axis=(-2, -1))
        return attention, jnp.einsum("...yx,...yxc->...c", attention, places)

    def _think(self, attended: Array, controls: Controls, kept: Array | None) -> tuple[Array, Array]:
        """The LSTM with layer normalization of each gate and of the state; the normalized state is carried on."""
        gates = jnp.split(self.lstm(jnp.concatenate([attended, controls.hidden], -1)), 4, -1)
        enter, forget, leave = self.norm_input(gates[0]), self.norm_forget(gates[2]), self.norm_output(gates[3])
        new = jnp.tanh(self.norm_transform(gates[1]))
        new = new if kept is None else new * kept
        cell = self.norm_state(controls.cell * nn.sigmoid(forget + FORGET_BIAS) + nn.sigmoid(enter) * new)
        return cell, jnp.tanh(cell) * nn.sigmoid(leave)


class NormalizedResponseHead(nn.Module):
    """MemTrack's response: the correlation of the features, batch-normalized as one channel."""

    def __call__(self, z_taps: Taps, x_taps: Taps, train: bool = False) -> Array:
        return self.correlate(z_taps[0], x_taps[0], train)

    def template(self, z_taps: Taps, train: bool = False) -> Array:
        """The template's features `[..., h, w, C]` as they are."""
        return z_taps[0]

    def search(self, x_taps: Taps, train: bool = False) -> Array:
        """The search region's features `[..., H, W, C]` as they are."""
        return x_taps[0]

    @nn.compact
    def correlate(self, template: Array, search: Array, train: bool = False) -> Array:
        """The response `[..., H - h + 1, W - w + 1]`, a logit; statistics of training are over all of it."""
        correlate = jnp.vectorize(cross_correlate, signature="(y,x,c),(i,j,c)->(a,b)")
        return batch_norm("norm", train, **MEMTRACK_BATCH_NORM)(correlate(search, template)[..., None])[..., 0]


def write(state: MemoryState, template: Array) -> Array:
    """The slots `[..., N, k, k, C]` after `template` `[..., k, k, C]` was written as the controls of `state` say."""
    controls = state.controls
    erased = controls.decay * controls.factors[..., 1:2] + controls.factors[..., 2:3]
    share = (controls.write_weights * erased)[..., None, None, None]
    return state.slots * (1 - share) + share * template[..., None, :, :, :]


def read_weights(key: Array, strength: Array, slots: Array) -> Array:
    """Softmax over the slots `[..., N, k, k, C]` of `strength` `[..., 1]` times their cosine with `key` `[..., C]`.

    An empty slot has the cosine 0. Returns `[..., N]`.
    """

    def norm(vectors):
        return jnp.sqrt(jnp.sum(vectors**2, -1) + NORM_EPSILON)

    keys = jnp.mean(slots, (-3, -2))
    product = jnp.einsum("...c,...nc->...n", key, keys)
    return nn.softmax(strength * product / (norm(key)[..., None] * norm(keys) + NORM_EPSILON))


def window_means(features: Array, size: int) -> Array:
    """`[..., H, W, C]` -> the means of all windows of size x size cells, `[..., H - size + 1, W - size + 1, C]`."""
    for axis in (-3, -2):
        count = features.shape[axis] - size + 1
        shifted = windows.along(features, axis, size, count)
        features = sum(shifted) / size
    return features
