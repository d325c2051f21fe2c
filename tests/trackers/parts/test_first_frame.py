"""The samples of frame 1: how many there are, what each shows, and where the target is in it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ops.boxes import Box
from ops.crop import crop
from trackers import dimp
from trackers.base import Frame
from trackers.parts import first_frame
from trackers.parts.first_frame import ATOM_AUGMENTATION, AugmentationConfig

REGION = replace(dimp.Config().region, image_size=64)
FEW = AugmentationConfig(
    expanded_size=128, shifts=((0.5, -0.25),), blurs=((2.0, 2.0),), rotations=(10.0,), dropout_copies=2
)


def frame(rng):
    return Frame(jnp.asarray(rng.integers(0, 256, (200, 240, 3)), jnp.uint8), jnp.array([200, 240], jnp.int32))


def test_counts_of_the_peers():
    assert first_frame.sample_count(AugmentationConfig()) == 15
    assert first_frame.sample_count(ATOM_AUGMENTATION) == 30


def test_crops_show_the_target_where_their_shifts_say(rng):
    one, center, scale = frame(rng), jnp.array([100.0, 120.0]), jnp.float32(1.0)
    images, shifts = first_frame.augmented_crops(jax.random.key(0), one, center, scale, REGION, FEW)
    assert images.shape == (first_frame.sample_count(FEW) - FEW.dropout_copies, 64, 64, 3)
    plain = crop(one.image, one.extent, center, jnp.full(2, 64.0), (64, 64), border=REGION.border).image
    np.testing.assert_allclose(images[0], plain, atol=1e-3)
    np.testing.assert_array_equal(shifts[0], [0, 0])
    np.testing.assert_array_equal(shifts[1], [16, -8])  # halves of the crop's side
    np.testing.assert_allclose(images[1][16:, :-8], plain[:-16, 8:], atol=1e-3)
    assert np.abs(shifts[2:]).max() <= 64 / 3 / 2
    still = first_frame.augmented_crops(jax.random.key(0), one, center, scale, REGION, replace(FEW, random_shift=0.0))
    np.testing.assert_array_equal(still[1][2:], 0)
    np.testing.assert_allclose(still[0][2], plain[:, ::-1], atol=1e-3)  # flipped
    assert still[0][3].std() < 0.8 * plain.std()  # blurred


def test_the_crop_is_as_large_as_the_target_asks():
    center, scale = first_frame.sample_geometry(Box(jnp.array([10.4, 20.6]), jnp.array([16.0, 64.0])), REGION)
    np.testing.assert_allclose(center, [10.4, 20.6], rtol=1e-6)
    np.testing.assert_allclose(scale * 64, 5 * 32, rtol=1e-6)  # search_area_scale times the root of the area
    center, _ = first_frame.sample_geometry(
        Box(jnp.array([10.4, 20.6]), jnp.array([16.0, 64.0])), replace(REGION, rounding="pytracking")
    )
    np.testing.assert_array_equal(center, [10, 21])


def test_dropout_copies_are_the_first_sample_without_some_channels(rng):
    features = jnp.asarray(rng.normal(size=(3, 4, 4, 200)), jnp.float32)
    samples, origin = first_frame.with_dropout(jax.random.key(0), features, FEW)
    np.testing.assert_array_equal(samples[:3], features)
    assert origin.tolist() == [0, 1, 2, 0, 0]
    dropped = ~np.any(samples[3:], (1, 2))  # [copies, C]
    assert (np.abs(dropped.mean(1) - FEW.dropout_rate) < 0.1).all() and not np.array_equal(*dropped)
    kept = np.asarray(samples[3])[..., ~dropped[0]]
    ratio = kept / np.asarray(features[0])[..., ~dropped[0]]
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)


def test_one_by_one_equals_the_batch(rng):
    images = jnp.asarray(rng.normal(size=(3, 4, 4, 3)), jnp.float32)
    found = first_frame.one_by_one(lambda images: {"twice": 2 * images}, images)
    np.testing.assert_array_equal(found["twice"], 2 * images)
