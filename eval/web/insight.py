"""What a tracker saw in the frames that it followed a target through, for a person who looks at one of them.

Made of `Estimate.extras` on the host, frame by frame, small enough to keep for thousands of frames. What the memory of
a tracker held in a frame is known from the slots that were written since the run began: each remembers its frame, and
how the target looked there.
"""

import base64
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

import trackers
from eval.sources.video import VERDICT_NAMES
from trackers.base import FOUND

LIMIT = 128 * 2**20  # bytes
SIDE = 48  # pixels of a thumbnail
AROUND = 2.0  # side of what it shows, over the square root of the target's area
FINEST = 2 * SIDE  # pixels of a side from which on every second, third .. is looked at
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 80]
OVERHEAD = 1000  # bytes of a record beside its arrays
REFERENCE = 8  # bytes of a slot in a list of them


class Look(NamedTuple):
    """How a target looked when a slot of a memory was written."""

    frame: int
    thumbnail: bytes  # JPEG


class Insight(NamedTuple):
    """One target in one frame."""

    box: np.ndarray  # [4] float32 x, y, w, h in pixels, 0-based, as are all boxes here
    score: float  # the tracker's own; nan where it was started
    confidence: float
    verdict: int  # of trackers.base
    search: np.ndarray | None = None  # [4] float32
    map: np.ndarray | None = None  # [4] float32, what the score map covers
    score_map: np.ndarray | None = None  # [n, n] float16
    proposals: np.ndarray | None = None  # [P, 5] float32, boxes and predicted IoUs
    weights: np.ndarray | None = None  # [slots] float16 of the memory
    looks: Sequence[Look] = ()  # [slots], shared with the frames before and after while none is written; [1]: a start
    size: int = 0  # bytes


class Insights:
    """Those of one video, of its targets by number. The oldest are dropped once they take more than `limit` bytes.

    A target's frames are added in the order in which it is tracked, forward or back; a frame that is tracked again is
    replaced. Safe to ask while another thread adds.
    """

    def __init__(self, limit: int = LIMIT):
        self._limit = limit
        self._bytes = 0
        self._known: dict[tuple[int, int], Insight] = {}  # by target and frame, the oldest first
        self._looks: dict[int, Sequence[Look]] = {}  # by target, in the memory of its run
        self._lock = threading.Lock()

    def add_start(self, target: int, frame: int, image: np.ndarray, box: Sequence[float]) -> None:
        """A run begins from `box` in `image` `[H, W, 3]` uint8 RGB: nothing but this frame is in the memory."""
        look = Look(frame, thumbnail(image, box))
        self._looks[target] = (look,)
        start = Insight(np.asarray(box, np.float32), math.nan, 1.0, FOUND, looks=(look,))
        self._keep(target, frame, start, REFERENCE + len(look.thumbnail))

    def add(
        self,
        target: int,
        frame: int,
        image: np.ndarray,
        box: Sequence[float],
        extras: Mapping[str, Any],
        score: float,
        confidence: float,
        verdict: int,
    ) -> None:
        """The next frame of the target's run; extras: of `Estimate`, of this target, on the host.

        KeyError where no run of the target began.
        """
        looks, size = self._looks[target], 0
        weights = _array(extras.get("memory_weights"), np.float16)
        if weights is not None:
            if len(looks) != len(weights):  # the first frame after the start, whose samples fill all that is not empty
                looks = (looks[0],) * len(weights)
                size += REFERENCE * len(looks)
            slot = int(extras.get("memory_slot", -1))
            if slot >= 0:
                look = Look(frame, thumbnail(image, box))
                looks = (*looks[:slot], look, *looks[slot + 1 :])
                size += REFERENCE * len(looks) + len(look.thumbnail)
            self._looks[target] = looks
        found = Insight(
            np.asarray(box, np.float32),
            float(score),
            float(confidence),
            int(verdict),
            _rectangle(extras.get("search")),
            _rectangle(extras.get("map")),
            _array(extras.get("score_map"), np.float16),
            _proposals(extras),
            weights,
            looks if weights is not None else (),
        )
        self._keep(target, frame, found, size)

    def of(self, target: int, frame: int) -> dict[str, Any] | None:
        """What is known of a target in a frame, ready for JSON; None where that is nothing.

        "box", "search", "map" (what "score_map" covers): x, y, w, h. "score_map": rows. "proposals": x, y, w, h and the
        predicted IoU. "memory": frame, weight and thumbnail (an address) of every look that counts, in the order of the
        run; all samples of its first frame are one entry. "score", "confidence", "verdict". What the tracker does not
        say is None, or an empty list.
        """
        with self._lock:
            found = self._known.get((target, frame))
        if found is None:
            return None
        proposals = [] if found.proposals is None else found.proposals[np.isfinite(found.proposals).all(1)]
        return {
            "search": _plain(found.search, 2),
            "map": _plain(found.map, 2),
            "score_map": _plain(found.score_map, 4),
            "proposals": [[*_plain(one[:4], 2), _plain(one[4], 4)] for one in proposals],
            "memory": _memory(found, frame),
            "box": _plain(found.box, 2),
            "score": found.score if math.isfinite(found.score) else None,
            "confidence": found.confidence,
            "verdict": VERDICT_NAMES[found.verdict],
        }

    def _keep(self, target: int, frame: int, found: Insight, more: int) -> None:
        arrays = (found.box, found.search, found.map, found.score_map, found.proposals, found.weights)
        size = OVERHEAD + more + sum(array.nbytes for array in arrays if array is not None)
        with self._lock:
            if (target, frame) in self._known:
                self._drop((target, frame))
            self._known[target, frame] = found._replace(size=size)
            self._bytes += size
            while self._bytes > self._limit:
                self._drop(next(iter(self._known)))

    def _drop(self, key: tuple[int, int]) -> None:
        """A look that later frames still hold goes with the last of them: of each run at most one a slot, uncounted."""
        self._bytes -= self._known.pop(key).size


def thumbnail(image: np.ndarray, box: Sequence[float]) -> bytes:
    """What is around `box` in `image` `[H, W, 3]` uint8 RGB as a JPEG of `SIDE` pixels; beyond its border goes on."""
    x, y, w, h = (float(number) for number in box)
    side = max(AROUND * math.sqrt(w * h), 4.0)
    step = max(1, int(side / FINEST))
    places = [
        np.clip(np.arange(round(middle - side / 2), round(middle + side / 2), step), 0, length - 1)
        for middle, length in ((y + h / 2, image.shape[0]), (x + w / 2, image.shape[1]))
    ]
    small = cv2.resize(image[np.ix_(*places)], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], QUALITY)[1].tobytes()


def _memory(found: Insight, frame: int) -> list[dict[str, Any]]:
    weights = [1.0] * len(found.looks) if found.weights is None else found.weights.astype(float).tolist()
    shares: dict[Look, float] = {}
    for look, weight in zip(found.looks, weights):
        if weight > 0:
            shares[look] = shares.get(look, 0) + weight
    return [
        {
            "frame": look.frame,
            "weight": round(weight, 5),
            "thumbnail": f"data:image/jpeg;base64,{base64.b64encode(look.thumbnail).decode()}",
        }
        for look, weight in sorted(shares.items(), key=lambda item: -abs(item[0].frame - frame))
    ]


def _array(value: Any, dtype: type) -> np.ndarray | None:
    """A copy: what is given may be a part of all targets' array."""
    if value is None:
        return None
    with np.errstate(over="ignore"):  # infinite, then
        return np.array(value, dtype)


def _rectangle(box: Any) -> np.ndarray | None:
    return None if box is None else trackers.xywh(box).astype(np.float32)


def _proposals(extras: Mapping[str, Any]) -> np.ndarray | None:
    if "proposals" not in extras:
        return None
    ious = np.asarray(extras["proposal_ious"], np.float32)
    return np.concatenate([trackers.xywh(extras["proposals"]).astype(np.float32), ious[:, None]], 1)


def _plain(array: Any, digits: int) -> Any:
    """Numbers as JSON has them; those that are not finite become 0."""
    if array is None:
        return None
    return np.round(np.nan_to_num(np.asarray(array, float), posinf=0, neginf=0), digits).tolist()
