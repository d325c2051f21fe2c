"""Data sets for tests of training samples: images with a white target, and where one is seen in a crop."""

import cv2
import numpy as np

from train.datasets import SequenceTable, TrackingDataset


class Frames:
    """Random access to images with a white target at the record's box, on black but for blue: 40 times the code."""

    def __init__(self, table, shape, code, broken):
        self.table, self.shape, self.code, self.broken, self.reads = table, shape, code, broken, []

    def __getitem__(self, record):
        self.reads.append(record)
        if record == self.broken:
            return {"image": b"no image"}
        image = np.zeros((*self.shape, 3), np.uint8)
        x, y, w, h = self.table.boxes[record].astype(int)
        image[y : y + h, x : x + w] = 255
        sequence = np.searchsorted(self.table.starts, record, "right") - 1
        image[..., 0] = 40 * (self.code + sequence)
        return {"image": cv2.imencode(".png", image)[1].tobytes()}


def dataset(name="video", lengths=(30, 300), sides=(20, 31), shape=(90, 120), code=0, broken=None):
    """Videos and, of length 1, still images; sequence n has the code `code + n`."""
    lengths = np.array(lengths, np.int64)
    count = lengths.sum()
    boxes = np.random.default_rng(1).integers([2, 2, sides[0], sides[0]], [40, 30, sides[1], sides[1]], (count, 4))
    names = tuple(f"{name}{i}" for i in range(len(lengths)))
    starts = np.cumsum(lengths) - lengths
    table = SequenceTable(names, starts, lengths, boxes.astype(np.float32), np.ones(count, bool))
    return TrackingDataset(name, Frames(table, shape, code, broken), table)


def edges(profile, level):
    """Where a profile that rises once and falls once crosses a level, between the pixels: two numbers."""
    above = np.flatnonzero(profile > level)
    first, last = above[0], above[-1]
    rise = first - (profile[first] - level) / (profile[first] - profile[first - 1])
    return rise, last + (profile[last] - level) / (profile[last] - profile[last + 1])


def seen_box(image):
    """x, y, w, h of a white target on black in `[H, W, 3]`, its center at x + w / 2, to a fraction of a pixel."""
    image = np.asarray(image, np.float64)[..., 1]
    rows, columns = np.nonzero(image > 127.5)
    top, bottom = edges(image[:, round(columns.mean())], 127.5)
    left, right = edges(image[round(rows.mean())], 127.5)
    return np.array([left, top, right - left, bottom - top])
