"""Sequences on disk whose tracker is known to follow, and the numbers that a run wrote."""

import csv
from pathlib import Path

import cv2
import numpy as np

from eval.sources.video_writer import VideoWriter
from tests.helpers.bright_spot import spots


def make_video(folder: Path, count: int, sizes: dict[int, tuple[int, int]] | None = None) -> None:
    """A bright pixel that walks over noise, and the box around it; `sizes` changes the size of single frames."""
    (folder / "img").mkdir(parents=True)
    noise = np.random.default_rng(count)
    boxes = []
    for t in range(count):
        image = noise.integers(0, 200, (*(sizes or {}).get(t, (40, 56)), 3), np.uint8)
        y, x = 10 + t, 12 + 2 * t
        image[y, x] = 255
        assert cv2.imwrite(str(folder / "img" / f"{t + 1:04}.png"), image)
        boxes.append([x - 4.25, y - 3, 9.5, 7])
    np.savetxt(folder / "groundtruth_rect.txt", boxes, fmt="%.4f", delimiter=",")


def rows(path: Path) -> np.ndarray:
    """`[T, n]` of a file of numbers between commas."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


def spot_video(path: Path) -> Path:
    """A video of 10 frames whose spot has the box 5 + 3 t, 10 + t, 9, 9."""
    with VideoWriter(path) as writer:
        for frame in spots(10):
            writer.write(frame)
    return path


def table_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table with a head."""
    with open(path) as file:
        return list(csv.DictReader(file))
