"""Every setting in train/configs: it is read, fits its model, and its labels fit its crops."""

import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers.rules import unruled
from trackers.nets import models
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
from trackers.rules import validate
from train import atom, configs, dimp, distill, loop, memtrack, siamfc, siamrpn
from train.config import CLIPS, CROPS, FRAMES, PAIRS, Config, read_config
from train.samples import clips, crops, pairs

FOLDER = Path(configs.__file__).parent
CONFIGS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "smoke"))
FROM_SCRATCH = {
    *("dimp_tiny", "dimp_tiny_more", "dimp_smoke"),
    *("siamfc", "siamfc_photos", "siamfc_smoke", "siamrpn_alexnet", "siamrpn_smoke"),
    *("memtrack", "memtrack_photos", "memtrack_smoke"),
    *("distill_resnet16", "distill_alexnet", "distill_smoke"),
}  # the others are given a backbone
IOU_NET_ONLY = {"dimp18_iou_net"}
WITHOUT_BIAS = {"siamfc"}  # all that SiamFC's head has


KINDS = [module.LossConfig for module in (atom, dimp, distill, memtrack, siamfc, siamrpn)]
KINDS += [kind for samples in (CLIPS, CROPS, FRAMES, PAIRS) for kind in (samples.loader, samples.prepare)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_field_has_a_rule(kind):
    assert unruled(kind) == []


def test_every_field_of_a_run_has_a_rule():
    """What `loss`, of any type, holds is checked above."""
    assert unruled(Config) == ["loss"]


LARGE = ("siamrpnpp_mobilenetv2_stage", "siamrpnpp_resnet50", "dimp50")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.full] * path.stem.startswith(LARGE)) for path in CONFIGS],
    ids=[path.stem for path in CONFIGS],
)
def test_a_setting(path):
    config = read_config(path, [])
    validate(config)
    params = models.expected_variables(config.loss.model)
    learned = loop.trained(params, config.optimizer)
    left_out = {"classifier"} if path.stem in IOU_NET_ONLY else {"head"} if path.stem in WITHOUT_BIAS else set()
    assert "teacher" not in learned
    heads = {"classifier", "iou_net", "neck", "memory", "head", "maps"} & set(params) - left_out
    assert heads <= set(learned)
    for part in heads:
        assert jax.tree.structure(learned[part]["params"]) == jax.tree.structure(params[part]["params"])
    if "backbone" not in learned:
        assert set(learned) == heads
        assert path.stem in ("atom", "atom_smoke") or config.loss.backbone_statistics == "stored"
    assert ("backbone" in learned) or path.stem not in FROM_SCRATCH
    if isinstance(config.loader, pairs.PairLoaderConfig | clips.ClipLoaderConfig | crops.CropLoaderConfig):
        # `check` compares sizes with the model's, or there are no labels
        return
    labels = config.prepare.labels
    assert (labels is None) == ("classifier" not in params)
    if labels is not None:
        assert (labels.feature_size * STRIDE, labels.kernel_size) == (config.loader.crops.size, FILTER_SIZE)


def rates(name: str) -> np.ndarray:
    """The rate of the first group at every step."""
    config = importlib.import_module(f"train.configs.{name}").get_config()
    sgd = config.optimizer
    steps = np.arange(config.loop.steps)
    rate = sgd.groups[0][1]
    falling = rate * sgd.decay ** np.floor((steps - sgd.warmup) / sgd.decay_every)
    if not sgd.warmup:
        return falling
    share = np.floor(steps / sgd.decay_every) * sgd.decay_every / sgd.warmup
    return np.where(steps < sgd.warmup, rate * sgd.warmup_from ** (1 - share), falling)


def test_the_published_numbers_of_the_siamese_trackers():
    fc = importlib.import_module("train.configs.siamfc").get_config()
    assert (fc.optimizer.kind, fc.optimizer.momentum, fc.optimizer.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (fc.loader.batch_size, fc.loader.search.size, fc.loop.steps) == (8, 239, 50 * 1166)
    np.testing.assert_allclose(rates("siamfc")[[0, -1]], [1e-2, 1e-2 * 1e-3 ** (49 / 50)])

    first, second = rates("siamrpnpp_resnet50_stage1"), rates("siamrpnpp_resnet50_stage2")
    epoch = 600_000 // 224
    assert len(first) == len(second) == 10 * epoch
    wanted = [*(1e-3 * 5 ** (np.arange(5) / 5)), *np.geomspace(5e-3, 5e-4, 15)]
    np.testing.assert_allclose([*first[::epoch], *second[::epoch]], wanted)
    thawed = importlib.import_module("train.configs.siamrpnpp_resnet50_stage2").get_config().optimizer.groups
    np.testing.assert_allclose(thawed[-1][1], second[0] / 10)

    epoch = 600_000 // 2048
    alexnet = rates("siamrpn_alexnet")
    assert len(alexnet) == 50 * epoch
    np.testing.assert_allclose(alexnet[: 5 * epoch : epoch], [0.0025, 0.00287, 0.0033, 0.00379, 0.00435], rtol=2e-3)
    np.testing.assert_allclose(alexnet[5 * epoch :: epoch], np.geomspace(5e-3, 2.5e-4, 45))


def test_the_published_numbers_of_memtrack():
    config = importlib.import_module("train.configs.memtrack").get_config()
    assert (config.loop.steps, config.loader.batch_size, config.optimizer.clip) == (100_000, 8, 20.0)
    np.testing.assert_allclose(rates("memtrack")[[0, 9_999, 10_000, -1]], [1e-4, 1e-4, 8e-5, 1e-4 * 0.8**9])
    sampling = config.loader.sampling
    assert (sampling.train_frames, sampling.test_frames, sampling.min_length) == (16, 16, 50)
    assert config.loss.chunk == sampling.train_frames  # all frames of a clip are normalized as one batch
    template, search = config.loader.template, config.loader.search
    assert (template.size, template.shift, template.stretch) == (127, 8, 0.1)
    assert (search.size, search.shift, search.stretch) == (255, 4, 0.05)
    assert (config.loss.l2, config.loss.overlap, config.loss.dropout) == (1e-4, 0.7, 0.2)
