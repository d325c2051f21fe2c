"""`train.replay`: a head that learns from stored features of a frozen backbone."""

import contextlib
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from eval.sources.synthetic import ClipConfig
from tests.helpers.narrow import narrow_models
from trackers.rules import SettingError, validate
from train import loop, replay, run, siamfc, siamrpn
from train.config import DatasetConfig, samples_of
from train.configs import dimp_smoke, siamfc_smoke, siamrpn_smoke
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples.anchor_targets import AnchorTargetConfig
from train.whitening import WhiteningConfig

MODEL, SIZE, CELLS = "siamrpnpp_alexnet", 143, 3


@pytest.fixture(autouse=True)
def narrow():
    with narrow_models():
        yield


def small(**changes):
    config = siamrpn_smoke.get_config()
    clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
    search = replace(config.loader.search, size=SIZE, shift=4.0)
    config = replace(
        config,
        datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=replace(config.optimizer, groups=(("^head/", 1e-2),)),
        loader=replace(config.loader, batch_size=2, search=search),
        prepare=replace(
            config.prepare, targets=AnchorTargetConfig(search_size=SIZE, score_size=CELLS), blur_probability=0.0
        ),
        loop=replace(config.loop, steps=4, save_every=2),
        loss=siamrpn.LossConfig(MODEL, backbone_statistics="stored"),
        replay=replay.ReplayConfig(batches=3),
    )
    config = replace(config, **changes)
    validate(config)
    return config


def train(config, folder):
    loss = partial(siamrpn.loss, config=config.loss)
    return jax.device_get(run.train(loss, config, folder / "run", folder / "data"))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_every_epoch_shows_each_pair_once_and_in_an_order_of_its_own():
    stored = {"sample_ids": np.arange(10, 17), "negative": np.arange(7)}
    batches = replay.Replay(stored, 3, seed=0)
    epochs = [[next(batches) for _ in range(2)] for _ in range(3)]
    for epoch in epochs:
        shown = np.concatenate([batch["sample_ids"] for batch in epoch])
        assert len(set(shown)) == 6  # the seventh waits for another epoch
        for batch in epoch:
            np.testing.assert_array_equal(batch["negative"], batch["sample_ids"][None] - 10)
    orders = {tuple(np.concatenate([batch["sample_ids"] for batch in epoch])) for epoch in epochs}
    assert len(orders) == 3

    again = replay.Replay(stored, 3, seed=0)
    again.set_state({"next_batch": 3})
    assert_equal(next(again), epochs[1][1])
    assert again.get_state() == {"next_batch": 4}
    other = replay.Replay(stored, 3, seed=1)
    assert not np.array_equal(next(other)["sample_ids"], epochs[0][0]["sample_ids"])


def test_the_loss_of_stored_pairs_is_that_of_their_images(tmp_path):
    """To half precision: the same pairs, the anchors chosen alike."""
    config = small(replay=replay.ReplayConfig(batches=1))
    params = run.initial_params(MODEL, 0, None)
    made_of = {"datasets": [], "loader": {}, "weights_sha256": None}
    with contextlib.closing(run.open_batches(config, tmp_path)) as batches:
        pairs = run.stored_pairs(config, params, batches, tmp_path, made_of)
    with contextlib.closing(run.open_batches(config, tmp_path)) as batches:
        first = next(batches)
    stored = next(pairs)
    order = np.argsort(stored.pop("sample_ids"))
    np.testing.assert_array_equal(first.pop("sample_ids"), [0, 1])
    assert stored["search_taps_0"].dtype == np.float16
    found = replay.prepare(jax.random.key(5), {name: leaf[:, order] for name, leaf in stored.items()}, config.prepare)

    augment = partial(samples_of(MODEL).augment, config=replace(config.prepare, targets=None))
    seen = jax.jit(augment)(jax.random.fold_in(jax.random.key(config.loop.seed), 0), first)
    np.testing.assert_array_equal(found["search_boxes"], seen["search_boxes"])
    targets = {name: found[name] for name in ("labels", "deltas", "weights")}
    loss = jax.jit(partial(siamrpn.loss, config=config.loss))
    (by_features, _), (by_images, _) = loss(params, found), loss(params, {**seen, **targets})
    np.testing.assert_allclose(by_features, by_images, rtol=2e-3)  # 2^-11 a feature, a handful of products


def test_a_run_is_the_same_after_an_interruption_at_any_point(tmp_path, monkeypatch):
    whole = train(small(), tmp_path / "whole")
    start = run.initial_params(MODEL, small().loop.seed, None)
    assert_equal(whole["backbone"], jax.device_get(start["backbone"]))
    assert not np.array_equal(
        whole["head"]["params"]["cls_0"]["output"]["kernel"], start["head"]["params"]["cls_0"]["output"]["kernel"]
    )

    written = replay._write

    def stopped(path, leaves):
        if path.name == "00001.npz":
            raise KeyboardInterrupt
        written(path, leaves)

    monkeypatch.setattr(replay, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(small(), tmp_path / "cut")
    features = tmp_path / "cut" / "run" / run.FEATURES
    assert sorted(path.name for path in features.iterdir()) == ["00000.npz", replay.MADE_OF]
    monkeypatch.setattr(replay, "_write", written)
    first = (features / "00000.npz").stat().st_mtime_ns
    train(small(loop=replace(small().loop, steps=2)), tmp_path / "cut")
    assert_equal(train(small(), tmp_path / "cut"), whole)
    assert (features / "00000.npz").stat().st_mtime_ns == first


def test_features_of_other_pairs_and_damaged_ones_are_refused(tmp_path):
    config = small(loop=replace(small().loop, steps=1))
    train(config, tmp_path)
    folder = tmp_path / "run"
    others = (
        replace(config, loader=replace(config.loader, negative=0.5)),
        replace(config, loop=replace(config.loop, seed=1)),
    )
    for path in (folder / loop.CHECKPOINTS).iterdir():
        path.rename(tmp_path / path.name)  # a run that was stopped before its first checkpoint
    for other in others:
        with pytest.raises(SettingError, match=r"run.features: has features of other pairs"):
            train(other, tmp_path)
    (folder / run.FEATURES / "00001.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(SettingError, match=r"00001\.npz: damaged .*delete it"):
        train(config, tmp_path)
    (folder / run.FEATURES / replay.MADE_OF).write_text("{")
    with pytest.raises(SettingError, match=r"made_of\.json: damaged .*delete"):
        train(config, tmp_path)


def test_what_does_not_fit():
    with pytest.raises(SettingError, match=r'loss\.backbone_statistics.*"stored" with replay'):
        small(loss=siamrpn.LossConfig(MODEL))
    with pytest.raises(SettingError, match=r"replay.*does not learn from pairs"):
        validate(replace(dimp_smoke.get_config(), replay=replay.ReplayConfig()))
    frozen = siamfc.LossConfig(backbone_statistics="stored")
    with pytest.raises(SettingError, match=r"whitening.*None with replay"):
        validate(
            replace(siamfc_smoke.get_config(), loss=frozen, replay=replay.ReplayConfig(), whitening=WhiteningConfig())
        )


def test_a_backbone_that_learns_is_refused(tmp_path):
    config = small(optimizer=loop.OptimizerConfig(groups=((".", 1e-2),)))
    with pytest.raises(SettingError, match=r"optimizer\.groups: none may match the backbone"):
        train(config, tmp_path)
    assert not (tmp_path / "run" / run.FEATURES).exists()


def test_features_that_do_not_fit_half_precision_are_named(tmp_path, monkeypatch):
    start = run.initial_params

    def huge(model, *args):
        params = start(model, *args)
        return {**params, "backbone": jax.tree.map(lambda leaf: leaf * 1e6, params["backbone"])}

    monkeypatch.setattr(run, "initial_params", huge)
    with pytest.raises(loop.TrainingError, match=r"not finite in half precision; look at the samples \[0, 1\]"):
        train(small(), tmp_path)
