"""Small commands to be killed: a tracker that follows a bright pixel, and a training of a SiamFC of a few channels.

`call` is what `python -m COMMAND OPTIONS` does after its imports.
"""

import time
from dataclasses import replace

import cv2

import trackers
from eval import run, track
from eval.sources.synthetic import ClipConfig
from tests.helpers import narrow, trivial_tracker
from train import command as train_command
from train import siamfc
from train.config import DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig
from train.datasets import __main__ as datasets

DOT = trackers.Entry(
    trivial_tracker.Config(jitter=2.0), trivial_tracker.make, init_params=lambda key: trivial_tracker.params()
)
COMMANDS = {
    "eval.run": run.main,
    "eval.track": track.main,
    "train.datasets": datasets.main,
    "train.siamfc": lambda options: train_command.main("siamfc", siamfc.loss, siamfc.LossConfig, options),
}


def get_config():
    """Of the training that is killed; this file is its --config."""
    from train.configs import siamfc_smoke

    config = siamfc_smoke.get_config()
    clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=12))
    return replace(
        config,
        datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
        loader=replace(config.loader, batch_size=2),
        loop=replace(config.loop, steps=24, log_every=1, save_every=4),
    )


def call(command: str, options: list[str], wait: float = 0.0) -> int:
    """The exit status of a command; `wait` seconds pass before every image is decoded, so that it lasts."""
    decode = cv2.imdecode

    def slow(*arguments):
        time.sleep(wait)
        return decode(*arguments)

    cv2.imdecode = slow
    with narrow.narrow_models():
        return COMMANDS[command](options)
