"""An annotated video, and the images it names.

Whatever is wrong with one raises a `SequenceError` of one line that names the file and the fix.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


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
    polygons: np.ndarray | None = None  # [T, 8] float64 corners x1, y1, ... y4 (VOT)
    scored: bool = True  # False where the benchmark withholds all boxes but the first
    annotated: np.ndarray | None = None  # [T] bool: someone looked, and gave a box or "absent" (OxUvA); None: always


def read_image(path: Path | str) -> np.ndarray:
    """The file as `[H, W, 3]` uint8 RGB: gray is repeated, alpha dropped, 16 bits become 8, EXIF ignored.

    SequenceError if the file is missing, truncated, empty or no image of integers.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SequenceError(f"{path}: {error.strerror or error}; restore the file") from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise SequenceError(f"{path}: not an image, or cut short ({data.size} bytes); restore the file")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise SequenceError(f"{path}: pixels are {image.dtype}; convert the image to 8 bits")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels <= 2:
        return np.repeat(image.reshape(*image.shape[:2], channels)[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


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
    except OSError as error:
        raise SequenceError(f"{folder}: {error.strerror or error}; put the images there") from error
    paths = sorted((path for path in paths if not path.name.startswith(".")), key=numeric_order)
    if not paths:
        raise SequenceError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}); put the frames there")
    return paths


def numeric_order(path: Path) -> tuple:
    """Sort key: by the numbers in the name, where digits are compared as numbers."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)), path.name
