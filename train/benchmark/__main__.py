"""How fast training is: `python -m train.benchmark step --config train/configs/dimp_tiny.py --json step.json`.

`step` measures a training run of any config, `optimizer` the gradient through DiMP's optimizer alone, `clip` what
MemTrack's gradient needs of memory for clips of several lengths. Nothing is compiled through the cache on disk: compile
times are those of a first run.
"""

import argparse
import json
import sys
from dataclasses import fields
from typing import Any

import jax

from eval import settings
from eval.command import FAILED, keep_freed_memory, reports
from eval.files import ResultError, keep_apart, write_atomically
from eval.sources.sequences import SequenceError
from trackers.rules import SettingError
from train import parsers
from train.benchmark import clip, optimizer, step
from train.config import read_config
from train.datasets import DatasetError
from train.loop import TrainingError
from train.samples.loader import FrameError

LOSS_TOLERANCE = 1e-4  # relative; the ways to unroll compute the same loss


@reports(SettingError, TrainingError, DatasetError, SequenceError, FrameError, ResultError, OSError)
def main(argv: list[str] | None = None) -> int:
    """Run a benchmark, print a table, write JSON if asked; the exit status."""
    arguments = parsers.benchmark().parse_args(argv)
    keep_apart([arguments.json], [getattr(arguments, "config", None)])
    measure, table = {
        "step": (_measure_step, step.table),
        "optimizer": (_measure_optimizer, optimizer.table),
        "clip": (_measure_clip, clip.table),
    }[arguments.command]
    keep_freed_memory()
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    result = {"versions": settings.versions(), "device": device} | measure(arguments)
    print(table(result))
    if arguments.json:
        write_atomically(arguments.json, json.dumps(result, indent=1) + "\n")
    if (result.get("loss_difference") or 0) > LOSS_TOLERANCE:
        print(f"error: the losses differ by more than {LOSS_TOLERANCE}: not the same function", file=sys.stderr)
        return FAILED
    return 0


def _measure_step(arguments: argparse.Namespace) -> dict[str, Any]:
    config = read_config(arguments.config, arguments.set)
    return step.run(config, arguments.data_dir, _options(step.StepOptions, arguments))


def _measure_optimizer(arguments: argparse.Namespace) -> dict[str, Any]:
    return optimizer.run(_options(optimizer.OptimizerOptions, arguments))


def _measure_clip(arguments: argparse.Namespace) -> dict[str, Any]:
    return clip.run(_options(clip.ClipOptions, arguments))


def _options(kind: type, arguments: argparse.Namespace) -> Any:
    """The dataclass `kind` with the arguments of its fields' names, as far as they are given."""
    known = {field.name for field in fields(kind)}
    given = {name: value for name, value in vars(arguments).items() if name in known}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


if __name__ == "__main__":
    sys.exit(main())
