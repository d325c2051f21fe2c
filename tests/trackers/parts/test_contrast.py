"""What counts as nothing to see, on crops of drawn and of real frames."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.sources.layouts import read_dataset
from eval.sources.sequences import read_image
from ops.crop import crop
from tests.helpers import places
from tests.helpers.scene import frames_of, scene
from trackers.base import Frame
from trackers.images import xywh_to_box
from trackers.parts import contrast, templates

SEQUENCES = places.SHARED / "data" / "sequences"
SIZE = (120, 160)
FILL = jnp.array([200.0, 10.0, 90.0])


def region(frame, center, side, size=127, **options):
    found = crop(frame.image, frame.extent, center, jnp.full(2, side), (size, size), **options)
    return jax.tree.map(lambda leaf: leaf[None], found)


@partial(jax.jit, static_argnames="border")
def contrast_at(frame, center, side, border):
    options = {"border": border, "fill": FILL} if border == "constant" else {}
    return contrast.contrast(region(frame, center, side, **options), frame.extent)


def measure(frame, center, side, border="replicate"):
    return float(contrast_at(frame, jnp.array(center, jnp.float32), side, border))


def frame_of(image):
    return Frame(jnp.asarray(image, jnp.uint8), jnp.array(image.shape[:2], jnp.int32))


@pytest.mark.parametrize("level", [0, 16, 128, 255])
@pytest.mark.parametrize("noise", [0, 1, 2])
@pytest.mark.parametrize("side", [24.0, 60.0, 150.0])
def test_a_blank_picture_has_none_with_and_without_noise(level, noise, side, rng):
    drawn = np.clip(level + rng.integers(-noise, noise + 1, (*SIZE, 3)), 0, 255)
    found = measure(frame_of(drawn), (60, 80), side)
    assert (found == 0 or noise) and found < contrast.LEAST
    beside = measure(frame_of(drawn), (0, 159), side, "constant")  # mostly beyond the frame
    assert beside < contrast.LEAST


def test_a_target_hardly_brighter_than_its_ground_has(rng):
    """A sixteenth of the search region, in one channel, behind the same noise."""
    drawn = 30 + rng.integers(-2, 3, (*SIZE, 3))
    drawn[50:65, 70:85, 1] += 14
    assert measure(frame_of(drawn), (60, 80), 60.0) > contrast.LEAST
    images, _ = scene()
    assert measure(jax.tree.map(lambda leaf: leaf[0], frames_of(images)), (128, 160), 60.0) > 5 * contrast.LEAST


def test_what_lies_beyond_the_frame_does_not_count(rng):
    """Nor on a canvas with something in its padding."""
    drawn = rng.integers(0, 256, (*SIZE, 3))
    drawn[:60, :80] = 40
    frame = Frame(jnp.asarray(drawn, jnp.uint8), jnp.array([60, 80], jnp.int32))
    assert measure(frame, (30, 40), 100.0, "constant") == 0
    assert measure(frame, (200, 40), 50.0, "constant") == -np.inf


@pytest.mark.full
@pytest.mark.skipif(not SEQUENCES.is_dir(), reason="needs the real sequences in ../shared/data")
def test_every_real_search_region_has():
    @jax.jit
    def real(frame, box):
        side = templates.context_side(box.size) * 255 / templates.EXEMPLAR_SIZE
        return contrast.contrast(region(frame, box.center, side, 255), frame.extent)

    for sequence in read_dataset("folder", SEQUENCES):
        for index in range(0, len(sequence.frames), 5):
            if sequence.visible[index]:
                frame, box = frame_of(read_image(sequence.frames[index])), xywh_to_box(sequence.boxes[index])
                assert float(real(frame, box)) > 3 * contrast.LEAST, sequence.frames[index]
