"""The benchmarks of training: the ways to unroll DiMP's optimizer agree, and a whole run's figures fit together."""

import json
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.measure.flops import count_flops
from train.benchmark import __main__ as benchmark
from train.benchmark import optimizer, step

OPTIONS = optimizer.OptimizerOptions(channels=32, size=5, samples=2, test_frames=1, steps=(3, 9), repeats=1)


def test_variants_agree_in_value_and_gradient():
    inputs, boxes = optimizer.make_problem(OPTIONS)
    results = [
        jax.jit(jax.value_and_grad(optimizer.make_loss(optimizer.VARIANTS[name], boxes, 3, True)))(inputs)
        for name in ("while loop", "scan", "scan, checkpoint")
    ]
    for other in results[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), other, results[0])


def test_memory_grows_by_one_filter_a_step_and_by_two_when_every_iterate_is_scored(monkeypatch):
    monkeypatch.setattr(optimizer, "VARIANTS", {"while loop": optimizer.VARIANTS["while loop"]})
    result = optimizer.run(OPTIONS)
    growth = {row["scored"]: row["filters_per_step"] for row in result["growth"]}
    assert 0 < growth["final filter"] <= 1.2
    assert 0 < growth["every iterate"] <= 2.2
    assert json.loads(json.dumps(result))["config"]["steps"] == [3, 9]
    assert optimizer.table(result).count("while loop") == 4 + 2


def test_flops_of_the_gradient_of_a_strided_convolution_are_those_of_its_value():
    image, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((2, 2, 3, 7))

    def convolve(image):
        return jax.lax.conv_general_dilated(image, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def transpose(cotangent):
        return jax.linear_transpose(convolve, image)(cotangent)

    assert count_flops(transpose, convolve(image)) == count_flops(convolve, image) == 2 * (4 * 4 * 7) * (2 * 2 * 3)


@pytest.fixture
def config(tmp_path):
    """The smoke setting with fewer and smaller clips, samples and crops; to compile less, the backbone is frozen."""
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
            clips = SyntheticConfig(num_clips=1, clip=ClipConfig(height=96, width=128, num_frames=24))
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loader=replace(config.loader, batch_size=1, crops=replace(config.loader.crops, size=64)),
                prepare=replace(config.prepare, labels=frames.LabelConfig(feature_size=4, sigma=0.2)),
                loss=replace(config.loss, filter_steps=2, backbone_statistics="stored"),
                optimizer=replace(config.optimizer, groups=(("^classifier/", 1e-3),)),
            )
        """)
    )
    return path


@pytest.mark.full
def test_a_training_step(config, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(optimizer.VARIANTS, "scan, checkpoint")
    path = tmp_path / "step.json"
    options = ["--steps", "2", "--repeats", "1", "--samples", "3", "--filter_steps", "20", "--json", str(path)]
    command = ["step", "--config", str(config), "--data_dir", str(tmp_path)]
    assert benchmark.main([*command, *options]) == 0
    report = json.loads(path.read_text())

    rows = {row["name"]: row for row in report["programs"]}
    assert rows["forward"]["flops"] > 0 and rows["forward"]["temporary_bytes"] > 0
    assert rows["forward"]["flops"] < rows["forward + backward"]["flops"] < 3.5 * rows["forward"]["flops"]
    assert rows["step"]["flops"] >= rows["forward + backward"]["flops"]
    assert all(0 < row["median_s"] <= row["p90_s"] and row["compile_s"] > 0 for row in rows.values())
    assert report["gemm"]["flops_per_second"] > 0

    by_loop, by_scan = rows["while loop, 20 steps"], rows["scan, 20 steps"]
    np.testing.assert_allclose(by_scan["loss"], by_loop["loss"], rtol=1e-4)
    assert report["loss_difference"] <= 1e-4
    assert by_scan["temporary_bytes"] > by_loop["temporary_bytes"]

    loader, running = report["loader"], report["loop"]
    assert sum(loader["ms_per_sample"].values()) == pytest.approx(1e3 / loader["samples_per_second"])
    assert min(loader["ms_per_sample"].values()) > 0
    assert 0 <= running["data_wait_share"] < 1
    assert running["crops_per_second"] == pytest.approx(4 * running["samples_per_second"])
    assert running["samples_per_second"] == pytest.approx(1 / running["step_s"])
    assert "| scan, 20 steps |" in capsys.readouterr().out


@pytest.mark.full
def test_a_training_step_of_a_siamese_tracker(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step.roofline, "MATRIX_SIDE", 64)
    config, path = tmp_path / "pairs.py", tmp_path / "step.json"
    config.write_text(
        textwrap.dedent("""
        from dataclasses import replace
        from train.datasets import SYNTHETIC, SyntheticConfig
        from eval.sources.synthetic import ClipConfig
        from train.config import DatasetConfig
        from train.configs import siamfc_smoke

        def get_config():
            config = siamfc_smoke.get_config()
            clips = SyntheticConfig(num_clips=1, clip=ClipConfig(height=96, width=128, num_frames=8))
            search = replace(config.loader.search, size=135)
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loader=replace(config.loader, batch_size=1, search=search, buffer=1, threads=1, workers=0),
                loss=replace(config.loss, backbone_statistics="stored"),
                optimizer=replace(config.optimizer, groups=(("^head/", 1e-3),)),  # to compile less
            )
        """)
    )
    options = ["--steps", "1", "--repeats", "1", "--samples", "2", "--json", str(path)]
    assert benchmark.main(["step", "--config", str(config), "--data_dir", str(tmp_path), *options]) == 0
    report = json.loads(path.read_text())
    assert [row["name"] for row in report["programs"]] == ["prepare", "forward", "forward + backward", "step"]
    assert report["programs"][3]["crops_per_second"] == pytest.approx(2 / report["programs"][3]["median_s"])
    assert report["loop"]["crops_per_second"] == pytest.approx(2 * report["loop"]["samples_per_second"])
    assert min(report["loader"]["ms_per_sample"].values()) > 0 and report["loss_difference"] is None
    assert "losses of the ways" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--config", "nothing.py"], ["--set", "loop.nothing=1"], ["--set", "loader.batch_size=0"]]
)
def test_mistakes_are_one_line(arguments, tmp_path, capsys):
    assert benchmark.main(["step", "--data_dir", str(tmp_path), *arguments]) == 1
    assert capsys.readouterr().err.startswith("error: ") and not list(tmp_path.iterdir())
