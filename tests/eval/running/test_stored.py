"""`eval.running.stored`: a program that was compiled before is loaded, the right one, and nothing but it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.scipy.linalg import solve_triangular

import trackers
from eval.running import stored
from eval.running.compilation import CompiledPerCanvas, prepare_both
from eval.running.passes import Compiled
from tests.helpers import bright_spot
from trackers.images import xywh_to_box

ROOT = Path(stored.__file__).parents[2]


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / stored.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def frame(height=40, width=60):
    return trackers.frame(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))


def brightness(scale, traced, program="brightness"):
    """(a program that says when it is traced, and what it should return)."""

    def function(offset, image):
        traced.append(image.image.shape)
        return {"sum": scale * jnp.sum(image.image.astype(jnp.float32)) + offset}

    return CompiledPerCanvas(function, program=program)


def run(program, offset, image):
    return program.prepare(offset, image)(offset, image)


def test_a_second_start_traces_nothing(cache):
    first, second, image = [], [], frame()
    expected = run(brightness(2.0, first), jnp.float32(1), image)
    again = brightness(2.0, second)
    np.testing.assert_array_equal(run(again, jnp.float32(1), image)["sum"], expected["sum"])
    assert len(first) == 1 and not second
    shapes = again.shapes(jnp.float32(1), image)
    assert shapes["sum"].shape == () and shapes["sum"].dtype == jnp.float32 and not second
    assert len(list(cache.iterdir())) == 1


@pytest.fixture
def all_in_jax_too(cache):
    """JAX keeps every program, too, however quickly it was compiled."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    compilation_cache.reset_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    compilation_cache.reset_cache()


def test_what_jax_itself_has_kept_is_not_kept_again(cache, all_in_jax_too):
    """jaxlib 0.10 cannot write an executable that it has read."""
    run(brightness(5.0, []), jnp.float32(1), frame())
    (file,) = cache.iterdir()
    assert list(cache.parent.glob(f"jit_function_{file.stem[:8]}-*"))
    file.unlink()
    jax.clear_caches()
    run(brightness(5.0, []), jnp.float32(1), frame())
    assert not list(cache.iterdir())


def test_the_same_program_of_other_code_is_kept(cache, all_in_jax_too, monkeypatch):
    """As after an upgrade that changes nothing of what XLA is given."""
    run(brightness(6.0, []), jnp.float32(1), frame())
    jax.clear_caches()
    monkeypatch.setattr(stored, "_surroundings", lambda: "another version of the code")
    run(brightness(6.0, []), jnp.float32(1), frame())
    traced = []
    run(brightness(6.0, traced), jnp.float32(1), frame())
    assert len(list(cache.iterdir())) == 2 and not traced


def test_what_is_made_of_something_else_is_another_program(cache, monkeypatch):
    image, traced = frame(), []
    run(brightness(1.0, traced), jnp.float32(1), image)
    run(brightness(1.0, traced, "another"), jnp.float32(1), image)
    run(brightness(1.0, traced), jnp.int32(1), image)
    run(brightness(1.0, traced), jnp.float32(1), frame(400, 600))
    with jax.default_matmul_precision("bfloat16"):
        run(brightness(1.0, traced), jnp.float32(1), image)
    monkeypatch.setattr(stored, "_surroundings", lambda: "another version of the code")
    run(brightness(1.0, traced), jnp.float32(1), image)
    assert len(traced) == len(list(cache.iterdir())) == 6


def test_a_change_of_the_code_is_seen(monkeypatch, tmp_path):
    (tmp_path / "part").mkdir()
    for name in ("__init__.py", "part/more.py"):
        (tmp_path / name).write_text("one = 1\n")
    monkeypatch.setattr(stored.trackers, "__file__", str(tmp_path / "__init__.py"))
    before = stored._surroundings.__wrapped__()
    assert stored._surroundings.__wrapped__() == before
    (tmp_path / "part" / "more.py").write_text("one = 2\n")
    assert stored._surroundings.__wrapped__() != before


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:-9] + bytes(9)])
def test_a_damaged_file_is_compiled_again(cache, damage):
    image, traced = frame(), []
    run(brightness(3.0, traced), jnp.float32(0), image)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert float(run(brightness(3.0, traced), jnp.float32(0), image)["sum"]) > 0
    assert len(traced) == 2 and len(file.read_bytes()) > len(whole) // 2
    run(brightness(3.0, traced), jnp.float32(0), image)
    assert len(traced) == 2


def test_nothing_is_kept_without_a_cache_or_a_name(cache, monkeypatch):
    run(brightness(1.0, [], None), jnp.float32(1), frame())
    jax.config.update("jax_compilation_cache_dir", None)
    run(brightness(1.0, []), jnp.float32(1), frame())
    assert not cache.exists()


LOAD = """
import sys
from pathlib import Path
import numpy as np
from eval.running import stored
solve = stored.load(Path(sys.argv[1]))
print(solve(np.float32([[2, 0], [1, 4]]), np.float32([6, 11])).tolist())
"""


def test_a_program_that_calls_lapack_runs_in_a_new_process(tmp_path):
    """Which has lowered nothing: THOR's long-term memory solves such systems, from the tenth frame on."""
    matrix, side = jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([6.0, 11.0])
    solve = jax.jit(lambda a, b: solve_triangular(a, b, lower=True))
    stored.save(tmp_path / "solve", solve.lower(matrix, side).compile())
    assert stored.LAPACK in (tmp_path / "solve").read_bytes()
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "solve")], cwd=ROOT, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == "[3.0, 2.0]\n"


def test_a_folder_that_cannot_be_written_is_no_error(cache):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file in its place")
    assert float(run(brightness(1.0, []), jnp.float32(1), frame())["sum"]) > 0


def test_the_longest_unused_go(cache, monkeypatch):
    monkeypatch.setattr(stored, "KEPT", 2)
    for name in "abc":
        run(brightness(1.0, [], name), jnp.float32(1), frame())
    traced = []
    run(brightness(1.0, traced, "c"), jnp.float32(1), frame())
    assert not traced and len(list(cache.iterdir())) == 2


def test_whole_trackers_give_the_same_boxes(cache):
    """`track` gives its state away, as it does where it was compiled."""
    image, box, key = frame(), xywh_to_box(np.array([10.0, 8, 12, 12])), jax.random.key(0)
    boxes = []
    for _ in range(2):
        compiled = Compiled.of(bright_spot.make(), "bright_spot")
        args = bright_spot.PARAMS, key, image, box
        state = prepare_both(compiled.init, compiled.track, *args)(*args)
        for _ in range(3):
            state, estimate = compiled.track.prepare(bright_spot.PARAMS, state, image)(bright_spot.PARAMS, state, image)
        boxes.append(trackers.xywh(estimate.box))
    np.testing.assert_array_equal(*boxes)
    assert len(list(cache.iterdir())) == 2


def test_the_name_of_a_tracker_has_all_its_numbers():
    entry = trackers.get("dimp_tiny")
    name = stored.made_of(entry, entry.config)
    assert name.startswith("trackers.dimp.make(Config(") and name == stored.made_of(entry, entry.config)
    changed = replace(entry.config, region=replace(entry.config.region, image_size=256))
    assert stored.made_of(entry, changed) != name
    assert stored.made_of(entry._replace(make=bright_spot.make), entry.config) is None
