"""Training of MemTrack: `python -m train.memtrack --config train/configs/memtrack_smoke.py --out runs/smoke`.

Yang and Chan, "Learning Dynamic Memory Networks for Object Tracking", ECCV 2018, Sec. 4, with the numbers of the
authors' code: a clip is tracked with the boxes known, the loss is that of every step's response, and the gradient goes
back through all steps of the memory.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ops.score_maps import overlap_label
from trackers.nets import models
from trackers.nets.memory import MemoryController
from trackers.rules import COUNT, FRACTION, NOT_NEGATIVE
from trackers.siamfc import STRIDE
from train import command
from train.forward import STATISTICS, applying
from train.losses import balanced_logistic

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """The published numbers."""

    model: Annotated[str, models.with_part(MemoryController)] = "memtrack"  # of `trackers.nets.models`
    # IoU; a cell is the target's where its box, moved there, overlaps with itself by more
    overlap: Annotated[float, FRACTION] = 0.7
    dropout: Annotated[float, FRACTION] = 0.2  # of the LSTM's new input
    # Times half the sum of squares of all parameters, also of biases and batch normalization
    l2: Annotated[float, NOT_NEGATIVE] = 1e-4
    # Frames of a clip that go through the backbone together, and are normalized as one batch; the activations of so
    # many are held at a time, however long the clip
    chunk: Annotated[int, COUNT] = 16
    backbone_statistics: Annotated[str, STATISTICS] = "batch"


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and means to be watched.

    params: `{part: variables}` of the model. batch: of `train.samples.clips.prepare`, clips of T steps, T a multiple of
    `config.chunk`. The parts are the mean response to the target and to the background, the three shares of writing,
    the decay, and the share that the memory adds to the template.
    """
    templates, searches = (_chunks(batch[f"{name}_images"], config.chunk) for name in ("template", "search"))
    kept = _chunks(_kept(batch, config), config.chunk)
    is_first = jnp.arange(len(templates)) == 0

    def chunk(carry, inputs):
        state, first, statistics = carry
        templates, searches, kept, is_first = inputs
        apply, after = applying(config.model, _with_statistics(params, statistics))
        templates, searches = (_features(apply, images, config) for images in (templates, searches))
        first = jnp.where(is_first, templates[0], first)
        fresh = apply("memory", first, method="start", train=False)
        state = jax.tree.map(lambda fresh, old: jnp.where(is_first, fresh, old), fresh, state)

        @jax.checkpoint
        def step(state, inputs):
            template, search, kept = inputs
            state, recall = apply("memory", state, first, template, search, kept, method="step", train=False)
            return state, (recall.template, recall.residual_gate.mean(), state.controls.factors, state.controls.decay)

        state, (recalled, *gates) = jax.lax.scan(step, state, (templates, searches, kept))
        responses = apply("head", recalled, searches, method="correlate")
        return (state, first, _statistics(after)), (responses, *gates)

    inputs = (templates, searches, kept, is_first)
    shapes = carried(params, batch["template_images"], config)[:2]
    start = (*jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), _statistics(params))
    body = jax.checkpoint(chunk) if len(templates) > 1 else chunk  # a single one would be computed twice for nothing
    (_, _, statistics), outputs = jax.lax.scan(body, start, inputs)
    responses, residual, factors, decay = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in outputs)

    labels = _labels(batch["search_boxes"], responses, config)
    total = jnp.mean(jax.vmap(jax.vmap(balanced_logistic))(responses, labels))
    learned = jax.tree.leaves({part: variables["params"] for part, variables in params.items()})
    total = total + config.l2 / 2 * sum(jnp.sum(leaf**2) for leaf in learned)
    skip, read, allocate = jnp.moveaxis(factors, -1, 0)
    parts = {
        "target_response": jnp.sum(responses * labels) / jnp.sum(labels),
        "background_response": jnp.sum(responses * (1 - labels)) / jnp.sum(1 - labels),
        "write_nothing": skip.mean(),
        "write_read": read.mean(),
        "write_unused": allocate.mean(),
        "decay": decay.mean(),
        "residual_gate": residual.mean(),
    }
    return total, (_with_statistics(params, statistics), parts)


def _chunks(leaf: Array, size: int) -> Array:
    """`[T, ...]` -> `[T / size, size, ...]`."""
    return leaf.reshape(-1, size, *leaf.shape[1:])


def _kept(batch: Mapping[str, Array], config: LossConfig) -> Array:
    """`[T, B, H]`: 0 where the LSTM's new input is dropped, else what makes up for it."""
    units, steps = models.networks(config.model)["memory"].hidden, len(batch["search_boxes"])

    def one(key):
        return jax.random.bernoulli(key, 1 - config.dropout, (steps, units))

    kept = jax.vmap(one, out_axes=1)(batch["keys"])
    return kept.astype(batch["search_boxes"].dtype) / (1 - config.dropout)


def _features(apply, images: Array, config: LossConfig) -> Array:
    """Of crops `[F, B, h, w, 3]`: `[F, B, y, x, C]`."""
    (tap,) = apply("backbone", images.reshape(-1, *images.shape[2:]), train=config.backbone_statistics == "batch")
    return tap.reshape(*images.shape[:2], *tap.shape[1:])


def _labels(boxes: Array, responses: Array, config: LossConfig) -> Array:
    """`[T, B, S, S]` for boxes `[T, B, 4]`. Where in its crop a box lies does not count: that is augmentation."""
    label = lambda box: overlap_label(box[:1:-1], responses.shape[-1], STRIDE, config.overlap)  # noqa: E731
    return jax.vmap(jax.vmap(label))(boxes)


def _statistics(params: Params) -> Params:
    return {part: variables["batch_stats"] for part, variables in params.items() if "batch_stats" in variables}


def _with_statistics(params: Params, statistics: Params) -> Params:
    """`params` with other running statistics."""
    changed = {part: {**params[part], "batch_stats": kept} for part, kept in statistics.items()}
    return {**params, **changed}


def carried(params: Params, templates: Array, config: LossConfig) -> Any:
    """Shapes of what goes from chunk to chunk: memory, first templates, running statistics.

    templates: images `[T, B, h, w, 3]`.
    """

    def make(params, images):
        apply, _ = applying(config.model, params)
        (first,) = apply("backbone", images[0], train=False)
        return apply("memory", first, method="start", train=False), first, _statistics(params)

    return jax.eval_shape(make, params, templates)


main = partial(command.main, "memtrack", loss, LossConfig)

if __name__ == "__main__":
    from train import memtrack  # as the configs know it; this copy of the module is called __main__

    sys.exit(memtrack.main())
