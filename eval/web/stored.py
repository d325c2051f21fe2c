"""The annotation of a video in other forms: the targets of `eval.annotations`, and the file beside the video.

The file is a .json as eval.track writes it, which says what is shown, with the state of editing under one key more.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from eval.annotations import entries, table
from eval.annotations.tracks import Row, Track, Video, make_track
from eval.online import check_box
from eval.sources.video import VERDICT_NAMES
from eval.web.document import (
    BACKWARD,
    DEFAULT_TRACKER,
    FILLED,
    FORWARD,
    IMPORTED,
    INTERPOLATED,
    LONGEST_NAME,
    NOBODY,
    TRACKED,
    Document,
    Entry,
    Target,
    check_frames,
    free_name,
    is_absent,
    rename,
    rounded,
    rows,
    set_tracker,
    united,
    with_entries,
)
from trackers.base import FOUND, LOST

ENTRY = 8  # numbers of an entry in a file: frame, box, confidence, verdict, score


def to_video(document: Document, name: str, size: tuple[int, int] | None, files: Sequence[str] = ()) -> Video:
    """What is shown, for the formats of `eval.annotations`; targets of which nothing is shown are not in it.

    Formats say of a frame that a target is in a box or not: where it is absent or lost, and where nothing is known
    between two of its frames, a track is "lost" with the last box and confidence 0. So no row is missing in a table.
    """
    tracks = [track for track in map(_track, document.targets) if track]
    return Video(name, tracks, size, tuple(files))


def _track(target: Target) -> Track | None:
    known = [*target.keys, *target.forward, *target.backward, *target.filled, *sum(target.absent, ())]
    found, last = [], None
    for frame, row in enumerate(rows(target, min(known), max(known)), min(known)) if known else ():
        if row and row.box:
            found.append(Row(frame, row.box, row.confidence, VERDICT_NAMES[row.verdict], row.score))
            last = row.box
        elif last:
            found.append(Row(frame, last, 0.0, VERDICT_NAMES[LOST]))
    return make_track(target.id, target.name, found) if found else None


def of_video(document: Document, video: Video) -> Document:
    """With the targets of a video besides, their boxes IMPORTED, and LOST where they say so.

    A name that is taken has a number behind it. Confidence is 1 where nobody says.
    """
    codes = {name: code for code, name in VERDICT_NAMES.items()}
    for track in video.tracks:
        name = free_name(document, track.name[: LONGEST_NAME - 20].strip())  # with room for a number
        target = Target(document.next_id, name, DEFAULT_TRACKER)
        columns = zip(track.frames, track.boxes, track.confidence, track.verdicts, track.scores)
        found = {
            int(frame): Entry(box, 1.0 if math.isnan(sure) else sure, codes.get(verdict, FOUND), score, IMPORTED)
            for frame, box, sure, verdict, score in columns
        }
        document = Document((*document.targets, target), document.next_id + 1)
        document = with_entries(document, target.id, FILLED, found)
    return document


class Part(NamedTuple):
    """What the file says of a target, as JSON."""

    target: Target
    state: str  # of editing
    shown: str  # as eval.track writes it; "" where nothing is


def file_text(document: Document, header: Mapping[str, Any], kept: dict[int, Part] | None = None) -> str:
    """A .json as eval.track writes it, with `header`, and with the state of editing under `annotation`.

    Other programs, and `eval.annotations`, find in it what is shown; `parse_file` finds all. kept: parts of the last
    text by the targets' ids, renewed here. An action changes one target: those of thousands of frames take a while.
    """
    kept = {} if kept is None else kept
    parts = []
    for target in document.targets:
        known = kept.get(target.id)
        parts.append(known if known and known.target is target else _part(target))
    kept.clear()
    kept.update((part.target.id, part) for part in parts)
    states, shown = ", ".join(part.state for part in parts), ", ".join(part.shown for part in parts if part.shown)
    editing = f'{{"next_id": {document.next_id}, "targets": [{states}]}}'
    begin = "".join(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}, " for key, value in header.items())
    return f'{{{begin}"annotation": {editing}, "targets": [{shown}]}}\n'


def _part(target: Target) -> Part:
    track = _track(target)
    state, shown = _target_json(target), track and table.json_target(track)
    return Part(target, json.dumps(state, allow_nan=False), json.dumps(shown, allow_nan=False) if shown else "")


def parse_file(text: str) -> Document:
    """What `file_text` wrote; ValueError names the place of the damage."""
    try:
        whole = entries.load(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply; restore the file") from error
    if not isinstance(whole.get("annotation"), dict):
        raise ValueError("annotation: must be an object; what has none is not of jaxtrack web, and can be imported")
    return from_json(whole["annotation"])


def _target_json(target: Target) -> dict[str, Any]:
    """All of it, boxes and entries as lists that begin with the frame."""
    lists = {
        FORWARD: target.forward.items(),
        BACKWARD: target.backward.items(),
        INTERPOLATED: ((at, entry) for at, entry in target.filled.items() if entry.kind == INTERPOLATED),
        IMPORTED: ((at, entry) for at, entry in target.filled.items() if entry.kind == IMPORTED),
    }
    return {
        "id": target.id,
        "name": target.name,
        "tracker": target.tracker,
        "keys": [[frame, *box] for frame, box in target.keys.items()],
        "absent": [[*pair] for pair in target.absent],
        **{kind: [_entry_json(*item) for item in sorted(items)] for kind, items in lists.items()},
    }


def _entry_json(frame: int, entry: Entry) -> list[float | None]:
    return [frame, *entry.box, entry.confidence, entry.verdict, None if entry.score is NOBODY else entry.score]


def from_json(whole: dict[str, Any]) -> Document:
    """The document; ValueError names the place of whatever `file_text` cannot have written."""
    document = Document()
    if "targets" not in whole:
        raise ValueError("targets: must be a list")
    for place, stored in entries.listed(whole, "targets"):
        try:
            document = _with_stored(document, stored)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{place}: {error}") from error
    next_id = whole.get("next_id")
    if isinstance(next_id, bool) or not isinstance(next_id, int) or next_id < document.next_id:
        raise ValueError(f"next_id: {next_id!s:.20} is not above the ids of the targets; write {document.next_id}")
    return replace(document, next_id=next_id)


def _with_stored(document: Document, stored: dict[str, Any]) -> Document:
    """With one more target; `next_id` is above all ids."""
    identity = entries.whole_number(stored, "target", "id")
    if identity < 1 or any(target.id == identity for target in document.targets):
        raise ValueError(f"id {identity}: must be above 0, and no other target's")
    keys, absent = {}, ()
    for frame, *box in _lists(stored, "keys", 5):
        keys[frame] = rounded(check_box(box))
    for first, last in _lists(stored, "absent", 2):
        check_frames(first, last)
        absent = united(absent, first, last)
    hidden = next((frame for frame in keys if is_absent(absent, frame)), None)
    if hidden is not None:
        raise ValueError(f"keys: in frame {hidden} the target is absent; take it out of one of the two")
    target = Target(identity, "", "", dict(sorted(keys.items())), absent)
    document = Document((*document.targets, target), max(document.next_id, identity + 1))
    document = rename(document, identity, stored.get("name"))
    document = set_tracker(document, identity, stored.get("tracker"))
    lists = {FORWARD: (FORWARD,), BACKWARD: (BACKWARD,), FILLED: (INTERPOLATED, IMPORTED)}
    for direction, kinds in lists.items():
        found = {}
        for kind in kinds:
            for frame, *values in _lists(stored, kind, ENTRY, taken=found):
                *box, sure, verdict, score = values
                score = NOBODY if score is None else score
                found[frame] = Entry(box, sure, verdict, score, TRACKED if kind == direction else kind)
        document = with_entries(document, identity, direction, found)
        lost = found.keys() - getattr(document.target(identity), direction).keys()
        if lost:
            raise ValueError(f"{direction}: frame {min(lost)} is a key frame, or follows from none; take it out")
    return document


def _lists(stored: dict[str, Any], key: str, length: int, taken: Iterable[int] = ()) -> Iterator[list[Any]]:
    """The entries of a list, each of this length, of a frame that is in no other and not `taken`."""
    given, frames = stored.get(key), set(taken)
    if not isinstance(given, list):
        raise ValueError(f"{key}: must be a list")
    for number, one in enumerate(given):
        place = f"{key}[{number}]"
        if not isinstance(one, list) or len(one) != length:
            raise ValueError(f"{place}: {one!s:.40} is not a list of {length}")
        numbers = one[:-1] if length == ENTRY and one[-1] is None else one  # nobody says a score
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
            raise ValueError(f"{place}: {one!s:.40} is not of numbers")
        try:
            check_frames(one[0], one[0])
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if one[0] in frames:
            raise ValueError(f"{place}: frame {one[0]} is there twice")
        frames.add(one[0])
        yield one
