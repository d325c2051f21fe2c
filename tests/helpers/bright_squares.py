"""A batch of training samples of DiMP and ATOM, small enough for a loss in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ops import boxes
from ops.score_maps import gaussian_label, label_center

SIDE, CELLS = 64, 4  # pixels and cells of a crop
FRAMES, TESTS, TARGETS, PROPOSALS = 2, 1, 2, 3


def example(dtype) -> dict[str, jax.Array]:
    """Bright squares on noise."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(12, 28, (FRAMES + TESTS, TARGETS, 2))
    box = np.concatenate([corner, np.full_like(corner, 20)], -1)
    images = rng.uniform(0, 120, (FRAMES + TESTS, TARGETS, SIDE, SIDE, 3))
    for frame, target in np.ndindex(*box.shape[:2]):
        x, y, w, h = box[frame, target].round().astype(int)
        images[frame, target, y : y + h, x : x + w] += 120
    proposals = box[FRAMES:, :, None] + rng.normal(0, 2, (TESTS, TARGETS, PROPOSALS, 4))
    overlaps = boxes.iou(jnp.asarray(proposals), jnp.asarray(box[FRAMES:, :, None]))
    offset = (box[FRAMES:, :, 1::-1] + box[FRAMES:, :, :1:-1] / 2 - SIDE / 2) / SIDE
    label = partial(gaussian_label, sigma=0.05 * CELLS, feature_size=CELLS, extra_cells=1)
    labels = jax.vmap(jax.vmap(label))(label_center(jnp.asarray(offset), CELLS, 4))
    batch = {
        "train_images": images[:FRAMES],
        "train_boxes": box[:FRAMES],
        "test_images": images[FRAMES:],
        "proposals": proposals,
        "overlaps": overlaps,
        "labels": labels,
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), batch)
