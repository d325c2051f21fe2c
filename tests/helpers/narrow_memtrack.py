"""MemTrack's networks with few channels, as a fixture."""

from functools import lru_cache

import pytest

from tests.helpers import narrow as narrow_networks

NARROW = narrow_networks.MODELS["memtrack"].parts


@pytest.fixture
def narrow():
    with narrow_networks.narrow_models():
        yield


@lru_cache
def start():
    """Parameters of the narrow networks; asked for under `narrow`."""
    return narrow_networks.start("memtrack")
