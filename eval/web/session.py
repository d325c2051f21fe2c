"""One open video: its frames, its annotation with the file beside it, and what of it the pages are told."""

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval import annotations, settings
from eval.annotations.tracks import Video
from eval.files import ResultError
from eval.sources.seeking import Seekable
from eval.sources.video import target_color
from eval.web import document, stored
from eval.web.document import Document, Entry, Shown, Target
from eval.web.events import Hub
from eval.web.history import History
from eval.web.insight import Insights
from eval.web.pictures import Pictures
from trackers.weights.atomic import replace_file

SUFFIX = ".annotation.json"  # after the whole name of the video
SAVED = 1.0  # seconds between two writings while a tracker runs, at the least
SHARE = 20  # and so many times as long as the last one took


class Session:
    """A video that pages work on; every method may be called from any thread.

    `edit` and `undo` change the annotation by one step each, `extend` by the boxes of a run, and all three tell the
    pages and write the file. VideoError where the video cannot be read, ResultError where the file beside it is
    damaged, belongs to another video, or was changed by someone else since.
    """

    def __init__(self, identity: str, path: Path, hub: Hub, folder: Path | None = None):
        self.id, self.path, self.hub = identity, path, hub
        self.frames = Seekable(path)
        self.pictures = Pictures(self.frames)
        self.insights = Insights()
        self.file = annotation_file(path, folder)
        self.revision = 0
        self._lock = threading.RLock()
        self._written: tuple[int, int] | None = None  # time and size of the file as this session left it
        self._parts: dict[int, stored.Part] = {}  # of the file's text
        self._versions = settings.versions()  # once, since it asks git
        self._next_writing = 0.0
        self._unsaved = False  # whether something is not in the file
        self._history = History(self._read())

    @property
    def document(self) -> Document:
        return self._history.document

    def description(self) -> dict[str, Any]:
        """What a page needs to begin with."""
        with self._lock:
            whole = self._changes(Document(), self.document)
            whole = {key: whole[key] for key in ("revision", "undo", "redo", "order", "targets", "rows")}
        width, height = self.frames.size
        return {
            "id": self.id,
            "name": readable(self.path.name),
            "frames": len(self.frames),
            "width": width,
            "height": height,
            "fps": self.frames.fps,
            "document": whole,
        }

    def changing(self) -> contextlib.AbstractContextManager:
        """Inside, nobody else changes the annotation."""
        return self._lock

    def edit(self, label: str, change: Callable[[Document], Document], *, begins: bool = False) -> int | None:
        """One step that can be undone; its number, None where nothing changes and nothing `begins` that will.

        ValueError, and nothing changes, where `change` raises it.
        """
        with self._lock:
            before = self.document
            after = change(before)
            if after == before and not begins:
                return None
            step = self._history.apply(label, after)
            self._tell(before)
            self._save()
        return step

    def undo(self, back: bool = True) -> None:
        """The last step back, or forth again; ValueError where there is none."""
        with self._lock:
            before = self.document
            self._history.undo() if back else self._history.redo()
            self._tell(before)
            self._save()

    def extend(self, step: int, entries: Mapping[int, Mapping[int, Entry]], direction: str) -> None:
        """More boxes of a run whose step `edit` has made: target -> frame -> entry. Written now and then."""

        def longer(content: Document) -> Document:
            there = {target.id for target in content.targets}
            for target, found in entries.items():
                if target in there:
                    content = document.with_entries(content, target, direction, found)
            return content

        with self._lock:
            before = self.document
            self._history.amend(step, longer)
            self._tell(before, {target: (min(found), max(found)) for target, found in entries.items() if found})
            self._unsaved = True
            if time.monotonic() >= self._next_writing:
                self._save()

    def save(self) -> None:
        """Writes what is not written yet; what cannot be is told to the pages, and tried again with the next change."""
        with self._lock:
            if self._unsaved:
                self._save()

    def insight(self, target_id: int, frame: int) -> dict[str, Any] | None:
        """What a tracker saw there, as of `Insights.of`; None where its box is not shown, or not any more."""
        target = next((one for one in self.document.targets if one.id == target_id), None)
        row = target and document.shown(target, frame)
        tracked = row and row.kind in (document.KEY, document.TRACKED, document.BLENDED)
        return self.insights.of(target_id, frame) if tracked else None

    def video(self) -> Video:
        """The annotation as `eval.annotations` has it."""
        files = tuple(path.name for path in self.frames.files)
        return stored.to_video(self.document, self.name, self.frames.size, files)

    def text(self) -> str:
        """The annotation as the file beside the video has it."""
        header = {
            "video": readable(str(self.path.resolve())),
            "video_frames": len(self.frames),
            "video_fps": self.frames.fps,
            "image_size": [*self.frames.size],
            "versions": self._versions,
        }
        with self._lock:
            return stored.file_text(self.document, header, self._parts)

    @property
    def name(self) -> str:
        """Of the video, in files."""
        return readable(self.path.name if self.path.is_dir() else self.path.stem)

    def close(self) -> None:
        """ResultError where the annotation cannot be written to its place; it says where it is instead."""
        self.frames.close()
        with self._lock:
            if not self._unsaved:
                return
            try:
                self._write()
            except ResultError as error:
                place = Path(tempfile.mkdtemp(prefix="jaxtrack-")) / self.file.name
                place.write_text(self.text(), encoding="utf-8")
                raise ResultError(f"not saved: {error}. The annotation is now in {place}") from error

    def rest(self) -> None:
        """Gives up the images that are kept; they are decoded anew when they are asked for."""
        self.frames.close()
        self.pictures.clear()

    def _read(self) -> Document:
        try:
            text = self.file.read_text(encoding="utf-8")
            self._written = self._state_of_file()
        except FileNotFoundError:
            return Document()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ResultError(f"{self.file}: cannot be read ({reason}); restore it or move it away") from error
        try:
            header, found = json.loads(text), stored.parse_file(text)
        except annotations.DAMAGE as error:
            raise ResultError(f"{self.file}: damaged ({error!s:.200}); restore it or move it away") from error
        if header.get("video_frames") != len(self.frames) or header.get("image_size") != [*self.frames.size]:
            raise ResultError(f"{self.file}: is of another video than {self.path.name} now is; move it away")
        return found

    def _save(self) -> None:
        start = time.monotonic()
        self._unsaved = True
        try:
            self._write()
        except ResultError as error:
            self.hub.tell("problem", video=self.id, message=f"not saved: {error}")
        took = time.monotonic() - start
        self._next_writing = time.monotonic() + max(SAVED, SHARE * took)

    def _write(self) -> None:
        if self._state_of_file() != self._written:
            raise ResultError(f"{self.file}: was changed by another program; move it away, or start this one anew")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.file, self.text())
        except OSError as error:
            fix = "free space, or start with --annotations DIR"
            raise ResultError(f"{self.file}: cannot be written ({error.strerror or error}); {fix}") from error
        self._written, self._unsaved = self._state_of_file(), False

    def _state_of_file(self) -> tuple[int, int] | None:
        try:
            state = self.file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size

    def _tell(self, before: Document, spans: Mapping[int, tuple[int, int]] | None = None) -> None:
        self.revision += 1
        self.hub.tell("changed", video=self.id, **self._changes(before, self.document, spans))

    def _changes(
        self, before: Document, after: Document, spans: Mapping[int, tuple[int, int]] | None = None
    ) -> dict[str, Any]:
        """The event `changed`; spans: the frames of each target that may differ, where they are known."""
        targets: dict[int, Target | None] = {}
        if spans is None:
            targets, ranges = document.differences(before, after)
            spans = {target: (first, last) for target, first, last in ranges}
        found = {target.id: target for target in after.targets}
        return {
            "revision": self.revision,
            "undo": self._history.undo_label,
            "redo": self._history.redo_label,
            "order": [target.id for target in after.targets],
            "targets": {target: one and _head(one) for target, one in targets.items()},
            "rows": [
                {"target": target, "first": first, "rows": rows_of(document.rows(found[target], first, last))}
                for target, (first, last) in spans.items()
                if target in found
            ],
        }


def annotation_file(video: Path, folder: Path | None = None) -> Path:
    """Where the annotation of a video is kept: beside it, or in `folder`."""
    return (folder or video.parent) / f"{video.name}{SUFFIX}"


def readable(name: str) -> str:
    """The name of a file as text: a system may have any bytes in it, files and pages may not."""
    return os.fsencode(name).decode("utf-8", "replace")


def rows_of(shown: Iterable[Shown | None]) -> list[list[Any] | None]:
    """[x, y, w, h, confidence, verdict, kind, score] of each frame, as pages know it."""
    return [None if one is None else _row(one) for one in shown]


def _row(one: Shown) -> list[Any]:
    box = [None] * 4 if one.box is None else [round(float(value), 3) for value in one.box]
    return [*box, _finite(one.confidence), int(one.verdict), one.kind, _finite(one.score)]


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _head(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "color": "#{:02x}{:02x}{:02x}".format(*target_color(target.id - 1)),
        "tracker": target.tracker,
        "keys": sorted(target.keys),
        "absent": [list(span) for span in target.absent],
    }
