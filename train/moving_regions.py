"""Where something moves in a video: boxes of regions whose optical flow is not that of the camera."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from eval.scoring.metrics import overlaps

SIDE = 320  # pixels: images are brought to this longer side, and lengths below are in pixels of that
APART = 2  # frames: flow is taken to the image so many before, and so many after
LEAST_FLOW = 1.5  # of a region, in APART frames, besides the camera's
TIMES_TYPICAL = 3.0  # a region moves so many times as far as half of the image does: parallax is no target
LEAST_SIDE = 14
AREA = 0.003, 0.35  # share of the image that a box may have
BORDER = 3  # a box so near to two sides of the image is of a target too little of which is seen
FILLED = 0.4  # least share of a box that moves
CHANGE = 8.0  # gray levels by which a region differs from what the camera's motion explains: walls do not; also the
# least difference inside its box, which the flow, being smooth, would make too large
GAP = 5  # parts of a region may be so far apart
MOST_OVERLAP = 0.1  # IoU of two boxes
GRID = 8  # the camera's motion is fitted to every so many pixels


class Region(NamedTuple):
    """A part of an image that moves."""

    box: np.ndarray  # [4] float64 x, y, w, h in pixels of the image, 0-based
    flow: float  # mean length of its motion besides the camera's, pixels at a longer side of SIDE


def find_moving(before: np.ndarray, image: np.ndarray, after: np.ndarray, most: int) -> list[Region]:
    """Up to `most` regions of `image` that move both from `before` and to `after`, the most conspicuous first.

    All are `[H, W, 3]` uint8 RGB of one size, APART frames from each other. A region that moves in only one of the two
    is background that appears, or is covered. The camera's motion is an affine map of the whole image.
    """
    scale = SIDE / max(image.shape[:2])
    grays = [_gray(one, scale) for one in (before, image, after)]
    motion, change = np.minimum(_own_motion(grays[1], grays[0]), _own_motion(grays[1], grays[2]))
    threshold = max(LEAST_FLOW, TIMES_TYPICAL * float(np.median(motion)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (GAP, GAP))
    mask = cv2.morphologyEx((motion > threshold).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    found = []
    for label in range(1, count):
        own = labels == label
        box = _enclosing(own & (change > CHANGE))
        if change[own].mean() >= CHANGE and _is_target(box, int(stats[label, cv2.CC_STAT_AREA]), mask.shape):
            flow = float(motion[own].mean())
            found.append((flow * np.sqrt(box[2] * box[3]), Region(np.array(box) / scale, flow)))
    kept: list[Region] = []
    for _, region in sorted(found, key=lambda pair: -pair[0]):
        if len(kept) < most and not overlapping(region.box, [other.box for other in kept]):
            kept.append(region)
    return kept


def overlapping(box: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether a box `[4]` x, y, w, h overlaps one of the others; those that are nan do not count."""
    return any(overlaps(box[None], other[None])[0] > MOST_OVERLAP for other in others)


def _enclosing(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box x, y, w, h of what is set; all 0 where nothing is."""
    return tuple(map(int, cv2.boundingRect(mask.astype(np.uint8))))


def _gray(image: np.ndarray, scale: float) -> np.ndarray:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _own_motion(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`[2, h, w]` what an affine map of `image` to `other`, both `[h, w]`, does not explain.

    The length of the flow besides it, in pixels; the difference between the images under it, in gray levels.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(image, other, None)
    height, width = image.shape
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    sampled = np.s_[GRID // 2 :: GRID, GRID // 2 :: GRID]
    start, end = (one[sampled].reshape(-1, 2) for one in (places, places + flow))
    camera, _ = cv2.estimateAffine2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if camera is None:
        camera = np.eye(2, 3)
    expected = places @ camera[:, :2].T + camera[:, 2]
    moved = cv2.remap(other, expected.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = cv2.blur(cv2.absdiff(image, moved), (GAP, GAP))
    return np.stack([np.linalg.norm(places + flow - expected, axis=-1), change])


def _is_target(box: tuple[int, int, int, int], moving: int, shape: tuple[int, int]) -> bool:
    """Whether a region of so many pixels, within a box of an image of this shape, is one to follow."""
    x, y, w, h = box
    height, width = shape
    inside = sum(gap < BORDER for gap in (x, y, width - x - w, height - y - h)) < 2
    least, most = AREA
    return inside and min(w, h) >= LEAST_SIDE and least <= w * h / (width * height) <= most and moving >= FILLED * w * h
