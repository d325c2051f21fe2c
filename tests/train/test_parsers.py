"""What is known of the commands without importing them is as they say."""

from dataclasses import asdict, fields

from train import datasets, parsers
from train.benchmark import clip, optimizer, step
from train.benchmark.__main__ import _options
from train.pseudo_labels import Config


def test_data_sets_are_those_of_the_package():
    assert parsers.LAYOUTS == tuple(datasets.LAYOUTS) and parsers.SYNTHETIC == datasets.SYNTHETIC


def test_defaults_of_pseudo_labels_are_those_of_its_config():
    arguments = vars(parsers.pseudo_labels().parse_args(["--source", "CLIPS", "--out", "FOLDER"]))
    assert {name: arguments[name] for name in asdict(Config())} == asdict(Config())


def test_every_number_of_a_benchmark_is_an_option():
    kinds = {"step": step.StepOptions, "optimizer": optimizer.OptimizerOptions, "clip": clip.ClipOptions}
    for command, kind in kinds.items():
        assert _options(kind, parsers.benchmark().parse_args([command])) == kind()
        given = [word for field in fields(kind) for word in (f"--{field.name.replace('_', '-')}", "7")]
        options = _options(kind, parsers.benchmark().parse_args([command, *given]))
        assert {*asdict(options).values()} == {7, (7,)}
