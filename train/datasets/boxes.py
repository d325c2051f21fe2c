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
    """(width, height) as the head of an image file states them; None where there is no such file, or no such head.

    Twice the longer side where EXIF lays the image on its side: its boxes may be of the stored image or of the upright.
    """
    try:
        with Image.open(path) as image:
            has_exif = "exif" in image.info or image.format == "TIFF"  # others would be decoded to find out
            on_its_side = has_exif and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (max(image.size),) * 2 if on_its_side else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
