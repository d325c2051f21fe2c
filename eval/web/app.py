"""The addresses of the annotator, on Starlette; README.md of this folder lists them for programs of your own."""

import asyncio
import functools
import hmac
import json
import re
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from eval import annotations, catalog
from eval.annotations.table import csv_text
from eval.command import one_line
from eval.files import ResultError
from eval.online import check_box
from eval.sources.video import VideoError
from eval.web import document, library, stored
from eval.web.events import Hub
from eval.web.library import Library
from eval.web.pictures import WIDTHS
from eval.web.render import render
from eval.web.runs import Runner
from eval.web.session import Session

Result = TypeVar("Result")
PAGE = Path(__file__).with_name("page")
COOKIE, HEADER = "jaxtrack", "x-jaxtrack"
POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"  # nothing comes from elsewhere
LARGEST_REQUEST = 1 << 20  # bytes of an action
LARGEST_ANNOTATION = 64 << 20  # bytes of a file to import
LABELS = {
    "box": "draw {name}",
    "absent": "mark {name} absent",
    "delete": "delete boxes of {name}",
    "interpolate": "interpolate {name}",
    "remove": "remove {name}",
    "rename": "rename {name}",
    "tracker": "choose a tracker for {name}",
}


class Settings(NamedTuple):
    """How the annotator is served."""

    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")  # names a browser may call it by; (): any
    token: str | None = None  # asked for once, then in a cookie
    upload_limit: int = 2 << 30  # bytes
    default_tracker: str = document.DEFAULT_TRACKER


class Annotator:
    """What the addresses work on."""

    def __init__(self, videos: Library, runner: Runner, hub: Hub, scratch: Path, settings: Settings = Settings()):
        self.videos, self.runner, self.hub, self.settings = videos, runner, hub, settings
        self.scratch = scratch  # folder for annotated videos, while the program runs
        self.ending = threading.Event()
        self._rendering: dict[str, threading.Thread] = {}
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one frame of a video is decoded at a time

    def app(self) -> Starlette:
        video = "/api/videos/{video}"
        routes = [
            Route("/", self.page),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/api/trackers", self.trackers),
            Route("/api/videos", self.list_videos, methods=["GET"]),
            Route("/api/videos", self.upload, methods=["POST"]),
            Route(video, self.describe),
            Route(f"{video}/frames/{{number:int}}.jpg", self.frame),
            Route(f"{video}/actions", self.act, methods=["POST"]),
            Route(f"{video}/track", self.track, methods=["POST"]),
            Route(f"{video}/stop", self.stop, methods=["POST"]),
            Route(f"{video}/export/{{form}}", self.export),
            Route(f"{video}/import", self.import_, methods=["POST"]),
            Route(f"{video}/render", self.render, methods=["POST"]),
            Route(f"{video}/rendered", self.rendered),
            Route(f"{video}/insight/{{target:int}}/{{number:int}}", self.insight),
            Route("/api/events", self.events),
        ]
        failures = {
            HTTPException: lambda request, error: _failed(error.detail, error.status_code),
            VideoError: lambda request, error: _failed(error, 422),
            ResultError: lambda request, error: _failed(error, 422),
            ValueError: lambda request, error: _failed(error, 400),
            OSError: lambda request, error: _failed(error, 500),
            ClientDisconnect: lambda request, error: Response(status_code=499),  # nobody is there to read it
            Exception: lambda request, error: _failed(f"a fault of the annotator: {error!r}", 500),  # told here, too
        }
        guard = Middleware(Guard, settings=self.settings)
        return Starlette(routes=routes, middleware=[guard], exception_handlers=failures)

    def close(self) -> None:
        """Ends what goes on, and saves; after the last request."""
        self.ending.set()
        self.runner.close()
        for thread in self._rendering.values():
            thread.join()
        self.videos.close()

    async def page(self, request: Request) -> Response:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        return FileResponse(PAGE / "index.html", headers=headers)

    async def trackers(self, request: Request) -> Response:
        default = self.settings.default_tracker
        rows = {row.tracker: row for row in await run_in_threadpool(catalog.rows)}
        offered = [
            {
                "name": name,
                "paper": rows[name].paper if name in rows else "",
                "auc": rows[name].auc if name in rows else None,
                "fps": rows[name].frames_per_second if name in rows else None,
                "default": name == default,
            }
            for name in self.runner.weights
        ]
        return JSONResponse(offered)

    async def list_videos(self, request: Request) -> Response:
        return JSONResponse(
            {
                "folder": self.videos.place.resolve().name,
                "videos": await run_in_threadpool(self.videos.videos),
                "uploads": not self.videos.single,
                "limit": self.settings.upload_limit,
                "formats": ["csv", "json", *annotations.FORMATS],
            }
        )

    async def upload(self, request: Request) -> Response:
        hidden, path = await run_in_threadpool(self.videos.new_file, request.query_params.get("name", ""))
        try:
            with hidden.open("wb") as file:
                async for piece in request.stream():
                    await run_in_threadpool(library.write_limited, file, piece, self.settings.upload_limit)
            return JSONResponse({"id": await run_in_threadpool(self.videos.add, hidden, path)})
        except OSError as error:
            raise VideoError(f"{path.name}: cannot be written ({error.strerror or error}); free space") from error
        finally:
            hidden.unlink(missing_ok=True)

    async def describe(self, request: Request) -> Response:
        session = await self._session(request)
        whole = await run_in_threadpool(session.description)
        return JSONResponse({**whole, "run": self.runner.status(session)})

    async def frame(self, request: Request) -> Response:
        session, number = await self._session(request), request.path_params["number"]
        width = request.query_params.get("width")
        if width is not None and width not in map(str, WIDTHS):
            raise ValueError(f"width {width!r:.20}: must be one of {', '.join(map(str, WIDTHS))}, or absent")
        width = width and int(width)
        if not number < len(session.frames):
            raise HTTPException(404, f"frame {number}: the video has {len(session.frames)} frames")
        tag = f'"{session.frames.version(number)}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": tag}  # the file may be replaced
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        data = session.pictures.known(number, width)
        if data is None:
            async with self._turns[session.id]:
                if await request.is_disconnected():  # the page has gone on to another frame
                    return Response(status_code=499)
                data = await _read(session.pictures.jpeg, number, width)
        return Response(data, media_type="image/jpeg", headers=headers)

    async def act(self, request: Request) -> Response:
        session, asked = await self._session(request), await _json(request)
        target = await run_in_threadpool(self._act, session, asked)
        return JSONResponse({"revision": session.revision, "target": target})

    def _act(self, session: Session, asked: dict[str, Any]) -> int | None:
        action, target = asked.get("action"), asked.get("target")
        if action in ("undo", "redo"):
            with session.changing():
                session.undo(back=action == "undo")
                self.runner.stop(session)
            return None
        if action not in LABELS:
            raise ValueError(f"action {action!r:.20}: must be undo, redo or one of {', '.join(LABELS)}")
        if target is not None and (isinstance(target, bool) or not isinstance(target, int)):
            raise ValueError(f"target {target!r:.20}: must be the number of a target")
        for name in ("frame", "first", "last"):
            number = asked.get(name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
                raise ValueError(f"{name} {number!r:.20}: must be a whole number")
            if number is not None and not 0 <= number < len(session.frames):
                raise ValueError(f"{name} {number}: the video has frames 0 to {len(session.frames) - 1}")
        made: list[int] = []

        def change(content: document.Document) -> document.Document:
            match action:
                case "box":
                    if asked.get("tracker") is not None:
                        self._check_tracker(asked["tracker"])
                    height, width = session.frames.size[::-1]
                    box = check_box(asked.get("box"), height, width).tolist()
                    named = {name: asked[name] for name in ("name", "tracker") if asked.get(name) is not None}
                    if target is None:
                        named.setdefault("tracker", self.settings.default_tracker)
                    after, identity = document.draw(content, target, _given(asked, "frame"), box, **named)
                    made.append(identity)
                    return after
                case "absent":
                    return document.mark_absent(content, target, _given(asked, "first"), _given(asked, "last"))
                case "delete":
                    return document.delete(content, target, _given(asked, "first"), _given(asked, "last"))
                case "interpolate":
                    return document.interpolate(content, target, _given(asked, "frame"))
                case "remove":
                    return document.remove(content, target)
                case "rename":
                    return document.rename(content, target, _given(asked, "name"))
                case "tracker":
                    self._check_tracker(_given(asked, "tracker"))
                    return document.set_tracker(content, target, asked["tracker"])

        with session.changing():  # so that no run begins between
            name = "a target" if target is None else session.document.target(target).name
            change(session.document)  # raises before a run is stopped for it
            made.clear()
            if target is not None:
                self.runner.stop(session, target)
            session.edit(LABELS[action].format(name=name), change)
        return made[0] if made else target

    def _check_tracker(self, name: Any) -> None:
        if not isinstance(name, str) or name not in self.runner.weights:
            raise ValueError(f"tracker {name!r:.60}: is not offered; it is one of {', '.join(self.runner.weights)}")

    async def track(self, request: Request) -> Response:
        session, asked = await self._session(request), await _json(request)
        ids, frame, direction = (_given(asked, name) for name in ("targets", "frame", "direction"))
        if not isinstance(ids, list) or not ids or not all(type(one) is int for one in ids):
            raise ValueError(f"targets {ids!r:.40}: must be a list of the numbers of targets")
        if type(frame) is not int or type(direction) is not int or direction not in (-1, 0, 1):
            raise ValueError("frame must be a whole number, and direction 1, -1 or 0")
        await run_in_threadpool(self.runner.start, session, ids, frame, direction)
        return JSONResponse({})

    async def stop(self, request: Request) -> Response:
        await run_in_threadpool(self.runner.stop, await self._session(request))
        return JSONResponse({})

    async def export(self, request: Request) -> Response:
        session, form = await self._session(request), request.path_params["form"]
        text, suffix = await run_in_threadpool(_exported, session, form)
        kind = "text/csv" if form == "csv" else "application/octet-stream"
        return Response(text, media_type=kind, headers=_download(f"{session.name}{suffix}"))

    async def import_(self, request: Request) -> Response:
        session, name = await self._session(request), Path(request.query_params.get("name", "")).name
        body = await _body(request, LARGEST_ANNOTATION)
        await run_in_threadpool(_import, session, name or "file", body)
        return JSONResponse({"revision": session.revision})

    async def render(self, request: Request) -> Response:
        session = await self._session(request)
        thread = self._rendering.get(session.id)
        if thread is None or not thread.is_alive():
            thread = threading.Thread(target=self._render, args=[session], name="rendering")
            self._rendering[session.id] = thread
            thread.start()
        return JSONResponse({})

    def _rendered(self, session: Session) -> Path:
        return self.scratch / f"{session.id}.mp4"

    def _render(self, session: Session) -> None:
        total = len(session.frames)
        tell = functools.partial(self.hub.tell, "render", video=session.id, total=total)

        def done(count: int) -> bool:
            if count % 10 == 0:
                tell(state="working", done=count, message="")
            return self.ending.is_set()

        try:
            render(session, self._rendered(session), done)
            tell(state="done", done=total, message="")
        except Exception as error:  # whatever it is, the page waits for an end
            tell(state="failed", done=0, message=one_line(error))

    async def rendered(self, request: Request) -> Response:
        session = await self._session(request)
        path = self._rendered(session)
        if not path.is_file():
            raise HTTPException(404, "no annotated video was made yet")
        return FileResponse(path, media_type="video/mp4", headers=_download(f"{session.name}_tracked.mp4"))

    async def insight(self, request: Request) -> Response:
        session = await self._session(request)
        target, number = request.path_params["target"], request.path_params["number"]
        found = await run_in_threadpool(session.insight, target, number)
        if found is None:
            raise HTTPException(404, f"frame {number}: nothing is known; track through it")
        return JSONResponse(found)

    async def events(self, request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self.hub.listen(), media_type="text/event-stream", headers=headers)

    async def _session(self, request: Request) -> Session:
        try:
            return await _read(self.videos.session, request.path_params["video"])
        except KeyError:
            raise HTTPException(404, "there is no such video; it may have been moved") from None


class Guard:
    """Refuses what does not come from the page: another host name, a foreign page, a request without the token."""

    def __init__(self, app: Callable[..., Awaitable[None]], settings: Settings):
        self.app, self.settings = app, settings

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        answer = self._refusal(request)
        await (answer or self.app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self.settings.hosts and name.lower() not in self.settings.hosts:  # a foreign name that leads here
            return _failed(f"host {name!r:.60}: not served under this name", 403)
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if request.headers.get(HEADER) != "1" or (origin and origin.partition("://")[2].lower() != host.lower()):
                return _failed(f"not from the page; programs send the header {HEADER}: 1", 403)
        token = self.settings.token
        if token is None:
            return None
        if request.scope["path"] == "/" and "token" in request.query_params:
            if not _same(request.query_params["token"], token):
                return _failed("wrong token", 403)
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        given = request.cookies.get(COOKIE) or request.headers.get("authorization", "").removeprefix("Bearer ")
        return None if _same(given, token) else _failed("open the address with ?token=..., as it was printed", 403)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _exported(session: Session, form: str) -> tuple[str, str]:
    """The text of a file and its suffix."""
    if form == "json":
        return session.text(), ".json"
    video = session.video()
    if form == "csv":
        return csv_text(video), ".csv"
    if form not in annotations.FORMATS:
        raise HTTPException(404, f"format {form!r:.20}: must be csv, json, {', '.join(annotations.FORMATS)}")
    return annotations.FORMATS[form].render(video), f".{form}{annotations.FORMATS[form].suffix}"


def _import(session: Session, name: str, body: bytes) -> None:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultError(f"{name}: not text ({error.reason} at byte {error.start}); choose another file") from error
    videos = annotations.parse(name, text)
    if len(videos) > 1:
        videos = [video for video in videos if video.name == session.name]
    if len(videos) != 1:
        raise ResultError(f"{name}: holds several videos and not one called {session.name}; give a file of it alone")
    last = max(int(track.frames[-1]) for track in videos[0].tracks)
    if last >= len(session.frames):
        raise ResultError(f"{name}: has a box in frame {last}; the last one of this video is {len(session.frames) - 1}")
    session.edit(f"import {name}", lambda content: stored.of_video(content, videos[0]))


def _download(name: str) -> dict[str, str]:
    """The header that gives a download its name, in any language (RFC 5987), and in plain letters for old programs."""
    plain = re.sub(r"[^\w .()+-]", "_", name, flags=re.ASCII)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}


def _failed(error: Exception | str, status: int) -> JSONResponse:
    return JSONResponse({"error": one_line(error)}, status)


async def _read(call: Callable[..., Result], *arguments: Any) -> Result:
    """`call` in another thread. Of a long video it may take minutes, for which the program's end does not wait."""
    return await to_thread.run_sync(call, *arguments, abandon_on_cancel=True)


def _given(asked: dict[str, Any], name: str) -> Any:
    if asked.get(name) is None:
        raise ValueError(f"{name} is missing")
    return asked[name]


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise HTTPException(413, f"the request is larger than {limit >> 20} MiB")
    return bytes(body)


async def _json(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(await _body(request, LARGEST_REQUEST))
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise ValueError("a JSON object is needed")
    return asked
