"""Augmentation on the device, under jit: mirroring, colors, blur, and what hides a part of the target.

Images are float32 RGB, 0..255. Boxes are x, y, w, h in pixels of their image, the center is x + w / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp

from trackers.rules import NOT_NEGATIVE, POSITIVE, PROBABILITY

Array = jax.Array
LUMA = (0.299, 0.587, 0.114)  # of R, G, B
BLUR_RADIUS = 4  # pixels: two of the largest standard deviation


@dataclass(frozen=True)
class ColorConfig:
    """How the colors of images are changed; the defaults leave them as they are."""

    grayscale_probability: Annotated[float, PROBABILITY] = 0.0  # of a sample: all its images are gray or none
    # Factor, drawn for each image; so are the following
    brightness: Annotated[tuple[float, float], NOT_NEGATIVE] = (1.0, 1.0)
    contrast: Annotated[tuple[float, float], NOT_NEGATIVE] = (1.0, 1.0)  # factor of the distance to the image's mean
    saturation: Annotated[tuple[float, float], NOT_NEGATIVE] = (1.0, 1.0)  # factor of the distance to gray


@dataclass(frozen=True)
class OcclusionConfig:
    """A rectangle, cut out of an image of another sample, that hides a part of the target."""

    probability: Annotated[float, PROBABILITY] = 0.0  # of an image
    sides: Annotated[tuple[float, float], POSITIVE] = (0.2, 0.9)  # range of the rectangle's sides, of the target's


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What is done to all kinds of samples."""

    flip_probability: Annotated[float, PROBABILITY] = 0.0  # of a sample: all its images are mirrored or none
    colors: ColorConfig = ColorConfig()
    occlusion: OcclusionConfig = OcclusionConfig()


def mirror(flip: Array, images: Array, boxes: Array) -> tuple[Array, Array]:
    """Images `[N, H, W, C]` and boxes `[N, 4]` in them, left for right if `flip` `[]` is true."""
    mirrored = boxes.at[:, 0].set(images.shape[2] - 1 - boxes[:, 0] - boxes[:, 2])  # the middle is (size - 1) / 2
    return jnp.where(flip, images[:, :, ::-1], images), jnp.where(flip, mirrored, boxes)


def change_colors(keys: Sequence[Array], images: Array, to_gray: Array, config: ColorConfig) -> Array:
    """Images `[N, H, W, 3]` float, all gray if `to_gray` `[]` is true, each with factors of its own; 0..255.

    keys: of brightness, contrast and saturation.
    """
    brightness_key, contrast_key, saturation_key = keys
    gray = sum(weight * images[..., i : i + 1] for i, weight in enumerate(LUMA))
    images = jnp.where(to_gray, gray, images)
    if config.saturation != (1.0, 1.0):
        images = gray + (images - gray) * random_factors(saturation_key, images, config.saturation)
    if config.contrast != (1.0, 1.0):
        mean = jnp.mean(images, (1, 2, 3), keepdims=True)
        images = mean + (images - mean) * random_factors(contrast_key, images, config.contrast)
    return jnp.clip(images * random_factors(brightness_key, images, config.brightness), 0, 255)


def occlude_targets(key: Array, images: Array, boxes: Array, others: Array, config: OcclusionConfig) -> Array:
    """`[T, H, W, 3]` of one sample, in some a rectangle over the target's `boxes` `[T, 4]`, filled from `others`.

    others: `[F, H, W, 3]` of another sample; frame t takes from its frame t modulo F. The rectangle's middle lies in
    the target's box, which stays the whole target's.
    """
    chosen_key, size_key, place_key = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(chosen_key, config.probability, (len(images), 1, 1))
    low, high = config.sides
    half = boxes[:, 2:] * jax.random.uniform(size_key, (len(images), 2), minval=low, maxval=high) / 2
    middle = boxes[:, :2] + boxes[:, 2:] * jax.random.uniform(place_key, (len(images), 2))
    x, y = (jnp.arange(images.shape[axis])[None] for axis in (2, 1))
    inside_x = jnp.abs(x - middle[:, :1]) < half[:, :1]  # [T, W]
    inside_y = jnp.abs(y - middle[:, 1:]) < half[:, 1:]  # [T, H]
    hidden = chosen & inside_y[:, :, None] & inside_x[:, None, :]
    return jnp.where(hidden[..., None], others[jnp.arange(len(images)) % len(others)], images)


def gaussian_blur(images: Array, sigma: Array) -> Array:
    """Images `[N, H, W, C]`, each blurred by its standard deviation `sigma` `[N, 1, 1, 1]`, the border repeated."""
    return _blur(_blur(images, sigma, 1), sigma, 2)


def cross_blur(image: Array, reach: Array, share: Array, max_reach: int) -> Array:
    """Means over the arms of a cross, `reach` `[]` int32 <= max_reach pixels to each side; the border is mirrored.

    image: `[H, W, C]`, sides > max_reach. share: `[]`, 0..1, of the vertical arm; the horizontal one has the rest.
    """

    def mean(axis):
        padding = [(max_reach, max_reach) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(image, padding, mode="reflect")
        near = jnp.abs(jnp.arange(-max_reach, max_reach + 1)) <= reach
        moved = (jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis) for i in range(2 * max_reach + 1))
        return sum(near[i] * each for i, each in enumerate(moved)) / (2 * reach + 1)

    return share * mean(0) + (1 - share) * mean(1)


def random_factors(key: Array, images: Array, limits: tuple[float, float]) -> Array:
    """One uniform number for each image, `[N, 1, 1, 1]`."""
    return jax.random.uniform(key, (len(images), 1, 1, 1), minval=limits[0], maxval=limits[1])


def _blur(images: Array, sigma: Array, axis: int) -> Array:
    """Gaussian blur along one axis, each image with its `sigma` `[N, 1, 1, 1]`, the border repeated."""
    size = images.shape[axis]
    offsets = jnp.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)[None]
    weights = jnp.exp(-0.5 * (offsets / sigma[:, 0, 0]) ** 2)  # [N, taps]
    weights = weights / jnp.sum(weights, -1, keepdims=True)
    seen = jnp.clip(jnp.arange(size)[:, None] + offsets, 0, size - 1)  # [size, taps]
    # A product with a band of weights, not a sum of moved images: that XLA would compute again for all that read it.
    product = partial(jnp.einsum, precision="highest")  # other devices would round the colors to fewer bits
    band = product("nt,its->nis", weights, jax.nn.one_hot(seen, size))
    return product("nij,njwc->niwc" if axis == 1 else "nij,nhjc->nhic", band, images)
