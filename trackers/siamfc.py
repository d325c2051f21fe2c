"""SiamFC: the target is where a template's correlation with the search region peaks.

Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", ECCVW 2016 (arXiv:1606.09549). Search
crops of a few scales; nothing is learned online.
"""

from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import Box
from ops.crop import Crop
from ops.score_maps import bicubic_resize
from trackers.base import Frame, Tracker
from trackers.nets import models, siamese
from trackers.nets.memory import NormalizedResponseHead
from trackers.nets.rpn import SiamFCHead
from trackers.parts import templates
from trackers.parts.templates import EXEMPLAR_SIZE, REGION, STRIDE, Choice, Grid, Matcher, Memory, Proposals
from trackers.rules import ABOVE_ONE, COUNT, OF_THE_TRACKER, POSITIVE, PROBABILITY, SCALES, Search, one_of

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """All numbers of SiamFC; the defaults are siamfc-pytorch's, with three scales."""

    # Of `trackers.nets.models`; MemTrack's host: "memtrack"
    model: Annotated[str, models.with_part(SiamFCHead, NormalizedResponseHead), OF_THE_TRACKER] = "siamfc"
    instance_size: Annotated[int, REGION] = 255  # crop pixels of a side of the search region
    window_influence: Annotated[float, PROBABILITY, Search(0.05, 0.6)] = 0.176
    scales: Annotated[int, SCALES] = 3  # search crops, an odd number
    scale_step: Annotated[float, ABOVE_ONE, Search(1.01, 1.1)] = 1.0375  # from one scale to the next
    scale_rate: Annotated[float, PROBABILITY, Search(0.2, 1.0)] = 0.59  # share of the change of scale that is taken
    # Factor on the response, without the head's bias, of every scale but the present one
    scale_penalty: Annotated[float, POSITIVE, Search(0.9, 1.0)] = 0.9745
    upsampling: Annotated[int, COUNT] = 16  # of the response
    # Of the upsampled response; THOR's released host: "thor", see `_upsampled`
    grid: Annotated[str, one_of("whole", "thor")] = "whole"
    rounding: Annotated[str, one_of("continuous", "siamfc")] = "continuous"  # of the crop; "siamfc": siamfc-pytorch's


FIVE_SCALES = replace(
    Config(), scales=5, scale_step=1.0255, scale_rate=0.34, scale_penalty=0.962, window_influence=0.168
)
DISTILLED = replace(Config(), model="siamfc_distilled")


def make(config: Config, memory: Memory | None = None) -> Tracker:
    """The tracker; `params` of `config.model`."""
    return templates.compose((make_matcher(config),), (), follow=follow, memory=memory)


def follow(old: Box, choice: Choice, frame: Frame) -> Box:
    """The chosen box; a size that would shrink below a pixel, or grow beyond the frame, stays as it is."""
    box = templates.damped(old, choice)
    extent = frame.extent.astype(old.size.dtype)
    shrinks, grows = box.size < jnp.minimum(old.size, 1), box.size > jnp.maximum(old.size, extent)
    return box._replace(size=jnp.where(jnp.any(shrinks | grows), old.size, box.size))


class Response(NamedTuple):
    """What a template sees in the search crops."""

    maps: Array  # [scales, 17, 17]
    nothing: Array  # [] the head's answer where correlation is 0: its bias, or what a normalization makes of 0


def make_matcher(config: Config) -> Matcher:
    """The template contract. Templates: features `[1, 6, 6, C]` of the exemplar. Responses: `Response`."""
    network = siamese.make(config.model)
    steps = np.arange(config.scales) - config.scales // 2
    size, up = config.instance_size, config.upsampling
    upsampled, middle = _upsampled(config)
    window = np.outer(np.hanning(upsampled), np.hanning(upsampled))
    window = jnp.asarray(window / window.sum(), jnp.float32)
    displacement = (np.arange(upsampled) - middle) * STRIDE / up  # crop pixels
    grid = jnp.asarray(np.stack(np.meshgrid(displacement, displacement, indexing="ij"), -1), jnp.float32)

    def factors():
        return jnp.float32(config.scale_step) ** jnp.asarray(steps, jnp.float32)

    def side(box):
        return templates.context_side(box.size) * size / EXEMPLAR_SIZE

    def region(frame, box, fill):
        def one(factor) -> Crop:
            return templates.square_crop(frame, box.center, side(box) * factor, size, fill, config.rounding)

        return jax.vmap(one)(factors())

    def match(params, template, features):
        nothing = jnp.zeros_like(template[:1])
        return Response(
            network.correlate(params, template, features.search),
            network.correlate(params, nothing, nothing).reshape(()),
        )

    def decode(response, box):
        maps = penalized_maps(config, response)
        best = best_scale(maps)
        chosen, factor = maps[best], factors()[best]
        positive = chosen - jnp.min(chosen)
        share = positive / (jnp.sum(positive) + 1e-16)
        ranked = (1 - config.window_influence) * share + config.window_influence * window
        center = box.center[None, None] + grid * (side(box) * factor / size)
        whole = jnp.broadcast_to(box.size[None, None] * factor, center.shape)
        rate = jnp.full(ranked.shape, config.scale_rate, ranked.dtype)
        boxes = Box(center[None], whole[None])
        crop = jnp.broadcast_to(best, ranked.shape)
        return Proposals(jax.nn.sigmoid(chosen)[None], ranked[None], boxes, rate[None], crop[None])

    places = Grid(upsampled, STRIDE / up, middle)
    return Matcher(*templates.embeddings(network, config.rounding), region, network.features, match, decode, places)


def _upsampled(config: Config) -> tuple[int, float]:
    """Cells of a side of the upsampled response, and the index of no displacement.

    A lone peak has four equal maxima around it for an even `upsampling`, of which the first is taken, as in
    siamfc-pytorch: a quarter of a crop pixel up and to the left of the peak.

    "whole": the map's cells times `upsampling`. "thor": that number squared (256 in place of 272, each cell still
    taken for STRIDE / upsampling pixels), and half of it, a quarter of a pixel off the middle.
    """
    if config.grid == "thor":
        return config.upsampling**2, config.upsampling**2 // 2
    upsampled = cells(config.instance_size) * config.upsampling
    return upsampled, (upsampled - 1) / 2


def cells(instance_size: int) -> int:
    """Cells of a side of the response in a search crop of so many pixels."""
    return (instance_size - EXEMPLAR_SIZE) // STRIDE + 1


def penalized_maps(config: Config, response: Response) -> Array:
    """The response upsampled, `[scales, U, U]`, every scale but the present one made less likely.

    The penalty is a factor on the correlation. siamfc-pytorch, whose head has no bias, multiplies the response; with a
    learned bias below 0 that would make every scale but the present one more likely.
    """
    upsampled, _ = _upsampled(config)
    maps = jax.vmap(lambda scores: bicubic_resize(scores, upsampled))(response.maps)
    present = jnp.asarray(np.arange(config.scales) == config.scales // 2)[:, None, None]
    return jnp.where(present, maps, (maps - response.nothing) * config.scale_penalty + response.nothing)


def best_scale(maps: Array) -> Array:
    """`[]` int32 index of the map with the highest peak, of `penalized_maps`."""
    return jnp.nanargmax(jnp.max(maps, (1, 2))).astype(jnp.int32)
