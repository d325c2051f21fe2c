"""The training loop and its checkpoints: groups, resume to the bit, damage, and what stops a run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.command import reports
from tests.helpers import places, small_training
from tests.helpers.disk import small_disk
from tests.helpers.small_training import CONFIG, OPTIMIZER, Batches, train
from train import checkpoint, loop

REPOSITORY = places.REPOSITORY


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return train(folder), folder


def assert_same_bits(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_is_logged(uninterrupted):
    lines = log_of(uninterrupted[1])
    assert [line["step"] for line in lines] == list(range(1, CONFIG.steps + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] and {"error", "gradient_norm", "steps_per_second"} <= set(lines[0])


def test_the_rate_is_that_since_the_line_before(tmp_path, monkeypatch):
    """So that it does not say for hundreds of steps how long the first took to compile."""
    seconds = iter([0, 0, 0, 100, 100, *range(101, 1000)])  # the first step takes 100, the others three
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    train(tmp_path)
    first, *others = (line["steps_per_second"] for line in log_of(tmp_path))
    assert first == 1 / 100 and all(0.2 < rate < 0.5 for rate in others)


def test_groups_have_their_rates_and_the_rest_is_frozen(uninterrupted):
    before, after = small_training.params(), uninterrupted[0]
    np.testing.assert_array_equal(after["backbone"]["params"]["kernel"], before["backbone"]["params"]["kernel"])
    assert not np.array_equal(after["backbone"]["params"]["scale"], before["backbone"]["params"]["scale"])
    assert np.any(after["backbone"]["batch_stats"]["mean"])
    # The first step of Adam has the length of the learning rate, so groups show in it.
    step = jax.jit(loop.make_step(small_training.loss, small_training.prepare, OPTIMIZER, 0))
    batch = {name: leaf for name, leaf in next(Batches()).items() if name != "sample_ids"}
    first = step(loop.init_state(before, OPTIMIZER), batch)[0].params
    for part, name, rate in (("head", "w", 1e-2), ("backbone", "scale", 1e-3)):
        moved = np.abs(first[part]["params"][name] - before[part]["params"][name])
        np.testing.assert_allclose(moved, rate, rtol=1e-2)


def test_frozen_parameters_are_neither_differentiated_nor_stored_by_the_optimizer():
    config = replace(OPTIMIZER, groups=(("head/", 1e-2),), average=None)
    params = small_training.params()
    assert set(loop.trained(params, config)) == {"head"}
    state = loop.init_state(params, config)
    sizes = {np.shape(leaf) for leaf in jax.tree.leaves(state.optimizer)}
    assert sizes == {(), (4,), (4, 4)} and len(jax.tree.leaves(state.optimizer)) < 8  # two moments of two arrays

    @jax.custom_vjp
    def untouched(x):
        return x

    def refuse(_, cotangent):
        raise AssertionError("a frozen parameter is differentiated")

    untouched.defvjp(lambda x: (x, None), refuse)

    def loss(params, batch):
        backbone = {**params["backbone"], "params": jax.tree.map(untouched, params["backbone"]["params"])}
        return small_training.loss({**params, "backbone": backbone}, batch)

    batch = {name: leaf for name, leaf in next(Batches()).items() if name != "sample_ids"}
    after, _ = loop.make_step(loss, small_training.prepare, config, 0)(state, batch)
    assert_same_bits(after.params["backbone"]["params"], params["backbone"]["params"])
    with pytest.raises(loop.TrainingError, match="nothing would be trained"):
        loop.init_state(params, replace(config, groups=(("neck/", 1e-2),)))


def test_the_rate_warms_up_and_drops():
    config = loop.OptimizerConfig(groups=((".", 1.0),), decay_every=3, decay=0.5, warmup=2)
    optimizer, tree = loop.make_optimizer(config), {"a": {"params": {"w": jnp.zeros(())}}}
    state, taken = optimizer.init(tree), []
    for _ in range(9):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, tree), state)
        taken.append(-float(updates["a"]["params"]["w"]))
    np.testing.assert_allclose(taken, [0, 0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.25], atol=1e-5)


def test_the_rate_grows_and_falls_as_pysots():
    """Twenty epochs of three steps; the rates of the warm-up as pysot prints them."""
    config = loop.OptimizerConfig(
        groups=((".", 5e-3),),
        kind="sgd",
        momentum=0.0,
        decay_every=3,
        decay=0.1 ** (1 / 14),
        warmup=15,
        warmup_from=0.2,
    )
    optimizer, tree = loop.make_optimizer(config), {"a": {"params": {"w": jnp.zeros(())}}}
    state, taken = optimizer.init(tree), []
    for _ in range(60):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, tree), state, tree)
        taken.append(-float(updates["a"]["params"]["w"]))
    np.testing.assert_allclose(taken[:15:3], [0.001, 0.00138, 0.0019, 0.00263, 0.00362], atol=5e-6)
    np.testing.assert_allclose(taken[15::3], np.geomspace(5e-3, 5e-4, 15), rtol=1e-4)
    np.testing.assert_allclose(np.reshape(taken, (20, 3)), np.repeat(taken[::3], 3).reshape(20, 3), rtol=1e-6)


def test_sgd_is_torchs():
    config = loop.OptimizerConfig(groups=((".", 0.1),), kind="sgd", momentum=0.8, weight_decay=0.05, clip=1.0)
    optimizer = loop.make_optimizer(config)
    tree = {"a": {"params": {"w": jnp.float32(2.0)}}}
    state, parameter, velocity = optimizer.init(tree), 2.0, 0.0
    for gradient in (0.3, -0.7, 5.0, 0.2):
        updates, state = optimizer.update({"a": {"params": {"w": jnp.float32(gradient)}}}, state, tree)
        tree = jax.tree.map(jnp.add, tree, updates)
        velocity = 0.8 * velocity + min(gradient, 1.0) + 0.05 * parameter
        parameter -= 0.1 * velocity
        np.testing.assert_allclose(tree["a"]["params"]["w"], parameter, rtol=1e-6)


def test_muon_makes_the_step_of_a_kernel_orthogonal():
    """Singular values alike (its five iterations leave 0.7 to 1.2), a root mean square of 0.2; biases are NAdam's."""
    optimizer = loop.make_optimizer(loop.OptimizerConfig(groups=((".", 0.1),), kind="muon"))
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 16)) * np.geomspace(0.01, 1, 16)
    tree = {"a": {"params": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.array([-3.0, 0.2])}}}
    updates, _ = optimizer.update(tree, optimizer.init(tree), tree)
    step = np.reshape(updates["a"]["params"]["kernel"], (36, 16))
    values = np.linalg.svd(step, compute_uv=False)
    assert values[0] / values[-1] < 1.9 < np.linalg.cond(kernel.reshape(36, 16)) / 30
    np.testing.assert_allclose(np.sqrt(np.mean(step**2)), 0.1 * 0.2, rtol=0.2)
    assert np.sum(step * kernel.reshape(36, 16)) < 0
    ahead = (0.9 * 0.1 / (1 - 0.9**2)) + 0.1 / (1 - 0.9)  # of the first step, with Nesterov's momentum
    np.testing.assert_allclose(updates["a"]["params"]["bias"], [0.02 * ahead, -0.02 * ahead], rtol=1e-3)


MORE_KILLS = ("step", 3), ("saving", 5), ("saving", 40)
KILLS = [("step", 13), ("saving", 20), *(pytest.param(k, marks=pytest.mark.full) for k in MORE_KILLS)]


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_run_goes_on_to_the_same_bits(uninterrupted, tmp_path, kill):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.helpers.small_training", str(tmp_path), kill[0], str(kill[1])]
    process = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "lo')  # what a kill leaves
    assert_same_bits(train(tmp_path), uninterrupted[0])
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, CONFIG.steps + 1))


def test_two_processes_train_what_one_does(uninterrupted, tmp_path):
    """On loopback, with half of every batch each: the same parameters up to the order of sums."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.small_training", str(tmp_path), "process", str(index), port],
            cwd=REPOSITORY,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    with np.load(tmp_path / "result.npz") as stored:
        for actual, expected in zip(stored.values(), jax.tree.leaves(uninterrupted[0]), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == CONFIG.steps  # the first process writes it


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_command_that_is_terminated_while_it_trains_has_the_status_of_the_signal(capsys):
    @reports()
    def main(number):
        with loop._stop_requested() as stop:
            signal.raise_signal(number)  # ends no step
            assert stop.is_set()
        raise KeyboardInterrupt("stopped after step 3")

    assert [main(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == [143, 129, 130]
    assert capsys.readouterr().err == "interrupted: stopped after step 3\n" * 3


def test_a_run_in_two_parts_and_ctrl_c(uninterrupted, tmp_path):
    train(tmp_path, replace(CONFIG, steps=7))

    class Interrupting(Batches):
        def __next__(self):
            if self.position == 20:
                signal.raise_signal(signal.SIGINT)
            return super().__next__()

    with pytest.raises(KeyboardInterrupt, match="after step 21 of 40"):
        train(tmp_path, batches=Interrupting())
    resumed = Batches()
    assert_same_bits(train(tmp_path, batches=resumed), uninterrupted[0])
    assert resumed.position == CONFIG.steps
    with pytest.raises(loop.TrainingError, match=r"40 steps already, more than loop.steps=7"):
        train(tmp_path, replace(CONFIG, steps=7))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_damaged_checkpoint_falls_back_with_a_warning(uninterrupted, tmp_path):
    train(tmp_path, replace(CONFIG, steps=20))
    for file in (tmp_path / "checkpoints" / "20").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"checkpoints/20: damaged .*going on from step 15"):
        train(tmp_path, replace(CONFIG, steps=20))
    assert {"damaged-20", "20"} <= {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert_same_bits(train(tmp_path), uninterrupted[0])


def test_nothing_readable_is_an_error_that_deletes_nothing(tmp_path):
    train(tmp_path, replace(CONFIG, steps=5))
    for file in (tmp_path / "checkpoints" / "5").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match="none of 1 checkpoints can be read") as caught:
        train(tmp_path)
    assert "\n" not in str(caught.value) and (tmp_path / "checkpoints" / "5").is_dir()


# Now and then a thread of Orbax, of this test or one before it, outlives its event loop.
@pytest.mark.filterwarnings(
    "ignore:(?s)Exception ignored in. None.*Event loop is closed:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # what would be printed as a traceback
@pytest.mark.parametrize("steps", [10, 40])  # it shows at the end, or when the next checkpoint is written
def test_a_full_disk_is_one_line_and_the_run_goes_on_with_more_space(steps, uninterrupted, tmp_path):
    quiet = replace(CONFIG, log_every=100)
    with small_disk(tmp_path / "disk", kib=2048) as disk:
        train(disk / "run", replace(quiet, steps=5))
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 24 * 1024))
        with pytest.raises(checkpoint.CheckpointError) as caught:
            train(disk / "run", replace(quiet, steps=steps))
        checkpoints = disk / "run" / "checkpoints"
        assert str(caught.value) == (
            f"{checkpoints}: a checkpoint cannot be written (No space left on device); free space there, and the same "
            "command resumes from the checkpoint before"
        )
        assert checkpoint.any_in(checkpoints)
        (disk / "filler").unlink()
        resumed = Batches()
        states, resumed.set_state = [], lambda state: (states.append(state), Batches.set_state(resumed, state))
        assert_same_bits(train(disk / "run", quiet, resumed), uninterrupted[0])
        assert states == [{"position": 5}]


def test_a_step_that_is_not_finite_names_its_samples_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(loop.TrainingError, match=r"step 8: loss nan.*samples \[56, 57, 58, 59, 60, 61, 62, 63\]"):
        train(tmp_path, batches=Batches(bad=7))
    with pytest.raises(loop.TrainingError, match="step 6: loss nan"):  # step 5 is a checkpoint already
        train(tmp_path / "saved", batches=Batches(bad=5))
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints", keep=3)
    step, state, _ = checkpoint.restore(manager, loop.init_state(small_training.params(), OPTIMIZER))
    assert step == 7 and all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params))


def test_accumulated_batches_are_one_large_one():
    """Two batches with `accumulate=2` against their concatenation; without clipping, which acts on each."""
    one, two = next(Batches()), next(Batches())
    both = {name: np.concatenate([one[name], two[name]], 1) for name in ("x", "y")}
    results = []
    for accumulate, batches in ((2, (one, two)), (1, (both,))):
        config = replace(OPTIMIZER, accumulate=accumulate, clip=None, average=None)
        step = jax.jit(loop.make_step(small_training.loss, lambda key, batch: batch, config, 0))
        state = loop.init_state(small_training.params(), config)
        for batch in batches:
            state, _ = step(state, {name: batch[name] for name in ("x", "y")})
        results.append(loop.trained(state.params, config))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)
