"""Progress: bars that count work alone, and lines about compilation where it is worth a line."""

import logging
import os
import re
import subprocess
import sys
import time

import jax
import pytest

from eval.online import OnlineTracker
from eval.running import progress
from eval.running.progress import ProgressBar, compiling
from tests.helpers import bright_spot, places

CANVAS = (8, 256, 512, 3)
SIZE = "images up to 256x512"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(progress, "WORTH_SAYING", 0.05)
    monkeypatch.setattr(progress, "_keeps", lambda: True)


@pytest.fixture(params=[True, False], ids=["redrawn", "log"])
def redrawn(request, monkeypatch):
    monkeypatch.setattr(progress, "_redraws", lambda: request.param)
    return request.param


def ask(found):
    jax.monitoring.record_event("/jax/compilation_cache/compile_requests_use_cache")
    if found:
        jax.monitoring.record_event("/jax/compilation_cache/cache_hits")
    time.sleep(0.4)


def test_a_compilation_is_shown_and_the_bar_follows(redrawn, capsys):
    with ProgressBar(2, "frame") as bar:
        with compiling(CANVAS):
            ask(found=False)
        assert "frame" not in capsys.readouterr().err.split(f"compiled for {SIZE} in 0 s\n")[1]
        bar.update()
    assert "1/2" in capsys.readouterr().err


def test_what_is_said_at_the_start_and_at_the_end(redrawn, capsys):
    with ProgressBar(2, "frame"), compiling(CANVAS):
        ask(found=False)
    said = capsys.readouterr().err
    assert f"compiling for {SIZE} (once; kept for later runs) ..." in said and "ready" not in said
    assert said.endswith(f"compiled for {SIZE} in 0 s\n")
    assert ("\r" in said) == redrawn and (said.count("\n") == 2 or redrawn)


def test_what_the_cache_has_is_not_called_compiled(redrawn, capsys):
    with ProgressBar(2, "frame"), compiling(CANVAS):
        ask(found=True)
    said = capsys.readouterr().err
    assert "compiling" not in said and said.endswith(f"ready for {SIZE} in 0 s (compiled in an earlier run)\n")
    assert (f"preparing for {SIZE} ... 0 s" in said) == redrawn


def test_short_ones_and_those_without_a_bar_are_only_logged(capsys, caplog):
    with caplog.at_level(logging.INFO, "jaxtrack"):
        with ProgressBar(2, "frame"), compiling(CANVAS), compiling(CANVAS):  # one within another: one line
            pass
        with compiling(CANVAS):
            ask(found=False)
    assert capsys.readouterr().err == ""
    assert [record.message for record in caplog.records] == 2 * [
        f"compiling for {SIZE}",
        f"compiled for {SIZE} in 0 s",
    ]


def test_the_clock_of_a_bar_leaves_compilation_out(capsys):
    with ProgressBar(None, "frame") as bar:
        bar.update()
        with compiling(CANVAS):
            time.sleep(0.5)
        assert bar._bar.format_dict["elapsed"] < 0.3
        with compiling(CANVAS):  # in another thread, say: this one goes on
            time.sleep(0.5)
            bar.update()
        assert bar._bar.format_dict["elapsed"] > 0.4


def test_a_log_has_a_line_however_often_programs_are_asked_for(monkeypatch, capsys):
    """One of a new size for each piece, say, which takes no time where it was compiled before."""
    monkeypatch.setattr(progress, "_redraws", lambda: False)
    with ProgressBar(9, "clip") as bar:
        bar.update()
        bar._bar.mininterval, bar._bar.miniters = 0.2, 0
        for _ in range(4):
            with compiling(CANVAS):
                time.sleep(0.001)
            time.sleep(0.1)
            bar.update()
        assert re.search(r"[2-5]/9", capsys.readouterr().err)


def test_what_two_threads_wait_for_is_left_out_once(capsys):
    with ProgressBar(None, "frame") as bar:
        bar.update()
        time.sleep(0.3)
        begun = time.perf_counter()
        time.sleep(0.2)
        bar.leave_out(begun)
        bar.leave_out(begun)
        assert 0.3 <= bar._bar.format_dict["elapsed"] < 0.45


def test_several_pieces_at_once(capsys):
    with ProgressBar(5, "run") as bar:
        bar.update(3)
        bar.update()
        assert bar.done() == 4
    assert "4/5" in capsys.readouterr().err


def test_a_bar_of_nothing_is_not_shown(capsys):
    with ProgressBar(0, "frame") as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_an_interrupted_compilation_ends_without_a_line(redrawn, capsys):
    with pytest.raises(KeyboardInterrupt), ProgressBar(2, "frame"), compiling(CANVAS):
        ask(found=False)
        raise KeyboardInterrupt
    assert "compiled" not in capsys.readouterr().err
    with ProgressBar(2, "frame"), compiling(CANVAS):
        ask(found=False)
    assert "compiled" in capsys.readouterr().err


def test_an_online_tracker_says_in_the_log_that_it_compiles(capsys, caplog):
    online = OnlineTracker(bright_spot.make(), bright_spot.PARAMS)
    with caplog.at_level(logging.INFO, "jaxtrack"):
        online.warm_up(40, 60)
    begin, end = [record.message for record in caplog.records]
    assert begin.startswith("compiling for images up to ") and " in " in end
    assert capsys.readouterr().err == ""


REAL = """
import logging, jax
from eval.running.progress import compiling
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("jaxtrack").setLevel(logging.INFO)
for turn in range(2):
    with compiling((40, 60, 3)):
        jax.jit(lambda x: x @ x + 1).lower(jax.numpy.ones((5, 5))).compile()
"""


@pytest.mark.full
def test_jax_tells_what_it_finds_in_its_cache(tmp_path):
    """By events whose names belong to no interface."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(places.REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", REAL], env=environment, capture_output=True, text=True, check=True)
    _, first, _, second = done.stderr.splitlines()
    assert first.startswith("compiled for ") and second.startswith("ready for ")
