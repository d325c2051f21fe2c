"""Data sets for tests of training samples: images of noise, and how often each is read."""

from functools import lru_cache

import cv2
import numpy as np

from train.datasets import SequenceTable, TrackingDataset


class Frames:
    """Random access that counts its reads; images are noise that depends on the record."""

    def __init__(self, broken=None, data=b"no image"):
        self.broken, self.data, self.reads = broken, data, []

    def __getitem__(self, index):
        self.reads.append(index)
        if index == self.broken:
            return {"image": self.data}
        return {"image": encoded(np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8))}


def encoded(image):
    return cv2.imencode(".png", image)[1].tobytes()


def dataset(name="video", lengths=(30, 40), **options):
    lengths = np.array(lengths, np.int64)
    count = lengths.sum()
    boxes = np.random.default_rng(1).uniform([5, 5, 6, 6], [30, 20, 20, 20], (count, 4)).astype(np.float32)
    names = tuple(f"{name}{i}" for i in range(len(lengths)))
    table = SequenceTable(names, np.cumsum(lengths) - lengths, lengths, boxes, np.ones(count, bool))
    return TrackingDataset(name, Frames(**options), table)


@lru_cache
def two_datasets():
    return dataset(), dataset("image", (1, 1, 1))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])
