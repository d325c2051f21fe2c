"""jaxtrack: trackers as pure functions. The whole public interface, with the table of trackers in the middle.

    tracker, params = trackers.load("dimp_tiny")
    init, track = jax.jit(tracker.init), jax.jit(tracker.track)
    state = init(params, jax.random.key(0), trackers.frame(images[0]), trackers.box(x, y, w, h))
    for image in images[1:]:
        state, estimate = track(params, state, trackers.frame(image))
        print(trackers.xywh(estimate.box), estimate.confidence)
"""

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ops.boxes import Box
from trackers import atom, dasiamrpn, dimp, memtrack, rules, siamfc, siamrpn, thor
from trackers.base import (
    FOUND,
    HARD_NEGATIVE,
    LOST,
    UNCERTAIN,
    Estimate,
    Frame,
    Params,
    Tracker,
    many,
    run,
    run_many,
    set_targets,
)
from trackers.images import box, frame, xywh
from trackers.nets import filter_bank, models
from trackers.parts.online import Stages
from trackers.parts.templates import Matcher
from trackers.weights import WeightsError, files, released, sources

__all__ = [
    "FOUND",
    "HARD_NEGATIVE",
    "LOST",
    "UNCERTAIN",
    "Box",
    "Entry",
    "Estimate",
    "Frame",
    "Tracker",
    "WeightsError",
    "box",
    "frame",
    "get",
    "init_params",
    "load",
    "load_params",
    "many",
    "names",
    "register",
    "run",
    "run_many",
    "set_targets",
    "xywh",
]


class Entry(NamedTuple):
    """A tracker in the table: its numbers, what makes it of them, and where its parameters come from."""

    config: Any  # frozen dataclass; variants are `dataclasses.replace`
    make: Callable[[Any], Tracker]
    make_parts: Callable[[Any], Stages | Matcher] | None = None  # the same in pieces, for benchmarks and wrappers
    model: str | None = None  # of `trackers.nets.models`; None: no file, parameters of `init_params`
    init_params: Callable[[jax.Array], Params] = lambda key: {}  # of a key; where `model` is None


_ENTRIES = {
    "atom": Entry(atom.Config(), atom.make, atom.make_stages, "atom"),
    "atom_vot": Entry(atom.VOT, atom.make, atom.make_stages, "atom"),
    "atom_multiscale": Entry(atom.MULTISCALE, atom.make, atom.make_stages, "atom_multiscale"),
    "atom_multiscale_small": Entry(atom.MULTISCALE_SMALL, atom.make, atom.make_stages, "atom_multiscale_small"),
    "atom_multiscale_search": Entry(atom.MULTISCALE_SEARCH, atom.make, atom.make_stages, "atom_multiscale"),
    "atom_filterbank": Entry(
        *(atom.FILTER_BANK, atom.make, atom.make_stages),
        init_params=lambda key: {"backbone": filter_bank.init_variables()},
    ),
    "dimp18": Entry(dimp.Config(), dimp.make, dimp.make_stages, "dimp18"),
    "dimp18_vot18": Entry(dimp.VOT18, dimp.make, dimp.make_stages, "dimp18"),
    "dimp18_heads": Entry(dimp.HEADS, dimp.make, dimp.make_stages, "dimp18"),
    "dimp_tiny": Entry(dimp.TINY, dimp.make, dimp.make_stages, "dimp_tiny"),
    "dimp50": Entry(dimp.DIMP50, dimp.make, dimp.make_stages, "dimp50"),
    "dimp50_vot18": Entry(dimp.DIMP50_VOT18, dimp.make, dimp.make_stages, "dimp50"),
    "dimp50_vot19": Entry(dimp.DIMP50_VOT19, dimp.make, dimp.make_stages, "dimp50"),
    "siamfc": Entry(siamfc.Config(), siamfc.make, siamfc.make_matcher, "siamfc"),
    "siamfc_5s": Entry(siamfc.FIVE_SCALES, siamfc.make, siamfc.make_matcher, "siamfc"),
    "siamfc_distilled": Entry(siamfc.DISTILLED, siamfc.make, siamfc.make_matcher, "siamfc_distilled"),
    "memtrack": Entry(memtrack.Config(), memtrack.make, memtrack.make_matcher, "memtrack"),
    **{
        name: Entry(config, siamrpn.make, siamrpn.make_matcher, config.model)
        for name, config in {
            "siamrpn": siamrpn.Config(),
            "siamrpn_otb": siamrpn.SIAMRPN_OTB,
            "siamrpn_big": siamrpn.SIAMRPN_BIG,
            "siamrpn_distilled": siamrpn.DISTILLED,
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
            "dasiamrpn_distilled": dasiamrpn.DISTILLED,
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
            "thor_siamrpn_distilled": thor.DISTILLED,
            "thor_siamrpnpp_mobilenetv2": thor.MOBILENETV2,
            "thor_siamrpnpp_mobilenetv2_1.0": thor.MOBILENETV2_1_0,
        }.items()
    },
}


def names() -> list[str]:
    """Names of all trackers, those of `register` last."""
    return list(_ENTRIES)


def get(name: str) -> Entry:
    """The entry of a tracker: a name of `names`, or "module:ATTRIBUTE", an Entry in a module on the user's path.

    ValueError, one line with the fix: no such name, no such module, or no Entry there.
    """
    if ":" in name:
        return _imported(name)
    if name not in _ENTRIES:
        alike = difflib.get_close_matches(name, _ENTRIES)
        hint = f"did you mean {' or '.join(alike)}? " if alike else ""
        raise ValueError(f"unknown tracker {name!r}; {hint}jaxtrack trackers lists them (your own is module:ATTRIBUTE)")
    return _ENTRIES[name]


def register(name: str, entry: Entry) -> None:
    """Add a tracker under `name`, for `get`, `load` and every command that runs in this process.

    ValueError for a name that is taken or is not a file name (a folder of results has it), and for anything that is
    not an Entry.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"tracker {name!r}: a name consists of letters, digits, '_', '-' and '.'")
    if name in _ENTRIES:
        raise ValueError(f"tracker {name!r} exists already; choose another name")
    _ENTRIES[name] = _checked(name, entry)


def _imported(name: str) -> Entry:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"tracker {name!r}: cannot import module {module_name!r}: {error}; looked for in the current folder and on "
            "PYTHONPATH"
        ) from error
    except Exception as error:  # whatever the user's file raises
        raise ValueError(f"tracker {name!r}: module {module_name!r} fails: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ValueError(f"tracker {name!r}: {module.__file__} has no {attribute!r}")
    return _checked(name, getattr(module, attribute))


def _checked(name: str, entry: Any) -> Entry:
    if not isinstance(entry, Entry):
        raise ValueError(f"tracker {name!r}: is a {type(entry).__name__}, not a trackers.Entry")
    if not dataclasses.is_dataclass(entry.config) or isinstance(entry.config, type):
        raise ValueError(f"tracker {name!r}: its config is {entry.config!r}, not an instance of a frozen dataclass")
    if entry.model is not None:
        try:
            models.networks(entry.model)
        except ValueError as error:
            raise ValueError(f"tracker {name!r}: {error}") from error
    return entry


def load(name: str, weights: str | Path | None = None, **changes: Any) -> tuple[Tracker, Params]:
    """A tracker, ready to run, and its parameters.

        tracker, params = trackers.load("dimp18_heads", "dimp18.safetensors", **{"region.image_size": 256})

    name: as for `get`. weights: as for `load_params`. changes: fields of the tracker's Config by their dotted path.
    Raises ValueError (`WeightsError` for the file), one line that names the field or the file and the fix.
    """
    entry = get(name)
    config = rules.substitute(entry.config, changes)
    rules.validate(config)
    return entry.make(config), load_params(name, weights)


def load_params(name: str, weights: str | Path | None = None) -> Params:
    """The parameters of tracker `name` (as for `get`) from a file of weights.

    weights: of training or `eval.convert`, a checkpoint of the reference implementation as its project publishes it, or
    the public backbone of a tracker whose other parts come with the package (trackers/README.md: which there are).
    None: those that come with the package, where there are any, and for a tracker that needs no file.
    Raises `WeightsError`, one line that names the file and the fix.
    """
    model = get(name).model
    if model is None:
        if weights is not None:
            raise WeightsError(f"{weights}: {name} is built by code and takes no weights")
        return init_params(name, jax.random.key(0))
    if weights is None and (shipped := released.path(model)) is not None:
        held = files.load(shipped, None)
        return {part: held[part] for part in models.networks(model)}
    if weights is None:
        command = f"python -m eval.convert CHECKPOINT {model}.safetensors --tracker {name}"
        row = models.get(model)
        made = f"make it with {command} (trackers/README.md: from what), or take CHECKPOINT as it is,"
        maker = made if row.peer or row.heads else "train it"
        raise WeightsError(f"{name} needs a weight file of model {model}: {maker} and give it as weights")
    return sources.whole(weights, model).params


def init_params(name: str, key: jax.Array) -> Params:
    """Untrained parameters of tracker `name`: the start of training, or for tests and benchmarks."""
    entry = get(name)
    return entry.init_params(key) if entry.model is None else models.init_variables(entry.model, key)
