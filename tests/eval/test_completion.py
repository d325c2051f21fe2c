"""Completion in a shell: bash completes commands, options, trackers and files; the other shells get a script."""

import re
import shutil
import subprocess

import pytest
import shtab

from eval import completion
from eval.programs import PROGRAMS

TRY = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_jaxtrack; echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "jaxtrack"
    path.write_text(completion.script("bash"))
    return path


def test_it_names_commands_and_options(script):
    text = script.read_text()
    assert "complete -o bashdefault -F _shtab_jaxtrack jaxtrack" in text
    for word in {word for program in PROGRAMS for word in program.words.split()} | {"--data-dir", "--guest-python"}:
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), word


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jaxtrack tr", "track trackers train"),
        ("jaxtrack benchmark op", "operators"),
        ("jaxtrack benchmark --tr", "--tracker"),
        ("jaxtrack train dimp --conf", "--config"),
        ("jaxtrack claims siamese lev", "levels"),
        ("jaxtrack track --tracker dimp_t", "dimp_tiny"),
        ("jaxtrack run --protocol vot", "vot_reset vot_multistart"),
        ("jaxtrack track clip", "clip.mp4"),
    ],
)
def test_bash_completes(line, expected, script, tmp_path):
    (tmp_path / "clip.mp4").touch()
    done = subprocess.run(
        ["bash", "-c", TRY, "bash", script, *line.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected.split() and done.stderr == ""


@pytest.mark.parametrize("shell", sorted({*shtab.SUPPORTED_SHELLS} - {"bash"}))
def test_the_other_shells(shell, capsys):
    assert completion.main([shell]) == 0
    text = capsys.readouterr().out
    assert "benchmark" in text and "jaxtrack" in text


def test_options_are_named_without_the_packages_of_their_commands(monkeypatch):
    def imported(program):
        raise ModuleNotFoundError("No module named 'optax'", name="optax")

    monkeypatch.setattr(completion.programs, "imported", imported)
    text = completion.script("bash")
    assert "memtrack" in text and "--data-dir" in text
