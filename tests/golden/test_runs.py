"""Whole runs, init to the last frame: DiMP-18 on real video beside the reference implementation's boxes, with nothing
random, and the default tracker on a drawn clip beside boxes of its own.

The first needs ../shared: sequences, a backbone, and the boxes, whose README says how they were made. The second
compares the code with an earlier state of itself; `python -m tests.golden.test_runs` writes its boxes anew.
"""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import trackers
from eval import convert
from eval.sources.sequences import list_images, read_image
from eval.sources.synthetic import ClipConfig, clip
from tests.helpers import places
from trackers import base
from trackers.images import xywh_to_box
from trackers.weights import released

REFERENCE = places.SHARED / "golden" / "runs" / "dimp18"
SEQUENCES = places.SHARED / "data" / "sequences"
BACKBONE = places.SHARED / "weights" / "resnet18_imagenet_bnfolded_to_layer3.npz"
DRAWN = places.GOLDEN / "drawn_run.json"
LIMIT = 0.02  # pixels
RUNS = ["Deer", *(pytest.param(name, marks=pytest.mark.full) for name in ("KiteSurf", "MotorRolling", "bag"))]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the reference runs in ../shared/golden/runs")
@pytest.mark.parametrize("name", RUNS)
def test_dimp18_gives_the_boxes_of_the_reference_on_real_video(name, dimp18):
    expected = np.loadtxt(REFERENCE / f"{name}.txt", delimiter=",")
    images = [read_image(path) for path in list_images(SEQUENCES / name / "img")[: len(expected)]]
    assert len(images) == len(expected) == 40
    np.testing.assert_allclose(follow(*dimp18, images, expected[0]), expected, rtol=0, atol=LIMIT)


def test_the_default_tracker_gives_its_stored_boxes_on_a_drawn_clip():
    images, boxes = drawn_clip()
    expected = np.array(json.loads(DRAWN.read_text())["boxes"])
    assert np.ptp(expected[:, :2], 0).max() > 10 and np.ptp(expected[:, 2:], 0).max() > 1
    np.testing.assert_allclose(follow(*default_tracker(), images, boxes[0]), expected, rtol=0, atol=LIMIT)


@pytest.fixture(scope="module")
def dimp18(tmp_path_factory):
    """The compiled tracker, with nothing random, and the reference's weights: ImageNet's backbone, released heads."""
    path = tmp_path_factory.mktemp("dimp18") / "dimp18.safetensors"
    convert.convert(BACKBONE, path, "dimp18", released.heads("dimp18"))
    config = trackers.get("dimp18").config
    config = replace(
        config,
        region=replace(config.region, rounding="pytracking"),
        refinement=replace(config.refinement, random_boxes=0),
        augmentation=replace(config.augmentation, dropout_copies=0, random_shift=0.0),
    )
    return jitted(trackers.get("dimp18").make(config)), trackers.load_params("dimp18", path)


def default_tracker() -> tuple[base.Tracker, base.Params]:
    entry = trackers.get("dimp_tiny")
    return jitted(entry.make(entry.config)), trackers.load_params("dimp_tiny", None)


def drawn_clip() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The images and boxes of a target that moves, turns and changes its size."""
    config = ClipConfig(num_frames=12, occluders=0, speed=4.0, scale_change=2.0, rotation=20.0)
    return [list(part) for part in zip(*((example.image, example.box) for example in clip(config, seed=1)))]


def jitted(tracker: base.Tracker) -> base.Tracker:
    return base.Tracker(jax.jit(tracker.init), jax.jit(tracker.track))


def follow(tracker: base.Tracker, params, images: list[np.ndarray], box: np.ndarray) -> np.ndarray:
    """`[T, 4]` x, y, w, h of every frame, the first as given."""
    state = tracker.init(params, jax.random.key(0), trackers.frame(images[0]), xywh_to_box(box))
    found = [np.asarray(box, float)]
    for image in images[1:]:
        state, estimate = tracker.track(params, state, trackers.frame(image))
        found.append(trackers.xywh(estimate.box))
    return np.stack(found)


if __name__ == "__main__":
    images, boxes = drawn_clip()
    found = follow(*default_tracker(), images, boxes[0])
    DRAWN.write_text(json.dumps({"tracker": "dimp_tiny", "boxes": found.round(4).tolist()}, indent=1) + "\n")
    print(np.abs(found - np.stack(boxes)).max(0), "pixels from the clip's own boxes at most")
