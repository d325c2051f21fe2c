"""Weights that come with the package, written by `python -m train.release`; a card (.md) lies beside each file."""

from pathlib import Path

from trackers.nets import models

FOLDER = Path(__file__).parent


def path(model: str) -> Path | None:
    """The complete weights of `model`, perhaps with parts of another; None if none are released."""
    return _existing(models.get(model).released_with or model)


def heads(model: str) -> Path | None:
    """The heads of `model`, to be joined with a backbone by `eval.convert`; None if none are released."""
    name = models.get(model).heads
    return name and _existing(name)


def _existing(name: str) -> Path | None:
    file = FOLDER / f"{name}.safetensors"
    return file if file.is_file() else None
