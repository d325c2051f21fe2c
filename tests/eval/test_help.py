"""Every command explains itself: `--help` fits a screen, and has an example that begins as the command is called."""

import re
import runpy
import sys

import pytest

from eval import programs
from tests.helpers.commands import commands

MOST_LINES, MOST_COLUMNS = 40, 80


def test_the_commands_are_found():
    assert {"eval.track", "eval.run", "eval.export", "train.datasets", "train.dimp", "train.benchmark"} <= {*commands()}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
@pytest.mark.parametrize("command", commands())
def test_help_is_short_and_has_an_example(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(MOST_COLUMNS))
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__")
    assert ended.value.code == 0
    check(capsys.readouterr().out, f"python -m {command}", programs.BY_MODULE[command])


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.words)
def test_help_is_in_the_words_of_the_caller(program, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(MOST_COLUMNS))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jaxtrack"])
    with pytest.raises(SystemExit) as ended:
        programs.imported(program).main(["--help"])
    assert ended.value.code == 0
    check(capsys.readouterr().out, f"jaxtrack {program.words}", program)


def check(text, called, program):
    lines = text.splitlines()
    assert text.startswith(f"usage: {called} ")
    assert f"\n{program.summary}\n" in text
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= MOST_COLUMNS
    example = re.split(r"\bexamples?:", text)
    assert len(example) == 2, "no example, or several"
    assert " ".join(example[1].split()).startswith(f"{called} ")
    parts = programs.parser(program.module)._subparsers
    for name, part in parts._group_actions[0].choices.items() if parts else ():
        lines = part.format_help().splitlines()
        assert len(lines) <= MOST_LINES and max(map(len, lines)) <= MOST_COLUMNS, name
