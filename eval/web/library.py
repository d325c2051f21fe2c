"""The videos that are served: one, or those of a folder; nothing outside it."""

import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

from eval.files import ResultError, hidden_beside, publish
from eval.sources.sequences import IMAGE_SUFFIXES
from eval.sources.video import VideoError, open_container
from eval.web.events import Hub
from eval.web.session import Session, annotation_file, readable

LONGEST = 200  # bytes of a name, so that the file beside the video has room for its ending
AWAKE = 4  # videos that keep images, those asked for last

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".wmv", ".flv"})


class Library:
    """`place` is a video file, a folder of images, or a folder of such; annotations lie beside the videos or in
    `annotations`. Sessions are opened when they are first asked for. VideoError where there is no such place.
    """

    def __init__(self, place: Path, hub: Hub, annotations: Path | None = None):
        if not place.exists():
            raise VideoError(f"{place}: no such file or folder; give a video, a folder of images, or one of videos")
        self.place, self.hub, self.annotations = place, hub, annotations
        self.single = place.is_file() or _has_images(place)
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # the one asked for last at the end
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def videos(self) -> list[dict[str, Any]]:
        """What there is now, as the page lists it."""
        return [
            {
                "id": identity,
                "name": readable(path.name),
                "annotated": annotation_file(path, self.annotations).is_file(),
            }
            for identity, path in self._paths().items()
        ]

    def session(self, identity: str) -> Session:
        """KeyError where there is no such video; else as of `Session`."""
        session = self._sessions.get(identity)
        if session is None:
            path = self._paths()[identity]
            with self._lock:
                opening = self._opening.setdefault(identity, threading.Lock())
            with opening:  # of a long file this takes a while, and others can be worked on meanwhile
                session = self._sessions.get(identity) or Session(identity, path, self.hub, self.annotations)
                self._use(session)
        else:
            self._use(session)
        return session

    def _use(self, session: Session) -> None:
        """Makes it the last one asked for; those before the last few give up what they keep."""
        with self._lock:
            another = next(reversed(self._sessions), None) != session.id
            self._sessions[session.id] = session
            self._sessions.move_to_end(session.id)
            resting = [*self._sessions.values()][:-AWAKE] if another else []
        for one in resting:
            one.rest()

    def new_file(self, name: str) -> tuple[Path, Path]:
        """(hidden file to write to, path that `add` gives it) for a video that is uploaded; VideoError."""
        path = self.place / name
        if self.single:
            raise VideoError("one video is served; start with its folder to add others")
        plain = name == path.name and name.isprintable() and not name.startswith(".")
        if not name or not plain or len(os.fsencode(name)) > LONGEST:
            raise VideoError(f"{name!r:.60}: is not the name of a file; rename it")
        if path.suffix.lower() not in SUFFIXES:
            raise VideoError(f"{name}: a video is needed ({', '.join(sorted(SUFFIXES))})")
        if path.exists():
            raise VideoError(f"{name}: is there already; rename it")
        try:
            return hidden_beside(path), path
        except OSError as error:
            raise VideoError(f"{name}: cannot be written to {self.place} ({error.strerror or error})") from error

    def add(self, hidden: Path, path: Path) -> str:
        """The id of a video that was uploaded; VideoError, and it is removed, where it is none."""
        try:
            container, _ = open_container(f"file:{hidden}", path.name)
            container.close()
            with self._lock:  # of two uploads of one name the first is kept
                if path.exists():
                    raise VideoError(f"{path.name}: is there already; rename it")
                publish(hidden, path)
        except OSError as error:
            raise VideoError(f"{path.name}: cannot be written ({error.strerror or error})") from error
        finally:
            hidden.unlink(missing_ok=True)
        return _identity(path)

    def close(self) -> None:
        """ResultError, one line, where something cannot be saved."""
        with self._lock:
            sessions = [*self._sessions.values()]
        problems = []
        for session in sessions:
            try:
                session.close()
            except (ResultError, OSError) as error:
                problems.append(str(error))
        if problems:
            raise ResultError("; ".join(problems))

    def _paths(self) -> dict[str, Path]:
        if self.single:
            return {_identity(self.place): self.place}
        found = sorted(self.place.iterdir(), key=lambda path: path.name.lower())
        inside = self.place.resolve()
        return {
            _identity(path): path
            for path in found
            if not path.name.startswith(".")
            and path.resolve().is_relative_to(inside)  # a link that leads elsewhere is not followed
            and (path.suffix.lower() in SUFFIXES if path.is_file() else _has_images(path))
        }


def write_limited(file: BinaryIO, data: bytes, limit: int) -> None:
    """Appends a piece of an upload; VideoError beyond `limit` bytes in all."""
    if file.tell() + len(data) > limit:
        raise VideoError(f"the file is larger than {limit >> 20} MiB; put it into the folder by other means")
    file.write(data)


def _has_images(path: Path) -> bool:
    try:
        return path.is_dir() and any(one.suffix.lower() in IMAGE_SUFFIXES for one in path.iterdir())
    except OSError:
        return False


def _identity(path: Path) -> str:
    """Opaque, and the same after a restart; a path never comes from a page."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
