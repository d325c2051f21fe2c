"""How fast training is: `python -m train.benchmark step --config train/configs/dimp_tiny.py --json step.json`.

`step` measures a training run of any config, `optimizer` the gradient through DiMP's optimizer alone, `clip` what
MemTrack's gradient needs of memory for clips of several lengths. Nothing is compiled through the cache on disk: compile
times are those of a first run.
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax

from eval import settings
from eval.command import FAILED, Parser, keep_freed_memory, make_parser, reports, whole_number
from eval.files import ResultError, keep_apart, write_atomically
from eval.sources.sequences import SequenceError
from trackers.rules import SettingError
from train.benchmark import clip, optimizer, step
from train.config import read_config
from train.datasets import DatasetError
from train.loop import TrainingError
from train.samples.loader import FrameError

SMOKE = Path(__file__).parents[1] / "configs" / "dimp_smoke.py"
LOSS_TOLERANCE = 1e-4  # relative; the ways to unroll compute the same loss


@reports(SettingError, TrainingError, DatasetError, SequenceError, FrameError, ResultError, OSError)
def main(argv: list[str] | None = None) -> int:
    """Run a benchmark, print a table, write JSON if asked; the exit status."""
    arguments = parser().parse_args(argv)
    keep_apart([arguments.json], [getattr(arguments, "config", None)])
    keep_freed_memory()
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    result = {"versions": settings.versions(), "device": device} | arguments.measure(arguments)
    print(arguments.table(result))
    if arguments.json:
        write_atomically(arguments.json, json.dumps(result, indent=1) + "\n")
    if (result.get("loss_difference") or 0) > LOSS_TOLERANCE:
        print(f"error: the losses differ by more than {LOSS_TOLERANCE}: not the same function", file=sys.stderr)
        return FAILED
    return 0


def parser() -> Parser:
    example = "python -m train.benchmark step --config train/configs/siamfc_smoke.py --json step.json"
    parser = make_parser("train.benchmark", example)
    commands = parser.add_subparsers(dest="command", required=True)
    count = whole_number(1)

    of_step = commands.add_parser("step", help="the loader, the training step and the loop of a config")
    of_step.set_defaults(measure=_measure_step, table=step.table)
    of_step.add_argument("--config", type=Path, default=SMOKE, help="see train/configs (default: dimp_smoke.py)")
    of_step.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of `python -m train.datasets`")
    of_step.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loader.batch_size=2, ...")
    defaults = step.StepOptions
    of_step.add_argument("--steps", type=count, default=defaults.steps, help="timed, of the training loop")
    of_step.add_argument("--repeats", type=count, default=defaults.repeats, help="timed calls of each program")
    of_step.add_argument("--samples", type=count, default=defaults.samples, help="loaded on one core")
    text = "of DiMP's optimizer, where its unrolling is compared"
    of_step.add_argument("--filter-steps", type=count, nargs="+", metavar="N", default=defaults.filter_steps, help=text)

    of_optimizer = commands.add_parser("optimizer", help="the gradient through DiMP's optimizer alone")
    of_optimizer.set_defaults(measure=_measure_optimizer, table=optimizer.table)
    for field in fields(optimizer.OptimizerOptions):
        several = {"nargs": "+"} if field.name == "steps" else {}
        of_optimizer.add_argument(f"--{field.name.replace('_', '-')}", type=count, default=field.default, **several)

    of_clip = commands.add_parser("clip", help="memory of MemTrack's gradient by the length of the clip")
    of_clip.set_defaults(measure=_measure_clip, table=clip.table)
    for field in fields(clip.ClipOptions):
        several = {"nargs": "+"} if field.name == "lengths" else {}
        of_clip.add_argument(f"--{field.name.replace('_', '-')}", type=count, default=field.default, **several)

    for command in (of_step, of_optimizer, of_clip):
        command.add_argument("--json", type=Path, help="also write the result to this file")
    return parser


def _measure_step(arguments: argparse.Namespace) -> dict[str, Any]:
    config = read_config(arguments.config, arguments.set)
    return step.run(config, arguments.data_dir, _options(step.StepOptions, arguments))


def _measure_optimizer(arguments: argparse.Namespace) -> dict[str, Any]:
    return optimizer.run(_options(optimizer.OptimizerOptions, arguments))


def _measure_clip(arguments: argparse.Namespace) -> dict[str, Any]:
    return clip.run(_options(clip.ClipOptions, arguments))


def _options(kind: type, arguments: argparse.Namespace) -> Any:
    """The dataclass `kind` with the arguments of its fields' names."""
    given = {field.name: getattr(arguments, field.name) for field in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


if __name__ == "__main__":
    sys.exit(main())
