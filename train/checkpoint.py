"""Checkpoints of a training run on Orbax: written beside the run, renamed when whole, and read back newest first.

A checkpoint holds the arrays of the training state and where the data stood. A kill or a full disk during a write
leaves a folder with a temporary name, which Orbax removes on the next start.
"""

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

PyTree = Any


class CheckpointError(ValueError):
    """No checkpoint can be read, or one cannot be written; the message is one line with the way out."""


def open_checkpoints(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    """The checkpoints of a run, the newest `keep` of them kept; written in the background. CheckpointError."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    try:
        return ocp.CheckpointManager(Path(folder).absolute(), options=options)
    except Exception as error:  # whatever the storage layers raise for altered files and for folders of other names
        raise CheckpointError(
            f"{folder}: its checkpoints cannot be listed ({_one_line(error):.200}); restore a copy, or start in a new "
            "folder"
        ) from error


def any_in(folder: Path) -> bool:
    """Whether a run has written a checkpoint to `folder`, readable or not."""
    return any(path.name.isdecimal() for path in Path(folder).glob("*"))


@contextlib.contextmanager
def closing(manager: ocp.CheckpointManager) -> Iterator[ocp.CheckpointManager]:
    """Waits at the end for what is being written. CheckpointError if that fails, unless another error is on its way."""
    closed, unraisable = _writing(manager), sys.unraisablehook
    # A failed write ends the loop that tensorstore's other writes report to, and each of them prints a traceback.
    sys.unraisablehook = lambda what: None if str(what.exc_value) == "Event loop is closed" else unraisable(what)
    try:
        yield manager
    except Exception:  # says more than what follows from it
        closed = contextlib.suppress(Exception)
        raise
    finally:
        try:
            with closed, contextlib.closing(manager):
                manager.wait_until_finished()  # raises once, and then lets itself be closed
        finally:
            sys.unraisablehook = unraisable


def save(manager: ocp.CheckpointManager, step: int, state: PyTree, data: dict[str, Any]) -> None:
    """Starts to write; `state` is copied before this returns. data: what JSON can hold.

    CheckpointError if that fails, or if the checkpoint before could not be written.
    """
    with _writing(manager):
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)))


@contextlib.contextmanager
def _writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the storage layers raise for a full disk or a folder that is gone
        raise CheckpointError(
            f"{manager.directory}: a checkpoint cannot be written ({_one_line(error)}); free space there, and the same "
            "command resumes from the checkpoint before"
        ) from error


def _one_line(error: Exception) -> str:
    full = os.strerror(errno.ENOSPC)
    lines = [full] if full in str(error) else str(error).strip().splitlines()
    return lines[0] if lines else repr(error)


def restore(manager: ocp.CheckpointManager, like: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
    """(step, state, data) of the newest checkpoint that can be read; None if there is none at all.

    like: arrays (or `jax.ShapeDtypeStruct`s with shardings) with the structure, shapes and placement of the state.
    A damaged checkpoint is named in a warning and set aside as damaged-<step>, and the one before is taken: a run that
    resumes from there must be able to write that step again. CheckpointError if none can be read; all stay in place.
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
            damaged.append((step, _one_line(error)))
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
