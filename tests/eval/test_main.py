"""`jaxtrack`: lists the commands, and runs each as `python -m` does."""

import os
import subprocess
import sys

import pytest

from eval import __main__ as jaxtrack
from eval import programs
from tests.helpers import places
from tests.helpers.commands import commands


@pytest.fixture
def script(tmp_path):
    """What pip makes of the entry point."""
    path = tmp_path / "bin" / "jaxtrack"
    path.parent.mkdir()
    path.write_text("import sys\nfrom eval.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    return path


def start(*command, **options):
    environment = os.environ | {"PYTHONPATH": str(places.REPOSITORY)}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, **options
    )


def test_every_command_has_its_row():
    assert sorted(programs.BY_MODULE) == commands()
    assert len({program.words for program in programs.PROGRAMS}) == len(programs.PROGRAMS)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_list_fits_one_screen_and_loads_no_library(arguments, script):
    code = "import sys; from eval.__main__ import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = start("-c", code, *arguments)
    loaded = done.stderr.split()
    assert "eval.programs" in loaded and not {"jax", "numpy", "cv2", "trackers", "train", "eval.command"} & {*loaded}
    lines = done.stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    for program in programs.PROGRAMS:
        first, _, second = program.words.partition(" ")
        if second and first in {one.words for one in programs.PROGRAMS}:  # a part: named after the whole
            (line,) = [line for line in lines if line.strip().startswith(f"and {first} ")]
            assert second in line.replace(",", "").split()
        else:
            found = [line for line in lines if line.strip().startswith(f"{program.words}  ")]
            assert len(found) == 1 and program.summary in found[0]


def test_a_first_word_of_several_lists_those(capsys):
    assert jaxtrack.main(["train"]) == 0
    words = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert words == [program.words for program in programs.PROGRAMS if program.words.startswith("train ")]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trac"], "error: no command 'trac'; did you mean track or trackers? jaxtrack --help lists them"),
        (["train", "dmp"], "error: no command 'train dmp'; did you mean train dimp"),
        (["train", "--config", "x"], "error: no command 'train'; "),
        (["benchmark", "operator"], "error: no command 'benchmark operator'; did you mean benchmark operators"),
        (["qqq"], "error: no command 'qqq'; jaxtrack --help lists them"),
    ],
)
def test_a_wrong_command_is_one_line(arguments, line, capsys):
    assert jaxtrack.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(line) and said.err.count("\n") == 1 and said.out == ""


def test_the_version(capsys):
    assert jaxtrack.main(["--version"]) == 0 and capsys.readouterr().out.startswith("jaxtrack ")


def test_a_program_gets_its_arguments_and_gives_its_status(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(programs, "imported", lambda program: called.append(program.module) or Program)

    class Program:
        @staticmethod
        def main(arguments):
            called.append(arguments)
            return 7

    for given, module, rest in (
        ("track clip.mp4 --show", "eval.track", ["clip.mp4", "--show"]),
        ("benchmark --tracker siamfc", "eval.benchmark", ["--tracker", "siamfc"]),
        ("benchmark operators --only a", "eval.benchmark.operators", ["--only", "a"]),
        ("train dimp --config c", "train.dimp", ["--config", "c"]),
    ):
        monkeypatch.setattr(sys, "path", list(sys.path))
        assert jaxtrack.main(given.split()) == 7 and called == [module, rest]
        called.clear()


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    def imported(program):
        raise ModuleNotFoundError("No module named 'optax'", name="optax.losses")

    monkeypatch.setattr(programs, "imported", imported)
    assert jaxtrack.main(["train", "dimp", "--config", "c"]) == 1
    assert capsys.readouterr().err == "error: train dimp needs the package optax: pip install 'jaxtrack[train]'\n"


def test_the_console_script_finds_a_tracker_of_the_current_folder(script, tmp_path):
    """And nothing there hides a package of ours."""
    (tmp_path / "mine.py").write_text("raise SystemError('it was imported')\n")
    (tmp_path / "eval").mkdir()
    (tmp_path / "trackers.py").write_text("raise SystemError\n")
    done = start(script, *OWN, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: tracker 'mine:ENTRY': module 'mine' fails: SystemError: it was imported\n"


OWN = ["track", "--tracker", "mine:ENTRY", "clip.mp4", "--box", "1,2,3,4"]


@pytest.mark.full
@pytest.mark.parametrize("arguments", [OWN, ["track", "--box", "1,2,3"], ["track", "--box", "1,2,3,4"], ["formats"]])
def test_the_console_script_is_the_same_program(arguments, script, tmp_path):
    done = start(script, *arguments, cwd=tmp_path)
    plain = start("-m", f"eval.{arguments[0]}", *arguments[1:], cwd=tmp_path)
    assert done.returncode == plain.returncode > 0
    *usage, error = done.stderr.splitlines()
    *plain_usage, plain_error = plain.stderr.splitlines()
    assert error.replace("jaxtrack ", "python -m eval.") == plain_error and bool(usage) == bool(plain_usage)
