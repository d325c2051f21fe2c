"""DiMP-18 trained on one clip tracks the target of that clip: the loss teaches what the tracker needs."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import trackers
from eval import convert
from eval.scoring import metrics
from eval.sources.synthetic import ClipConfig
from tests.helpers import places
from tests.helpers.compilation import jit_as_for_users
from trackers.images import xywh_to_box
from train import datasets, dimp, loop
from train import run as train_run
from train.config import DatasetConfig
from train.configs import dimp18_heads, dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples.loader import decode

BACKBONE = places.SHARED / "weights" / "resnet18_imagenet_bnfolded_to_layer3.npz"
FRAMES = 60


@pytest.mark.full
@pytest.mark.skipif(not BACKBONE.is_file(), reason="needs the ImageNet ResNet-18 in ../shared/weights")
def test_dimp18_overfits_one_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "jit", jit_as_for_users)  # here it is running that takes the time
    convert.convert(BACKBONE, tmp_path / "r18.safetensors", "atom_multiscale")
    config = dimp18_heads.get_config()
    clip = SyntheticConfig(num_clips=1, clip=ClipConfig(num_frames=FRAMES))
    groups = (("^classifier/params/optimizer/", 1e-3), ("^classifier/", 3e-4), ("^iou_net/", 1e-3))
    colors = replace(config.prepare.colors, grayscale_probability=0.0)
    config = replace(
        config,
        datasets=(DatasetConfig(SYNTHETIC, synthetic=clip),),
        optimizer=replace(config.optimizer, groups=groups, warmup=10, decay_every=100, decay=0.3),
        loop=loop.LoopConfig(steps=130),
        loader=replace(config.loader, batch_size=4),
        prepare=replace(config.prepare, flip_probability=0.0, blur_probability=0.0, colors=colors),
    )
    loss = partial(dimp.loss, config=config.loss)
    params = train_run.train(loss, config, tmp_path / "run", tmp_path / "data", tmp_path / "r18.safetensors")

    entry, size = trackers.get("dimp18"), dimp_tiny.SIZE
    region = replace(entry.config.region, image_size=size, search_area_scale=5 * size / 288)
    tracker = entry.make(replace(entry.config, region=region))
    init, track = jax.jit(tracker.init), jax.jit(tracker.track)
    clip = datasets.load(SYNTHETIC, tmp_path / "data")
    frames = [trackers.frame(decode(clip.frames[index]["image"])[..., ::-1]) for index in range(FRAMES)]
    state, boxes = init(params, jax.random.key(0), frames[0], xywh_to_box(clip.table.boxes[0])), []
    for frame in frames[1:]:
        state, estimate = track(params, state, frame)
        boxes.append(trackers.xywh(estimate.box))
    overlap = metrics.overlaps(np.stack(boxes), clip.table.boxes[1:FRAMES])
    assert overlap.mean() > 0.8, f"mean IoU {overlap.mean():.3f}, least {overlap.min():.3f}"
