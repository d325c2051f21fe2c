"""Trackers as pure functions: `trackers.base` holds the one interface, this page the list of what there is.

    entry = trackers.get("dimp18")
    params = trackers.load_params("dimp18", "dimp18.safetensors")
    tracker = entry.make(entry.config)
    estimates = jax.jit(trackers.base.run(tracker))(params, key, frames, box)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from trackers import atom, dasiamrpn, dimp, memtrack, siamfc, siamrpn, thor
from trackers.base import Params, Tracker
from trackers.nets import filter_bank, models
from trackers.parts.online import Stages
from trackers.parts.templates import Matcher
from trackers.weights import WeightsError, files, released


class Entry(NamedTuple):
    """A tracker by name: its numbers, and what makes it of them."""

    config: Any  # frozen dataclass; variants are `dataclasses.replace`
    make: Callable[[Any], Tracker]
    make_parts: Callable[[Any], Stages | Matcher]  # the same in pieces, for benchmarks and wrappers
    model: str | None  # of `trackers.nets.models`; None: the filter bank, built by code


_ENTRIES = {
    "atom": Entry(atom.Config(), atom.make, atom.make_stages, "atom"),
    "atom_vot": Entry(atom.VOT, atom.make, atom.make_stages, "atom"),
    "atom_multiscale": Entry(atom.MULTISCALE, atom.make, atom.make_stages, "atom_multiscale"),
    "atom_multiscale_search": Entry(atom.MULTISCALE_SEARCH, atom.make, atom.make_stages, "atom_multiscale"),
    "atom_filterbank": Entry(atom.FILTER_BANK, atom.make, atom.make_stages, None),
    "dimp18": Entry(dimp.Config(), dimp.make, dimp.make_stages, "dimp18"),
    "dimp18_vot18": Entry(dimp.VOT18, dimp.make, dimp.make_stages, "dimp18"),
    "dimp18_heads": Entry(dimp.HEADS, dimp.make, dimp.make_stages, "dimp18"),
    "dimp_tiny": Entry(dimp.TINY, dimp.make, dimp.make_stages, "dimp_tiny"),
    "dimp50": Entry(dimp.DIMP50, dimp.make, dimp.make_stages, "dimp50"),
    "dimp50_vot18": Entry(dimp.DIMP50_VOT18, dimp.make, dimp.make_stages, "dimp50"),
    "dimp50_vot19": Entry(dimp.DIMP50_VOT19, dimp.make, dimp.make_stages, "dimp50"),
    "siamfc": Entry(siamfc.Config(), siamfc.make, siamfc.make_matcher, "siamfc"),
    "siamfc_5s": Entry(siamfc.FIVE_SCALES, siamfc.make, siamfc.make_matcher, "siamfc"),
    "memtrack": Entry(memtrack.Config(), memtrack.make, memtrack.make_matcher, "memtrack"),
    **{
        name: Entry(config, siamrpn.make, siamrpn.make_matcher, config.model)
        for name, config in {
            "siamrpn": siamrpn.Config(),
            "siamrpn_otb": siamrpn.SIAMRPN_OTB,
            "siamrpn_big": siamrpn.SIAMRPN_BIG,
            "siamrpnpp_alexnet": siamrpn.ALEXNET,
            "siamrpnpp_mobilenetv2": siamrpn.MOBILENETV2,
            "siamrpnpp_mobilenetv2_1.0": siamrpn.MOBILENETV2_1_0,
            "siamrpnpp_resnet50": siamrpn.RESNET50,
            "siamrpnpp_resnet50_otb": siamrpn.RESNET50_OTB,
            "siamrpnpp_resnet50_lt": siamrpn.RESNET50_LT,
        }.items()
    },
    **{
        name: Entry(config, dasiamrpn.make, dasiamrpn.make_matcher, config.rpn.model)
        for name, config in {
            "dasiamrpn": dasiamrpn.Config(),
            "dasiamrpn_vot": dasiamrpn.VOT,
            "dasiamrpn_otb": dasiamrpn.OTB,
        }.items()
    },
    **{
        name: Entry(config, thor.make, thor.make_matcher, config.host.model)
        for name, config in {
            "thor_siamfc": thor.SIAMFC_OTB_DYNAMIC,
            "thor_siamfc_ensemble": thor.SIAMFC_OTB_ENSEMBLE,
            "thor_siamrpn": thor.SIAMRPN,
            "thor_siamrpn_ensemble": thor.SIAMRPN_ENSEMBLE,
            "thor_siamrpn_big": thor.SIAMRPN_OTB_DYNAMIC,
            "thor_siamrpnpp_mobilenetv2": thor.MOBILENETV2,
            "thor_siamrpnpp_mobilenetv2_1.0": thor.MOBILENETV2_1_0,
        }.items()
    },
}


def names() -> list[str]:
    """Names of all trackers."""
    return list(_ENTRIES)


def get(name: str) -> Entry:
    """The entry of `name`; ValueError, one line with the choices, if there is none."""
    if name not in _ENTRIES:
        raise ValueError(f"unknown tracker {name!r}; known: {', '.join(_ENTRIES)}")
    return _ENTRIES[name]


def init_params(name: str, key: jax.Array) -> Params:
    """Untrained parameters of tracker `name`: the start of training, or for tests and benchmarks."""
    model = get(name).model
    return {"backbone": filter_bank.init_variables()} if model is None else models.init_variables(model, key)


def load_params(name: str, weights: str | Path | None) -> Params:
    """The parameters of tracker `name` from a file of `eval.convert` or training.

    None: those that come with the package, where there are any, and for a tracker that needs no file.
    Raises `WeightsError`, one line that names the file and the fix.
    """
    model = get(name).model
    if model is None:
        if weights is not None:
            raise WeightsError(f"{weights}: {name} is built by code and takes no weights")
        return init_params(name, jax.random.key(0))
    weights = released.path(model) if weights is None else weights
    if weights is None:
        trained = "train.siamrpn" if model in models.SIAMESE_MODELS else "train.dimp"
        maker = "eval.convert" if model in models.PEER_MODELS else trained
        raise WeightsError(f"{name} needs weights of model {model}: make a file with {maker}, give --weights")
    metadata = files.read_metadata(weights)
    found = metadata["model"]
    if found != model:
        raise WeightsError(f"{weights}: made for model {found}, but {name} needs {model}; convert with --model {model}")
    if not any(tensor.startswith("backbone/") for tensor in metadata["sha256"]):
        raise WeightsError(f"{weights}: heads without a backbone; join them with one: eval.convert --heads {weights}")
    return files.load(weights, models.expected_variables(model))
