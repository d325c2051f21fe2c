"""What is done to images on the device: occlusion and blur, each shown alone."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.samples import augment


def test_an_occluded_target_is_hidden_in_part_by_another_sample():
    """Black images under white ones: what turns white overlaps the target and has its sides in range."""
    config = augment.OcclusionConfig(probability=0.5, sides=(0.3, 0.6))
    boxes = jnp.array([[10.0, 12.0, 20.0, 16.0]] * 200)
    black, white = jnp.zeros((200, 48, 48, 3)), jnp.full((3, 48, 48, 3), 255.0)
    out = np.asarray(jax.jit(partial(augment.occlude_targets, config=config))(jax.random.key(0), black, boxes, white))
    hidden = (out == 255).all(-1)
    assert set(np.unique(out)) == {0.0, 255.0}
    chosen = hidden.any((1, 2))
    assert 70 < chosen.sum() < 130
    sides = np.stack([hidden.any(1).sum(1), hidden.any(2).sum(1)], 1)[chosen]  # width, height
    assert (sides >= np.array([20, 16]) * 0.3 - 1).all() and (sides <= np.array([20, 16]) * 0.6 + 1).all()
    assert (hidden.sum((1, 2))[chosen] == sides.prod(1)).all()  # rectangles
    assert hidden[chosen][:, 12:28, 10:30].any((1, 2)).all()


@pytest.mark.parametrize("reach, share", [(2, 0.3), (9, 1.0), (22, 0.0), (22, 0.6)])
def test_blur_is_the_peers_cross(rng, reach, share):
    image = rng.uniform(0, 255, (50, 40, 3)).astype(np.float32)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    kernel[:, reach] += share / len(kernel)
    kernel[reach] += (1 - share) / len(kernel)
    blur = jax.jit(partial(augment.cross_blur, max_reach=22))
    np.testing.assert_allclose(blur(image, reach, share), cv2.filter2D(image, -1, kernel), atol=1e-3)
