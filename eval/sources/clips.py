"""A video with one target whose boxes are known, drawn or read: what figures and notebooks are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.sources import layouts, sequences, synthetic

HIDDEN = 0.5  # a clip is drawn again until less than this share of its target is seen in some frame


class Clip(NamedTuple):
    """A video of T frames with one target."""

    name: str
    image: Callable[[int], np.ndarray]  # frame number -> [H, W, 3] uint8 RGB
    boxes: np.ndarray  # [T, 4] x, y, w, h; nan where it is not known
    visibility: np.ndarray  # [T] in 0..1


def drawn_clip(count: int, first_seed: int = 0, *, hidden: bool = True) -> Clip:
    """A synthetic clip of `count` frames; where `hidden`, one in which most of the target is hidden in some frame."""
    config = synthetic.ClipConfig(num_frames=count)
    for seed in range(first_seed, first_seed + 100):
        scene = synthetic.make_scene(config, seed)
        examples = [synthetic.render(scene, t)._replace(image=None) for t in range(count)]
        visibility = np.array([example.visibility for example in examples])
        passes_behind = visibility.min() < HIDDEN < visibility[0] and visibility[-1] > HIDDEN
        if passes_behind or not hidden:
            break
    boxes = np.stack([example.box for example in examples])
    return Clip(f"drawn, seed {seed}", lambda t: synthetic.render(scene, t).image, boxes, visibility)


def read_clip(data_dir: Path, name: str, count: int) -> Clip:
    """The first frames of a sequence in the layout `folder`. SequenceError."""
    (found,) = layouts.read_dataset("folder", data_dir, [name])
    visible = found.visible.astype(float) if found.cover is None else found.cover / 8
    boxes = np.where(found.visible[:, None], found.boxes, np.nan)
    return Clip(name, lambda t: sequences.read_image(found.frames[t]), boxes[:count], visible[:count])
