"""Overlap of boxes and polygons as VOT's programs compute it: drawn as pixels, then counted.

Two programs, two ways of drawing: "vot" (votchallenge/toolkit, vot/region/raster.py) rounds half to even and draws a
box w pixels wide; "pysot" (its copy of the older region.c, single precision) rounds half away from zero and draws a
box as the polygon of its corners, which is w + 1 pixels wide. Both round vertices first and include both ends of
every row.

"vot" takes regions as empty, and so as the same, where the window around both is one pixel high or wide: two boxes that
round to a height of 1 on one row overlap fully however far apart they lie, as in vot-toolkit 0.9.0.

A region is `[4]` x, y, w, h, or `[8]` corners x1, y1, ... x4, y4 (any even number from 6 on); in "vot" also a `Mask`.
As the toolkit reads a mask, it is empty where it has no pixel right of its window's first column.
"""

from typing import NamedTuple

import numpy as np

from eval.sources.masks import Mask

Region = np.ndarray | Mask
PROGRAMS = ("vot", "pysot")


class _Window(NamedTuple):
    """Pixels left..right, top..bottom, both ends included."""

    left: int
    top: int
    right: int
    bottom: int

    def empty(self) -> bool:
        return self.left > self.right or self.top > self.bottom


def region_overlap(first, second, size: tuple[int, int] | None = None, *, program: str = "vot") -> float:
    """Shared over covered pixels, 0..1; nan if a region holds nan. `size`: (width, height) beyond which nothing counts.

    The programs draw different windows for the same size: to W - 1, H - 1 in "vot", to W, H in "pysot" (which hands
    over W - 1, H - 1 itself for EAO). ValueError for regions of another form.
    """
    first, second = (one if isinstance(one, Mask) else np.asarray(one, np.float64) for one in (first, second))
    numbers = [region for region in (first, second) if not isinstance(region, Mask)]
    if program == "pysot" and len(numbers) < 2:
        raise ValueError("pysot's program knows no masks")
    for region in numbers:
        if region.ndim != 1 or not (region.size == 4 or (region.size >= 6 and region.size % 2 == 0)):
            raise ValueError(f"a region is 4 numbers, or 6 and more by twos, not {region.shape}")
    if not all(np.isfinite(region).all() for region in numbers):
        return float("nan")
    if program == "vot":
        return _vot_overlap(first, second, size)
    if program == "pysot":
        return _pysot_overlap(first, second, size)
    raise ValueError(f"unknown program {program!r}; choose one of {', '.join(PROGRAMS)}")


def region_overlaps(first, second, size: tuple[int, int] | None = None, *, program: str = "vot") -> np.ndarray:
    """`[T]` overlaps of two lists of T regions; a region that is None (nothing reported) overlaps nothing.

    Under "pysot" None has no overlap at all: nan.
    """
    missing = 0.0 if program == "vot" else float("nan")
    return np.array(
        [
            missing if a is None or b is None else region_overlap(a, b, size, program=program)
            for a, b in zip(first, second, strict=True)
        ]
    )


def _vot_overlap(first: Region, second: Region, size: tuple[int, int] | None) -> float:
    first, second = (_as_read(region) if isinstance(region, Mask) else np.round(region) for region in (first, second))
    windows = [_vot_window(region) for region in (first, second)]
    window = _union(*windows)
    if window.left >= window.right or window.top >= window.bottom:
        return 1.0  # the toolkit: two empty regions are the same
    if size is not None:
        window = _Window(
            max(window.left, 0), max(window.top, 0), min(window.right, size[0] - 1), min(window.bottom, size[1] - 1)
        )
    if window.left >= window.right or window.top >= window.bottom:
        return 0.0
    return _shared_over_covered(*(_vot_mask(region, window) for region in (first, second)))


class _Drawn(NamedTuple):
    """A mask, decoded."""

    left: int
    top: int
    pixels: np.ndarray  # [H, W] bool


def _as_read(mask: Mask) -> _Drawn:
    pixels = mask.pixels()
    return _Drawn(mask.left, mask.top, pixels) if pixels[:, 1:].any() else _Drawn(0, 0, np.zeros((0, 0), bool))


def _vot_window(region: np.ndarray | _Drawn) -> _Window:
    if isinstance(region, _Drawn):
        rows, columns = np.nonzero(region.pixels) if region.pixels.size else ([0], [0])
        x, y = region.left, region.top
        return _Window(int(min(columns)) + x, int(min(rows)) + y, int(max(columns)) + x, int(max(rows)) + y)
    if region.size == 4:
        x, y, w, h = region.astype(np.int64).tolist()
        return _Window(x, y, x + w - 1, y + h - 1)
    corners = region.reshape(-1, 2).astype(np.int64)
    return _Window(*corners.min(0).tolist(), *corners.max(0).tolist())


def _union(a: _Window, b: _Window) -> _Window:
    return _Window(min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom))


def _vot_mask(region: np.ndarray | _Drawn, window: _Window) -> np.ndarray:
    mask = np.zeros((window.bottom - window.top + 1, window.right - window.left + 1), bool)
    if isinstance(region, _Drawn):
        x, y = region.left - window.left, region.top - window.top
        shown = region.pixels[max(-y, 0) : max(mask.shape[0] - y, 0), max(-x, 0) : max(mask.shape[1] - x, 0)]
        x, y = max(x, 0), max(y, 0)
        mask[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
        return mask
    if region.size != 4:
        corners = region.reshape(-1, 2) - [window.left, window.top]
        return _draw(corners, window, flat_edges=True)
    x, y, w, h = region.astype(np.int64).tolist()
    last_x, last_y = x + w - 1, y + h - 1
    if x > window.right or last_x < window.left or y > window.bottom or last_y < window.top:
        return mask
    # The toolkit compares ends relative to the window with the window's absolute ones: a box that begins left of or
    # above the image, drawn without bounds, loses pixels by it.
    right, bottom = min(window.right, last_x - window.left), min(window.bottom, last_y - window.top)
    mask[max(y - window.top, 0) : max(bottom + 1, 0), max(x - window.left, 0) : max(right + 1, 0)] = True
    return mask


def _pysot_overlap(first: np.ndarray, second: np.ndarray, size: tuple[int, int] | None) -> float:
    polygons = [_single_precision_corners(region) for region in (first, second)]
    bound = np.array([0, 0, *size], np.float32) if size is not None else None
    boxes = []
    for corners in polygons:
        box = np.concatenate([np.floor(corners.min(0)), np.ceil(corners.max(0))])
        if bound is not None:
            box = np.concatenate([np.maximum(box[:2], bound[:2]), np.minimum(box[2:], bound[2:])])
        boxes.append(box)
    sides = [box[2:] - box[:2] for box in boxes]
    meet = np.minimum(boxes[0][2:], boxes[1][2:]) - np.maximum(boxes[0][:2], boxes[1][:2])
    window = _Window(*np.minimum(*boxes)[:2].astype(int).tolist(), *np.maximum(*boxes)[2:].astype(int).tolist())
    areas = [float(side.prod()) for side in sides]
    # Boxes that merely touch, or are of very different size, count as apart.
    if window.empty() or not all(areas) or min(areas[0] / areas[1], areas[1] / areas[0]) < 1e-10 or meet.prod() <= 0:
        return 0.0
    moved = [_round_away(corners - np.array(window[:2], np.float32)) for corners in polygons]
    masks = [_draw(corners, window, flat_edges=False) for corners in moved]
    return float(np.float32(_shared_over_covered(*masks)))


def _single_precision_corners(region: np.ndarray) -> np.ndarray:
    region = region.astype(np.float32)
    if region.size != 4:
        return region.reshape(-1, 2)
    x, y, w, h = region
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


def _round_away(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _draw(corners: np.ndarray, window: _Window, *, flat_edges: bool) -> np.ndarray:
    """`[H, W]` bool: the polygon of whole-number `[K, 2]` corners (x, y), relative to the window's upper left pixel.

    A row is filled between pairs of crossings, both ends included. `flat_edges`: a horizontal edge adds a crossing, and
    a row of one single crossing is a pixel (vot); without, it is nothing (pysot).
    """
    height, width = window.bottom - window.top + 1, window.right - window.left + 1
    x, y = corners[:, 0], corners[:, 1]
    before_x, before_y = np.roll(x, 1), np.roll(y, 1)
    rows = np.arange(height)[:, None]
    rise = before_y - y
    crossed = (np.minimum(y, before_y) <= rows) & (rows <= np.maximum(y, before_y))
    crossed &= (rise != 0) | flat_edges
    # Divided first, then multiplied, as the programs do: the order decides the rounding.
    share = np.divide(rows - y, rise, out=np.zeros((height, len(x))), where=rise != 0)
    crossings = np.trunc(x + share * (before_x - x))
    low = np.where(crossed, crossings, np.inf).min(1)
    high = np.where(crossed, crossings, -np.inf).max(1)
    columns = np.arange(width)
    mask = (columns >= low[:, None]) & (columns <= high[:, None])
    if not flat_edges:
        mask[low == high] = False
    if len(x) > 4 or not _is_convex(corners):
        for row in np.flatnonzero(crossed.sum(1) > 2):
            mask[row] = _fill_row(np.sort(crossings[row, crossed[row]]), width, flat_edges)
    return mask


def _is_convex(corners: np.ndarray) -> bool:
    edges = np.roll(corners, -1, 0) - corners
    turns = edges[:, 0] * np.roll(edges[:, 1], -1) - edges[:, 1] * np.roll(edges[:, 0], -1)
    return bool((turns >= 0).all() or (turns <= 0).all())


def _fill_row(nodes: np.ndarray, width: int, last_pixel: bool) -> np.ndarray:
    """`[width]` bool: filled between pairs of sorted crossings, of equal ones the first is ignored."""
    row, index = np.zeros(width, bool), 0
    while index < len(nodes) - 1:
        if nodes[index] >= width:
            break
        if nodes[index] == nodes[index + 1] and not (last_pixel and index == len(nodes) - 2):
            index += 1
            continue
        if nodes[index + 1] >= 0:
            row[max(int(nodes[index]), 0) : int(nodes[index + 1]) + 1] = True
        index += 2
    return row


def _shared_over_covered(first: np.ndarray, second: np.ndarray) -> float:
    covered = int((first | second).sum())
    return int((first & second).sum()) / covered if covered else 0.0
