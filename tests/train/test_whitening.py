"""`train.whitening`: features that are white on the images it was made on, by another last convolution alone."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from eval.sources.synthetic import ClipConfig
from trackers.nets import models
from trackers.nets.alexnet import AlexNet
from trackers.nets.models import Model
from trackers.nets.rpn import SiamFCHead
from trackers.rules import SettingError, validate
from train import run, siamfc, whitening
from train.config import DatasetConfig, samples_of
from train.configs import dimp_smoke, siamfc_smoke
from train.datasets import SYNTHETIC, SyntheticConfig

NETWORKS = {
    "normalized": AlexNet((8, 8, 8, 8, 6), momentum=0.0),
    "in groups, not normalized": AlexNet((8, 8, 8, 8, 6), (1, 2, 1, 2, 2), last_norm=False, momentum=0.0),
}


@pytest.fixture(params=NETWORKS)
def network(request, monkeypatch):
    row = Model({"backbone": NETWORKS[request.param], "head": SiamFCHead()}, "raw", "pairs")
    monkeypatch.setitem(models._MODELS, "siamfc", row)
    return row.parts["backbone"]


@pytest.fixture
def batches(rng):
    """Of noise with structure, since white noise has few directions that matter."""
    shapes = {"template_images": (2, 127, 127, 3), "search_images": (2, 143, 143, 3)}

    def draw(count, height, width, channels):
        coarse = rng.uniform(0, 255, (count, 17, 17, channels)).astype(np.float32)
        return coarse.repeat(9, 1).repeat(9, 2)[:, :height, :width]

    return [{name: draw(*shape) for name, shape in shapes.items()} for _ in range(3)]


def features(network, params, batches):
    apply = jax.jit(lambda images: network.apply(params["backbone"], images)[0])
    maps = [np.asarray(apply(batch[name])) for batch in batches for name in ("template_images", "search_images")]
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(np.float64)


def start(network, batches):
    """With statistics of a normalization that has seen some of the images."""
    images = batches[0]["template_images"]
    variables = jax.jit(network.init)(jax.random.key(0), images)
    _, stats = jax.jit(lambda: network.apply(variables, images, train=True, mutable=["batch_stats"]))()
    backbone = jax.device_get({**variables, **stats})
    return {"backbone": backbone, "head": {"params": {"bias": np.float32(0.25)}}}


def test_features_are_white_and_responses_of_length_one(network, batches):
    params = start(network, batches)
    before = features(network, params, batches)
    found = whitening.whitened("siamfc", params, batches, share=1e-6)
    after = features(network, found, batches)
    assert jax.tree.structure(found) == jax.tree.structure(params)

    assert np.abs(after.mean(0)).max() < 1e-3 * after.std()
    covariance = np.cov(after, rowvar=False)
    size = covariance.shape[0] // network.groups[-1]
    for begin in range(0, len(covariance), size):
        block = covariance[begin : begin + size, begin : begin + size]
        np.testing.assert_allclose(block / block[0, 0], np.eye(size), atol=2e-3)

    # nothing but a linear map of what there was, and below the last layer nothing at all
    ones = np.column_stack([before, np.ones(len(before))])
    assert np.abs(ones @ np.linalg.lstsq(ones, after)[0] - after).max() < 1e-3 * np.abs(after).max()
    for layer in ("conv1", "conv4", "bn4"):
        same = (tree["backbone"]["params"][layer] for tree in (params, found))
        jax.tree.map(np.testing.assert_array_equal, *same)

    head = SiamFCHead()
    taps = jax.jit(lambda images: network.apply(found["backbone"], images))
    pairs = [[taps(batch[name]) for name in ("template_images", "search_images")] for batch in batches]
    responses = np.concatenate([head.apply(found["head"], *pair) for pair in pairs])
    assert responses.std() == pytest.approx(1, rel=1e-3)


def test_a_share_of_the_mean_variance_keeps_rare_directions_small(network, batches):
    """With as much of it that all directions are equal, features keep their angles: only the mean is gone."""
    params = start(network, batches)
    before = features(network, params, batches)
    after = features(network, whitening.whitened("siamfc", params, batches, share=1e9), batches)
    before -= before.mean(0)
    for group in np.split(np.arange(before.shape[1]), network.groups[-1]):
        scale = np.sum(before[:, group] * after[:, group]) / np.sum(before[:, group] ** 2)
        assert np.abs(after[:, group] - scale * before[:, group]).max() < 2e-3 * np.abs(after[:, group]).max()


def test_it_is_for_siamfc_on_an_alexnet():
    config = replace(siamfc_smoke.get_config(), whitening=whitening.WhiteningConfig())
    validate(config)
    with pytest.raises(SettingError, match=r"whitening.*None for dimp_tiny"):
        validate(replace(dimp_smoke.get_config(), whitening=whitening.WhiteningConfig()))


def test_a_run_begins_with_it_and_goes_on_without(monkeypatch, tmp_path):
    row = Model({"backbone": NETWORKS["normalized"], "head": SiamFCHead()}, "raw", "pairs")
    monkeypatch.setitem(models._MODELS, "siamfc", row)
    config = siamfc_smoke.get_config()
    clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
    config = replace(
        config,
        datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, groups=(("^head/", 1e-2),)),  # the backbone stays as it began
        loader=replace(config.loader, batch_size=2, search=replace(config.loader.search, size=143, shift=4.0)),
        loop=replace(config.loop, steps=1),
        loss=siamfc.LossConfig(backbone_statistics="stored"),
        whitening=whitening.WhiteningConfig(batches=2),
    )
    validate(config)
    loss, folders = partial(siamfc.loss, config=config.loss), (tmp_path / "run", tmp_path / "data")
    found = jax.device_get(run.train(loss, config, *folders))

    prepare = partial(samples_of("siamfc").augment, config=config.prepare)
    some = list(run.first_batches(config, tmp_path / "data", prepare))
    assert len(some) == 2  # also for a run of one step
    fresh = run.initial_params("siamfc", config.loop.seed, None)
    white = whitening.whitened("siamfc", fresh, some, config.whitening.share)
    jax.tree.map(np.testing.assert_array_equal, found["backbone"], jax.device_get(white["backbone"]))

    monkeypatch.delattr(whitening, "whitened")
    more = jax.device_get(run.train(loss, replace(config, loop=replace(config.loop, steps=2)), *folders))
    jax.tree.map(np.testing.assert_array_equal, more["backbone"], found["backbone"])
    assert not np.array_equal(more["head"]["params"]["bias"], found["head"]["params"]["bias"])
