"""MemTrack: SiamFC whose template is read from a memory that a learned controller fills while it tracks.

Yang and Chan, "Learning Dynamic Memory Networks for Object Tracking", ECCV 2018 (arXiv:1803.07268). In every frame the
template of the frame before may be written into a slot; attention over the search region drives the controller, which
reads a template from the slots and adds it, channel by channel, to that of frame 1. Nothing else is learned online.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.crop import mean_color
from trackers import siamfc
from trackers.base import FOUND, LOST, Estimate, Tracker, select
from trackers.nets import models
from trackers.nets.memory import MemoryController, MemoryState, write
from trackers.parts import contrast, templates
from trackers.parts.templates import Matcher

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """All numbers of MemTrack; the defaults are the authors'."""

    host: siamfc.Config = siamfc.Config(
        "memtrack", scale_step=1.05, scale_rate=0.6, scale_penalty=0.97, window_influence=0.15
    )
    memory: bool = True  # False: the template of frame 1 alone, as SiamFC with this model's features

    def misfits(self) -> Iterator[tuple[str, str]]:
        rule = models.with_part(MemoryController)
        if not rule.holds(self.host.model):
            yield "host.model", rule.text


class State(NamedTuple):
    """One target."""

    box: Box  # image pixels
    template: Array  # [1, 6, 6, C] of frame 1
    last: Array  # [6, 6, C] where the target was found in the frame before: to be written into the memory
    memory: MemoryState  # of one target


def make(config: Config) -> Tracker:
    """The tracker; `params` of the model "memtrack".

    Extras beside those of all Siamese trackers: "scale" `[]` int32 of the search crops, and with the memory "attention"
    `[S, S]` over the search crop of that scale, "read_weights" and "write_weights" `[N]` over the slots, "factors"
    `[3]` (write nothing, into the slots just read, into an unused slot), "decay" `[1]` and "residual_gate" `[C]`. What
    a frame decides to write is the template that is cut out of this same frame.
    After a frame without contrast where the target is sought (LOST, see `trackers.parts.contrast`) all is as before it.
    """
    matcher = make_matcher(config)
    controller = models.networks(config.host.model)["memory"]

    def init(params, key, frame, box):
        del key  # nothing is random
        fill = mean_color(frame.image, frame.extent)
        template = matcher.embed(params, frame, box, fill)
        memory = controller.apply(params["memory"], template[0], method="start")
        return State(box, template, template[0], memory)

    def read(params, state: State, slots: Array, search: Array):
        """The controls and the recall of every scale, which all start from the same memory."""

        def one(features):
            known = state.memory.controls, slots, state.template[0]
            return controller.apply(params["memory"], *known, features, method="decide")

        return jax.vmap(one)(search)

    def track(params, state, frame):
        fill = mean_color(frame.image, frame.extent)
        region = matcher.region(frame, state.box, fill)
        features = matcher.features(params, region.image)
        template = state.template
        if config.memory:
            slots = write(state.memory, state.last)
            controls, recall = read(params, state, slots, features.search)
            template = recall.template
        response = matcher.match(params, template, features)
        choice = templates.choose(templates.finite(matcher.decode(response, state.box), state.box))
        seen = contrast.visible(region, frame.extent) & (choice.ranked > 0)
        box = siamfc.follow(state.box, choice, frame)
        scale = choice.crop
        sight = templates.sight(region, choice, matcher.grid, templates.map_cells(matcher))
        extras = {"index": choice.index, "scale": scale, **sight}
        after = state._replace(box=box)
        if config.memory:
            controls, recall = jax.tree.map(lambda leaf: leaf[scale], (controls, recall))
            last = matcher.embed(params, frame, box, fill)[0]
            after = after._replace(last=last, memory=MemoryState(slots, controls))
            extras |= {
                "attention": recall.attention,
                "residual_gate": recall.residual_gate,
                "read_weights": controls.read_weights,
                "write_weights": controls.write_weights,
                "factors": controls.factors,
                "decay": controls.decay,
            }
        state = select(seen, after, state)
        confidence = jnp.where(seen, jnp.clip(choice.score, 0, 1), 0)
        verdict = jnp.where(seen, FOUND, LOST).astype(jnp.int32)
        return state, Estimate(state.box, choice.score, confidence, verdict, extras)

    return Tracker(init, track)


def make_matcher(config: Config) -> Matcher:
    """The template contract of `trackers.siamfc`, with this model's networks; it knows nothing of the memory."""
    return siamfc.make_matcher(config.host)
