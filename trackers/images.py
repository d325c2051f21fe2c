"""From the host to a tracker and back: images on canvases of a few sizes, x, y, w, h and boxes."""

import math

import numpy as np

from ops.boxes import Box
from trackers.base import Frame

CANVAS_SIDES = (256, 512, 768, 1024, 1280, 1536, 2048, 3072, 4096)


def frame(image: np.ndarray, canvas: tuple[int, int] | None = None) -> Frame:
    """`[H, W, 3]` uint8 RGB -> Frame of numpy arrays in the upper left corner of a black canvas.

    `canvas` (height, width) defaults to `canvas_size`; ValueError if the image does not fit or is not uint8 RGB.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a frame must be [H, W, 3] uint8 RGB, not {list(image.shape)} {image.dtype}")
    height, width = image.shape[:2]
    canvas = canvas or canvas_size(height, width)
    if height > canvas[0] or width > canvas[1]:
        raise ValueError(f"a {height}x{width} image does not fit a canvas of {canvas[0]}x{canvas[1]}")
    padded = np.zeros((*canvas, 3), np.uint8)
    padded[:height, :width] = image
    return Frame(padded, np.array([height, width], np.int32))


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """The smallest canvas (height, width) that holds an image of this size.

    Each side is one of CANVAS_SIDES (beyond them a multiple of 1024), so a data set of many image sizes needs
    few compilations; nothing but the copy to the device grows with the canvas.
    """
    return _side(height), _side(width)


def _side(length: int) -> int:
    return next((side for side in CANVAS_SIDES if side >= length), -(-length // 1024) * 1024)


def box(x: float, y: float, w: float, h: float) -> Box:
    """One box from its upper left corner and size in pixels, 0-based: numpy float32, center `[2]` and size `[2]`.

    ValueError for a number that is not finite and for a side that is not positive. `xywh_to_box`
    takes many at once and checks nothing.
    """
    numbers = [float(x), float(y), float(w), float(h)]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"box x={x}, y={y}, w={w}, h={h}: every number must be finite")
    if not (w > 0 and h > 0):
        raise ValueError(f"box x={x}, y={y}, w={w}, h={h}: w and h must be > 0")
    return xywh_to_box(np.array(numbers))


def xywh_to_box(xywh: np.ndarray) -> Box:
    """`[..., 4]` x, y, w, h (0-based, host) -> Box of float32 numpy arrays, to be put on the device."""
    xywh = np.asarray(xywh, np.float64)
    size = xywh[..., :1:-1]
    return Box((xywh[..., 1::-1] + (size - 1) / 2).astype(np.float32), size.astype(np.float32))


def xywh(box: Box) -> np.ndarray:
    """Box on the host or the device -> `[..., 4]` float64 x, y, w, h in pixels (0-based)."""
    center, size = np.asarray(box.center, np.float64), np.asarray(box.size, np.float64)
    return np.concatenate([(center - (size - 1) / 2)[..., ::-1], size[..., ::-1]], -1)
