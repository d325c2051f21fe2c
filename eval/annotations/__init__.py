"""Boxes of the targets of a video: what is said of them (`tracks`), and the formats of files that say it."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eval.annotations import coco, cvat, mot, table, youtube_vis
from eval.annotations.tracks import LONGEST, Video
from eval.files import ResultError


class Format(NamedTuple):
    """A format that others read and write, too."""

    name: str  # as a message says it
    read: Callable[[str, str], list[Video]]  # (text, name of a video that has none)
    render: Callable[[Video], str]
    suffix: str


FORMATS = {
    "mot": Format("MOTChallenge text", mot.read, mot.render, ".txt"),
    "coco": Format("COCO JSON with tracks", coco.read, coco.render, ".json"),
    "youtube-vis": Format("JSON of YouTube-VIS", youtube_vis.read, youtube_vis.render, ".json"),
    "cvat": Format("CVAT XML for video", cvat.read, cvat.render, ".xml"),
}
OURS = {
    ".csv": Format("boxes of eval.track", table.read_csv, table.csv_text, ".csv"),
    ".json": Format("boxes of eval.track", table.read_json, lambda video: table.json_text(video, {}), ".json"),
}
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, LookupError, csv.Error)


def read(path: Path | str) -> list[Video]:
    """The videos in a file of any format, those of eval.track among them; ResultError, one line, as of `parse`."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}; give a file of {_names()}") from error
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: not text ({error.reason} at byte {error.start}); restore it") from error
    return parse(str(path), text)


def parse(name: str, text: str) -> list[Video]:
    """The videos in the text of a file of this name, each with one target at least.

    ResultError, one line with the file and the place in it, where it is of no format, or damaged.
    """
    path = Path(name)
    try:
        form = _format_of(path.suffix.lower(), text)
        videos = form.read(text, path.stem.removesuffix("_boxes"))
        if not any(video.tracks for video in videos):
            raise ValueError("a box is missing")
        last = max(int(track.frames[-1]) for video in videos for track in video.tracks)
        if last >= LONGEST:
            raise ValueError(f"frame {last} is not below {LONGEST}")
    except DAMAGE as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        is_ours = path.suffix == ".csv" or '"first_frame"' in text[:100_000]
        kind, fix = ("boxes of eval.track", "track the video again") if is_ours else (_names(), "export it again")
        raise ResultError(f"{name}: not {kind} ({reason!s:.200}); {fix}") from error
    return [video._replace(name=_printable(video.name) or path.stem) for video in videos if video.tracks]


def is_annotation(name: str, text: str) -> bool:
    """Whether a file that may hold results of a toolkit holds targets with frames instead."""
    suffix = Path(name).suffix.lower()
    return suffix in (".json", ".xml", ".csv") or (suffix == ".txt" and mot.recognized(text))


def file_name(video: Video) -> str:
    """What a file of its own may be called, without suffix."""
    return re.sub(r"[^\w .,()+=@-]", "_", video.name).strip(". ") or "video"


def _format_of(suffix: str, text: str) -> Format:
    if suffix == ".csv":
        return OURS[".csv"]
    if suffix == ".xml":
        return FORMATS["cvat"]
    if suffix != ".json":
        return FORMATS["mot"]
    whole = json.loads(text)
    if not isinstance(whole, dict):
        raise ValueError(f"an object is needed, not {type(whole).__name__}: results without their video are not read")
    if "targets" in whole or "first_frame" in whole:
        return OURS[".json"]
    return FORMATS["youtube-vis" if youtube_vis.recognized(whole) else "coco"]


def _names() -> str:
    return ", ".join(form.name for form in FORMATS.values())


def _printable(name: str) -> str:
    return "".join(one if one.isprintable() else " " for one in name).strip()
