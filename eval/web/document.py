"""The annotation of a video as immutable data: what a person drew, what trackers made of it, and what is shown.

An action takes a `Document` and returns another one; what has not changed is shared, so that a `History` of hundreds is
small. A person says of a frame that the target is in a box there (a key frame), or that it is absent, never both. All
else follows from key frames: `forward` boxes come from the last one before them, `backward` boxes from the next one
after them, and both are forgotten with it. Frames count from 0; boxes are x, y, w, h in pixels, 0-based.

Every action raises ValueError, one line that names the fix, for what it cannot do.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from eval.annotations.tracks import LONGEST
from eval.online import check_box
from eval.parsers import DEFAULT_TRACKER
from eval.sources.video import VERDICT_NAMES
from trackers.base import FOUND, LOST

Box4 = tuple[float, float, float, float]  # x, y, w, h

FORWARD, BACKWARD, FILLED = DIRECTIONS = "forward", "backward", "filled"
KEY, TRACKED, BLENDED, ABSENT = "key", "tracked", "blended", "absent"  # kinds of what is shown
INTERPOLATED, IMPORTED = "interpolated", "imported"  # and of what is filled
LONGEST_NAME = 200  # letters; every page, file and event has them
BLENDED_FROM = 0.3  # IoU; boxes that overlap less are not of one thing, and their mean is of neither
NOBODY = math.nan  # a score where nobody says; always this one object, so that equal rows compare equal


class Entry(NamedTuple):
    """What a run, a file or a straight line says of a frame."""

    box: Box4
    confidence: float = 1.0  # in 0..1
    verdict: int = FOUND  # of trackers.base; LOST: the box is the last one
    score: float = NOBODY  # the tracker's own
    kind: str = TRACKED  # of what is `filled`: INTERPOLATED or IMPORTED


class Shown(NamedTuple):
    """What is known of a target in a frame."""

    box: Box4 | None  # None where it is absent
    confidence: float
    verdict: int
    score: float
    kind: str


IS_ABSENT = Shown(None, 0.0, LOST, NOBODY, ABSENT)


@dataclass(frozen=True)
class Target:
    """A target; no frame is in two of `keys` and `absent`, and none of `keys` in one of the other three."""

    id: int  # from 1
    name: str
    tracker: str
    keys: Mapping[int, Box4] = field(default_factory=dict)  # drawn by a person
    absent: tuple[tuple[int, int], ...] = ()  # (first, last), ascending, with a gap between them
    forward: Mapping[int, Entry] = field(default_factory=dict)
    backward: Mapping[int, Entry] = field(default_factory=dict)
    filled: Mapping[int, Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """All targets of a video, in the order in which they were made."""

    targets: tuple[Target, ...] = ()
    next_id: int = 1

    def target(self, target_id: int) -> Target:
        """ValueError where there is none."""
        for target in self.targets:
            if target.id == target_id:
                return target
        raise ValueError(f"target {target_id!r:.20}: there is none; it may have been removed meanwhile")


# Actions


def draw(
    document: Document,
    target_id: int | None,
    frame: int,
    box: Sequence[float],
    *,
    name: str | None = None,
    tracker: str | None = None,
) -> tuple[Document, int]:
    """Makes `frame` a key frame, of a new target for None; also the target's id.

    What was tracked from another box over this place is forgotten, and where the target was absent, it is not any more.
    A name and a tracker are the target's from now on; a new one has `target N` and `DEFAULT_TRACKER` without.
    """
    check_frames(frame, frame)
    box = rounded(check_box(box))
    if target_id is None:
        target = Target(document.next_id, free_name(document, f"target {document.next_id}"), DEFAULT_TRACKER)
        document = Document((*document.targets, target), document.next_id + 1)
    else:
        target = document.target(target_id)
    if name is not None:
        document = rename(document, target.id, name)
    if tracker is not None:
        document = set_tracker(document, target.id, tracker)
    target = document.target(target.id)
    if target.keys.get(frame) == box:
        return document, target.id
    target = _forgotten(target, frame, frame)
    keys = dict(sorted({**target.keys, frame: box}.items()))
    filled = {at: entry for at, entry in target.filled.items() if at != frame}
    absent = _without(target.absent, frame, frame)
    return _with(document, replace(target, keys=keys, absent=absent, filled=filled)), target.id


def mark_absent(document: Document, target_id: int, first: int, last: int) -> Document:
    """Says that the target is not there from frame `first` to `last`; key frames among them are none any more."""
    check_frames(first, last)
    target = _without_keys(document.target(target_id), first, last)
    return _with(document, replace(target, absent=united(target.absent, first, last)))


def delete(document: Document, target_id: int, first: int, last: int) -> Document:
    """Forgets all that is known of the target from frame `first` to `last`, and what followed from it elsewhere."""
    check_frames(first, last)
    target = _without_keys(document.target(target_id), first, last)
    left = {
        direction: {at: entry for at, entry in getattr(target, direction).items() if not first <= at <= last}
        for direction in DIRECTIONS
    }
    return _with(document, replace(target, absent=_without(target.absent, first, last), **left))


def interpolate(document: Document, target_id: int, frame: int) -> Document:
    """Puts boxes on the line between the key frames around `frame`, in place of what was tracked between them.

    Of a key frame, both sides.
    """
    target = document.target(target_id)
    around = [(a, b) for a, b in pairwise(target.keys) if a <= frame <= b]
    if not around:
        raise ValueError(f"{target.name}: no two key frames enclose frame {frame}; draw its box before and after")
    between = {}
    for a, b in around:
        for at in range(a + 1, b):
            share = (at - a) / (b - a)
            box = (start + share * (end - start) for start, end in zip(target.keys[a], target.keys[b]))
            between[at] = Entry(rounded(box), kind=INTERPOLATED)
    left = {
        direction: {at: entry for at, entry in getattr(target, direction).items() if at not in between}
        for direction in (FORWARD, BACKWARD)
    }
    return _with(document, replace(target, filled={**target.filled, **between}, **left))


def remove(document: Document, target_id: int) -> Document:
    """Without the target."""
    target = document.target(target_id)
    return replace(document, targets=tuple(one for one in document.targets if one is not target))


def rename(document: Document, target_id: int, name: str) -> Document:
    """With another name, one that no other target has."""
    target, name = document.target(target_id), _word(name, "name")
    if any(one.name == name and one is not target for one in document.targets):
        raise ValueError(f"name {name!r:.60}: another target has it; give each its own")
    return _with(document, replace(target, name=name))


def set_tracker(document: Document, target_id: int, tracker: str) -> Document:
    """With another tracker for the runs to come."""
    return _with(document, replace(document.target(target_id), tracker=_word(tracker, "tracker")))


def with_entries(document: Document, target_id: int, direction: str, found: Mapping[int, Entry]) -> Document:
    """With what a run (`FORWARD`, `BACKWARD`) or a file (`FILLED`) says of some frames, in place of what was said.

    Left out are key frames, and frames without the key frame that such a box comes from: a person may delete it while
    the tracker runs. Costs a copy of the target's entries of this direction, 0.1 ms for 10,000.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r:.20}: is none of {', '.join(DIRECTIONS)}")
    target = document.target(target_id)
    earliest, latest = (min(target.keys), max(target.keys)) if target.keys else (LONGEST, -1)
    taken = {
        frame: checked(frame, entry, direction)
        for frame, entry in found.items()
        if frame not in target.keys
        and (direction != FORWARD or frame > earliest)
        and (direction != BACKWARD or frame < latest)
    }
    return _with(document, replace(target, **{direction: {**getattr(target, direction), **taken}}))


def checked(frame: int, entry: Entry, direction: str) -> Entry:
    """Of a frame, with plain numbers, rounded as they are written; ValueError for what is no entry."""
    check_frames(frame, frame)
    box = rounded(entry.box)
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise ValueError(f"frame {frame}: the box {list(entry.box)!s:.60} is not x, y, w, h, finite, w and h from 0 on")
    sure = round(float(entry.confidence), 4)
    if not 0 <= sure <= 1:
        raise ValueError(f"frame {frame}: the confidence {entry.confidence!r:.20} is not in 0..1")
    if entry.verdict not in VERDICT_NAMES:
        raise ValueError(f"frame {frame}: the verdict {entry.verdict!r:.20} is not in 0..3")
    if entry.kind not in ((INTERPOLATED, IMPORTED) if direction == FILLED else (TRACKED,)):
        raise ValueError(f"frame {frame}: {entry.kind!r:.20} is not what can be {direction}")
    score = round(float(entry.score), 6)
    return Entry(box, sure, int(entry.verdict), score if math.isfinite(score) else NOBODY, entry.kind)


# What is shown


def neighbors(target: Target, frame: int) -> tuple[int | None, int | None]:
    """The key frames strictly before and after a frame."""
    return _neighbors([*target.keys], frame)


def shown(target: Target, frame: int) -> Shown | None:
    """What is known of the target in a frame; None: nothing."""
    return _shown(target, frame, [*target.keys])


def rows(target: Target, first: int, last: int) -> list[Shown | None]:
    """`shown` of the frames `first` to `last`."""
    keys = [*target.keys]
    return [_shown(target, frame, keys) for frame in range(first, last + 1)]


def _shown(target: Target, frame: int, keys: list[int]) -> Shown | None:
    if target.absent and is_absent(target.absent, frame):
        return IS_ABSENT
    if frame in target.keys:
        return Shown(target.keys[frame], 1.0, FOUND, NOBODY, KEY)
    forward, backward = target.forward.get(frame), target.backward.get(frame)
    if forward and backward:
        return _blended(forward, backward, frame, *_neighbors(keys, frame))
    entry = forward or backward or target.filled.get(frame)
    return entry and Shown(*entry)


def _blended(forward: Entry, backward: Entry, frame: int, start: int, end: int) -> Shown:
    """Of two runs that met: each counts by its confidence, and the more the nearer its key frame is."""
    near = (end - frame) / (end - start)
    parts = [(near, forward), (1 - near, backward)]
    parts = [part for part in parts if part[1].verdict != LOST] or [max(parts, key=lambda part: part[0])]
    weights = [near * entry.confidence for near, entry in parts]
    if not any(weights):
        weights = [near for near, _ in parts]
    better = parts[weights.index(max(weights))][1]
    if len(parts) < 2 or _overlap(forward.box, backward.box) < BLENDED_FROM:
        return Shown(*better[:-1], BLENDED)
    share = weights[0] / sum(weights)
    box = rounded(share * one + (1 - share) * other for one, other in zip(forward.box, backward.box))
    confidence = round(share * forward.confidence + (1 - share) * backward.confidence, 4)
    return Shown(box, confidence, better.verdict, NOBODY, BLENDED)


def _overlap(one: Box4, other: Box4) -> float:
    """IoU, as in eval.scoring.metrics, which takes arrays: twenty times as long for one pair."""
    (x, y, w, h), (u, v, p, q) = one, other
    shared = max(min(x + w, u + p) - max(x, u), 0) * max(min(y + h, v + q) - max(y, v), 0)
    union = w * h + p * q - shared
    return shared / union if union else 0.0


# What changed


class Differences(NamedTuple):
    """From one document to another."""

    targets: dict[int, Target | None]  # that are new or of which more than boxes changed; None: removed
    rows: list[tuple[int, int, int]]  # target, first and last frame of which something else is shown


def differences(old: Document, new: Document) -> Differences:
    """The targets that changed, and for each the shortest range of frames outside which the same is shown.

    Frames of a removed target are not among them. Quick where documents share what has not changed.
    """
    before = {target.id: target for target in old.targets}
    gone = {target_id: None for target_id in before.keys() - {target.id for target in new.targets}}
    changed, ranges = {}, []
    for target in new.targets:
        known = before.get(target.id, Target(0, "", ""))
        if known is target:
            continue
        if _head(known) != _head(target):
            changed[target.id] = target
        place = _range(known, target)
        if place:
            ranges.append((target.id, *place))
    return Differences({**gone, **changed}, ranges)


def _head(target: Target) -> tuple:
    return target.id, target.name, target.tracker, target.keys, target.absent


def _range(old: Target, new: Target) -> tuple[int, int] | None:
    """The first and the last frame of which something else is shown."""
    doubtful = sorted(_doubtful(old, new))
    keys = [*old.keys], [*new.keys]

    def differs(frame: int) -> bool:
        return _shown(old, frame, keys[0]) != _shown(new, frame, keys[1])

    first = next(filter(differs, doubtful), None)
    return None if first is None else (first, next(filter(differs, reversed(doubtful))))


def _doubtful(old: Target, new: Target) -> set[int]:
    """The frames of which something else may be shown, few more than those of which it is.

    A blended box depends on the key frames around it as well: but where those change, so do the boxes it is made of.
    """
    frames = set()
    for kind in ("keys", *DIRECTIONS):
        one, other = getattr(old, kind), getattr(new, kind)
        if one is not other:
            frames.update(one.keys() ^ other.keys())
            frames.update(at for at in one.keys() & other.keys() if one[at] is not other[at])
    for first, last in set(old.absent) ^ set(new.absent):
        frames.update(range(first, last + 1))
    return frames


# Parts


def _with(document: Document, target: Target) -> Document:
    """With this target in place of the one of its id."""
    return replace(document, targets=tuple(target if one.id == target.id else one for one in document.targets))


def _without_keys(target: Target, first: int, last: int) -> Target:
    """Without the key frames from `first` to `last`, and what followed from them."""
    dropped = [frame for frame in target.keys if first <= frame <= last]
    if not dropped:
        return target
    keys = {frame: box for frame, box in target.keys.items() if not first <= frame <= last}
    return replace(_forgotten(target, dropped[0], dropped[-1]), keys=keys)


def _forgotten(target: Target, first: int, last: int) -> Target:
    """Without what followed from other key frames than there will be, those from `first` to `last` being changed."""
    before, after = neighbors(target, first)[0], neighbors(target, last)[1]
    before, after = -1 if before is None else before, LONGEST if after is None else after
    forward = {at: entry for at, entry in target.forward.items() if not first <= at < after}
    backward = {at: entry for at, entry in target.backward.items() if not before < at <= last}
    filled = {at: entry for at, entry in target.filled.items() if entry.kind != INTERPOLATED or not before < at < after}
    return replace(target, forward=forward, backward=backward, filled=filled)


def _neighbors(keys: list[int], frame: int) -> tuple[int | None, int | None]:
    before, after = bisect_left(keys, frame), bisect_right(keys, frame)
    return keys[before - 1] if before else None, keys[after] if after < len(keys) else None


def is_absent(ranges: tuple[tuple[int, int], ...], frame: int) -> bool:
    at = bisect_right(ranges, (frame, LONGEST))
    return at > 0 and ranges[at - 1][1] >= frame


def united(ranges: Iterable[tuple[int, int]], first: int, last: int) -> tuple[tuple[int, int], ...]:
    apart = [(a, b) for a, b in ranges if b + 1 < first or a > last + 1]
    touched = [(a, b) for a, b in ranges if not (b + 1 < first or a > last + 1)]
    whole = min([first, *(a for a, _ in touched)]), max([last, *(b for _, b in touched)])
    return tuple(sorted([*apart, whole]))


def _without(ranges: Iterable[tuple[int, int]], first: int, last: int) -> tuple[tuple[int, int], ...]:
    parts = [part for a, b in ranges for part in ((a, min(b, first - 1)), (max(a, last + 1), b))]
    return tuple(sorted({(a, b) for a, b in parts if a <= b}))


def check_frames(first: Any, last: Any) -> None:
    for frame in (first, last):
        if isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame < LONGEST:
            raise ValueError(f"frame {frame!r:.20}: must be a whole number from 0 on, below {LONGEST}")
    if last < first:
        raise ValueError(f"frames {first} to {last}: the last is before the first; exchange them")


def rounded(box: Iterable[float]) -> Box4:
    """To the four digits that files have, so that what was read is what was written."""
    return tuple(round(float(value), 4) for value in box)


def _word(text: Any, what: str) -> str:
    """A name that can be shown and written to every file; ValueError."""
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise ValueError(f"{what} {text!r:.60}: must be text with letters that can be printed, on one line")
    if len(text.strip()) > LONGEST_NAME:
        raise ValueError(f"{what} {text!r:.60}: is longer than {LONGEST_NAME} letters")
    return text.strip()


def free_name(document: Document, name: str) -> str:
    """The name, or with the first number behind it that makes it another than all."""
    taken, free, number = {target.name for target in document.targets}, name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
