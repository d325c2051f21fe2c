"""Crops of any part of an image, clean and degraded, for networks that learn from a teacher: no box is needed.

The host cuts out a random window and makes the copy that was stored small or as a poor JPEG (`load_crop`); on the
device, under jit, follow mirroring of both, and of the copy colors, darkness, blur and noise (`prepare`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import TYPE_CHECKING, Annotated

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from trackers.rules import COUNT, FACTOR, NOT_NEGATIVE, POSITIVE, PROBABILITY, QUALITY
from train.samples import samplers
from train.samples.augment import PrepareConfig, change_colors, gaussian_blur, random_factors
from train.samples.loader import LoaderConfig, read_image

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Array = jax.Array
FRAMES = samplers.FrameSampling(mode="interval", train_frames=1, test_frames=1, min_length=2, visibility=0)


@dataclass(frozen=True, kw_only=True)
class CropLoaderConfig(LoaderConfig):
    """What is loaded. Of `sampling` the train frame counts; `parts` is ignored, since no target is."""

    size: Annotated[int, COUNT] = 160  # pixels of a side of the crop
    window: Annotated[tuple[float, float], FACTOR] = (0.4, 1.0)  # range of its side, of the image's shorter one
    small_probability: Annotated[float, PROBABILITY] = 0.0  # that the copy was stored with fewer pixels
    small_scale: Annotated[tuple[float, float], FACTOR] = (0.3, 0.8)  # of the crop's side
    jpeg_probability: Annotated[float, PROBABILITY] = 0.0  # that it was stored as a JPEG
    jpeg_quality: Annotated[tuple[int, int], QUALITY] = (15, 70)

    def misfits(self) -> Iterator[tuple[str, str]]:
        for name in ("window", "small_scale", "jpeg_quality"):
            low, high = getattr(self, name)
            if low > high:
                yield name, "(least, greatest)"


@dataclass(frozen=True, kw_only=True)
class CropPrepareConfig(PrepareConfig):
    """What happens on the device. Both crops are mirrored, all else is of the copy; `occlusion` is ignored."""

    blur_probability: Annotated[float, PROBABILITY] = 0.0
    blur_sigma: Annotated[tuple[float, float], POSITIVE] = (0.5, 2.0)  # pixels
    noise_probability: Annotated[float, PROBABILITY] = 0.0
    noise_sigma: Annotated[tuple[float, float], NOT_NEGATIVE] = (2.0, 16.0)  # of 255; range of the standard deviation


def load_crop(
    datasets: Sequence[TrackingDataset], mixture: samplers.Mixture, config: CropLoaderConfig, index: int
) -> dict[str, np.ndarray]:
    """Training sample number `index`, the same wherever it is made: a `load` of `train.samples.loader.batches`.

    Returns `sample_ids` int64 `[]` (the number), `clean_images` and `poor_images` `[1, size, size, 3]` uint8 RGB, one
    window of a frame. FrameError if the image cannot be decoded.
    """
    sample = samplers.draw(mixture, config.sampling, config.seed, index)
    rng = np.random.default_rng((config.seed, index, 1))  # a stream of its own, whatever the sampler has drawn
    image = read_image(datasets[sample.dataset], sample.sequence, int(sample.train_frames[0]))
    clean = random_window(rng, image, config)
    poor = stored_poorly(rng, clean, config)
    images = {"clean_images": clean, "poor_images": poor}
    rgb = {name: cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None] for name, crop in images.items()}
    return {"sample_ids": np.int64(index), **rgb}


def random_window(rng: np.random.Generator, image: np.ndarray, config: CropLoaderConfig) -> np.ndarray:
    """A square anywhere inside of `[H, W, 3]`, resized to `[size, size, 3]`; all sizes of a ratio are as likely."""
    shortest = min(image.shape[:2])
    side = max(round(shortest * exp(rng.uniform(*map(log, config.window)))), 1)
    top, left = (int(rng.integers(extent - side + 1)) for extent in image.shape[:2])
    window = image[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if side > config.size else cv2.INTER_LINEAR
    return cv2.resize(window, (config.size, config.size), interpolation=interpolation)


def stored_poorly(rng: np.random.Generator, crop: np.ndarray, config: CropLoaderConfig) -> np.ndarray:
    """`[size, size, 3]` uint8 after it was stored with fewer pixels, as a JPEG, as both or as it is."""
    small, jpeg = rng.random(2) < (config.small_probability, config.jpeg_probability)
    scale, quality = rng.uniform(*config.small_scale), int(rng.integers(*config.jpeg_quality, endpoint=True))
    if small:
        side = max(round(scale * config.size), 1)
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    if jpeg:
        crop = cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return cv2.resize(crop, (config.size, config.size), interpolation=cv2.INTER_LINEAR) if small else crop


def prepare(key: Array, batch: dict[str, Array], config: CropPrepareConfig) -> dict[str, Array]:
    """What the networks see; pure, to be jitted with a static config.

    key: of the step; each sample has its own, made of it and the sample's place in the batch. batch: of
    `train.samples.loader.batches` of `load_crop`; `sample_ids` may be left on the host. Returns `clean_images` and
    `poor_images` `[B, size, size, 3]` float32 RGB, 0..255.
    """
    clean, poor = (batch[name][0].astype(jnp.float32) for name in ("clean_images", "poor_images"))
    keys = jax.random.split(key, len(clean))
    clean, poor = jax.vmap(partial(degrade, config=config))(keys, clean, poor)
    return {"clean_images": clean, "poor_images": poor}


def degrade(key: Array, clean: Array, poor: Array, config: CropPrepareConfig) -> tuple[Array, Array]:
    """A window `[H, W, 3]` 0..255 twice -> both mirrored or none, the second with worse colors, blur and noise."""
    flip_key, gray_key, color_key, blur_key, noise_key = jax.random.split(key, 5)
    flip = jax.random.bernoulli(flip_key, config.flip_probability)
    clean, poor = (jnp.where(flip, image[:, ::-1], image) for image in (clean, poor))
    poor = poor[None]
    to_gray = jax.random.bernoulli(gray_key, config.colors.grayscale_probability)
    poor = change_colors(jax.random.split(color_key, 3), poor, to_gray, config.colors)
    if config.blur_probability:
        chosen_key, sigma_key = jax.random.split(blur_key)
        blurred = gaussian_blur(poor, random_factors(sigma_key, poor, config.blur_sigma))
        poor = jnp.where(jax.random.bernoulli(chosen_key, config.blur_probability), blurred, poor)
    if config.noise_probability:
        chosen_key, sigma_key, normal_key = jax.random.split(noise_key, 3)
        sigma = random_factors(sigma_key, poor, config.noise_sigma)
        noisy = jnp.clip(poor + sigma * jax.random.normal(normal_key, poor.shape), 0, 255)
        poor = jnp.where(jax.random.bernoulli(chosen_key, config.noise_probability), noisy, poor)
    return clean, poor[0]
