"""A training run and its folder: from a Config to trained weights."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from eval import settings
from eval.files import keep_apart
from trackers import rules
from trackers.nets import models
from trackers.nets.dimp_classifier import identity_start
from trackers.rules import SettingError
from trackers.weights import WeightsError, files, sources
from train import checkpoint, datasets, held_out, loop, replay, tensorboard, whitening
from train.config import Config, DatasetConfig, samples_of
from train.datasets import SYNTHETIC, TrackingDataset
from train.held_out import ValidationConfig
from train.samples import loader

Params = Any

# In the folder of a run
WEIGHTS, BEST, SETTINGS, FEATURES = "weights.safetensors", "best.safetensors", "config.json", "features"

# Fields that a resumed run may change, or all fields of a part: the course of training does not depend on them.
FREE = (
    "loop.steps",
    "loop.log_every",
    "loop.save_every",
    "loop.keep",
    "loader.workers",
    "loader.threads",
    "loader.buffer",
    "validation",
)


def train(loss: loop.Loss, config: Config, out: Path, data_dir: Path, weights: Path | None = None) -> Params:
    """Trains, or resumes the training in `out`, and writes `out/weights.safetensors`; the parameters.

    With validation, `out/best.safetensors` holds the parameters that had the highest AUC, and `info["validation"]` of
    that file the scores. loss: `(params, prepared batch) -> (value, (params, parts))`.
    """
    rules.validate(config)
    made_of = {**settings.plain(config), "weights_sha256": weights and _sha256(weights)}
    refuse_other_run(out, made_of)
    keep_apart([out / WEIGHTS, out / BEST], [weights])
    batches = open_batches(_with_steps(config, config.replay.batches) if config.replay else config, data_dir)
    prepare = partial(samples_of(config.loss.model).augment, config=config.prepare)
    start = initial_params(config.loss.model, config.loop.seed, weights, config.identity_classifier)
    if config.whitening and not checkpoint.any_in(out / loop.CHECKPOINTS):
        some = first_batches(config, data_dir, prepare)
        start = whitening.whitened(config.loss.model, start, some, config.whitening.share)
    if config.replay:
        with contextlib.closing(batches):
            batches = stored_pairs(config, start, batches, out, made_of)
        prepare = partial(replay.prepare, config=config.prepare)
    track = held_out.make(config.loss.model, config.validation) if config.validation.data_dir else None
    info = {"config": settings.plain(config), "versions": settings.versions()}
    best, writer = None, None
    with contextlib.closing(batches), contextlib.ExitStack() as stack:

        def on_start(step):
            nonlocal best, writer
            files.write_atomically(out / SETTINGS, json.dumps(made_of, indent=1).encode() + b"\n")
            best = best_score(out, config.validation, step) if track else None
            writer = stack.enter_context(contextlib.closing(tensorboard.open_log(out / "tensorboard", step)))

        def on_log(step, values):
            tensorboard.add_scalars(writer, step, values)

        def validate(step, params):
            nonlocal best
            scores, overlays = track(params)
            tensorboard.add_image(writer, step, "validation/overlays", overlays)
            if best is None or scores["auc"] > best:
                best = scores["auc"]
                with_scores = {**info, "steps": step, "validation": scores}
                files.save(out / BEST, params, model=config.loss.model, info=with_scores)
            return scores

        params = loop.fit(
            start,
            loss,
            prepare,
            batches,
            config.optimizer,
            config.loop,
            out,
            on_start=on_start,
            on_log=on_log,
            validate=track and validate,
            validate_every=config.validation.every,
        )
    if jax.process_index() == 0:
        info["steps"] = config.loop.steps
        files.save(out / WEIGHTS, jax.device_get(params), model=config.loss.model, info=info)
    return params


def _sha256(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror.lower()}") from error


def refuse_other_run(out: Path, now: dict[str, Any]) -> None:
    """SettingError if `out` has checkpoints and a `config.json` that differs from `now` in a field that is not FREE."""
    path = out / SETTINGS
    if path.is_file() and checkpoint.any_in(out / loop.CHECKPOINTS):
        try:
            stored = json.loads(path.read_text())
        except (ValueError, RecursionError) as error:
            raise SettingError(f"{path}: damaged ({error!s:.200}); give another --out, or delete it") from error
        found = [
            f"{name} is {there}, now {here}"
            for name, there, here in _differences(stored, now)
            if not any(name == free or name.startswith(f"{free}.") for free in FREE)
        ]
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise SettingError(
                f"{out}: has a run with other settings ({', '.join(found[:3])}{more}); "
                "give another --out, or the old values"
            )


def _differences(there: Any, here: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, value there, value here) of what differs; a field that only one side has is of another version."""
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = [(key, there[key], here[key]) for key in there if key in here]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(there, here))]
    else:
        if there != here:
            yield name, there, here
        return
    for key, *pair in pairs:
        yield from _differences(*pair, f"{name}.{key}" if name else key)


def initial_params(model: str, seed: int, weights: Path | None, identity_classifier: bool = False) -> Params:
    """Random parameters of `model`, the parts that a weight file has taken from there.

    weights: a file of the same model (to train it further), of a backbone alone or, for MemTrack, of SiamFC, whose
    backbone it can start from; ours, or as the reference implementation or torchvision publishes it. WeightsError, one
    line, if a part does not fit.
    """
    params = models.init_variables(model, jax.random.key(seed))
    if identity_classifier:
        try:
            params["classifier"] = identity_start(params["classifier"])
        except (KeyError, ValueError) as error:
            raise SettingError(f"identity_classifier: {model} has no such start: {error}") from error
    if weights is None:
        return params
    found = sources.parts(weights, model)
    return {part: found.get(part, variables) for part, variables in params.items()}


def best_score(out: Path, config: ValidationConfig, step: int) -> float | None:
    """The AUC of the best parameters in `out`; None where there are none up to `step` by the same sequences."""
    if not (out / BEST).is_file():
        return None
    info = files.read_metadata(out / BEST)["info"]
    with files.metadata_of(out / BEST):
        then, now = ({**one, "every": 0} for one in (info["config"]["validation"], settings.plain(config)))
        return float(info["validation"]["auc"]) if info["steps"] <= step and then == now else None


def first_batches(config: Config, data_dir: Path, prepare: Callable) -> Iterator[dict[str, jax.Array]]:
    """What `config.whitening` looks at: the same whatever the processes and the steps of the run."""
    prepare = jax.jit(prepare)
    some = open_batches(_with_steps(config, config.whitening.batches), data_dir, process=(0, 1))
    with contextlib.closing(some) as batches:
        for number, batch in enumerate(batches):
            yield prepare(jax.random.fold_in(jax.random.key(config.loop.seed), number), batch)


def stored_pairs(
    config: Config, params: Params, batches: loader.BatchIterator, out: Path, made_of: dict[str, Any]
) -> replay.Replay:
    """The batches of `config.replay`, whose features are in `out/features`. SettingError; TrainingError."""
    if "backbone" in loop.trained(params, config.optimizer):
        raise SettingError("optimizer.groups: none may match the backbone with replay, which keeps its features")
    if jax.process_count() > 1:
        raise SettingError("replay: None with --distributed; it is for one process")
    images = replace(config.prepare, targets=None)
    stored = replay.store(
        params,
        batches,
        partial(samples_of(config.loss.model).augment, config=images),
        config.replay.batches,
        out / FEATURES,
        {
            **{name: made_of[name] for name in ("datasets", "loader", "weights_sha256")},
            **{"prepare": settings.plain(images), "model": config.loss.model, "seed": config.loop.seed},
        },
    )
    return replay.Replay(stored, config.loader.batch_size, config.loop.seed)


def _with_steps(config: Config, steps: int) -> Config:
    return replace(config, loop=replace(config.loop, steps=steps))


def open_batches(config: Config, data_dir: Path, process: tuple[int, int] | None = None) -> loader.BatchIterator:
    """The batches of a process, (index, count), of the mixture; None: this one.

    DatasetError; SettingError where the numbers do not fit.
    """
    process_index, process_count = process or (jax.process_index(), jax.process_count())
    devices, size = jax.device_count(), config.loader.batch_size
    if size < 1 or size % devices:
        raise SettingError(f"loader.batch_size={size}: must be a positive multiple of the {devices} devices")
    mixed = [open_dataset(one, data_dir) for one in config.datasets]
    try:
        return loader.batches(
            samples_of(config.loss.model).load,
            mixed,
            [one.probability for one in config.datasets],
            config.loader,
            config.loop.steps,
            process_index=process_index,
            process_count=process_count,
        )
    except ValueError as error:
        raise SettingError(str(error)) from error


def open_dataset(config: DatasetConfig, data_dir: Path) -> TrackingDataset:
    """The prepared data set; procedural clips are drawn first where they are missing. DatasetError."""
    if config.name == SYNTHETIC and config.synthetic is not None:
        return datasets.prepare(
            SYNTHETIC, None, data_dir, config.split, synthetic=config.synthetic, progress=jax.process_index() == 0
        )
    return datasets.load(config.name, data_dir, config.split)
