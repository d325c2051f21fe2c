"""The commands `python -m train.dimp`, `train.atom` and so on: what they do and print."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from eval import programs
from eval.command import prepare_process, reports
from eval.files import ResultError
from eval.running import parallel
from eval.sources.sequences import SequenceError
from trackers.rules import SettingError
from trackers.weights import WeightsError, files
from train.checkpoint import CheckpointError
from train.config import read_config
from train.datasets import DatasetError
from train.loop import TrainingError
from train.run import BEST, WEIGHTS, train
from train.samples.loader import FrameError

ERRORS = (
    *(SettingError, ResultError, WeightsError, CheckpointError, TrainingError, DatasetError),
    *(SequenceError, FrameError, OSError),
)


@reports(*ERRORS, interrupted="training has not started")
def main(name: str, loss: Callable, loss_config: type, argv: list[str] | None = None) -> None:
    """The command `python -m train.NAME`. loss: `(params, prepared batch, loss_config)`."""
    arguments = programs.parser(f"train.{name}").parse_args(argv)
    prepare_process()
    for noisy in ("absl", "asyncio"):  # Orbax's threads log tracebacks of what `checkpoint` reports in one line
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if arguments.distributed:
        parallel.join_processes()
    config = read_config(arguments.config, arguments.set)
    if not isinstance(config.loss, loss_config):
        raise SettingError(f"{arguments.config}: its loss is a {type(config.loss).__module__} one")
    out = arguments.out or Path("runs") / arguments.config.stem
    train(partial(loss, config=config.loss), config, out, arguments.data_dir, arguments.weights)
    print(f"weights: {out / WEIGHTS} (model {config.loss.model})")
    if config.validation.data_dir and (out / BEST).is_file():
        info = files.read_metadata(out / BEST)["info"]
        with files.metadata_of(out / BEST):
            best = f"step {info['steps']}, AUC {info['validation']['auc']:.3f}"
        print(f"best: {out / BEST} ({best} on held-out sequences)")
