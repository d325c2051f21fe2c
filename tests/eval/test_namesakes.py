"""Another project's `trackers` or `ops` in the way: one clear line wherever a command of ours starts."""

import os
import subprocess
import sys

import pytest

from tests.helpers import places


def start(folder, *command):
    paths = os.pathsep.join([str(folder), str(places.REPOSITORY)])
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )


@pytest.mark.parametrize("module", ["eval.track", "eval.run", "eval.report", "train.dimp", "train.datasets"])
def test_commands_name_the_file_and_the_way_out(module, tmp_path):
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "__init__.py").write_text("raise RuntimeError('it was run')\n")
    done = start(tmp_path, "-m", module, "--help")
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: import trackers finds {tmp_path / 'trackers' / '__init__.py'}, ")
    assert "environment of its own" in line


def test_a_program_gets_an_import_error(tmp_path):
    (tmp_path / "ops.py").write_text('"""Operations of mine."""\n')
    done = start(tmp_path, "-c", "import eval.track")
    assert done.returncode == 1 and f"ImportError: import ops finds {tmp_path / 'ops.py'}, " in done.stderr


def test_nothing_is_said_where_there_is_no_namesake(tmp_path):
    (tmp_path / "trackers").mkdir()  # a folder of videos, say: no package
    done = start(tmp_path, "-m", "eval.track", "--help")
    assert done.returncode == 0 and done.stderr == ""
