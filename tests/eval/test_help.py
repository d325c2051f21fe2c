"""Every command explains itself: `--help` is short, and has an example that begins as the command is called."""

import re
import runpy
import sys

import pytest

from tests.helpers.commands import commands

MOST_LINES = 60


def test_the_commands_are_found():
    assert {"eval.track", "eval.run", "eval.export", "train.datasets", "train.dimp", "train.benchmark"} <= {*commands()}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
@pytest.mark.parametrize("command", commands())
def test_help_is_short_and_has_an_example(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m {command} ")
    assert text.count("\n") <= MOST_LINES
    example = re.split(r"\bexamples?:", text, flags=re.IGNORECASE)
    assert len(example) == 2, "no example, or several"
    assert " ".join(example[1].split()).startswith(f"python -m {command} ")
