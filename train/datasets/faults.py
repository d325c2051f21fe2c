"""What is wrong with a source, before anything is written: every fault, not only the first."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from eval.sources.sequences import SequenceError, list_images, read_image
from train.datasets.boxes import fault_of
from train.datasets.records import Clip, ClipLoader


class Unusable:
    """Counts the boxes of a source that are not used, and the images that have no other."""

    def __init__(self):
        self.boxes, self.images, self.first = 0, 0, ""

    def count(self, clip: Clip) -> None:
        self.boxes += len(clip.unusable)
        self.images += len(clip.frames) if clip.unusable and not clip.targets else 0
        self.first = self.first or next(iter(clip.unusable), "")

    def __str__(self) -> str:
        """One line."""
        boxes = f"{self.boxes} box{'es' * (self.boxes > 1)} (no area, not finite or outside of the image)"
        images = f", {self.images} image{'s' * (self.images > 1)} without any other" if self.images else ""
        return f"{boxes}{images}; the first: {self.first}"


def faults_of_clip(loader: ClipLoader, decode: bool = False) -> tuple[list[str], Clip]:
    """(faults, the clip, without images where it cannot be read).

    `decode` reads every image, otherwise only its presence is looked at.
    """
    try:
        clip = loader()
    except SequenceError as error:
        return [str(error)], Clip((), ())
    faults = []
    for path in clip.frames if clip.targets else ():
        if isinstance(path, bytes):
            continue
        if not path.is_file():
            faults.append(f"{path}: the image is missing; restore the file")
        elif decode:
            faults += _decoding(path)
        elif not path.stat().st_size:
            faults.append(f"{path}: the image is empty; restore the file")
    return faults, clip


def faults_of_folder(folder: Path) -> list[str]:
    """Every fault of a sequence of one's own: img/ and groundtruth_rect.txt, one line x,y,w,h for each image.

    Looked for: images that are missing from the numbering or cannot be decoded, a count of boxes that is not
    that of the images, lines that are not four numbers. A line of nan or of zeros says that the target is absent, which
    frame 1 may not be.
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
    for number, line in enumerate(lines, 1):
        fault = _fault_of_line(line, number)
        if fault:
            faults.append(f"{truth}:{number}: {fault}")
    for path in images:
        faults += _decoding(path)
    return faults


def _fault_of_line(line: str, number: int) -> str:
    """Why a line says nothing about the target; nothing where it does."""
    try:
        values = np.array([float(field) for field in re.split(r"\s*[,;\s]\s*", line.strip())])
    except ValueError:
        values = np.zeros(0)
    if len(values) != 4 or np.isinf(values).any():
        return f"expected four numbers x,y,w,h, found {line.strip()[:60]!r}"
    if number == 1 and fault_of(values, None):
        return "frame 1 has no box with an area, so a tracker cannot start there"
    return ""


def _decoding(path: Path) -> list[str]:
    """Faults of an image file."""
    try:
        read_image(path)
    except SequenceError as error:
        return [str(error)]
    return []


def _missing_numbers(images: list[Path]) -> list[str]:
    """Gaps in the numbers that end the names of the images."""
    ends = [re.search(r"(\d+)$", path.stem) for path in images]
    if not images or not all(ends):
        return []
    numbers = sorted(int(end[1]) for end in ends)
    gaps = [(low + 1, high - 1) for low, high in pairwise(numbers) if high - low > 1]
    said = (f"image {low} is missing" if low == high else f"images {low} to {high} are missing" for low, high in gaps)
    return [f"{images[0].parent}: {what}; restore the files, or number without a gap" for what in said]
