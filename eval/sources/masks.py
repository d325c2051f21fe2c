"""Masks of VOT 2020 and later: a line of run lengths, the pixels, and the box of a mask by a named rule."""

from typing import NamedTuple

import numpy as np

BOX_RULES = ("tight", "fitted")
MOST_PIXELS = 1 << 26  # of a mask; no image of a benchmark is nearly as large


class Mask(NamedTuple):
    """Pixels of an image, as run lengths in a window of it."""

    left: int  # of the window, 0-based
    top: int
    width: int
    height: int
    runs: np.ndarray  # [K] int64: of pixels outside, then inside, outside, ..., row by row; outside after the last

    def pixels(self) -> np.ndarray:
        """`[height, width]` bool."""
        inside = np.arange(len(self.runs)) % 2 == 1
        drawn = np.zeros(self.height * self.width, bool)
        filled = np.repeat(inside, self.runs)
        drawn[: len(filled)] = filled
        return drawn.reshape(self.height, self.width)


EMPTY = Mask(0, 0, 0, 0, np.zeros(0, np.int64))


def parse_mask(line: str) -> Mask:
    """Of `m<left>,<top>,<width>,<height>,<run>,<run>,...`, all whole numbers; ValueError, which says what is wrong."""
    fields = line.strip().removeprefix("m").split(",")
    try:
        left, top, width, height, *runs = map(int, fields if line.startswith("m") else ())
    except ValueError as error:
        raise ValueError("is not m<left>,<top>,<width>,<height> and run lengths, whole numbers") from error
    if width < 0 or height < 0 or min(runs, default=0) < 0:
        raise ValueError("has a negative size or run length")
    if width * height > MOST_PIXELS or max(abs(left), abs(top)) > MOST_PIXELS:
        raise ValueError(f"is larger than any image: {width}x{height} pixels at {left},{top}")
    if sum(runs) > width * height:
        raise ValueError(f"has {sum(runs)} pixels in its runs and {width * height} in its window")
    return Mask(left, top, width, height, np.array(runs, np.int64))


def mask_to_box(mask: Mask, rule: str = "tight") -> np.ndarray:
    """`[4]` x, y, w, h of whole pixels, nan where no pixel is inside.

    "tight": the smallest box around all pixels. "fitted": from there each side moves in turn to where the overlap (IoU)
    of box and mask is largest, until none does: thin parts, such as an antenna, are left out.
    """
    if rule not in BOX_RULES:
        raise ValueError(f"unknown rule {rule!r}; choose one of {', '.join(BOX_RULES)}")
    pixels = mask.pixels()
    columns, rows = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
    if not len(columns):
        return np.full(4, np.nan)
    sides = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    if rule == "fitted":
        sides = _fitted(pixels, sides)
    return np.array([*(sides[:2] + [mask.left, mask.top]), *(sides[2:] - sides[:2])], np.float64)


def _fitted(pixels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """`sides` `[4]` left, top, right, bottom (the last two not included), moved to where the overlap is largest."""
    total = int(pixels.sum())
    before = None
    while not np.array_equal(before, sides):
        before = sides
        for side in range(4):
            low, high = sides[[1 - side % 2, 3 - side % 2]]  # of the direction that stays
            band = pixels[low:high].sum(0) if side % 2 == 0 else pixels[:, low:high].sum(1)
            counted = np.concatenate([[0], np.cumsum(band)])
            places = np.arange(sides[side + 2]) if side < 2 else np.arange(sides[side - 2] + 1, len(counted))
            other = sides[(side + 2) % 4]
            shared = np.abs(counted[other] - counted[places])
            overlap = shared / (total + np.abs(other - places) * (high - low) - shared)
            if overlap.max() > overlap[places == sides[side]][0]:
                sides = sides.copy()
                sides[side] = places[overlap.argmax()]
    return sides
