"""The progress bar of long runs."""

import sys

from tqdm import tqdm


def progress_bar(total: int | None, unit: str, **options) -> tqdm:
    """tqdm's bar, redrawn twice a second on a terminal and every 30 seconds in a log; none where `total` is 0."""
    return tqdm(total=total, unit=unit, disable=total == 0, mininterval=0.5 if sys.stderr.isatty() else 30, **options)
