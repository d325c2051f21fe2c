"""Boxes for supervision (Roboflow): its annotators, zones and counters on what a tracker found.

    from eval.toolkits.supervision import to_supervision

    state, estimate = track(params, state, trackers.frame(image))
    drawn = supervision.BoxAnnotator().annotate(image.copy(), to_supervision(estimate))
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import trackers
from eval.sources.video import VERDICT_NAMES
from eval.targets import Run, Tracked
from trackers.base import LOST, Estimate

if TYPE_CHECKING:
    import supervision


def to_supervision(
    found: Estimate | Tracked | Run, names: Sequence[str] = ()
) -> "supervision.Detections | list[supervision.Detections]":
    """`supervision.Detections` of one frame, or of every frame of a run in the order of the video.

    found: what a tracker's `track` returns, of one target or of N (`trackers.many`), or what `eval.targets` keeps.
    A target that is lost, or has not started, is not in it. `tracker_id` counts from 1, `class_id` from 0, `data` has
    `class_name` (`names`, or the numbers) and `verdict`. Boxes are x, y, x + w, y + h. Needs the package supervision.
    """
    import supervision

    if isinstance(found, Run):
        return [to_supervision(one, found.names) for one in found.tracked[:: found.step]]
    if isinstance(found, Tracked):
        boxes, confidence, verdicts = found.boxes, found.confidence, found.verdicts
    else:
        boxes, confidence, verdicts = trackers.xywh(found.box), found.confidence, found.verdict
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    confidence, verdicts = np.asarray(confidence).reshape(-1), np.asarray(verdicts).reshape(-1)
    labels = np.array(list(names) or [str(number) for number in range(1, len(boxes) + 1)])
    kept = np.flatnonzero((verdicts != LOST) & np.isfinite(boxes).all(1))
    return supervision.Detections(
        xyxy=np.concatenate([boxes[kept, :2], boxes[kept, :2] + boxes[kept, 2:]], 1).astype(np.float32),
        confidence=confidence[kept].astype(np.float32),
        class_id=kept.astype(int),
        tracker_id=kept.astype(int) + 1,
        data={
            "class_name": labels[kept],
            "verdict": np.array([VERDICT_NAMES[int(verdicts[slot])] for slot in kept], dtype=str),
        },
    )
