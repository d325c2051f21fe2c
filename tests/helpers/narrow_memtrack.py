"""MemTrack's networks with few channels, whose programs compile in seconds."""

from functools import lru_cache

import flax.linen as nn
import jax
import pytest

from trackers.nets import models, siamese
from trackers.nets.alexnet import MEMTRACK_BATCH_NORM
from trackers.nets.memory import MemoryController, NormalizedResponseHead
from trackers.nets.resnet import batch_norm


class Backbone(nn.Module):
    """As many cells of as many pixels as the real one."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (11, 11), 8, "VALID", name="conv1")(images / 255)
        x = nn.relu(batch_norm("bn1", train, **MEMTRACK_BATCH_NORM)(x))
        return (nn.Conv(8, (10, 10), 1, "VALID", name="conv2")(x),)


NARROW = {
    "backbone": Backbone(),
    "memory": MemoryController(slots=3, hidden=6, channels=8),
    "head": NormalizedResponseHead(),
}


@pytest.fixture
def narrow(monkeypatch):
    for module in (models, siamese):
        monkeypatch.setattr(module, "networks", {"memtrack": NARROW}.__getitem__)


@lru_cache
def start():
    """Parameters of the narrow networks; asked for under `narrow`."""
    parts = tuple(models.networks("memtrack").items())
    return jax.device_get(jax.jit(lambda: models._initialize(parts, jax.random.key(0)))())
