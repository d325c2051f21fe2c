"""`train.distill`: crops, what is learned and what is not, the command, and what starts from its file."""

import textwrap
from dataclasses import replace
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import narrow
from tests.helpers.differences import assert_gradient
from trackers.nets import models
from trackers.rules import SettingError, validate
from trackers.weights import WeightsError, files
from train import command as train_command
from train import distill, loop, run
from train.configs import distill_alexnet, distill_resnet16
from train.held_out import ValidationConfig
from train.samples import crops
from train.samples.augment import ColorConfig

STUDENTS = ("distilled_resnet16", "distilled_alexnet")
PLAIN = crops.CropLoaderConfig(sampling=crops.FRAMES, batch_size=1, size=48)


@pytest.fixture
def networks():
    with narrow.narrow_models():
        yield


def photograph(height=90, width=120) -> np.ndarray:
    """No two places look alike: `[H, W, 3]` uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1).astype(np.uint8)


def batch(size=159) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = np.kron(rng.uniform(0, 255, (2, size // 8 + 1, size // 8 + 1, 3)), np.ones((1, 8, 8, 1)))[:, :size, :size]
    return {"clean_images": clean, "poor_images": np.clip(clean + rng.normal(0, 8, clean.shape), 0, 255)}


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def test_a_window_is_a_square_of_the_image():
    image, rng = photograph(), np.random.default_rng(0)
    windows = [crops.random_window(rng, image, replace(PLAIN, window=(0.3, 1.0))) for _ in range(50)]
    corners = np.array([[window[0, 0, :2], window[-1, -1, :2]] for window in windows], float)  # x, y in 255ths
    sides = np.diff(corners, axis=1)[:, 0] * [120 / 255, 90 / 255]  # pixels of the image
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=3)
    assert 24 < sides.min() < 35 and 75 < sides.max() < 91
    assert corners[:, 0].min() < 10 and corners[:, 1].max() > 245  # some reach the image's edges


def test_the_poor_copy_loses_what_it_is_said_to_lose():
    clean = np.random.default_rng(1).integers(0, 256, (48, 48, 3)).astype(np.uint8)

    def stored(**settings):
        return crops.stored_poorly(np.random.default_rng(0), clean, replace(PLAIN, **settings))

    np.testing.assert_array_equal(stored(), clean)
    small = stored(small_probability=1.0, small_scale=(0.5, 0.5))
    expected = cv2.resize(cv2.resize(clean, (24, 24), interpolation=cv2.INTER_AREA), (48, 48))
    np.testing.assert_array_equal(small, expected)
    worse, better = (stored(jpeg_probability=1.0, jpeg_quality=(q, q)).astype(float) for q in (10, 95))
    assert 0 < np.abs(better - clean).mean() < np.abs(worse - clean).mean()


def test_what_the_device_does_to_both_and_to_the_copy():
    image = photograph(40, 40).astype(np.float32)
    one = partial(crops.degrade, clean=image, poor=image)
    clean, poor = one(jax.random.key(0), config=crops.CropPrepareConfig())
    np.testing.assert_array_equal(clean, image)
    np.testing.assert_allclose(poor, image, atol=1e-4)
    clean, poor = one(jax.random.key(0), config=crops.CropPrepareConfig(flip_probability=1.0))
    np.testing.assert_array_equal(clean, image[:, ::-1])
    np.testing.assert_allclose(poor, clean, atol=1e-4)
    for worse in (
        {"colors": ColorConfig(brightness=(0.3, 0.4))},
        {"blur_probability": 1.0, "blur_sigma": (2.0, 2.0)},
        {"noise_probability": 1.0, "noise_sigma": (10.0, 10.0)},
    ):
        clean, poor = one(jax.random.key(0), config=crops.CropPrepareConfig(**worse))
        np.testing.assert_array_equal(clean, image)
        difference = np.asarray(poor - image)
        assert np.abs(difference).mean() > 0.1
    assert 8 < difference[10:30, 10:30].std() < 12  # the noise, where it is not cut at 0 or 255


def test_the_teacher_is_read_where_the_student_looks():
    """Of a map whose values are the pixels of its cells; the student without padding has cells from pixel 43 on."""
    ramp = np.broadcast_to(8.0 * np.arange(20)[:, None], (20, 20))
    teacher = jnp.asarray(np.stack([ramp, ramp.T], -1)[None], jnp.float32)
    found = distill.in_cells_of(jnp.zeros((1, 10, 10, 5)), teacher, 159, 8)
    np.testing.assert_allclose(found[0, :, 0, 0], 43 + 8 * np.arange(10), atol=1e-4)
    np.testing.assert_allclose(found[0, 0, :, 1], 43 + 8 * np.arange(10), atol=1e-4)
    assert distill.in_cells_of(jnp.zeros((1, 20, 20, 5)), teacher, 159, 8) is teacher


@pytest.mark.parametrize("model", STUDENTS)
def test_the_real_parts_have_cells_where_they_are_said_to_be(model):
    """One bright pixel answers around its own cell, in student and teacher alike."""
    parts = models.networks(model)
    variables = jax.eval_shape(lambda: parts["backbone"].init(jax.random.key(0), jnp.zeros((1, 159, 159, 3))))
    taps = jax.eval_shape(parts["backbone"].apply, variables, jnp.zeros((1, 159, 159, 3)))
    last = taps[-1] if isinstance(taps, tuple) else taps["layer3"]
    teacher = jax.eval_shape(
        lambda: parts["teacher"].init_with_output(jax.random.key(0), jnp.zeros((1, 159, 159, 3)))[0]
    )
    assert last.shape[1:3] == (10, 10) and teacher["layer3"].shape[1:3] == (10, 10)
    assert teacher["layer2"].shape[1:3] == (20, 20)


@pytest.mark.parametrize("model", STUDENTS)
def test_the_gradient_against_finite_differences(model, networks, x64):
    params, data = cast(narrow.start(model), jnp.float64), cast(batch(), jnp.float64)
    rng = np.random.default_rng(0)  # maps of zeros give the backbone no gradient
    params["maps"] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape)), params["maps"])
    learned = loop.trained(params, distill_resnet16.get_config().optimizer)
    assert set(learned) == {"backbone", "maps"}
    config = distill.LossConfig(model)
    assert_gradient(lambda learned: distill.loss(loop.with_trained(params, learned), data, config)[0], learned)


@pytest.mark.parametrize("model", STUDENTS)
def test_a_fixed_batch_can_be_learned_and_the_teacher_stays(model, networks):
    before, data = narrow.start(model), cast(batch(), jnp.float32)
    optimizer = loop.OptimizerConfig(groups=(("^(backbone|maps)/", 2e-2),))
    loss = partial(distill.loss, config=distill.LossConfig(model))
    step = jax.jit(loop.make_step(loss, lambda key, batch: batch, optimizer, 0))
    state, values = loop.init_state(before, optimizer), []
    for _ in range(30):
        state, metrics = step(state, data)
        values.append(float(metrics["loss"]))
        np.testing.assert_allclose(metrics["layer2"] + metrics["layer3"], metrics["loss"], rtol=1e-6)
    assert values[0] == pytest.approx(2)  # maps of zeros miss all of both taps
    assert values[-1] < 0.7 * values[0]
    after = jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, after["teacher"], before["teacher"])
    moved = {part: jax.tree.map(lambda a, b: not np.array_equal(a, b), after[part], before[part]) for part in after}
    assert all(jax.tree.leaves(moved["backbone"])) and all(jax.tree.leaves(moved["maps"]))


def test_the_command_and_what_starts_from_its_file(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "prepare_process", lambda: None)
    teacher = models.init_variables("atom_multiscale", jax.random.key(5))
    files.save(tmp_path / "r18.safetensors", teacher, model="atom_multiscale")
    config = tmp_path / "mini.py"
    config.write_text(
        textwrap.dedent("""
        from dataclasses import replace
        from eval.sources.synthetic import ClipConfig
        from train.config import DatasetConfig
        from train.configs import distill_smoke
        from train.datasets import SYNTHETIC, SyntheticConfig

        def get_config():
            config = distill_smoke.get_config()
            clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=4))
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loop=replace(config.loop, steps=3, log_every=1),
                loader=replace(config.loader, batch_size=2, size=64),
            )
        """)
    )
    arguments = ["--config", str(config), "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert distill.main([*arguments, "--weights", str(tmp_path / "r18.safetensors")]) == 0
    written = files.load(tmp_path / "run" / "weights.safetensors", models.expected_variables("distilled_resnet16"))
    jax.tree.map(np.testing.assert_array_equal, written["teacher"], jax.device_get(teacher["backbone"]))

    for model in ("dimp_tiny", "atom_multiscale_small"):
        begun = run.initial_params(model, 0, tmp_path / "run" / "weights.safetensors")
        jax.tree.map(np.testing.assert_array_equal, begun["backbone"], written["backbone"])
        assert set(begun) == set(models.networks(model))
    with pytest.raises(WeightsError, match=r"its backbone .of model distilled_resnet16. does not fit siamfc"):
        run.initial_params("siamfc", 0, tmp_path / "run" / "weights.safetensors")
    again = run.initial_params("distilled_resnet16", 0, tmp_path / "run" / "weights.safetensors")
    jax.tree.map(np.testing.assert_array_equal, again, written)
    files.save(tmp_path / "alexnet.safetensors", narrow.start("siamfc"), model="siamfc")
    with pytest.raises(WeightsError, match=r"its teacher .of model siamfc. does not fit distilled_resnet16"):
        run.initial_params("distilled_resnet16", 0, tmp_path / "alexnet.safetensors")


@pytest.mark.parametrize("wrong", [{"window": (1.0, 0.5)}, {"small_scale": (0.5, 0.2)}, {"jpeg_quality": (50, 20)}])
def test_settings_that_do_not_fit(wrong):
    (name,) = wrong
    with pytest.raises(SettingError, match=rf"{name}=.*must be \(least, greatest\)"):
        validate(replace(PLAIN, **wrong))


def test_a_student_alone_is_not_validated_by_tracking():
    config = replace(distill_alexnet.get_config(), validation=ValidationConfig(data_dir="sequences"))
    with pytest.raises(SettingError, match=r"validation.data_dir=sequences: must be empty for distilled_alexnet"):
        validate(config)
