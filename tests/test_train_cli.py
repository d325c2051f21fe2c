"""`python -m train.dimp`: from procedural clips to a weight file, on from there, and one line for every mistake."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

import trackers
from trackers.nets import models
from trackers.weights import files
from train import atom, dimp, program

CONFIGS = Path(dimp.__file__).parent / "configs"


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    monkeypatch.setattr(program, "enable_compilation_cache", lambda: None)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def config(tmp_path):
    """The smoke setting with fewer clips, frames and samples."""
    path = tmp_path / "mini.py"
    path.write_text(
        textwrap.dedent("""
        from dataclasses import replace
        from eval.datasets import SYNTHETIC, SyntheticConfig
        from eval.synthetic import ClipConfig
        from train import data, program
        from train.configs import dimp_smoke

        def get_config():
            config = dimp_smoke.get_config()
            clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
            crops = replace(config.loader.crops, size=64, search_scale=2.0)
            return replace(
                config,
                datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
                loader=replace(config.loader, batch_size=2, crops=crops),
                prepare=replace(config.prepare, labels=data.LabelConfig(feature_size=4, sigma=0.2)),
            )
        """)
    )
    return path


def command(config: Path, tmp_path: Path, data_dir: Path, *more: str) -> int:
    arguments = ["--config", str(config), "--out", str(tmp_path / "run"), "--data_dir", str(data_dir), *more]
    return program.main("dimp", dimp.loss, dimp.LossConfig, arguments)


def test_a_run_its_files_and_going_on(config, tmp_path, data_dir, capsys):
    every = ["--set", "loop.log_every=1", "--set", "loss.filter_steps=2"]
    assert command(config, tmp_path, data_dir, *every, "--set", "loop.steps=2") == 0
    run = tmp_path / "run"
    params = trackers.load_params("dimp_tiny", run / "weights.safetensors")
    assert jax.tree.structure(params) == jax.tree.structure(models.expected_variables("dimp_tiny"))
    fresh = program.initial_params("dimp_tiny", 0, None)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), params, fresh)
    assert all(any(jax.tree.leaves(moved[part]["params"])) for part in moved)
    info = files.read_metadata(run / "weights.safetensors")["info"]
    assert info["steps"] == 2 and info["config"]["loss"]["filter_steps"] == 2
    assert list((run / "tensorboard").iterdir())

    held_out(tmp_path / "held_out")
    every += ["--set", f"validation.data_dir={tmp_path / 'held_out'}", "--set", "validation.every=1"]
    assert command(config, tmp_path, data_dir, *every, "--set", "loop.steps=3") == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert 0 < lines[-1]["validation/auc"] < 1 and 0 <= lines[-1]["validation/norm_precision"] <= 1
    assert {"loss", "overlap", "classification", "data_wait_share"} <= set(lines[0])
    assert len(lines[0]["classification"]) == 3  # the start and two steps
    assert str(run / "weights.safetensors") in capsys.readouterr().out


def held_out(folder: Path) -> None:
    """Two sequences of three frames in the layout `folder`."""
    for name, size in (("a", (60, 80)), ("b", (48, 96))):
        (folder / name / "img").mkdir(parents=True)
        for frame in range(3):
            image = np.random.default_rng(frame).integers(0, 255, (*size, 3), np.uint8)
            assert cv2.imwrite(str(folder / name / "img" / f"{frame + 1:04}.png"), image)
        (folder / name / "groundtruth_rect.txt").write_text("20,10,16,20\n" * 3)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("[!_]*.py")))
def test_settings_that_come_with_the_project(name):
    config = program.read_config(CONFIGS / f"{name}.py", [])
    assert config.loss.model in models.MODELS
    if config.prepare.labels is None:
        assert isinstance(config.loss, atom.LossConfig)
        return
    cells = config.loader.crops.size // 16
    assert config.prepare.labels.feature_size == cells
    np.testing.assert_allclose(config.prepare.labels.sigma * cells, 0.9)


def test_the_published_numbers():
    for name, batch, steps, rates in (
        ("dimp18", 26, 50_000, (5e-4, 5e-5, 1e-3, 2e-4)),
        ("dimp50", 10, 130_000, (5e-4, 5e-5, 2e-4, 2e-5)),
    ):
        config = program.read_config(CONFIGS / f"{name}.py", [])
        assert (config.loader.batch_size, config.loop.steps) == (batch, steps)
        assert tuple(rate for _, rate in config.optimizer.groups) == rates
        assert config.optimizer.decay_every * 50 == 15 * steps and config.optimizer.decay == 0.2


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (None, [], "no such file; train/configs holds some"),
        ("x = 1", [], "has no function get_config"),
        ("smoke", ["--set", "loop.stepz=1"], "LoopConfig has no field 'stepz'"),
        ("dimp18", [], "lasot"),  # not prepared
        ("atom", [], "its loss is a train.atom one"),
        ("smoke", ["--set", "loader.batch_size=0"], "loader.batch_size=0: must be a positive multiple"),
        ("smoke", ["--set", "loader.sampling.min_length=1000"], "has no usable sequence among 2"),
        ("smoke", ["--set", "validation.data_dir=nowhere"], "nowhere"),
        ("smoke", ["--weights", "missing.safetensors"], "missing.safetensors: no such file"),
    ],
)
def test_mistakes_are_one_line(text, more, message, config, tmp_path, data_dir, capsys):
    path = tmp_path / "config.py"
    if text in ("dimp18", "atom"):
        path = CONFIGS / f"{text}.py"
    elif text == "smoke":
        path = config
    elif text is not None:
        path.write_text(text)
    assert command(path, tmp_path, data_dir, *more) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("name", ["dimp18", "atom"])
def test_the_commands_themselves_know_their_configs(name, tmp_path):
    """Run as a module, not called as a function; it ends where the first data set is missing."""
    module = "train.atom" if name == "atom" else "train.dimp"
    command = [sys.executable, "-m", module, "--config", str(CONFIGS / f"{name}.py"), "--data_dir", str(tmp_path)]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")],
        cwd=CONFIGS.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "not prepared; run python -m eval.datasets lasot" in done.stderr, done.stderr


def test_weights_that_do_not_fit(tmp_path, config, data_dir, capsys):
    backbone = models.init_variables("atom_multiscale", jax.random.key(0))
    files.save(tmp_path / "r18.safetensors", backbone, model="atom_multiscale")
    assert command(config, tmp_path, data_dir, "--weights", str(tmp_path / "r18.safetensors")) == 1
    assert "its backbone (of model atom_multiscale) does not fit dimp_tiny" in capsys.readouterr().err
    params = program.initial_params("dimp18", 0, tmp_path / "r18.safetensors")
    kept = files.load(tmp_path / "r18.safetensors", models.expected_variables("atom_multiscale"))
    jax.tree.map(np.testing.assert_array_equal, params["backbone"], kept["backbone"])
