"""Small commands to be killed: `python -m tests.campaign.kill_targets COMMAND OPTIONS` is `python -m COMMAND OPTIONS`.

The tracker `DOT` follows a bright pixel; what is trained is a SiamFC of a few channels. `WAIT` seconds pass before
every image is decoded, so that a run lasts.
"""

import os
import runpy
import sys
import time
from dataclasses import replace

import cv2

import trackers
from eval.sources.synthetic import ClipConfig
from tests.helpers import narrow, trivial_tracker
from train.config import DatasetConfig
from train.datasets import SYNTHETIC, SyntheticConfig

WAIT = float(os.environ.get("WAIT", "0"))
DOT = trackers.Entry(
    trivial_tracker.Config(jitter=2.0), trivial_tracker.make, init_params=lambda key: trivial_tracker.params()
)


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


def main() -> None:
    command, *options = sys.argv[1:]
    decode = cv2.imdecode

    def slow(*arguments):
        time.sleep(WAIT)
        return decode(*arguments)

    cv2.imdecode = slow
    sys.argv = [command, *options]
    with narrow.narrow_models():
        runpy.run_module(command, run_name="__main__")


if __name__ == "__main__":
    main()
