"""`train.siamfc` and `train.siamrpn`: gradients, what is learned and what is not, the commands from end to end."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from tests.helpers.differences import assert_gradient
from tests.helpers.held_out import write_sequences
from tests.helpers.narrow import MODELS, ThreeLevels
from trackers.nets import models, siamese
from trackers.nets.rpn import DepthwiseRPN, Neck
from trackers.rules import SettingError, validate
from trackers.weights import files
from train import command as train_command
from train import dimp, loop, losses, release, siamfc, siamrpn
from train.config import Config, read_config
from train.configs import siamfc_smoke, siamrpn_smoke, siamrpnpp_mobilenetv2_heads
from train.run import initial_params
from train.samples import frames
from train.samples.anchor_targets import AnchorTargetConfig, anchor_targets

CONFIGS = Path(siamfc.__file__).parent / "configs"
SIZE = 143  # pixels of a search crop: two cells more than the template's 127
PAIRS = 2
ALEXNET, MOBILENET = "siamrpnpp_alexnet", "siamrpnpp_mobilenetv2_1.0"
COMMANDS = {"siamfc": siamfc, "siamrpn": siamrpn}


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    monkeypatch.setattr(train_command, "prepare_process", lambda: None)


NARROW = {  # the same parts with few channels
    **{name: MODELS[name].parts for name in ("siamfc", ALEXNET)},
    MOBILENET: {"backbone": ThreeLevels(), "neck": Neck((8,) * 3), "head": DepthwiseRPN((8,) * 3)},
}


@pytest.fixture
def narrow(monkeypatch):
    for name, parts in NARROW.items():
        monkeypatch.setitem(models._MODELS, name, replace(models.get(name), parts=parts))


@lru_cache
def start(model):
    """Parameters of the narrow networks; asked for under `narrow`."""
    return jax.device_get(models.init_variables(model, jax.random.key(0)))


def example(cells=0, size=SIZE) -> dict[str, np.ndarray]:
    """Pairs of bright squares on noise, the last a negative one; with anchors' targets for so many cells."""
    rng = np.random.default_rng(0)
    batch = {"negative": np.arange(PAIRS) == PAIRS - 1}
    for name, side in (("template", 127), ("search", size)):
        images = rng.uniform(0, 120, (PAIRS, side, side, 3))
        boxes = np.array([[(side - 1) / 2 - 32 + 4 * i, (side - 1) / 2 - 31, 64.0, 62.0] for i in range(PAIRS)])
        for image, (x, y, w, h) in zip(images, boxes.astype(int)):
            image[y : y + h, x : x + w] += 100
        batch |= {f"{name}_images": images, f"{name}_boxes": boxes}
    if cells:
        config = AnchorTargetConfig(search_size=size, score_size=cells)
        choose = jax.vmap(partial(anchor_targets, config=config))
        batch |= choose(jax.random.split(jax.random.key(0), PAIRS), batch["search_boxes"], batch["negative"])._asdict()
    return batch


def cast(tree, dtype):
    return jax.tree.map(
        lambda x: jnp.asarray(x, dtype if jnp.issubdtype(jnp.result_type(x), jnp.floating) else None), tree
    )


CASES = {
    "siamfc": (siamfc.loss, siamfc.LossConfig(), 0),
    ALEXNET: (siamrpn.loss, siamrpn.LossConfig(ALEXNET, smoothing=0.05), 3),
}


SOME = ["siamfc", pytest.param(ALEXNET, marks=pytest.mark.full)]


@pytest.mark.parametrize("name", SOME)
def test_the_gradient_against_finite_differences(name, narrow, x64):
    """Float64, along a random direction in each part."""
    loss, config, cells = CASES[name]
    params, batch = cast(start(name), jnp.float64), cast(example(cells), jnp.float64)
    everything = loop.OptimizerConfig(groups=((".", 1.0),))
    learned = loop.trained(params, everything)

    def value(learned):
        return loss(loop.with_trained(params, learned), batch, config)[0]

    assert_gradient(value, learned)


@pytest.mark.parametrize("name", SOME)
def test_a_fixed_batch_can_be_learned(name, narrow):
    """The loss falls, every parameter moves, and the running statistics follow templates and search crops."""
    loss, config, cells = CASES[name]
    optimizer = loop.OptimizerConfig(groups=((".", 1e-2),))
    step = jax.jit(loop.make_step(partial(loss, config=config), lambda key, batch: batch, optimizer, 0))
    before, batch = start(name), cast(example(cells), jnp.float32)
    state, values = loop.init_state(before, optimizer), []
    for _ in range(15):
        state, metrics = step(state, batch)
        assert bool(metrics["finite"])
        values.append(float(metrics["loss"]))
    assert values[-1] < 0.8 * values[0]
    if name != "siamfc":
        total = metrics["classification"] + 1.2 * metrics["localization"]
        np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)
    else:
        assert metrics["target_response"] > metrics["background_response"]
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), jax.device_get(state.params), before)
    assert all(jax.tree.leaves(moved))


def test_stored_statistics_give_what_the_tracker_sees(narrow):
    params, batch = start("siamfc"), cast(example(), jnp.float32)
    network = siamese.make("siamfc")
    response = network.correlate(
        params,
        network.embed(params, batch["template_images"]),
        network.features(params, batch["search_images"]).search,
    )
    labels = np.zeros(response.shape, np.float32)
    labels[0] = 1  # 3 x 3 cells, of which the corners are 2 away from the middle by city blocks
    config = siamfc.LossConfig(backbone_statistics="stored")
    total, (after, parts) = jax.jit(partial(siamfc.loss, config=config))(params, batch)
    np.testing.assert_allclose(total, losses.balanced_logistic(response, labels), rtol=1e-4)
    np.testing.assert_allclose(parts["target_response"], np.mean(response[0]), rtol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, after, params)


@pytest.mark.full
def test_the_backbone_of_another_kind_of_tracker_is_a_start(narrow, tmp_path):
    """Its head is none."""
    files.save(tmp_path / "siamfc.safetensors", start("siamfc"), model="siamfc")
    found = initial_params(ALEXNET, 1, tmp_path / "siamfc.safetensors")
    jax.tree.map(np.testing.assert_array_equal, found["backbone"], start("siamfc")["backbone"])
    fresh = jax.device_get(models.init_variables(ALEXNET, jax.random.key(1)))
    jax.tree.map(np.testing.assert_array_equal, found["head"], fresh["head"])


def test_a_frozen_backbone_stays_as_it_is_to_the_bit(narrow):
    """The setting of the released kind: two steps of neck and head on a MobileNetV2."""
    config = siamrpnpp_mobilenetv2_heads.get_config()
    loss = partial(siamrpn.loss, config=config.loss)
    optimizer = replace(config.optimizer, warmup=0)
    step = jax.jit(loop.make_step(loss, lambda key, batch: batch, optimizer, 0))
    before, batch = start(MOBILENET), cast(example(11), jnp.float32)
    state = loop.init_state(before, optimizer)
    for _ in range(2):
        state, metrics = step(state, batch)
        assert bool(metrics["finite"])
    after = jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, after["backbone"], before["backbone"])
    for part in ("neck", "head"):
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after[part], before[part])
        assert all(jax.tree.leaves(moved))


# The commands.


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def mini(name: str, folder: Path) -> Path:
    """The smoke setting with fewer clips, frames, samples and pixels."""
    path = folder / f"mini_{name}.py"
    path.write_text(
        textwrap.dedent(f"""
        from dataclasses import replace
        from train.datasets import SYNTHETIC, SyntheticConfig
        from eval.sources.synthetic import ClipConfig
        from train.config import DatasetConfig
        from train.samples.anchor_targets import AnchorTargetConfig
        from train.configs import {name}_smoke

        def get_config():
            config = {name}_smoke.get_config()
            clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
            targets = config.prepare.targets and AnchorTargetConfig(search_size={SIZE}, score_size=3)
            search = replace(config.loader.search, size={SIZE}, shift=4.0)
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loader=replace(config.loader, batch_size=2, search=search),
                prepare=replace(config.prepare, targets=targets),
            )
        """)
    )
    return path


def command(name: str, tmp_path: Path, data_dir: Path, *more: str) -> int:
    module = COMMANDS[name]
    arguments = ["--config", str(mini(name, tmp_path)), "--out", str(tmp_path / "run"), "--data_dir", str(data_dir)]
    return train_command.main(name, module.loss, module.LossConfig, [*arguments, "--set", "loop.log_every=1", *more])


@pytest.mark.full
def test_a_run_of_siamfc_is_validated_goes_on_and_is_released(tmp_path, data_dir, capsys):
    assert command("siamfc", tmp_path, data_dir, "--set", "loop.steps=2") == 0
    run = tmp_path / "run"
    assert set(trackers.load_params("siamfc", run / "weights.safetensors")) == {"backbone", "head"}
    write_sequences(tmp_path / "held_out", (60, 80))
    validation = ["--set", f"validation.data_dir={tmp_path / 'held_out'}", "--set", "loop.steps=3"]
    assert command("siamfc", tmp_path, data_dir, *validation) == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert 0 <= lines[-1]["validation/auc"] <= 1
    assert {"loss", "target_response", "background_response"} <= set(lines[0])
    assert files.read_metadata(run / "best.safetensors")["info"]["steps"] == 3

    out = tmp_path / "siamfc.safetensors"
    assert release.main([str(run), "--out", str(out)]) == 0
    assert set(trackers.load_params("siamfc", out)) == {"backbone", "head"}
    assert "| parts | backbone, head |" in out.with_suffix(".md").read_text()


@pytest.mark.full
def test_a_run_of_siamrpn(tmp_path, data_dir):
    assert command("siamrpn", tmp_path, data_dir, "--set", "loop.steps=2") == 0
    run = tmp_path / "run"
    assert set(trackers.load_params(ALEXNET, run / "weights.safetensors")) == {"backbone", "head"}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"loss", "classification", "localization"} <= set(lines[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_themselves_know_their_configs(name, tmp_path):
    """Run as a module, not called as a function; it ends where the first data set is missing."""
    config = CONFIGS / f"{'siamfc' if name == 'siamfc' else 'siamrpnpp_resnet50_stage1'}.py"
    done = subprocess.run(
        [sys.executable, "-m", f"train.{name}", "--config", config, "--data_dir", tmp_path, "--out", tmp_path / "run"],
        cwd=CONFIGS.parents[1],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "not prepared; run python -m train.datasets" in done.stderr, done.stderr


SIAMFC, SIAMRPN = siamfc_smoke.get_config, siamrpn_smoke.get_config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: replace(SIAMFC(), loss=siamrpn.LossConfig(ALEXNET)), "prepare.targets=None: must be given for"),
        (lambda: replace(SIAMRPN(), loss=siamfc.LossConfig()), "prepare.targets: must be None for"),
        (
            lambda: replace(SIAMFC(), loss=dimp.LossConfig()),
            "loader: must be a FrameLoaderConfig for dimp18",
        ),
        (lambda: replace(SIAMFC(), loss=dimp.LossConfig(model="siamfc")), "loss.model=siamfc: must be a model"),
        (
            lambda: Config((), SIAMFC().optimizer, SIAMFC().loop, siamfc.LossConfig()),
            "loader: must be a PairLoaderConfig for siamfc",
        ),
        (
            lambda: replace(SIAMFC(), prepare=frames.PREPARE_DIMP),
            "prepare: must be a PairPrepareConfig for siamfc",
        ),
    ],
)
def test_what_does_not_fit_together(config, message):
    with pytest.raises(SettingError, match=r"^[^\n]*$") as caught:
        validate(config())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        "prepare.targets.search_size=255: must be loader.search.size=191",
        "prepare.targets.score_size=25: must be 9, the side of the score map",
        "loss.model=siamfc: must be a model with a UpChannelRPN or DepthwiseRPN",
        "loss.model=siamrpnpp_resnet50: prepare.targets.score_size=9: must be 17",
        "loss.cls_weight=-1.0: must be >= 0",
        "loader.search.size=192: must be 127 and a positive multiple of 8 more",
        "loader.template.size=128: must be 127",
        "loader.search.stretch=1.0: must be in [0, 1)",
        "loader.search.interpolations=('linear', 'none'): must be one of nearest, linear",
        "loader.negative=1.5: must be in [0, 1]",
        "prepare.blur_sizes=(4, 15): must be odd",
        "prepare.blur_sizes=(15, 5): must be (least, greatest)",
        "prepare.blur_sizes=(5, 383): must be smaller",
    ],
)
def test_settings_out_of_range(wrong):
    assignment, _, message = wrong.partition(": ")
    config = read_config(CONFIGS / "siamrpn_smoke.py", [assignment])
    with pytest.raises(SettingError, match=r"^[^\n]*$") as caught:
        validate(config)
    assert message in str(caught.value)
