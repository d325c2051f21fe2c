"""A training run small enough for tests.

As a program it is killed (`python -m tests.helpers.small_training FOLDER saving|step N`) or one of two processes
(`python -m tests.helpers.small_training FOLDER process I PORT`).
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train import checkpoint, loop

OPTIMIZER = loop.OptimizerConfig(groups=(("head/", 1e-2), ("scale$", 1e-3)), decay_every=10, clip=5.0, average=0.9)
CONFIG = loop.LoopConfig(steps=40, seed=3, log_every=1, save_every=5, keep=3)


class Batches:
    """Batch k is a function of k, divided among the processes; batch `bad` holds a NaN."""

    def __init__(self, bad: int = -1):
        self.position, self.bad = 0, bad
        part = 8 // jax.process_count()
        self.part = slice(jax.process_index() * part, (jax.process_index() + 1) * part)

    def __next__(self):
        rng = np.random.default_rng(self.position)
        x = rng.standard_normal((2, 8, 4)).astype(np.float32)
        if self.position == self.bad:
            x[0, 3] = np.nan
        ids = np.arange(8) + 8 * self.position
        self.position += 1
        return {"x": x[:, self.part], "y": x.sum(-1)[:, self.part] ** 2, "sample_ids": ids[self.part]}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = int(state["position"])
        if not 0 <= self.position <= 10**6:
            raise ValueError(f"position {self.position}")


def params():
    key = jax.random.key(0)
    return {
        "backbone": {"params": {"kernel": jnp.eye(4), "scale": jnp.ones(4)}, "batch_stats": {"mean": jnp.zeros(4)}},
        "head": {"params": {"w": jax.random.normal(key, (4, 4)), "v": jnp.ones(4)}, "batch_stats": {}},
    }


def loss(params, batch):
    backbone, head = params["backbone"], params["head"]["params"]
    x = (batch["x"] @ backbone["params"]["kernel"]) * backbone["params"]["scale"][None, None]
    mean = 0.9 * backbone["batch_stats"]["mean"] + 0.1 * jnp.mean(x, (0, 1))
    predicted = jnp.tanh(x @ head["w"]) @ head["v"]
    after = {**params, "backbone": {**backbone, "batch_stats": {"mean": mean}}}
    value = jnp.mean((predicted - batch["y"]) ** 2)
    return value, (after, {"error": jnp.sqrt(value)})


def prepare(key, batch):
    """Augmentation that depends on the key of the step."""
    return {**batch, "x": batch["x"] + 0.01 * jax.random.normal(key, batch["x"].shape)}


def train(folder, config=CONFIG, batches=None):
    return loop.fit(params(), loss, prepare, batches or Batches(), OPTIMIZER, config, Path(folder))


def kill_while_saving(step_to_die):
    """Orbax writes in the background: SIGKILL right after it was started."""
    save = checkpoint.save

    def dying(manager, step, *args):
        save(manager, step, *args)
        if step == step_to_die:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save = dying


def kill_before_step(step_to_die):
    following = Batches.__next__

    def dying(self):
        if self.position == step_to_die:
            os.kill(os.getpid(), signal.SIGKILL)
        return following(self)

    Batches.__next__ = dying


def one_of_two(index, port):
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
    assert jax.device_count() == 2 == 2 * jax.local_device_count()
    result = jax.device_get(train(sys.argv[1]))
    if index == 0:
        np.savez(Path(sys.argv[1]) / "result.npz", *jax.tree.leaves(result))


if __name__ == "__main__":
    if sys.argv[2] == "process":
        one_of_two(int(sys.argv[3]), int(sys.argv[4]))
        sys.exit()
    {"saving": kill_while_saving, "step": kill_before_step}[sys.argv[2]](int(sys.argv[3]))
    train(sys.argv[1])
