"""GOT-10k: average overlap and success rates over frames, and the class-balanced means of the paper.

Frame 1 and frames whose `cover` is 0 do not count; both boxes are clipped to the image before their overlap;
repetitions of a sequence lie side by side. The toolkit weights frames, whatever sequence or class they are of;
`class_balanced` is what Huang et al. define (mAO, mSR), which the published toolkit does not compute.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.scoring.ope import epsilon_overlaps

REPETITIONS = 3  # unless the tracker is deterministic
THRESHOLDS = np.linspace(0, 1, 101)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`[T, 4]` x, y, w, h within an image of `size` (width, height) by the toolkit's rule.

    A box that begins left of or above the image is moved there and keeps its width and height.
    """
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, np.asarray(size) - corner)], 1)


def frame_overlaps(
    predicted: Sequence[np.ndarray], truth: np.ndarray, cover: np.ndarray | None, size: tuple[int, int]
) -> np.ndarray:
    """IoU of every frame that counts: `[R * counted]` of R repetitions `[T, 4]` of a sequence.

    `cover`: `[T]` visible eighths of the target, None where not known (every frame counts); `size`: (width, height) of
    the image. ValueError where a repetition has not T boxes.
    """
    truth = np.asarray(truth, np.float64)
    for boxes in predicted:
        if np.shape(boxes) != truth.shape:
            raise ValueError(f"rule got10k: {len(boxes)} predictions for {len(truth)} frames; track the sequence again")
    counted = np.ones(len(truth), bool) if cover is None else np.asarray(cover) > 0
    counted[0] = False
    clipped = clip_boxes(truth, size)
    overlaps = [epsilon_overlaps(clip_boxes(np.asarray(boxes, np.float64), size), clipped) for boxes in predicted]
    return np.concatenate([overlap[counted] for overlap in overlaps])


def scores(overlaps: np.ndarray) -> dict[str, float]:
    """ao: mean IoU; sr50, sr75: share of frames with IoU > .5, .75 (the toolkit has no sr75, the paper has)."""
    return {
        "ao": float(np.mean(overlaps)),
        "sr50": float(np.mean(overlaps > 0.5)),
        "sr75": float(np.mean(overlaps > 0.75)),
    }


def overall(by_sequence: Mapping[str, np.ndarray]) -> dict[str, float]:
    """`scores` over the frames of all sequences: name -> `frame_overlaps`."""
    return scores(np.concatenate(list(by_sequence.values())))


def class_balanced(by_sequence: Mapping[str, np.ndarray], classes: Mapping[str, str]) -> dict[str, float]:
    """mao, msr50, msr75: mean over object classes of `scores` over the frames of a class (paper, section 4.1).

    `classes`: sequence -> class. ValueError names a sequence without a class.
    """
    unknown = [name for name in by_sequence if name not in classes]
    if unknown:
        raise ValueError(f"no object class for {', '.join(unknown[:5])}; each sequence needs one")
    groups: dict[str, list[np.ndarray]] = {}
    for name, overlaps in by_sequence.items():
        groups.setdefault(classes[name], []).append(overlaps)
    rows = [scores(np.concatenate(group)) for group in groups.values()]
    return {f"m{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}


def success_curve(overlaps: np.ndarray) -> np.ndarray:
    """`[101]` share of frames with IoU > THRESHOLDS."""
    return (overlaps[:, None] > THRESHOLDS).mean(0)
