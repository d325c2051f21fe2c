"""Images of the same picture, by a perceptual hash, so that frames of a test set stay out of what is trained on.

The hash has 255 bits: which of the 16 x 16 lowest frequencies of the gray image (cosine transform, without the mean)
are above their median. Between 477 frames of test sequences and 1,176 photographs and frames of other videos it differs
in 82 bits or more. Between a frame and its copy it differs in at most 10 where that was encoded as JPEG of quality 30,
in 24 at a quarter of the size and quality 50, in 20 where it was made brighter, in 46 where 2 % were cut off at each
side; of 3 %, in 60 for 19 copies of 20. A difference hash of as many bits does not tell both apart: it differs in 57
for two pictures with large even areas, and in 84 for a copy.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from eval.sources.sequences import IMAGE_SUFFIXES, SequenceError, read_image

SIDE, FREQUENCIES = 64, 16  # the image is reduced to SIDE x SIDE pixels; FREQUENCIES of each axis are kept
WORDS = FREQUENCIES * FREQUENCIES // 64  # of 64 bits, the first of which is never set
FLAT = 3.0  # gray levels: an image with a smaller standard deviation, reduced, shows nothing that could be compared
MOST = 56  # bits in which two images may differ that are alike
BLOCK = 1 << 24  # pairs compared at once are so many, or one row


class Hashes(NamedTuple):
    """N images."""

    words: np.ndarray  # [N, WORDS] uint64
    paths: tuple[Path, ...]  # N


class Pair(NamedTuple):
    """Two images that are alike."""

    image: Path
    other: Path
    distance: int  # bits in which their hashes differ


def hash_of(image: np.ndarray) -> np.ndarray | None:
    """`[WORDS]` uint64 of an image `[H, W, 3]` uint8 RGB; None where it is flat."""
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if gray.std() < FLAT:
        return None
    low = cv2.dct(gray.astype(np.float32))[:FREQUENCIES, :FREQUENCIES].ravel()
    above = low > np.median(low[1:])
    above[0] = False  # the mean, which says nothing of the picture
    return np.packbits(above).view(np.uint64)


def hashes(paths: Iterable[Path], *, upright: bool = False) -> Hashes:
    """Of those images that are not flat; `upright` as of `read_image`. SequenceError for one that cannot be read."""
    found = [(hash_of(read_image(path, upright=upright)), path) for path in paths]
    kept = [(words, path) for words, path in found if words is not None]
    words = np.array([words for words, _ in kept], np.uint64).reshape(-1, WORDS)
    return Hashes(words, tuple(path for _, path in kept))


def images_below(folder: Path) -> list[Path]:
    """All image files in a folder and the folders in it; SequenceError where there is none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise SequenceError(f"{folder}: no images below it; give the folder of the sequences that are to stay unseen")
    return found


def nearest(images: Hashes, others: Hashes) -> Pair | None:
    """The two that are most alike, one of `images` and one of `others`; None where no two are alike."""
    best, step = None, max(BLOCK // max(len(others.paths), 1), 1)
    for first in range(0, len(images.paths) if others.paths else 0, step):
        differing = images.words[first : first + step, None] ^ others.words
        distances = np.bitwise_count(differing).sum(-1, dtype=np.uint16)
        row, column = np.unravel_index(distances.argmin(), distances.shape)
        distance = int(distances[row, column])
        if distance <= MOST and (best is None or distance < best.distance):
            best = Pair(images.paths[first + row], others.paths[column], distance)
    return best
