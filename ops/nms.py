"""Non-maximum suppression with fixed shapes."""

import jax
import jax.numpy as jnp

from ops.boxes import Box, iou, to_xywh

Array = jax.Array


def nms(boxes: Box, scores: Array, iou_threshold: float | Array, max_boxes: int) -> tuple[Array, Array]:
    """Greedy suppression: the best box is kept, all that overlap it by more than the threshold are dropped, and so on.

    boxes: N of them. scores: `[N]`; among equals the first wins; a box of score -inf or nan is not a candidate.
    Returns the indices `[max_boxes]` int32 of what is kept, the best first, and which of them are valid
    `[max_boxes]` bool; the index is 0 where no candidate was left. Work and memory grow as max_boxes N and N.
    """
    corners = to_xywh(boxes)

    def keep_the_best(alive, _):
        best = jnp.argmax(jnp.where(alive, scores, -jnp.inf))
        found = alive[best]
        apart = iou(corners, corners[best][None]) <= iou_threshold
        # A box of size 0 does not overlap itself; it must not be found again.
        return (alive & apart).at[best].set(False), (jnp.where(found, best, 0).astype(jnp.int32), found)

    return jax.lax.scan(keep_the_best, scores > -jnp.inf, length=max_boxes)[1]
