"""A head learns on a frozen backbone: the features of some pairs are computed once, kept, and shown many times.

Where the backbone does not learn, it gives the same features of an image in every epoch, and on a CPU it takes most of
a step. So the pairs of the first batches are cropped, augmented and run through it once; what follows are steps of the
head alone, on the stored pairs in a new order in each epoch, with newly chosen anchors.
"""

import functools
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from trackers.nets import models
from trackers.rules import COUNT, SettingError
from trackers.weights import files
from train.loop import TrainingError
from train.samples import pairs

Array = jax.Array
Params = Any
Stored = dict[str, np.ndarray]
MADE_OF = "made_of.json"


@dataclass(frozen=True)
class ReplayConfig:
    """How much is kept; 50 KB a pair of 127 and 127 pixels with 256 channels, 150 with 207, in memory and beside it."""

    batches: Annotated[int, COUNT] = 250  # of the loader


class Replay:
    """`train.loop.Batches` of stored pairs: every epoch all of them, in an order of its own."""

    def __init__(self, stored: Stored, batch_size: int, seed: int):
        self._stored, self._size, self._seed = stored, batch_size, seed
        self._count = len(stored["sample_ids"])
        self._next_batch = 0

    def __next__(self) -> Stored:
        epoch, place = divmod(self._next_batch, self._count // self._size)
        chosen = _order(self._seed, epoch, self._count)[place * self._size :][: self._size]
        self._next_batch += 1
        batch = {name: leaf[chosen] for name, leaf in self._stored.items()}
        return {name: leaf if name == "sample_ids" else leaf[None] for name, leaf in batch.items()}

    def get_state(self) -> dict[str, int]:
        return {"next_batch": self._next_batch}

    def set_state(self, state: dict[str, int]) -> None:
        self._next_batch = int(state["next_batch"])

    def close(self) -> None:
        """Nothing is open."""


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def store(
    params: Params,
    first: Iterator[dict[str, np.ndarray]],
    prepare: Callable[[Array, dict[str, Any]], dict[str, Array]],
    count: int,
    folder: Path,
    made_of: dict[str, Any],
) -> Stored:
    """The first `count` batches with the backbone's features in place of images; kept in `folder`, one file each.

    first: batches of `train.samples.pairs.load_pair` from number 0 on, with `set_state`. prepare: see
    `train.samples.pairs.prepare`, without targets. made_of: what the features depend on, its "model" and "seed" among
    it; SettingError if `folder` has those of something else. What an earlier call has finished is read back.
    """
    network = models.networks(made_of["model"])["backbone"]

    @jax.jit
    def features(variables: Params, key: Array, batch: dict[str, Array]) -> dict[str, Array]:
        seen = prepare(key, batch)
        out = {name: seen[name] for name in ("search_boxes", "negative")}
        for name in ("template", "search"):
            for level, tap in enumerate(network.apply(variables, seen[f"{name}_images"])):
                out[f"{name}_taps_{level}"] = tap.astype(jnp.float16)
        return out

    _refuse_others(folder, made_of)
    paths = [folder / f"{number:05d}.npz" for number in range(count)]
    done = next((number for number, path in enumerate(paths) if not path.is_file()), count)
    first.set_state({"next_batch": done})
    stored: Stored = {}
    for number in tqdm(range(count), "features of the backbone", unit="batch"):
        if number < done:
            made = _read(paths[number])
        else:
            batch = next(first)
            ids = batch.pop("sample_ids")
            key = jax.random.fold_in(jax.random.key(made_of["seed"]), number)
            made = jax.tree.map(np.asarray, features(params["backbone"], key, batch))
            if not all(np.isfinite(leaf).all() for leaf in made.values()):
                raise TrainingError(f"features are not finite in half precision; look at the samples {ids.tolist()}")
            made["sample_ids"] = ids
            _write(paths[number], made)
        if not stored:  # all of it at once: a list of batches to be joined would need twice the memory
            stored = {name: np.empty((count, *leaf.shape), leaf.dtype) for name, leaf in made.items()}
        for name, leaf in made.items():
            stored[name][number] = leaf
    return {name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in stored.items()}


def prepare(key: Array, batch: dict[str, Array], config: pairs.PairPrepareConfig) -> dict[str, Any]:
    """What the losses see of a batch of `Replay`: `template_taps` and `search_taps`, tuples of `[B, h, w, C]` float32.

    Besides `search_boxes`, `negative` and, with `config.targets`, newly chosen targets, see `pairs.prepare`.
    """
    leaves = {name: leaf[0] for name, leaf in batch.items()}
    out: dict[str, Any] = {name: leaves[name] for name in ("search_boxes", "negative")}
    for name in ("template_taps", "search_taps"):
        levels = sorted(leaf for leaf in leaves if leaf.startswith(name))
        out[name] = tuple(leaves[level].astype(jnp.float32) for level in levels)
    return pairs.with_targets(jax.random.split(key, len(out["negative"])), out, config)


def _refuse_others(folder: Path, made_of: dict[str, Any]) -> None:
    path, now = folder / MADE_OF, json.dumps(made_of, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        files.write_atomically(path, now.encode() + b"\n")
        return
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise SettingError(f"{path}: damaged ({error!s:.100}); delete {folder}, or give another --out") from error
    if before != json.loads(now):
        raise SettingError(
            f"{folder}: has features of other pairs or of another backbone; delete it, or give another --out"
        )


def _read(path: Path) -> Stored:
    try:
        with np.load(path) as archive:
            return dict(archive)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SettingError(
            f"{path}: damaged ({error!s:.100}); delete it, and the same command makes it again"
        ) from error


def _write(path: Path, leaves: Stored) -> None:
    data = io.BytesIO()
    np.savez(data, **leaves)
    files.write_atomically(path, data.getvalue())
