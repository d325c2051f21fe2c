"""Which boxes of a source can be used; a few of the published ones cannot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def fault_of(box: Sequence[float] | np.ndarray, size: tuple[int, int] | None) -> str:
    """Why a box x, y, w, h (0-based pixels) cannot be used; nothing where it can.

    size: (width, height) of the image, None where it is not known.
    """
    if len(box) != 4:
        return "the box is not x,y,w,h"
    x, y, w, h = box
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(box, np.float32)).all()
    outside = size is not None and (x + w <= 0 or y + h <= 0 or x >= size[0] or y >= size[1])
    fault = "is not finite" if not finite else "has no area" if min(w, h) <= 0 else ""
    if outside and not fault:
        fault = f"lies outside of its {size[0]}x{size[1]} image"
    return f"the box {','.join(f'{value:g}' for value in box)} {fault}" if fault else ""


def size_of(path: Path) -> tuple[int, int] | None:
    """(width, height) as the head of an image file states them; None where there is no such file, or no such head."""
    return _head(path)[0]


def lying_of(path: Path, stated: tuple[int, int] | None) -> tuple[tuple[int, int] | None, bool]:
    """((width, height) of what the boxes of a photograph lie on, whether that is the image as its EXIF turns it).

    Tools for drawing boxes show photographs upright, as all viewers do. A few do not: then the (width, height) that
    the annotation states are those of the image as it is stored. Where both have the same sides, it is the upright one.
    """
    size, orientation = _head(path)
    if size is None or orientation not in range(2, 9):
        return size, False
    upright = size[::-1] if orientation >= 5 else size
    return (size, False) if stated == size != upright else (upright, True)


def _head(path: Path) -> tuple[tuple[int, int] | None, int]:
    """((width, height) as stored, orientation) of an image file: 1 is upright, 5 to 8 lie on their side."""
    try:
        with Image.open(path) as image:
            has_exif = "exif" in image.info and image.format != "TIFF"  # which every reader turns
            return image.size, image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, 1
