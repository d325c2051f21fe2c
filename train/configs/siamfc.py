"""SiamFC as siamfc-pytorch trains it, from scratch: 50 epochs, each with one pair of every sequence of GOT-10k.

The rate falls from 1e-2 by the 50th root of 1e-3 after every epoch. The head's bias, which siamfc-pytorch does not
have, stays 0.
"""

from train import loop, siamfc
from train.config import Config, DatasetConfig
from train.samples import pairs

EPOCHS, SEQUENCES, BATCH_SIZE = 50, 9335, 8


def get_config():
    steps = SEQUENCES // BATCH_SIZE
    return Config(
        datasets=(DatasetConfig("got10k"),),
        optimizer=loop.OptimizerConfig(
            groups=(("^backbone/", 1e-2),),
            kind="sgd",
            weight_decay=5e-4,
            decay_every=steps,
            decay=1e-3 ** (1 / EPOCHS),
        ),
        loop=loop.LoopConfig(steps=EPOCHS * steps, save_every=steps),
        loss=siamfc.LossConfig(),
        loader=pairs.SIAMFC,
        prepare=pairs.PREPARE_SIAMFC,
    )
