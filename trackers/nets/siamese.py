"""The networks of a Siamese model as three pure functions: of a template, of a search region, of both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from trackers.nets.models import networks

Array = jax.Array
Params = Any
Template = Any  # pytree of what depends on the template only
Search = Any  # pytree of what depends on the search region only


class Siamese(NamedTuple):
    """Inference with stored statistics; images are RGB 0..255, float, with one leading axis.

    embed: (params, `[K, 127, 127, 3]`) -> templates, every leaf with the leading axis K.
    search: (params, `[N, H, W, 3]`) -> what the head needs of the search regions, leading axis N.
    correlate: (params, templates, search regions) -> the head's output, see `trackers.nets.rpn`. Axes broadcast:
    K and 1 (one region, many templates), 1 and N, or K = N (pairs); any other number of axes will do as well.
    """

    embed: Callable[[Params, Array], Template]
    search: Callable[[Params, Array], Search]
    correlate: Callable[[Params, Template, Search], Any]


def make(model: str) -> Siamese:
    """The functions of `model`, one of `trackers.nets.models.SIAMESE_MODELS`; parameters as of `init_variables`."""
    parts = networks(model)

    def apply(params: Params, part: str, *args, method: str | None = None):
        return parts[part].apply(params[part], *args, method=method)

    def embed(params: Params, images: Array) -> Template:
        taps = apply(params, "backbone", images)
        if "neck" in parts:
            taps = apply(params, "neck", taps, method="template")
        return apply(params, "head", taps, method="template")

    def search(params: Params, images: Array) -> Search:
        taps = apply(params, "backbone", images)
        if "neck" in parts:
            taps = apply(params, "neck", taps)
        return apply(params, "head", taps, method="search")

    def correlate(params: Params, template: Template, region: Search):
        return apply(params, "head", template, region, method="correlate")

    return Siamese(embed, search, correlate)
