"""A small server with the contract of eval.web, whose tracker knows where the drawn target is: tests of the page."""

import base64
import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import numpy as np

from tests.helpers import places

PAGE = places.REPOSITORY / "eval" / "web" / "page"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
COLORS = ("#3cdc5a", "#40b4ff", "#ff6ad5", "#ffc240")
SIZE = (320, 180)  # width, height
TRACKERS = [
    {"name": "dimp_tiny", "paper": "DiMP", "auc": 0.531, "fps": 40.3, "default": True},
    {"name": "siamfc", "paper": "SiamFC", "auc": 0.42, "fps": 88.0, "default": False},
    {"name": "siamrpn", "paper": "SiamRPN", "auc": None, "fps": None, "default": False},
]


def truth(frame: int) -> list[float]:
    """The drawn target: it walks to the right and a little up and down."""
    return [20 + 3.5 * frame, 70 + 25 * float(np.sin(frame / 9)), 48, 36]


def picture(frame: int) -> np.ndarray:
    """`[180, 320, 3]` BGR: the target is brighter than its ground, whose blue counts the frames."""
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]]
    ground = 70 + 25 * np.sin(xs / 23) + 20 * np.cos(ys / 17)
    image = np.repeat(ground[..., None], 3, -1)
    x, y, w, h = (round(value) for value in truth(frame))
    image[max(y, 0) : y + h, max(x, 0) : x + w] = (60, 190, 240)
    image[max(y + 8, 0) : y + h - 8, max(x + 10, 0) : x + w - 10] = (40, 90, 200)
    image[:8, :8] = (4 * frame, 0, 0)
    return image.clip(0, 255).astype(np.uint8)


class Annotation:
    """One video's targets, without the rules of the real document: a key frame stays, a track fills what follows."""

    def __init__(self, name: str, frames: int):
        self.name, self.frames = name, frames
        self.revision, self.targets, self.past, self.future = 0, {}, [], []
        self.run = None

    def facts(self, name: str) -> dict:
        size = {"width": SIZE[0], "height": SIZE[1], "fps": 30.0}
        said = {"frames": self.frames, "document": self.document(), "run": self.run}
        return {"id": name, "name": self.name, **size, **said}

    def document(self) -> dict:
        rows = [self.rows_of(one) for one in self.targets]
        return self.head() | {"targets": self.described(self.targets), "rows": rows}

    def head(self) -> dict:
        undo, redo = (stack[-1][0] if stack else None for stack in (self.past, self.future))
        return {"revision": self.revision, "undo": undo, "redo": redo, "order": list(self.targets)}

    def described(self, ids) -> dict:
        return {str(one): self._facts(one) if one in self.targets else None for one in ids}

    def _facts(self, one: int) -> dict:
        return {key: self.targets[one][key] for key in ("name", "color", "tracker", "keys", "absent")}

    def rows_of(self, one: int, first: int = 0, last: int | None = None) -> dict:
        rows = self.targets[one]["rows"]
        until = self.frames if last is None else last + 1
        return {"target": one, "first": first, "rows": [rows.get(frame) for frame in range(first, until)]}


def _copy(targets: dict) -> dict:
    return json.loads(json.dumps(targets), object_pairs_hook=lambda pairs: {_number(k): v for k, v in pairs})


def _number(key: str):
    return int(key) if key.lstrip("-").isdigit() else key


class Annotator:
    """The server's state; `requests` holds what came, as (method, path, JSON or bytes or None)."""

    def __init__(self, frames: int = 60):
        self.videos = {"a1": Annotation("walk.mp4", frames)}
        self.requests, self.listeners, self.lock = [], [], threading.RLock()
        self.delay = 0.0  # seconds that a frame takes
        self.pace = 0.004  # seconds of a tracked frame
        self.compiles = 0.2  # seconds before the first frame is tracked
        self.limit, self.stopping, self.down = 5 << 20, threading.Event(), False
        self.threads = []

    def emit(self, event: dict) -> None:
        with self.lock:
            for queue in self.listeners:
                queue.put(event)

    def changed(self, video: str, ids=(), rows=()) -> dict:
        annotation = self.videos[video]
        annotation.revision += 1
        event = {"kind": "changed", "video": video, **annotation.head(), "targets": annotation.described(ids)}
        self.emit(event | {"rows": list(rows)})
        return {"revision": annotation.revision, "target": next(iter(ids), None)}

    def act(self, video: str, action: str, **fields) -> dict:
        annotation = self.videos[video]
        if action in ("undo", "redo"):
            return self._back(video, action)
        target = fields.get("target")
        if target is not None and target not in annotation.targets:
            raise ValueError(f"there is no target {target}")
        before = _copy(annotation.targets)
        name, target = getattr(self, f"_{action}")(annotation, **fields)
        annotation.past.append((f"{action} {name}", before))
        annotation.future.clear()
        return self._all(video, {target, *before})

    def _all(self, video: str, ids) -> dict:
        annotation = self.videos[video]
        ids = sorted(ids, key=lambda one: one not in annotation.targets or -one)
        return self.changed(video, ids, [annotation.rows_of(one) for one in ids if one in annotation.targets])

    def _back(self, video: str, action: str) -> dict:
        annotation = self.videos[video]
        here, there = annotation.past, annotation.future
        if action == "redo":
            here, there = there, here
        said, targets = here.pop()
        there.append((said, _copy(annotation.targets)))
        ids = {*annotation.targets, *targets}
        annotation.targets = targets
        return self._all(video, ids)

    def _box(self, annotation, target, frame, box, name=None, tracker="dimp_tiny"):
        if target is None:
            target = max(annotation.targets, default=0) + 1
            color = COLORS[(target - 1) % len(COLORS)]
            one = {"name": name or f"target {target}", "color": color, "tracker": tracker, "keys": [], "absent": []}
            annotation.targets[target] = one | {"rows": {}}
        one = annotation.targets[target]
        one["keys"] = sorted({*one["keys"], frame})
        one["rows"][frame] = [*box, 1.0, 0, "key"]
        return one["name"], target

    def _absent(self, annotation, target, first, last):
        one = annotation.targets[target]
        one["absent"].append([first, last])
        one["rows"].update({frame: [None, None, None, None, None, 3, "absent"] for frame in range(first, last + 1)})
        return one["name"], target

    def _delete(self, annotation, target, first, last):
        one = annotation.targets[target]
        one["keys"] = [key for key in one["keys"] if not first <= key <= last]
        one["absent"] = [span for span in one["absent"] if span[1] < first or span[0] > last]
        one["rows"] = {frame: row for frame, row in one["rows"].items() if not first <= frame <= last}
        return one["name"], target

    def _interpolate(self, annotation, target, frame):
        one = annotation.targets[target]
        before, after = [k for k in one["keys"] if k <= frame], [k for k in one["keys"] if k > frame]
        if not before or not after:
            raise ValueError(f"{one['name']} has no key frames on both sides of frame {frame}")
        a, b = before[-1], after[0]
        start, end = (np.array(one["rows"][key][:4]) for key in (a, b))
        for n in range(a + 1, b):
            one["rows"][n] = [*((start * (b - n) + end * (n - a)) / (b - a)), None, 0, "interpolated"]
        return one["name"], target

    def _remove(self, annotation, target):
        return annotation.targets.pop(target)["name"], target

    def _rename(self, annotation, target, name):
        annotation.targets[target]["name"] = name
        return name, target

    def _tracker(self, annotation, target, tracker):
        annotation.targets[target]["tracker"] = tracker
        return annotation.targets[target]["name"], target

    def track(self, video: str, targets, frame, direction) -> None:
        self.stopping.clear()
        thread = threading.Thread(target=self._track, args=(video, targets, frame, direction))
        self.threads.append(thread)
        thread.start()

    def _track(self, video, ids, frame, direction):
        annotation = self.videos[video]
        order = range(frame - 1, -1, -1) if direction < 0 else range(frame + 1, annotation.frames)
        run = {"video": video, "targets": ids, "direction": direction, "total": len(order), "fps": 0.0}

        def say(state, at, done, message=""):
            annotation.run = run | {"state": state, "frame": at, "done": done, "message": message}
            self.emit({"kind": "run", **annotation.run})

        say("compiling", frame, 0, "compiling for 180x320 (once; kept for later runs)")
        time.sleep(self.compiles)
        run["fps"] = 100.0
        for done, at in enumerate(order, 1):
            if self.stopping.is_set():
                return say("stopped", at, done)
            with self.lock:
                ids = [one for one in ids if one in annotation.targets]
                for one in ids:
                    row = annotation.targets[one]["rows"].get(at)
                    if row is None or row[6] not in ("key", "absent"):
                        annotation.targets[one]["rows"][at] = self.tracked_row(at)
                if done % 4 == 0 or done == len(order):
                    low, high = sorted((at, at - 3 * (1 if direction >= 0 else -1)))
                    self.changed(video, (), [annotation.rows_of(one, max(low, 0), high) for one in ids])
                    say("tracking", at, done)
            time.sleep(self.pace)
        say("done", order[-1] if len(order) else frame, len(order))

    def tracked_row(self, frame: int) -> list:
        """Mostly found; unsure around 25, near a distractor around 35, lost around 45."""
        verdict = {5: 1, 7: 2, 9: 3}.get(frame // 5, 0)
        confidence = round(0.92 - 0.05 * np.sin(frame / 3) - 0.22 * verdict, 3)
        return [*truth(frame), confidence, verdict, "tracked"]

    def render(self, video: str) -> None:
        for done in (0, 30):
            self.emit({"kind": "render", "video": video, "state": "working", "done": done, "total": 60, "message": ""})
        self.emit({"kind": "render", "video": video, "state": "done", "done": 60, "total": 60, "message": ""})

    def insight(self, video: str, target: int, frame: int) -> dict | None:
        row = self.videos[video].targets[target]["rows"].get(frame)
        if row is None or row[6] != "tracked":
            return None
        x, y, w, h = row[:4]
        side = 4 * max(w, h)
        search = [x + w / 2 - side / 2, y + h / 2 - side / 2, side, side]
        ys, xs = np.mgrid[:18, :18]
        scores = np.exp(-((xs - 8.5) ** 2 + (ys - 8.5) ** 2) / 6) + 0.3 * np.exp(-((xs - 14) ** 2 + (ys - 4) ** 2) / 3)
        shifts = np.random.default_rng(frame).normal(0, 6, (8, 4))
        proposals = [[*(np.array(row[:4]) + shift), float(np.exp(-np.abs(shift).sum() / 40))] for shift in shifts]
        _, code = cv2.imencode(".jpg", picture(frame)[:48, :48])
        thumbnail = "data:image/jpeg;base64," + base64.b64encode(code.tobytes()).decode()
        memory = [{"frame": 3 * i, "weight": 0.25 / (1 + i), "thumbnail": thumbnail} for i in range(6)]
        told = {"box": row[:4], "score": 0.81, "confidence": row[4], "verdict": "found"}
        told |= {"search": search, "score_map": scores.round(4).tolist()}
        return told | {"proposals": proposals, "memory": memory}


def _handler(annotator: Annotator):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def send(self, body: bytes | dict | list, kind="application/json", status=200, **headers):
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def refuse(self, message, status=400):
            self.send({"error": message}, status=status)

        def do_GET(self):
            if annotator.down:
                self.close_connection = True
                return
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            annotator.requests.append(("GET", self.path, None))
            parts = [unquote(part) for part in path.strip("/").split("/")]
            with suppress(BrokenPipeError, ConnectionResetError):
                self.answer(path, parts, query)

        def answer(self, path, parts, query):
            if path == "/" or parts[0] == "page":
                file = PAGE / ("index.html" if path == "/" else parts[1])
                policy = "default-src 'self'; img-src 'self' data: blob:"
                return self.send(file.read_bytes(), KINDS[file.suffix], Content_Security_Policy=policy)
            if path == "/api/trackers":
                return self.send(TRACKERS)
            if path == "/api/videos":
                videos = annotator.videos.items()
                listed = [{"id": one, "name": video.name, "annotated": bool(video.targets)} for one, video in videos]
                formats = ["csv", "json", "mot", "coco", "youtube-vis", "cvat"]
                head = {"folder": "clips", "videos": listed, "uploads": True, "limit": annotator.limit}
                return self.send(head | {"formats": formats})
            if path == "/api/events":
                return self.stream()
            video, rest = parts[2], parts[3:]
            if video not in annotator.videos:
                return self.refuse("there is no such video", 404)
            if not rest:
                with annotator.lock:
                    return self.send(annotator.videos[video].facts(video))
            if rest[0] == "frames":
                time.sleep(annotator.delay)
                image = picture(int(rest[1].removesuffix(".jpg")))
                return self.send(cv2.imencode(".jpg", image)[1].tobytes(), "image/jpeg")
            if rest[0] == "insight":
                found = annotator.insight(video, int(rest[1]), int(rest[2]))
                return self.send(found) if found else self.refuse("nothing is known of this frame", 404)
            name = f"attachment; filename=\"_\"; filename*=UTF-8''walk.{rest[-1]}"
            return self.send(b"frame,target\n", "text/plain", Content_Disposition=name)

        def stream(self):
            queue = Queue()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"retry: 200\n\n: hello\n\n")
            self.wfile.flush()
            annotator.listeners.append(queue)
            self.close_connection = True
            while not annotator.down:
                with suppress(Empty):
                    event = queue.get(timeout=0.05)
                    if event is None:
                        break
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
            annotator.listeners.remove(queue)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            is_json = self.headers.get("Content-Type") == "application/json"
            value = json.loads(body) if is_json else body
            annotator.requests.append(("POST", self.path, value))
            if self.headers.get("X-Jaxtrack") != "1":
                return self.refuse("this request is not of the page", 403)
            parts = urlsplit(self.path).path.strip("/").split("/")
            with annotator.lock:
                try:
                    self.send(self.change(parts, value))
                except (ValueError, KeyError) as error:
                    self.refuse(str(error))

        def change(self, parts, value):
            if parts[1:] == ["videos"]:
                annotator.videos["b2"] = Annotation("more.mp4", 20)
                return {"id": "b2"}
            video, what = parts[2], parts[3]
            if what == "actions":
                return annotator.act(video, **value)
            if what == "track":
                annotator.track(video, **value)
            elif what == "stop":
                annotator.stopping.set()
            elif what == "render":
                annotator.render(video)
            elif what == "import":
                if not value.startswith(b"frame"):
                    raise ValueError("boxes.csv: not boxes of eval.track; track the video again")
                return annotator.changed(video)
            return {}

    return Handler


@contextmanager
def serve(annotator: Annotator):
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(annotator))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        annotator.stopping.set()
        annotator.down = True
        for one in annotator.threads:
            one.join()
        server.shutdown()
        thread.join()
        server.server_close()
