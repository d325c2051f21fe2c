"""The trackers as a user chooses among them: whose each is, where its weights come from, what was measured of it."""

from typing import NamedTuple

import trackers
from trackers import measured
from trackers.nets import models
from trackers.weights import released

# By the module of a tracker's `make`
PAPERS = {
    "atom": "ATOM",
    "dasiamrpn": "DaSiamRPN",
    "dimp": "DiMP",
    "memtrack": "MemTrack",
    "siamfc": "SiamFC",
    "siamrpn": "SiamRPN",
    "thor": "THOR",
}


class Row(NamedTuple):
    """A tracker of the table."""

    tracker: str
    paper: str
    weights: str  # "shipped", "to convert" from a public file, "to train", or "none" where it needs no file
    auc: float | None  # None: not measured
    frames_per_second: float | None


def rows() -> list[Row]:
    """All trackers, in the order of `trackers.names`."""
    return [
        Row(name, paper(name), weights(name), measured.AUC.get(name), measured.FRAMES_PER_SECOND.get(name))
        for name in trackers.names()
    ]


def paper(name: str) -> str:
    """Whose tracker it is."""
    found = PAPERS[trackers.get(name).make.__module__.rpartition(".")[2]]
    return found + "++" * name.startswith("siamrpnpp")


def weights(name: str) -> str:
    """How one comes by its weights."""
    model = trackers.get(name).model
    if model is None:
        return "none"
    if released.path(model):
        return "shipped"
    row = models.get(model)
    return "to convert" if row.peer or row.heads else "to train"
