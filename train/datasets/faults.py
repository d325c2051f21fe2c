"""What is wrong with a source, before anything is written: every fault, not only the first."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from eval.sources.sequences import SequenceError, list_images, read_image
from train.datasets.records import ClipLoader


def faults_of_clip(loader: ClipLoader, decode: bool = False) -> tuple[list[str], int]:
    """(faults, number of images) of a clip; `decode` reads every image, otherwise only its presence is looked at."""
    try:
        clip = loader()
    except SequenceError as error:
        return [str(error)], 0
    faults = []
    for path in clip.frames if clip.targets else ():
        if isinstance(path, bytes):
            continue
        if not path.is_file():
            faults.append(f"{path}: the image is missing; restore the file")
        elif decode:
            faults += _decoding(path)[0]
        elif not path.stat().st_size:
            faults.append(f"{path}: the image is empty; restore the file")
    return faults, len(clip.frames) if clip.targets else 0


def faults_of_folder(folder: Path) -> list[str]:
    """Every fault of a sequence of one's own: img/ and groundtruth_rect.txt, one line x,y,w,h for each image.

    Looked for: images that are missing from the numbering or cannot be decoded, a count of boxes that is not
    that of the images, lines that are not four numbers, boxes without area, boxes outside of their image. A
    line of nan or of zeros says that the target is absent, which frame 1 may not be.
    """
    truth, faults = folder / "groundtruth_rect.txt", []
    try:
        images = list_images(folder / "img")
    except SequenceError as error:
        images, faults = [], [str(error)]
    faults += _missing_numbers(images)
    try:
        lines = truth.read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        lines = []
        faults.append(f"{truth}: cannot be read ({error}); write one line x,y,w,h for each image")
    else:
        if len(lines) != len(images):
            faults.append(f"{truth}: {len(lines)} boxes for {len(images)} images; write one line for each image")
    boxes = []
    for number, line in enumerate(lines, 1):
        box, fault = _box(line, number)
        boxes.append(box)
        if fault:
            faults.append(f"{truth}:{number}: {fault}")
    for index, path in enumerate(images):
        found, extent = _decoding(path)
        faults += found
        box = boxes[index] if index < len(boxes) else None
        if box is not None and extent is not None and _outside(box, extent):
            height, width = extent
            where = f"outside of the {width}x{height} image {path.name}"
            faults.append(f"{truth}:{index + 1}: the box {_text(box)} lies {where}; correct the line")
    return faults


def _box(line: str, number: int) -> tuple[np.ndarray | None, str]:
    """(`[4]` x, y, w, h of a target that is present, fault or nothing) of a line."""
    try:
        values = np.array([float(field) for field in re.split(r"\s*[,;\s]\s*", line.strip())])
    except ValueError:
        values = np.zeros(0)
    if len(values) != 4 or np.isinf(values).any():
        return None, f"expected four numbers x,y,w,h, found {line.strip()[:60]!r}"
    if np.isnan(values).any() or not values.any():
        return None, "frame 1 has no box, so a tracker cannot start there" if number == 1 else ""
    if min(values[2:]) <= 0:
        return None, f"the box {_text(values)} has no area; write nan,nan,nan,nan where the target is absent"
    return values, ""


def _outside(box: np.ndarray, extent: tuple[int, int]) -> bool:
    x, y, w, h = box
    return x + w <= 0 or y + h <= 0 or x >= extent[1] or y >= extent[0]


def _decoding(path: Path) -> tuple[list[str], tuple[int, int] | None]:
    """(faults, (height, width) or None) of an image file."""
    try:
        return [], read_image(path).shape[:2]
    except SequenceError as error:
        return [str(error)], None


def _missing_numbers(images: list[Path]) -> list[str]:
    """Gaps in the numbers that end the names of the images."""
    ends = [re.search(r"(\d+)$", path.stem) for path in images]
    if not images or not all(ends):
        return []
    numbers = sorted(int(end[1]) for end in ends)
    gaps = [(low + 1, high - 1) for low, high in pairwise(numbers) if high - low > 1]
    said = (f"image {low} is missing" if low == high else f"images {low} to {high} are missing" for low, high in gaps)
    return [f"{images[0].parent}: {what}; restore the files, or number without a gap" for what in said]


def _text(box: np.ndarray) -> str:
    return ",".join(f"{value:g}" for value in box)
