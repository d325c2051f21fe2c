"""What commands take is known without jax, so that `--help` and a mistake are answered at once."""

import os
import re
import subprocess
import sys

import pytest

from eval import parsers, programs
from eval.tune import search
from tests.helpers import places
from trackers.nets import models
from trackers.weights.convert import reader

SLOW = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "matplotlib", "tensorflow_datasets", "trackers"}


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(places.REPOSITORY)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def test_every_help_is_printed_without_a_slow_package():
    code = (
        "import sys; from eval import programs\n"
        "for program in programs.PROGRAMS: print(programs.parser(program.module).format_help())\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = start("-c", code)
    assert done.returncode == 0 and done.stdout.count("usage: ") == len(programs.PROGRAMS)
    assert "eval.parsers" in done.stderr.split() and not SLOW & {*done.stderr.split()}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("-m eval.run --help", 0),
        ("-m eval.benchmark.flags --repeats 0", 2),
        ("-mtrain.dimp --nonsense", 2),
        ("-m eval track clip.mp4", 2),  # no target
        ("-m eval datasets -h", 0),
    ],
)
def test_commands_end_before_they_import_one(arguments, status):
    done = start("-X", "importtime", *arguments.split())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == status and "eval.command" in imported and not SLOW & imported
    said = done.stdout if status == 0 else "\n".join(re.findall("^(?!import time:).*", done.stderr, re.MULTILINE))
    assert said.startswith("usage: python -m ") and ("error: " in said) == bool(status)


def test_names_are_those_of_the_modules_that_are_not_imported():
    peers = [name for name in models.names() if models.get(name).peer]
    assert parsers.PROJECTS == tuple(sorted({reader(name).conventions(name)["project"] for name in peers}))
    assert parsers.SEARCHES == tuple(search.SEARCHES)


def test_a_model_is_one_that_can_be_converted(capsys):
    parse = parsers.convert().parse_args
    assert parse(["resnet50", "r50.safetensors", "--model", "resnet50"]).model == "resnet50"
    with pytest.raises(SystemExit):
        parse(["resnet50", "r50.safetensors", "--model", "resnet51"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--model: invalid choice: 'resnet51' (choose from " in error and "resnet50" in error
