"""VOT 2013 to 2019: a tracker that loses its target is restarted; accuracy, robustness and EAO.

A run is a list with one entry a frame: INITIALIZED, FAILED, SKIPPED, or a region (x, y, w, h or corners). The two
programs (votchallenge/toolkit 56f0053 "vot", STVIR/pysot d04028f "pysot") differ by up to 5e-3 on the same run: they
draw regions differently (regions.py), pysot begins a fragment at the skipped frames' end and weights fragments, and
its curve is as long as the longest sequence, the toolkit's as the longest fragment.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from eval.scoring.regions import region_overlap, region_overlaps

SKIPPED, INITIALIZED, FAILED = 0, 1, 2  # codes of a result file
EAO_INTERVALS = {  # lengths over which EAO is averaged
    "vot2015": (108, 371),
    "vot2016": (108, 371),
    "vot2017": (100, 356),
    "vot2018": (100, 356),
    "vot2019": (46, 291),
}
BURN_IN = 10  # frames after an initialization that do not count for accuracy
SKIP = 5  # frames from a failure to the next initialization
REPETITIONS = 15
SENSITIVITY = 30  # S of the reliability exp(-S * failures / length)

Region = Sequence[float]
Run = list[int | np.ndarray]


class Runs(NamedTuple):
    """A sequence of T frames and what a tracker did on it."""

    truth: Sequence[Region]  # T regions: 4 numbers or 8
    runs: Sequence[Run]  # repetitions, each of T entries
    size: tuple[int, int]  # (width, height) of the image


def track_with_resets(
    init: Callable[[int, np.ndarray], None],
    update: Callable[[int], np.ndarray],
    truth: Sequence[Region],
    boxes: np.ndarray,
    size: tuple[int, int],
    *,
    skip: int = SKIP,
) -> Run:
    """One run: `init(index, box)` on frame 1, `update(index) -> [4]` x, y, w, h on the others.

    `truth`: T regions, `boxes`: `[T, 4]` to initialize with, `size`: (width, height). An overlap (toolkit's, within the
    image) of 0 is a failure; `skip` frames on, the tracker is initialized again (2013 to 2019: 5).
    """
    run: Run = [SKIPPED] * len(truth)
    start = 0
    while start < len(truth):
        init(start, np.asarray(boxes[start], np.float64))
        run[start] = INITIALIZED
        first, start = start + 1, len(truth)
        for index in range(first, len(truth)):
            box = np.asarray(update(index), np.float64)
            if not region_overlap(box, truth[index], size) > 0:
                run[index] = FAILED
                start = index + skip
                break
            run[index] = box
    return run


def failures(run: Run) -> list[int]:
    """Frames of failure."""
    return [index for index, entry in enumerate(run) if _is(entry, FAILED)]


def accuracy_and_robustness(sequences: Sequence[Runs], *, program: str = "vot") -> dict[str, float]:
    """accuracy (0..1), failures (a number), robustness over all sequences.

    "vot": means over sequences, weighted by length, of the mean overlap of the frames that count and of the failures
    a run; robustness is the reliability exp(-S failures / mean length), the number on the AR plot. "pysot": accuracy
    is the mean over all frames of the repetitions' mean; failures the sum over sequences of failures a run,
    robustness 100 times that over the sum of lengths. All sequences must have the same number of repetitions under
    "pysot".
    """
    lengths = np.array([len(sequence.truth) for sequence in sequences], np.float64)
    lost = np.array([np.mean([len(failures(run)) for run in sequence.runs]) for sequence in sequences])
    if program == "pysot":
        accuracy = float(np.nanmean(np.concatenate([mean_overlaps(sequence) for sequence in sequences])))
        total = float(lost.sum())
        return {"accuracy": accuracy, "failures": total, "robustness": 100 * total / float(lengths.sum())}
    of_sequences = [sequence_accuracy(sequence, program=program) for sequence in sequences]
    mean_lost = float(np.average(lost, weights=lengths))
    return {
        "accuracy": float(np.average(of_sequences, weights=lengths)),
        "failures": mean_lost,
        "robustness": float(np.exp(-SENSITIVITY * mean_lost / lengths.mean())),
    }


def sequence_accuracy(sequence: Runs, *, program: str = "vot") -> float:
    """Mean overlap of the frames that count: of each run, then of the runs ("vot"); 0 for a run without any.

    "pysot": mean over frames of the mean over runs.
    """
    if program == "pysot":
        return float(np.nanmean(mean_overlaps(sequence)))
    means = [np.mean(kept) if len(kept := _counted_overlaps(run, sequence)) else 0.0 for run in sequence.runs]
    return float(np.mean(means))


def mean_overlaps(sequence: Runs) -> np.ndarray:
    """`[T]` mean over the runs of the overlaps that count by pysot's rule, nan where none does."""
    width, height = sequence.size
    rows = []
    for run in sequence.runs:
        kept = [None if ignored else entry for entry, ignored in zip(run, _ignored(run))]
        rows.append(region_overlaps(_regions(kept), sequence.truth, (width, height), program="pysot"))
    known = np.isfinite(rows)
    total, count = np.where(known, rows, 0).sum(0), known.sum(0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _counted_overlaps(run: Run, sequence: Runs) -> np.ndarray:
    overlaps = region_overlaps(_regions(run), sequence.truth, sequence.size)
    return overlaps[~_ignored(run)]


def _ignored(run: Run) -> np.ndarray:
    """`[T]` bool: no region, or within BURN_IN of an initialization."""
    ignored = np.array([isinstance(entry, int) for entry in run])
    for index, entry in enumerate(run):
        if _is(entry, INITIALIZED):
            ignored[index : index + BURN_IN] = True
    return ignored


def eao_curve(sequences: Sequence[Runs], *, program: str = "vot") -> np.ndarray:
    """Expected average overlap of runs of length n: entry n, n from 1 on (entry 0 means nothing).

    Mean over fragments, from an initialization to the next failure or to the end, of the mean overlap of frames 1..n; a
    fragment that failed is 0 from there on, one that ends with its sequence counts as far as it goes.
    """
    fragments: list[tuple[np.ndarray, bool, float]] = []  # overlaps, failed, weight
    for sequence in sequences:
        for run in sequence.runs:
            fragments += (_pysot_fragments if program == "pysot" else _vot_fragments)(run, sequence)
    longest = max(len(overlaps) for overlaps, _, _ in fragments)
    if program == "pysot":
        longest = max(longest, *(len(sequence.truth) for sequence in sequences))
    total, weights = np.zeros(longest), np.zeros(longest)
    for overlaps, failed, weight in fragments:
        padded = np.zeros(longest)
        padded[: len(overlaps)] = overlaps
        means = np.concatenate([padded[:1], np.cumsum(padded[1:]) / np.arange(1, longest)])
        active = longest if failed else len(overlaps)
        total[:active] += weight * means[:active]
        weights[:active] += weight
    return np.divide(total, weights, out=np.zeros(longest), where=weights > 0)


def _vot_fragments(run: Run, sequence: Runs) -> list[tuple[np.ndarray, bool, float]]:
    overlaps = region_overlaps(_regions(run), sequence.truth, sequence.size)
    starts = [index for index, entry in enumerate(run) if _is(entry, INITIALIZED)]
    ends = failures(run)
    found = [(overlaps[start:end], True, 1.0) for start, end in zip(starts, ends)]
    if len(starts) > len(ends):
        found.append((overlaps[starts[-1] :], False, 1.0))
    return found


def _pysot_fragments(run: Run, sequence: Runs) -> list[tuple[np.ndarray, bool, float]]:
    """Fragments begin SKIP frames after a failure, initialized there or not, and run to that point of the next."""
    width, height = sequence.size
    overlaps = region_overlaps(_regions(run), sequence.truth, (width - 1, height - 1), program="pysot")
    overlaps = np.nan_to_num(overlaps)
    starts = [0, *(index + SKIP for index in failures(run) if index + SKIP <= len(run))]
    weight = 1 / len(sequence.runs)
    found = [(overlaps[start : end + 1], True, weight) for start, end in pairwise(starts)]
    last = overlaps[starts[-1] :]
    return [*found, (last, False, weight)] if len(last) else found


def eao(curve: np.ndarray, benchmark: str, *, program: str = "vot") -> float:
    """Mean of an EAO curve over what it has of the benchmark's interval of lengths (EAO_INTERVALS), nan if nothing.

    pysot's interval begins and ends one frame earlier.
    """
    low, high = (bound - (program == "pysot") for bound in EAO_INTERVALS[benchmark])
    return float(np.mean(curve[low : high + 1])) if len(curve) > low else float("nan")


def _is(entry, code: int) -> bool:
    return isinstance(entry, int) and entry == code


def _regions(run: Sequence) -> list[np.ndarray | None]:
    return [None if entry is None or isinstance(entry, int) else entry for entry in run]
