"""The commands: one row each. `jaxtrack` lists them, and each says of itself what its row says."""

import argparse
import importlib
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

NAME = "jaxtrack"
INTERRUPTED = 130  # exit status of a program ended by Ctrl-C: 128 + 2, the signal's number


class Program(NamedTuple):
    """`jaxtrack WORDS` and `python -m MODULE` are the same program, the `main(argv)` of the module."""

    words: str
    module: str  # imported when it is run
    summary: str  # one line


# By heading, in the order of a first acquaintance
GROUPS = {
    "Track": (
        Program("track", "eval.track", "Track targets through a video or a camera."),
        Program("web", "eval.web", "Draw, watch and correct targets in a browser."),
        Program("trackers", "eval.trackers", "List the trackers: weights, accuracy, speed."),
        Program("convert", "eval.convert", "Convert public weights for a tracker, and back."),
        Program("export", "eval.export", "Write a tracker to a file that runs without this."),
        Program("completion", "eval.completion", "Print what completes jaxtrack in bash, zsh or tcsh."),
    ),
    "Evaluate": (
        Program("run", "eval.run", "Run a tracker over a benchmark."),
        Program("report", "eval.report", "Draw results as one HTML page."),
        Program("formats", "eval.formats", "Convert result files, or pack them for a server."),
        Program("tune", "eval.tune", "Search a tracker's numbers, and measure the gain."),
        Program("vot", "eval.toolkits.vot", "Be a tracker of the VOT toolkit, which starts this."),
    ),
    "Measure": (
        Program("benchmark", "eval.benchmark", "Time a tracker: compilation, stages, frames, memory."),
        Program("benchmark operators", "eval.benchmark.operators", "Time the operators and their gradients."),
        Program("benchmark batches", "eval.benchmark.batches", "Time an evaluation in batches and with threads."),
        Program("benchmark convolution", "eval.benchmark.convolution", "Time XLA's convolution and ours."),
        Program("benchmark flags", "eval.benchmark.flags", "Time what options of XLA change."),
        Program("benchmark correlation", "eval.benchmark.correlation", "Time ways to correlate depthwise."),
        Program("benchmark annotator", "eval.benchmark.annotator", "Time the annotator: seeks, runs, answers."),
        Program("claims siamese", "eval.claims.siamese", "Show on your weights what the Siamese papers found."),
        Program("claims memory", "eval.claims.memory", "Draw MemTrack's attention, gates and slots."),
        Program("claims effort", "eval.claims.effort", "Count the boxes a person draws with a tracker."),
    ),
    "Train": (
        Program("datasets", "train.datasets", "Prepare a data set for training."),
        Program("pseudo-labels", "train.pseudo_labels", "Track what moves in videos, to train on its boxes."),
        Program("train dimp", "train.dimp", "Train DiMP."),
        Program("train atom", "train.atom", "Train ATOM's IoU-Net."),
        Program("train siamfc", "train.siamfc", "Train SiamFC."),
        Program("train siamrpn", "train.siamrpn", "Train SiamRPN and SiamRPN++."),
        Program("train memtrack", "train.memtrack", "Train MemTrack."),
        Program("train distill", "train.distill", "Teach a backbone the features of another."),
        Program("curves", "train.curves", "Draw the learning curves of runs."),
        Program("train benchmark", "train.benchmark", "Time training, and measure its memory."),
        Program("release", "train.release", "Make a file to publish of trained weights, with a card."),
    ),
}
PROGRAMS = tuple(program for group in GROUPS.values() for program in group)
BY_MODULE = {program.module: program for program in PROGRAMS}


def imported(program: Program) -> ModuleType:
    """The module of a program, with its `main(argv)`."""
    spec = find_spec(program.module)
    package = spec is not None and spec.submodule_search_locations is not None
    return importlib.import_module(program.module + ".__main__" * package)


def parser(module: str) -> argparse.ArgumentParser:
    """What the program that is `module` takes, by the function of its name in `eval.parsers` or `train.parsers`.

    The module itself is not imported: it imports jax, which takes longer than to print a help.
    """
    package, _, name = module.partition(".")
    return getattr(importlib.import_module(f"{package}.parsers"), name.replace(".", "_"))()


def called_by() -> str | None:
    """What the user calls commands by, before their words; None: the module itself, by `python -m MODULE`."""
    called = Path(sys.argv[0])
    if called.stem == NAME:
        return NAME
    return "python -m eval" if called.parts[-2:] == ("eval", "__main__.py") else None


def spelled(text: str) -> str:
    """`text` with every `python -m MODULE` of a program as the user calls programs."""

    def spell(found: re.Match[str]) -> str:
        program = BY_MODULE.get(found[1])
        return f"{by} {program.words}" if by and program else found[0]

    by = called_by()
    return re.sub(r"\bpython -m ([\w.]*\w)", spell, text)
