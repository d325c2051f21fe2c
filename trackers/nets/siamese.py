"""The networks of a Siamese model as pure functions: of a template, of a search region, of both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from trackers.nets.models import networks

Array = jax.Array
Params = Any
Template = Any  # pytree of what depends on the template only
Search = Any  # pytree of what depends on the search region only
Taps = tuple[Array, ...]  # one feature map [N, h, w, C] for every level, after the neck


class Features(NamedTuple):
    """Of N search regions."""

    search: Search
    taps: Taps


class Siamese(NamedTuple):
    """Inference with stored statistics; images are RGB 0..255, float, with one leading axis.

    embed: (params, `[K, 127, 127, 3]`) -> templates, every leaf with the leading axis K.
    exemplar_taps: (params, `[K, 127, 127, 3]`) -> the feature maps that templates are made of.
    template: (params, these feature maps) -> templates; the second half of `embed`.
    features: (params, `[N, H, W, 3]`) -> what the head needs of the search regions, leading axis N, and their maps.
    correlate: (params, templates, search regions) -> the head's output, see `trackers.nets.rpn`. Axes broadcast:
    K and 1 (one region, many templates), 1 and N, or K = N (pairs); any other number of axes will do as well.
    """

    embed: Callable[[Params, Array], Template]
    exemplar_taps: Callable[[Params, Array], Taps]
    template: Callable[[Params, Taps], Template]
    features: Callable[[Params, Array], Features]
    correlate: Callable[[Params, Template, Search], Any]


def make(model: str) -> Siamese:
    """The functions of `model`, one that is trained on pairs; parameters as of `init_variables`."""
    parts = networks(model)

    def apply(params: Params, part: str, *args, method: str | None = None):
        return parts[part].apply(params[part], *args, method=method)

    def taps(params: Params, images: Array, neck: str) -> Taps:
        every = apply(params, "backbone", images)
        return apply(params, "neck", every, method=neck) if "neck" in parts else every

    def exemplar_taps(params: Params, images: Array) -> Taps:
        return taps(params, images, "template")

    def template(params: Params, taps: Taps) -> Template:
        return apply(params, "head", taps, method="template")

    def embed(params: Params, images: Array) -> Template:
        return template(params, exemplar_taps(params, images))

    def features(params: Params, images: Array) -> Features:
        every = taps(params, images, "__call__")
        return Features(apply(params, "head", every, method="search"), every)

    def correlate(params: Params, template: Template, region: Search):
        return apply(params, "head", template, region, method="correlate")

    return Siamese(embed, exemplar_taps, template, features, correlate)
