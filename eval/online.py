"""A tracker with state, for live loops, with OpenCV's interface: `init(image, box)`, `ok, box = update(image)`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

import trackers
from eval.running import stored
from eval.running.compilation import prepare_both
from eval.running.passes import Compiled
from eval.sources.video import to_rgb
from trackers import rules
from trackers.base import FOUND, LOST, Frame, Params, State, Tracker
from trackers.images import canvas_size, xywh_to_box

XYWH = tuple[float, float, float, float]


class OnlineTracker:
    """One target in a stream of images.

        tracker = OnlineTracker(make(config), params)
        tracker.warm_up(480, 640)                # optional: compiles before the first image comes
        tracker.init(image, (x, y, w, h))        # again at any time, on any target
        ok, (x, y, w, h) = tracker.update(image)

    Images are `[H, W, 3]` uint8 RGB (OpenCV's cameras give BGR: `image[..., ::-1]`); gray and four-channel
    images are converted. Boxes are x, y, w, h in pixels, 0-based. Images lie on canvases of a few sizes
    (`trackers.images.canvas_size`); `max_size` (height, width) names one canvas for all images up to that size.
    An image of another size may come at any time: a new canvas costs one compilation and changes nothing else.
    `made_of` of `eval.running.stored` lets the compiled programs be kept for the next start.
    """

    def __init__(
        self,
        tracker: Tracker,
        params: Params,
        *,
        seed: int = 0,
        max_size: tuple[int, int] | None = None,
        made_of: str | None = None,
    ):
        self._params = jax.device_put(params)
        self._next_key = jax.random.key(seed)
        self._canvas = max_size and canvas_size(*max_size)
        self._init, self._track = Compiled.of(tracker, made_of)
        self._state: State | None = None
        self.box: XYWH | None = None  # x, y, w, h of the last image
        self.confidence = 0.0  # of the last image, in [0, 1]
        self.verdict = LOST  # of the last image: FOUND, UNCERTAIN, HARD_NEGATIVE or LOST of trackers.base

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling so far."""
        return self._init.compile_seconds + self._track.compile_seconds

    def warm_up(self, height: int, width: int) -> None:
        """Compiles for images of this size and all others of their canvas; runs nothing, changes no state."""
        frame = self._frame(np.zeros((height, width, 3), np.uint8))
        args = self._params, self._next_key, frame, xywh_to_box(np.array([0.0, 0.0, width, height]))
        prepare_both(self._init, self._track, *args)

    def init(self, image: np.ndarray, box: Sequence[float], *, key: jax.Array | None = None) -> None:
        """Starts on `box` (x, y, w, h) of `image`, forgetting any target before.

        `key` (default: the next of the seed) makes what follows independent of the targets before. ValueError for an
        image `video.to_rgb` refuses or a box `check_box` refuses; the present target is then kept.
        """
        frame = self._frame(to_rgb(image))
        xywh = check_box(box, *frame.extent.tolist())
        if key is None:
            self._next_key, key = jax.random.split(self._next_key)
        args = jax.device_put((frame, xywh_to_box(xywh)))
        self._state = self._init.prepare(self._params, key, *args)(self._params, key, *args)
        self.box, self.confidence, self.verdict = tuple(xywh.tolist()), 1.0, FOUND

    def update(self, image: np.ndarray) -> tuple[bool, XYWH]:
        """Tracks to the next image: (False where the target is lost, box x, y, w, h).

        RuntimeError before `init`; ValueError for an image `video.to_rgb` refuses, which may be skipped.
        """
        if self._state is None:
            raise RuntimeError("update before init: give the first image and a box to init")
        frame = jax.device_put(self._frame(to_rgb(image)))
        track = self._track.prepare(self._params, self._state, frame)
        self._state, estimate = track(self._params, self._state, frame)
        box, confidence, verdict = jax.device_get((estimate.box, estimate.confidence, estimate.verdict))
        self.box = tuple(trackers.xywh(box).tolist())
        self.confidence, self.verdict = float(confidence), int(verdict)
        return self.verdict != LOST, self.box

    def _frame(self, image: np.ndarray) -> Frame:
        """The image on the canvas of `max_size` if it fits there, else on one of its own."""
        fits = self._canvas and image.shape[0] <= self._canvas[0] and image.shape[1] <= self._canvas[1]
        return trackers.frame(image, self._canvas if fits else None)


def load_online(name: str, weights: Path | str | None = None, assignments: Sequence[str] = ()) -> OnlineTracker:
    """A tracker of the registry by `name`, with `weights` (None: its own) and its config changed by `field=value`.

    ValueError or OSError, one line, for an unknown name, weights that do not fit, and a bad assignment.
    """
    entry = trackers.get(name)
    config = rules.configure(entry.config, list(assignments))
    params = trackers.load_params(name, weights)
    return OnlineTracker(entry.make(config), params, made_of=stored.made_of(entry, config))


def follow(
    online: OnlineTracker,
    images: Iterable[np.ndarray],
    box: Sequence[float],
    on_frame: Callable[[np.ndarray, bool, XYWH], bool | None],
) -> None:
    """Tracks `box` of the first image through the others, and calls `on_frame(image, ok, box)` for each of those.

    `images` is anything that yields them: `video.open_source(0).frames` of a camera, best within `frames.newest`, or a
    generator that waits for a message of any other system. `on_frame` ends the loop by returning True, finds
    confidence and verdict in `online`, and may call `online.init` to go to another target. ValueError where no image
    comes; whatever `images`, `online` and `on_frame` raise.
    """
    images = iter(images)
    first = next(images, None)
    if first is None:
        raise ValueError("no image came; is the camera connected?")
    online.init(first, box)
    for image in images:
        if on_frame(image, *online.update(image)):
            return


def check_box(box: Sequence[float], height: int | None = None, width: int | None = None) -> np.ndarray:
    """`[4]` float64 x, y, w, h that a tracker can start on in an image of this size, or of any.

    ValueError (one line) unless it is four finite numbers with w, h >= 1, at least partly inside the image; the box
    0,0,1,1 and those within it are no pixels but fractions of an image.
    """
    try:
        xywh = np.array(box, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"box {box!r:.100}: must be four numbers x, y, w, h") from None
    if xywh.shape != (4,):
        raise ValueError(f"box {box!r}: must be four numbers x, y, w, h, not of shape {list(xywh.shape)}")
    text = ",".join(f"{value:g}" for value in xywh)
    if not np.isfinite(xywh).all():
        raise ValueError(f"box {text}: must be finite")
    x, y, w, h = xywh
    if w <= 0 or h <= 0:
        raise ValueError(f"box {text}: is empty, width and height must be positive")
    if min(w, h) < 1 or max(xywh) <= 1:
        raise ValueError(f"box {text}: is smaller than a pixel; give x, y, w, h in pixels, not as fractions")
    if height is not None and (x + w <= 0 or y + h <= 0 or x >= width or y >= height):
        raise ValueError(f"box {text}: lies outside the {width}x{height} image")
    return xywh
