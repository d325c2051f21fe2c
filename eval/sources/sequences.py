"""An annotated video, and the images it names.

Whatever is wrong with one raises a `SequenceError` of one line that names the file and the fix.
"""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from eval.sources.masks import Mask

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

LEVELS = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))  # what cameras' sensors call white
SAMPLED = 9  # images of a folder that are looked at for the level of all


class SequenceError(ValueError):
    """A sequence cannot be read; the message is one line with the file and the fix."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """An annotated video of T frames; its images are still on disk."""

    name: str
    frames: tuple[Path, ...]  # T image files in order
    boxes: np.ndarray  # [T, 4] float64 x, y, w, h, 0-based pixels, as annotated: an absent frame may be nan or zeros
    visible: np.ndarray  # [T] bool: annotated with a box of positive size, and no flag says absent
    cover: np.ndarray | None = None  # [T] int 0..8, visible eighths of the target (GOT-10k)
    polygons: np.ndarray | None = None  # [T, 8] float64 corners x1, y1, ... y4 (VOT to 2019)
    masks: tuple[Mask, ...] | None = None  # T masks (VOT from 2020 on)
    scored: bool = True  # False where the benchmark withholds all boxes but the first
    annotated: np.ndarray | None = None  # [T] bool: someone looked, and gave a box or "absent" (OxUvA); None: always

    @property
    def regions(self) -> np.ndarray | tuple[Mask, ...]:
        """T regions as they were annotated: masks, `[T, 8]` corners, or `[T, 4]` boxes."""
        return next(given for given in (self.masks, self.polygons, self.boxes) if given is not None)


def read_image(path: Path | str, *, upright: bool = False) -> np.ndarray:
    """The file as `[H, W, 3]` uint8 RGB: gray is repeated, alpha dropped, 16 bits become 8.

    upright: turned as the orientation in its EXIF says, as viewers show it; benchmarks annotate what is stored. A TIFF
    file is always turned.
    16 bits: 0 becomes 0, and the `white_level` of its folder 255.
    SequenceError if the file is missing, truncated, empty or no image of integers.
    """
    image = _decode(path, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if upright else cv2.IMREAD_UNCHANGED)
    if image.dtype == np.uint16:
        image = _to_bytes(white_level(Path(path)))[image]
    if image.dtype != np.uint8:
        raise SequenceError(f"{path}: pixels are {image.dtype}; convert the image to 8 bits")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels <= 2:
        return np.repeat(image.reshape(*image.shape[:2], channels)[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


def white_level(path: Path) -> int:
    """What is white in a 16-bit image, and in the others of its folder: 255, 1023, 4095, 16383 or 65535.

    Cameras store their 10, 12 or 14 bits as they are. The level is the least that no value exceeds in nine images
    spread over the folder, the first and the last among them: one for all, so that the brightness of a video does not
    jump. What is brighter in another image becomes white, too. Where it is less than 65535, a line of the log says so.
    """
    folder = path.absolute().parent
    return _white_level(folder, folder.stat().st_mtime_ns) or _level(_decode(path, cv2.IMREAD_UNCHANGED))


@lru_cache
def _white_level(folder: Path, changed: int) -> int:
    """0 where no 16-bit image was found; `changed` is when the folder was."""
    level = 0
    with suppress(SequenceError):
        paths = list_images(folder)
        for index in sorted({round(place) for place in np.linspace(0, len(paths) - 1, SAMPLED)}):
            with suppress(SequenceError):  # of a damaged one, which is named when its turn comes
                image = _decode(paths[index], cv2.IMREAD_UNCHANGED)
                level = max(level, _level(image) if image.dtype == np.uint16 else 0)
    if 0 < level < LEVELS[-1]:
        logging.getLogger(__name__).warning(f"{folder}: 16-bit images, in which {level} is taken for white")
    return level


def _level(image: np.ndarray) -> int:
    highest = image.max()
    return next(level for level in LEVELS if highest <= level)


@lru_cache
def _to_bytes(white: int) -> np.ndarray:
    """`[65536]` uint8 for each value of 16 bits."""
    return np.minimum((np.arange(65536) * 255 + white // 2) // white, 255).astype(np.uint8)


def _decode(path: Path | str, flags: int) -> np.ndarray:
    """As OpenCV decodes it, blue first."""
    try:
        data = np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        raise SequenceError(f"{path}: {_reason(error)}; restore the file") from error
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:  # of sides that are too long
        raise SequenceError(f"{path}: not an image OpenCV decodes ({error.err:.100}); restore the file") from error
    if image is None:
        raise SequenceError(f"{path}: not an image, or cut short ({data.size} bytes); restore the file")
    return image


def image_size(sequence: Sequence) -> tuple[int, int]:
    """(width, height) of the first image, which is decoded for it; SequenceError as of `read_image`."""
    height, width = read_image(sequence.frames[0]).shape[:2]
    return width, height


def polygon_to_box(polygons: np.ndarray, rule: str = "tight") -> np.ndarray:
    """`[..., 8]` corners x1, y1, ... y4 -> `[..., 4]` x, y, w, h.

    "tight": smallest enclosing box (pytracking). "area": the box about the mean corner with the enclosing
    box's aspect and the polygon's area, plus one pixel (pysot, DaSiamRPN, THOR; exact for rotated
    rectangles).
    """
    corners = np.asarray(polygons, np.float64).reshape(*np.shape(polygons)[:-1], 4, 2)
    low, high = corners.min(-2), corners.max(-2)
    if rule == "tight":
        return np.concatenate([low, high - low], -1)
    if rule != "area":
        raise ValueError(f"unknown rule {rule!r}; choose 'tight' or 'area'")
    sides = np.linalg.norm(corners[..., :2, :] - corners[..., 1:3, :], axis=-1)
    shrink = np.sqrt(sides.prod(-1) / (high - low).prod(-1))
    size = shrink[..., None] * (high - low) + 1
    return np.concatenate([corners.mean(-2) - (size - 1) / 2, size], -1)


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder in the order of the numbers in their names; SequenceError if there are none."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except (OSError, ValueError) as error:
        raise SequenceError(f"{folder}: {_reason(error)}; put the images there") from error
    paths = sorted((path for path in paths if not path.name.startswith(".")), key=numeric_order)
    if not paths:
        raise SequenceError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}); put the frames there")
    return paths


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def numeric_order(path: Path) -> tuple:
    """Sort key: by the numbers in the name, where digits are compared as numbers."""
    parts = re.split(r"(\d+)", path.stem)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts), path.name
