"""Pictures of a sequence for a report: frames with every tracker's box, as data URIs."""

import base64
from typing import NamedTuple

import cv2
import numpy as np

from eval.sources.sequences import Sequence, SequenceError, read_image

EVENLY = 5  # frames shown whatever happens
MOST_LOSSES = 3  # moments of loss shown besides
WIDTH = 250  # pixels of a picture


class Picture(NamedTuple):
    """One frame of a strip."""

    frame: int  # 0-based
    caption: str  # what happens in it
    uri: str  # data:image/jpeg, or "" where the frame cannot be read


def moments(count: int, losses: dict[str, list[int]]) -> list[tuple[int, str]]:
    """(frame, caption) of what to show of `count` frames: spread evenly, and the first losses of the trackers."""
    shown = {int(frame): "" for frame in np.linspace(0, count - 1, EVENLY)}
    first = sorted((starts[0], name) for name, starts in losses.items() if starts)
    lost: dict[int, list[str]] = {}
    for frame, name in first:
        near = next((other for other in lost if abs(other - frame) < 5), frame)
        lost.setdefault(near, []).append(name)
    for frame, names in list(lost.items())[:MOST_LOSSES]:
        shown[frame] = f"{', '.join(names)} lost"
    return sorted(shown.items())


def draw_strip(sequence: Sequence, boxes: dict[str, np.ndarray], colors: dict[str, str], losses) -> list[Picture]:
    """The `moments` of a sequence with the true box (white) and each tracker's `[T, 4]` x, y, w, h in its color."""
    pictures = []
    for frame, caption in moments(len(sequence.frames), losses):
        try:
            image = read_image(sequence.frames[frame])
        except SequenceError:
            pictures.append(Picture(frame, caption, ""))
            continue
        scale = WIDTH / image.shape[1]
        image = cv2.resize(image, (WIDTH, max(round(image.shape[0] * scale), 1)), interpolation=cv2.INTER_AREA)
        _draw(image, sequence.boxes[frame] * scale, (0, 0, 0), 3)
        _draw(image, sequence.boxes[frame] * scale, (255, 255, 255), 1)
        for name, track in boxes.items():
            _draw(image, track[frame] * scale, _rgb(colors[name]), 2)
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
        pictures.append(Picture(frame, caption, f"data:image/jpeg;base64,{base64.b64encode(coded).decode()}"))
    return pictures


def _draw(image: np.ndarray, box: np.ndarray, color: tuple[int, int, int], width: int) -> None:
    if np.isfinite(box).all():
        x, y, w, h = np.clip(box, -20000, 20000)
        first, last = (round(x), round(y)), (round(x + w), round(y + h))
        cv2.rectangle(image, first, last, color, width, cv2.LINE_AA)


def _rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[place : place + 2], 16) for place in (1, 3, 5))
