"""Sequences of noise in the layout `folder`, for the validation of a training run."""

from pathlib import Path

import cv2
import numpy as np

FRAMES = 3


def write_sequences(folder: Path, *sizes: tuple[int, int]) -> Path:
    """Sequences "a", "b" and so on, each of three frames of its size (height, width); `folder`."""
    for name, size in zip("abcdef", sizes):
        (folder / name / "img").mkdir(parents=True)
        for frame in range(FRAMES):
            image = np.random.default_rng(frame).integers(0, 255, (*size, 3), np.uint8)
            assert cv2.imwrite(str(folder / name / "img" / f"{frame + 1:04}.png"), image)
        (folder / name / "groundtruth_rect.txt").write_text("20,10,16,20\n" * FRAMES)
    return folder
