"""`python -m train.dimp`: from procedural clips to a weight file, on from there, and one line for every mistake."""

import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

import trackers
from tests.helpers.disk import small_disk
from tests.helpers.held_out import write_sequences
from tests.helpers.narrow import narrow_models, plain_convolution
from trackers.nets import models
from trackers.rules import SettingError, validate
from trackers.weights import files
from train import atom, dimp, tensorboard
from train import command as train_command
from train import run as train_run
from train.config import read_config
from train.samples import frames

CONFIGS = Path(dimp.__file__).parent / "configs"


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    monkeypatch.setattr(train_command, "prepare_process", lambda: None)


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
        from train.datasets import SYNTHETIC, SyntheticConfig
        from eval.sources.synthetic import ClipConfig
        from train.config import DatasetConfig
        from train.samples import frames
        from train.configs import dimp_smoke

        def get_config():
            config = dimp_smoke.get_config()
            clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
            crops = replace(config.loader.crops, size=64, search_scale=2.0)
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loader=replace(config.loader, batch_size=2, crops=crops),
                prepare=replace(config.prepare, labels=frames.LabelConfig(feature_size=4, sigma=0.2)),
            )
        """)
    )
    return path


def command(config: Path, tmp_path: Path, data_dir: Path, *more: str) -> int:
    arguments = ["--config", str(config), "--out", str(tmp_path / "run"), "--data_dir", str(data_dir), *more]
    return train_command.main("dimp", dimp.loss, dimp.LossConfig, arguments)


@pytest.fixture(params=["narrow", pytest.param("real", marks=pytest.mark.full)])
def networks(request):
    if request.param == "real":
        yield
        return
    with narrow_models(), plain_convolution():  # half of the time is compilation
        yield


def test_a_run_its_files_and_going_on(networks, config, tmp_path, data_dir, capsys):
    every = ["--set", "loop.log_every=1", "--set", "loss.filter_steps=2"]
    assert command(config, tmp_path, data_dir, *every, "--set", "loop.steps=2") == 0
    run = tmp_path / "run"
    params = trackers.load_params("dimp_tiny", run / "weights.safetensors")
    assert jax.tree.structure(params) == jax.tree.structure(models.expected_variables("dimp_tiny"))
    fresh = train_run.initial_params("dimp_tiny", 0, None)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), params, fresh)
    assert all(any(jax.tree.leaves(moved[part]["params"])) for part in moved)
    info = files.read_metadata(run / "weights.safetensors")["info"]
    assert info["steps"] == 2 and info["config"]["loss"]["filter_steps"] == 2
    assert list((run / "tensorboard").iterdir())

    write_sequences(tmp_path / "held_out", (60, 80), (48, 96))
    every += ["--set", f"validation.data_dir={tmp_path / 'held_out'}", "--set", "validation.every=1"]
    assert command(config, tmp_path, data_dir, *every, "--set", "loop.steps=3") == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert 0 < lines[-1]["validation/auc"] < 1 and 0 <= lines[-1]["validation/norm_precision"] <= 1
    assert {"loss", "overlap", "classification", "data_wait_share"} <= set(lines[0])
    assert len(lines[0]["classification"]) == 3  # the start and two steps
    output = capsys.readouterr().out
    assert str(run / "weights.safetensors") in output and f"best: {run / 'best.safetensors'} (step 3, AUC 0." in output
    best = files.read_metadata(run / "best.safetensors")["info"]
    assert best["steps"] == 3 and best["validation"]["auc"] == lines[-1]["validation/auc"]
    same = (files.load(run / f"{name}.safetensors", params) for name in ("best", "weights"))
    jax.tree.map(np.testing.assert_array_equal, *same)
    assert json.loads((run / "config.json").read_text())["loop"]["steps"] == 3

    for setting in ("loader.batch_size=4", "loss.filter_steps=3"):
        assert command(config, tmp_path, data_dir, *every, "--set", setting) == 1
    assert command(config, tmp_path, data_dir, *every, "--weights", str(run / "weights.safetensors")) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    other = "has a run with other settings"
    assert f"{run}: {other} (loader.batch_size is 2, now 4); give another --out, or the old values" in errors[0]
    assert f"{other} (loss.filter_steps is 2, now 3)" in errors[1]
    assert f"{other} (weights_sha256 is None, now {files.sha256(run / 'weights.safetensors')})" in errors[2]
    (run / "config.json").unlink()  # a run of before there was one
    assert command(config, tmp_path, data_dir, *every, "--weights", str(run / "weights.safetensors")) == 1
    assert "weights.safetensors, which is read; choose another name" in capsys.readouterr().err
    assert command(config, tmp_path, data_dir, *every, "--set", "loop.steps=3") == 0


def test_the_best_parameters_are_kept(config, tmp_path, data_dir, monkeypatch):
    script = {}  # of one run: the step it goes on from, and the AUC by step

    def fit(params, *_, on_start, validate, **__):
        on_start(script["start"])
        for step in script["auc"]:
            script["now"] = step
            validate(step, params)
        return params

    monkeypatch.setattr(train_run.loop, "fit", fit)
    result = {"norm_precision": 0.5}, np.zeros((4, 4, 3), np.uint8)
    track = lambda params: ({**result[0], "auc": script["auc"][script["now"]]}, result[1])  # noqa: E731
    monkeypatch.setattr(train_run, "initial_params", lambda *_: {"head": {"params": {"w": np.zeros(2)}}})
    monkeypatch.setattr(train_run.held_out, "make", lambda model, config: track)

    def best_after(start, auc, *assignments):
        script.update(start=start, auc=auc)
        given = read_config(config, ["validation.data_dir=held_out", *assignments])
        (tmp_path / "run").mkdir(exist_ok=True)
        train_run.train(None, given, tmp_path / "run", data_dir)
        return files.read_metadata(tmp_path / "run" / "best.safetensors")["info"]["steps"]

    assert best_after(0, {10: 0.3, 20: 0.5, 30: 0.4}) == 20
    assert best_after(30, {40: 0.45}) == 20
    assert best_after(30, {35: 0.45, 50: 0.6}, "validation.every=5") == 50
    assert best_after(40, {45: 0.55}) == 45  # that of step 50 was killed before it was a checkpoint
    assert best_after(50, {60: 0.2}, "validation.sequences=2") == 60  # other sequences do not compare


def test_config_differences():
    def names(there, here):
        return [name for name, *_ in train_run._differences(there, here)]

    there = {"a": {"b": 1, "old": 2}, "list": [{"p": 1}, {"p": 2}], "labels": None}
    assert names(there, {**there, "a": {"b": 1, "new": 3}}) == []
    assert names(there, {"a": {"b": 2}, "list": [{"p": 1}, {"p": 3}], "labels": {"size": 4}}) == [
        "a.b",
        "list.1.p",
        "labels",
    ]
    assert names(there, {**there, "list": [{"p": 1}]}) == ["list"]


def events(folder: Path) -> list[Event]:
    """Of the files of TensorBoard, in the order of their names."""
    found = []
    for path in sorted(folder.iterdir()):
        frames = path.read_bytes()
        while frames:
            (length,) = struct.unpack("Q", frames[:8])
            found.append(Event.FromString(frames[12 : 12 + length]))
            frames = frames[16 + length :]
    return found


def test_tensorboard_forgets_what_comes_again_and_says_that_the_disk_is_full(tmp_path):
    with closing(tensorboard.open_log(tmp_path, 7)) as writer:
        tensorboard.add_scalars(writer, 8, {"loss": 0.5, "parts": [1.0, 2.0]})
        tensorboard.add_image(writer, 8, "overlays", np.zeros((4, 6, 3), np.uint8))
        _, start, *logged = events(tmp_path)  # before it is closed
    assert start.session_log.status == SessionLog.START and start.step == 8
    values = [value for event in logged for value in event.summary.value]
    assert [value.tag for value in values] == ["loss", "parts/0", "parts/1", "overlays"]
    assert values[2].simple_value == 2.0 and values[3].image.width == 6 and {event.step for event in logged} == {8}
    with small_disk(tmp_path / "disk") as disk:
        writer = tensorboard.open_log(disk / "tensorboard", 0)
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
        with pytest.raises(OSError, match=r"No space left on device: '.*tensorboard/events"):
            for step in range(1000):
                tensorboard.add_scalars(writer, step, {"loss": 0.5})
        (disk / "filler").unlink()
        writer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        "loop.steps=0: must be >= 1",
        "loop.log_every=0: must be >= 1",
        "loop.save_every=0: must be >= 1",
        "loop.keep=0: must be >= 1",
        "optimizer.decay=1.5: must be in (0, 1]",
        "optimizer.warmup=-1: must be >= 0",
        "optimizer.accumulate=0: must be >= 1",
        "optimizer.average=1.0: must be in (0, 1)",
        "optimizer.clip=0.0: must be > 0",
        "optimizer.clip=1e999: must be finite",
        "optimizer.average='no': must be of type float | None",
        "optimizer.groups=(('.', 0.001), ('^backbone/', -0.1)): must be > 0, a learning rate",
        "loader.buffer=0: must be >= 1",
        "loader.crops.size=100: must be a positive multiple of 16",
        "loader.crops.size=176: prepare.labels.feature_size=10: must be 11",
        "prepare.labels.feature_size=18: must be 10",
        "prepare.labels.kernel_size=5: must be one of 4",
        "loss.filter_steps=-1: must be >= 0",
        "loss.overlap_weight=-1.0: must be >= 0",
        "loss.model=dimp17: must be a model with a DimpClassifier",
        "loss.backbone_statistics=running: must be one of batch, stored",
        "loss.backbone_dtype=float16: must be one of float32, bfloat16",
        "loss.model=siamfc: must be a model with a DimpClassifier",
        "optimizer.kind=lion: must be one of adam, sgd, muon",
        "optimizer.momentum=1.0: must be in [0, 1)",
        "optimizer.weight_decay=-1.0: must be >= 0",
        'optimizer.weight_decay=0.1: must be zero for "adam"',
        "optimizer.warmup_from=2.0: must be in [0, 1]",
        "validation.every=0: must be >= 1",
    ],
)
def test_settings_out_of_range(wrong):
    assignment, _, message = wrong.partition(": ")
    config = read_config(CONFIGS / "dimp_smoke.py", [assignment])
    with pytest.raises(SettingError) as caught:
        validate(config)
    assert message in str(caught.value) and assignment.split("=")[0].split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted({path.stem for path in CONFIGS.glob("[!_]*.py")} - {"smoke"}))
def test_settings_that_come_with_the_project(name):
    config = read_config(CONFIGS / f"{name}.py", [])
    validate(config)
    if not isinstance(config.loader, frames.FrameLoaderConfig):
        return
    if config.prepare.labels is None:
        assert isinstance(config.loss, atom.LossConfig)
        return
    cells = config.loader.crops.size // 16
    assert config.prepare.labels.feature_size == cells
    # The target as large as in the tracker's crops, and the label's sigma a quarter of it
    target, region = (
        config.loader.crops.size / config.loader.crops.search_scale,
        trackers.get(config.loss.model).config.region,
    )
    np.testing.assert_allclose(target, region.image_size / region.search_area_scale)
    np.testing.assert_allclose(config.prepare.labels.sigma * config.loader.crops.size, target / 4)


def test_the_published_numbers():
    for name, batch, steps, rates in (
        ("dimp18", 26, 50_000, (5e-4, 5e-5, 1e-3, 2e-4)),
        ("dimp50", 10, 130_000, (5e-4, 5e-5, 2e-4, 2e-5)),
    ):
        config = read_config(CONFIGS / f"{name}.py", [])
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
        ("smoke", ["--set", "loader.batch_size=0"], "loader.batch_size=0: must be >= 1"),
        ("smoke", ["--set", "optimizer.clip=-1"], "optimizer.clip=-1.0: must be > 0"),
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
    assert done.returncode == 1 and "not prepared; run python -m train.datasets lasot" in done.stderr, done.stderr


def test_weights_that_do_not_fit(tmp_path, config, data_dir, capsys):
    backbone = models.init_variables("atom_multiscale", jax.random.key(0))
    files.save(tmp_path / "r18.safetensors", backbone, model="atom_multiscale")
    assert command(config, tmp_path, data_dir, "--weights", str(tmp_path / "r18.safetensors")) == 1
    assert "its backbone (of model atom_multiscale) does not fit dimp_tiny" in capsys.readouterr().err
    params = train_run.initial_params("dimp18", 0, tmp_path / "r18.safetensors")
    kept = files.load(tmp_path / "r18.safetensors", models.expected_variables("atom_multiscale"))
    jax.tree.map(np.testing.assert_array_equal, params["backbone"], kept["backbone"])
