"""Checkpoints of a training run on Orbax: written beside the run, renamed when whole, and read back newest first.

A checkpoint holds the arrays of the training state and where the data stood. A kill during a write leaves a folder
with a temporary name, which Orbax removes on the next start.
"""

import warnings
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

PyTree = Any


class CheckpointError(ValueError):
    """No checkpoint can be read; the message is one line with the way out."""


def open_checkpoints(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    """The checkpoints of a run, the newest `keep` of them kept; written in the background."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(Path(folder).absolute(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state: PyTree, data: dict[str, Any]) -> None:
    """Starts to write; `state` is copied before this returns. data: what JSON can hold."""
    manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)))


def restore(manager: ocp.CheckpointManager, like: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
    """(step, state, data) of the newest checkpoint that can be read; None if there is none at all.

    like: arrays (or `jax.ShapeDtypeStruct`s with shardings) with the structure, shapes and placement of the state.
    A damaged checkpoint is named in a warning and set aside as damaged-<step>, and the one before is taken: a run that
    goes on from there must be able to write that step again. CheckpointError if none can be read; all stay in place.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found = manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()),
            )
        except Exception as error:  # whatever the storage layers raise for missing or altered files
            damaged.append((step, str(error).strip().splitlines()[0] if str(error).strip() else repr(error)))
            continue
        for bad, reason in damaged:
            path = manager.directory / str(bad)
            warnings.warn(f"{path}: damaged ({reason}), set aside; going on from step {step}", stacklevel=2)
            if jax.process_index() == 0:
                path.rename(path.with_name(f"damaged-{bad}"))
        manager.reload()
        return step, found["state"], found["data"]
    if damaged:
        raise CheckpointError(
            f"{manager.directory}: none of {len(damaged)} checkpoints can be read "
            f"(step {damaged[0][0]}: {damaged[0][1]}); restore a copy, or start in a new folder"
        )
    return None
