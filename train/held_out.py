"""How well do the parameters track right now? Held-out sequences, tracked during training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import jax
import numpy as np

import trackers
from eval.running.passes import Compiled, track_sequence
from eval.scoring import metrics
from eval.sources.layouts import LAYOUTS, read_dataset
from eval.sources.sequences import Sequence, read_image
from eval.sources.video import draw_boxes
from trackers.rules import ANY, COUNT, one_of

Params = Any
STRIP_FRAMES, STRIP_HEIGHT = 6, 120  # of the overlays of one sequence


@dataclass(frozen=True)
class ValidationConfig:
    """Which sequences, and when."""

    data_dir: Annotated[str, ANY] = ""  # folder of the sequences; "": nothing is tracked
    layout: Annotated[str, one_of(*LAYOUTS)] = "folder"  # as of `python -m eval.run --dataset`
    every: Annotated[int, COUNT] = 500  # steps
    sequences: Annotated[int, COUNT] = 10  # the first so many, in the order of their names


def make(tracker: str, config: ValidationConfig) -> Callable[[Params], tuple[dict[str, float], np.ndarray]]:
    """`params -> (scores, overlays)`: "auc" and "norm_precision" by the rule of `eval.scoring.metrics`, means over the
    sequences, and `[H, W, 3]` uint8 RGB, a row of frames for each sequence, the true box thin and white.

    SequenceError for a folder or an image that cannot be read.
    """
    every = read_dataset(config.layout, Path(config.data_dir))
    chosen = sorted((one for one in every if one.scored), key=lambda one: one.name)[: config.sequences]
    entry = trackers.get(tracker)
    compiled = Compiled.of(entry.make(entry.config))

    def validate(params):
        params = jax.device_put(params, jax.local_devices()[0])
        scores, rows = [], []
        for sequence in chosen:
            boxes = track_sequence(compiled, params, sequence, jax.device_put(jax.random.key(0))).boxes
            scores.append(metrics.score_sequence(boxes, sequence.boxes, sequence.visible))
            rows.append(_overlays(sequence, boxes))
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        means = {name: float(np.mean([score[name] for score in scores])) for name in ("auc", "norm_precision")}
        return means, np.concatenate(rows)

    return validate


def _overlays(sequence: Sequence, boxes: np.ndarray) -> np.ndarray:
    frames = []
    for index in np.linspace(0, len(boxes) - 1, STRIP_FRAMES).astype(int):
        pair = np.stack([sequence.boxes[index], boxes[index]])
        image = draw_boxes(read_image(sequence.frames[index]), pair, verdicts=[-1, trackers.base.FOUND])
        width = round(image.shape[1] * STRIP_HEIGHT / image.shape[0])
        frames.append(cv2.resize(image, (width, STRIP_HEIGHT), interpolation=cv2.INTER_AREA))
    return np.concatenate(frames, 1)
