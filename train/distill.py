"""Features learned from a teacher: `python -m train.distill --config train/configs/distill_smoke.py --out runs/smoke`.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015: a small backbone, the student, learns to give the
features of a large one, with linear maps between the two. No box is needed. The teacher sees a clean crop, the student
a poor copy of it. `--weights` names the teacher's file; that of the run has a part "backbone", from which the
student's trackers are trained on: `python -m train.dimp --config ... --weights runs/.../weights.safetensors`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from trackers.nets import models, resnet
from trackers.nets.tap_maps import TapMaps
from train import command
from train.forward import applying

Array = jax.Array
Params = Any


@dataclass(frozen=True)
class LossConfig:
    """What is distilled."""

    model: Annotated[str, models.with_part(TapMaps)] = "distilled_resnet16"  # of `trackers.nets.models`


def loss(
    params: Params, batch: Mapping[str, Array], config: LossConfig
) -> tuple[Array, tuple[Params, dict[str, Array]]]:
    """The loss `[]`, and beside it the parameters with new batch statistics and the parts of the loss.

    params: `{part: variables}` of the model. batch: of `train.samples.crops.prepare`, B crops. For each tap of the
    teacher: the squared error of what the student's map gives, over the squared norm of the tap. The loss is their sum.
    """
    apply, params = applying(config.model, params)
    teacher = apply("teacher", resnet.normalize(batch["clean_images"]), train=False)
    images = batch["poor_images"]
    normalized = models.get(config.model).images == "normalized"
    taps = apply("backbone", resnet.normalize(images) if normalized else images)
    parts = {}
    for name, predicted in apply("maps", taps, train=False).items():
        wanted = in_cells_of(predicted, teacher[name], images.shape[1], resnet.TAP_STRIDES[name])
        parts[name] = jnp.sum((predicted - wanted) ** 2) / jnp.sum(wanted**2)
    return sum(parts.values()), (params, parts)


def in_cells_of(student: Array, teacher: Array, size: int, stride: int) -> Array:
    """The teacher's map `[N, H, W, C]` at the places of the student's cells `[N, h, w, ..]`, between cells linearly.

    size: of the images, pixels. stride: of the teacher, whose cell j has its middle at pixel j * stride. The student
    has that grid, or cells of 8 pixels in the middle of the image and no padding, as AlexNet.
    """
    if student.shape[1:3] == teacher.shape[1:3]:
        return teacher
    axes = [_weights(cells, there, size, stride) for cells, there in zip(student.shape[1:3], teacher.shape[1:3])]
    return jnp.einsum("iy,jx,nyxc->nijc", *axes, teacher)


def _weights(cells: int, there: int, size: int, stride: int) -> np.ndarray:
    """`[cells, there]` float32: rows that add up to 1."""
    places = ((size - 1 - 8 * (cells - 1)) / 2 + 8 * np.arange(cells)) / stride
    distance = np.abs(np.clip(places, 0, there - 1)[:, None] - np.arange(there))
    return np.maximum(1 - distance, 0).astype(np.float32)


main = partial(command.main, "distill", loss, LossConfig)

if __name__ == "__main__":
    from train import distill  # as the configs know it; this copy of the module is called __main__

    sys.exit(distill.main())
