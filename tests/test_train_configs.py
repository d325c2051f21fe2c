"""Every setting in train/configs: it is read, fits its model, and its labels fit its crops."""

from pathlib import Path

import jax
import pytest

from trackers.nets import models
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
from train import loop, program

CONFIGS = sorted(path for path in (Path(program.__file__).parent / "configs").glob("*.py") if path.stem != "__init__")
FROM_SCRATCH = {"dimp_tiny", "dimp_tiny_more", "dimp_smoke"}  # the others are given a backbone
IOU_NET_ONLY = {"dimp18_iou_net"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_setting(path):
    config = program.read_config(path, [])
    params = models.expected_variables(config.loss.model)
    learned = loop.trained(params, config.optimizer)
    heads = {"classifier", "iou_net"} & set(params) - ({"classifier"} if path.stem in IOU_NET_ONLY else set())
    assert heads <= set(learned)
    for part in heads:
        assert jax.tree.structure(learned[part]["params"]) == jax.tree.structure(params[part]["params"])
    if "backbone" not in learned:
        assert set(learned) == heads
        assert path.stem in ("atom", "atom_smoke") or config.loss.backbone_statistics == "stored"
    assert ("backbone" in learned) or path.stem not in FROM_SCRATCH
    labels = config.prepare.labels
    assert (labels is None) == ("classifier" not in params)
    if labels is not None:
        assert (labels.feature_size * STRIDE, labels.kernel_size) == (config.loader.crops.size, FILTER_SIZE)
