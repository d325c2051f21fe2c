"""The one training loop: a loss, batches, an optimizer by parameter group, logs, checkpoints, resume.

Everything that is random follows from the seed and the step, and the order of the data from the iterator's state: a
run resumes bit-exactly after an interruption.
"""

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tqdm.auto import tqdm

from trackers.rules import COUNT, FACTOR, FRACTION, NOT_NEGATIVE, POSITIVE, PROBABILITY, SHARE, Rule, one_of
from trackers.weights import files
from train import checkpoint

Array = jax.Array
PyTree = Any
FROZEN = "frozen"  # the group of parameters that no pattern matches
RATE = Rule("> 0, a learning rate", POSITIVE.holds)
CHECKPOINTS, LOG = "checkpoints", "log.jsonl"  # in the folder of a run
Loss = Callable[[PyTree, PyTree], tuple[Array, tuple[PyTree, dict[str, Array]]]]


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


PATTERN = Rule("a regular expression", _compiles)


class TrainingError(RuntimeError):
    """Training cannot continue; the message is one line with what to look at."""


class Batches(Protocol):
    """Where batches come from: `train.samples.loader.batches`."""

    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class OptimizerConfig:
    """Each group of parameters has its learning rate, and the first pattern that matches decides.

    A pattern is searched in the parameter's path, such as "backbone/params/layer3_0/conv1/kernel"; what no pattern
    matches is frozen. "sgd" is torch's: velocity = momentum velocity + (gradient + weight_decay parameter), and the
    parameter goes back by rate times velocity. "muon" (Jordan et al. 2024, with the scale of Liu et al. 2025, "Muon is
    Scalable for LLM Training", arXiv:2502.16982): the momentum of each kernel, seen as a matrix from all its inputs to
    its outputs, is made orthogonal; what is no kernel is NAdam's, at a fifth of the rate.
    """

    groups: tuple[tuple[Annotated[str, PATTERN], Annotated[float, RATE]], ...]
    kind: Annotated[str, one_of("adam", "sgd", "muon")] = "adam"
    momentum: Annotated[float, FRACTION] = 0.9  # of "sgd"
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.0  # of "sgd", of every parameter that is not frozen; after `clip`
    decay_every: Annotated[int, NOT_NEGATIVE] = 0  # steps between the drops of all learning rates; 0: constant
    decay: Annotated[float, FACTOR] = 0.2  # factor of a drop
    warmup: Annotated[int, NOT_NEGATIVE] = 0  # steps of growth, before the first drop is counted
    # Share of the rates at its start; 0: linear growth, else geometric, as often as the drops
    warmup_from: Annotated[float, PROBABILITY] = 0.0
    clip: Annotated[float | None, POSITIVE] = None  # largest global norm of the gradient
    accumulate: Annotated[int, COUNT] = 1  # batches per update
    average: Annotated[float | None, SHARE] = None  # decay of an exponential moving average of the parameters

    def misfits(self) -> Iterator[tuple[str, str]]:
        if self.kind != "sgd" and self.weight_decay:
            yield "weight_decay", f'zero for "{self.kind}"'


@dataclass(frozen=True)
class LoopConfig:
    """How long, and what is written when."""

    steps: Annotated[int, COUNT]
    seed: Annotated[int, NOT_NEGATIVE] = 0
    log_every: Annotated[int, COUNT] = 20
    save_every: Annotated[int, COUNT] = 500
    keep: Annotated[int, COUNT] = 3  # checkpoints


class TrainState(NamedTuple):
    """What a step changes."""

    step: Array  # [] int32
    params: PyTree  # {part: {"params", "batch_stats"}}
    optimizer: PyTree
    average: PyTree  # of what `trained` gives, or None


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer over the tree of `trained`."""

    def schedule(rate):
        parts = rate
        if config.decay_every:
            parts = optax.exponential_decay(rate, config.decay_every, config.decay, staircase=True)
        if config.warmup:
            after = parts if callable(parts) else optax.constant_schedule(rate)
            ramp = optax.linear_schedule(0.0, rate, config.warmup)
            if config.warmup_from:
                every = config.decay_every or 1
                growth = (1 / config.warmup_from) ** (every / config.warmup)
                ramp = optax.exponential_decay(rate * config.warmup_from, every, growth, staircase=True)
            parts = optax.join_schedules([ramp, after], [config.warmup])
        return parts

    def rule(rate):
        if config.kind == "adam":
            return optax.adam(schedule(rate))
        if config.kind == "muon":
            return optax.contrib.muon(
                schedule(rate),
                muon_weight_dimension_numbers=_matrices,
                consistent_rms=0.2,
                adam_learning_rate=schedule(rate / 5),
            )
        decay = optax.add_decayed_weights(config.weight_decay)
        return optax.chain(decay, optax.sgd(schedule(rate), momentum=config.momentum))

    rules = {str(index): rule(rate) for index, (_, rate) in enumerate(config.groups)}
    transform = optax.partition(rules, lambda tree: labels(tree, config))
    if config.clip is not None:
        transform = optax.chain(optax.clip_by_global_norm(config.clip), transform)
    if config.accumulate > 1:
        transform = optax.MultiSteps(transform, config.accumulate)
    return transform


def _matrices(tree: PyTree) -> PyTree:
    """How Muon sees each kernel: all axes but the last as inputs; None for what has one axis, which is NAdam's."""

    def view(leaf):
        return optax.contrib.MuonDimensionNumbers(range(leaf.ndim - 1), leaf.ndim - 1) if leaf.ndim > 1 else None

    return jax.tree.map(view, tree)


def labels(tree: PyTree, config: OptimizerConfig) -> PyTree:
    """The group of each leaf: the index of its pattern as a string, or "frozen"."""

    def label(path):
        name = "/".join(path)
        matching = (str(index) for index, (pattern, _) in enumerate(config.groups) if re.search(pattern, name))
        return next(matching, FROZEN)

    return unflatten_dict({path: label(path) for path in flatten_dict(tree)})


def trained(params: PyTree, config: OptimizerConfig) -> PyTree:
    """Of `{part: {"params", "batch_stats"}}` what the groups change; nothing else is differentiated.

    TrainingError if that is nothing.
    """
    learnable = flatten_dict({part: {"params": variables["params"]} for part, variables in params.items()})
    groups = flatten_dict(labels(unflatten_dict(learnable), config))
    chosen = {path: leaf for path, leaf in learnable.items() if groups[path] != FROZEN}
    if not chosen:
        patterns = ", ".join(repr(pattern) for pattern, _ in config.groups)
        raise TrainingError(f"no parameter matches one of optimizer.groups ({patterns}): nothing would be trained")
    return unflatten_dict(chosen)


def with_trained(params: PyTree, learned: PyTree) -> PyTree:
    """`params` with the leaves of `trained` replaced."""
    return unflatten_dict(flatten_dict(params, keep_empty_nodes=True) | flatten_dict(learned))


def init_state(params: PyTree, config: OptimizerConfig) -> TrainState:
    """The state before step 1."""
    learned = trained(params, config)
    return TrainState(
        jnp.int32(0),
        params,
        make_optimizer(config).init(learned),
        jax.tree.map(jnp.copy, learned) if config.average is not None else None,
    )


def make_step(loss: Loss, prepare: Callable[[Array, PyTree], PyTree], config: OptimizerConfig, seed: int):
    """`(state, batch) -> (state, metrics)`, to be jitted. prepare: `(key, batch) -> batch`, augmentation on the device.

    metrics: "loss", the loss's parts, "gradient_norm", and "finite" [] bool of the loss and every gradient; a step that
    is not finite leaves the parameters as they were.
    """
    optimizer = make_optimizer(config)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Array]]:
        batch = prepare(jax.random.fold_in(jax.random.key(seed), state.step), batch)

        def value(learned):
            return loss(with_trained(state.params, learned), batch)

        learned = trained(state.params, config)
        (total, (after, parts)), gradient = jax.value_and_grad(value, has_aux=True)(learned)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        updates, memory = optimizer.update(gradient, state.optimizer, learned)
        learned = optax.apply_updates(learned, updates)
        average = state.average
        if config.average is not None:
            average = optax.incremental_update(learned, average, 1 - config.average)
        new = TrainState(state.step + 1, with_trained(after, learned), memory, average)
        new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
        return new, {"loss": total, **parts, "gradient_norm": norm, "finite": finite}

    return step


def data_mesh() -> jax.sharding.Mesh:
    """All devices of all processes in one axis, "data", over which the targets of a batch are spread."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def fit(
    params: PyTree,
    loss: Loss,
    prepare: Callable[[Array, PyTree], PyTree],
    batches: Batches,
    optimizer: OptimizerConfig,
    config: LoopConfig,
    folder: Path,
    *,
    on_start: Callable[[int], None] = lambda step: None,
    on_log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    validate: Callable[[int, PyTree], dict[str, float]] | None = None,
    validate_every: int = 0,
) -> PyTree:
    """Trains up to `config.steps` steps and returns the parameters (their average where one is kept).

    Resumes from the newest checkpoint in `folder`, if there is one, and tells `on_start` its step (0: none); what the
    log says of later steps is dropped, since they are logged again. batches: of this process, `[frames, B, ...]` each,
    and "sample_ids" `[B]`, which stay on the host; the global batch is that of all processes along B. Every `log_every`
    steps a line goes to `folder/log.jsonl` and to `on_log`, with the rate since the line before (the first compiles),
    every `validate_every` steps and at the end one with what `validate` says of the parameters that would be returned
    (all in the first process).
    Ctrl-C, SIGTERM and SIGHUP end it after the step, with a checkpoint (KeyboardInterrupt). Raises TrainingError at a
    step that is not finite, with the last good state saved, and if `folder` is ahead of `config.steps`;
    CheckpointError, TrainingError or WeightsError where a file cannot be written.
    """
    mesh = data_mesh()
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec(None, "data"))
    quiet = jax.process_index() > 0

    def report(number, values):
        if not quiet:
            _log(folder / LOG, {"step": number, **values})
            on_log(number, values)

    state = jax.device_put(init_state(params, optimizer), everywhere)
    manager = checkpoint.open_checkpoints(folder / CHECKPOINTS, keep=config.keep)
    step = jax.jit(make_step(loss, prepare, optimizer, config.seed), donate_argnums=0)
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.closing(manager), _stop_requested() as stop:
        found = checkpoint.restore(manager, state)
        start = 0
        if found is not None:
            start, state, data = found
            try:
                batches.set_state(data)
            except (LookupError, TypeError, ValueError, OverflowError) as error:
                raise checkpoint.CheckpointError(
                    f"{manager.directory / str(start)}: damaged, it does not say where the data stood "
                    f"({error!r:.100}); delete it, and the same command resumes from the one before"
                ) from error
        if start > config.steps:
            raise TrainingError(f"{folder}: has trained {start} steps already, more than loop.steps={config.steps}")
        if not quiet:
            _cut_log(folder / LOG, start)
            on_start(start)
        logged, began, fetched = start, time.perf_counter(), 0.0  # of the line before: its step, when, and waits since
        progress = tqdm(range(start, config.steps), None, config.steps, initial=start, unit="step", disable=quiet)
        for number in progress:
            waiting = time.perf_counter()
            batch = next(batches)
            fetched += time.perf_counter() - waiting
            ids = batch.pop("sample_ids")
            arrays = {name: jax.make_array_from_process_local_data(spread, leaf) for name, leaf in batch.items()}
            state, metrics = step(state, arrays)
            if not bool(metrics["finite"]):
                checkpoint.save(manager, number, state, batches.get_state())
                raise TrainingError(
                    f"step {number + 1}: loss {float(metrics['loss'])}, gradient norm "
                    f"{float(metrics['gradient_norm'])}; look at the samples {ids.tolist()}"
                )
            last = number + 1 == config.steps
            if (number + 1) % config.log_every == 0 or last:
                seconds = time.perf_counter() - began
                values = {name: np.asarray(value).tolist() for name, value in metrics.items() if name != "finite"}
                values |= {"steps_per_second": (number + 1 - logged) / seconds, "data_wait_share": fetched / seconds}
                logged, began, fetched = number + 1, time.perf_counter(), 0.0
                report(number + 1, values)
                progress.set_postfix(loss=f"{values['loss']:.4g}")
            if validate is not None and ((number + 1) % validate_every == 0 or last) and not quiet:
                scores = validate(number + 1, jax.device_get(_result(state)))
                report(number + 1, {f"validation/{name}": value for name, value in scores.items()})
            if (number + 1) % config.save_every == 0 or last or stop.is_set():
                checkpoint.save(manager, number + 1, state, batches.get_state())
            if stop.is_set() and not last:
                raise KeyboardInterrupt(f"stopped after step {number + 1} of {config.steps}; the same command resumes")
    return _result(state)


def _result(state: TrainState) -> PyTree:
    """What training has found: the parameters, or their average."""
    return state.params if state.average is None else with_trained(state.params, state.average)


@contextlib.contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set instead of ending the process in the middle of a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield stop
        return

    def request(number: int, frame: object) -> None:
        stop.set()
        with contextlib.suppress(KeyboardInterrupt):  # a command notes which signal it was, for its exit status
            if callable(before[number]):
                before[number](number, frame)

    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        if before[number] != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it is not Python's


def _log(path: Path, values: dict[str, Any]) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; free space there, and the same command resumes") from error


def _cut_log(path: Path, step: int) -> None:
    """Drops the lines of the steps after `step`, and what a kill has left of a line."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if kept != lines:
        files.write_atomically(path, b"".join(kept))


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return float("inf")
