"""The annotator where something is wrong around it: disks, names, videos that change, pages that hang, threads that
meet."""

import asyncio
import errno
import importlib
import json
import os
import random
import socket
import tempfile
import threading
import time
from functools import partial
from urllib.parse import quote, unquote

import jax.numpy as jnp
import pytest

import trackers
from eval.files import ResultError
from eval.web import document, events, library, runs, session
from eval.web.events import Hub
from eval.web.library import Library
from eval.web.runs import Runner
from ops.boxes import Box
from tests.helpers import annotator, trivial_tracker
from tests.helpers.annotator import BOX, TRACKER, Page
from tests.helpers.disk import small_disk
from trackers.base import Tracker

pytest.importorskip("starlette", reason="needs the extra `web`")
pytest.importorskip("uvicorn", reason="needs the extra `web`")

app = importlib.import_module("eval.web.app")  # a fault of ours fails
ODD = 'a "b"; #%?+ é€.mp4', "line\nbreak.mp4", os.fsdecode(b"not\xffutf8.mp4")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return annotator.walking_spot(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def place(tmp_path, clip):
    """A folder with the clip, beside an empty one."""
    for name in ("videos", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(clip.read_bytes())
    return tmp_path / "videos"


@pytest.fixture
def page(place):
    with annotator.served(place, place.parent / "scratch") as base:
        yield Page(base)


def until(true):
    end = time.monotonic() + 30
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def drawn(content, tracker):
    """With one more target."""
    return document.draw(content, None, 0, BOX, tracker=tracker)[0]


class Copy:
    """What a page knows that applies the events to what it began with."""

    def __init__(self, whole):
        self.rows, self.targets = {}, {}
        self.take(whole)

    def take(self, change):
        for key, head in change["targets"].items():
            self.targets.pop(key, None)
            if head is None:
                self.rows.pop(key, None)
            else:
                self.targets[key] = head
                self.rows.setdefault(key, {})
        self.revision, self.order = change["revision"], change["order"]
        self.labels = change["undo"], change["redo"]
        for part in change["rows"]:
            known = self.rows[str(part["target"])]
            for at, row in enumerate(part["rows"], part["first"]):
                known.pop(at, None)
                if row:
                    known[at] = row


def same(page, heard, begun):
    """That the events make of what there was what there is."""
    now = page.get(page.here)["document"]
    until(lambda: any(one.get("revision") == now["revision"] for one in heard) or now["revision"] == begun["revision"])
    copy = Copy(begun)
    for one in [one for one in heard if one["kind"] == "changed"]:
        assert one["revision"] == copy.revision + 1
        copy.take(one)
    assert vars(copy) == vars(Copy(now))


def anything(pick: random.Random, ids):
    """A request of a page: (address, content)."""
    target, first = pick.choice([*ids, 99]), pick.randrange(60)
    last = min(first + pick.randrange(12), 59)
    box = {"action": "box", "target": target, "frame": first, "box": [pick.randrange(40), pick.randrange(30), 8, 8]}
    return pick.choice(
        [
            ("actions", box),
            ("actions", {**box, "target": None}),
            ("actions", {"action": "absent", "target": target, "first": first, "last": last}),
            ("actions", {"action": "delete", "target": target, "first": first, "last": last}),
            ("actions", {"action": "interpolate", "target": target, "frame": first}),
            ("actions", {"action": "rename", "target": target, "name": f"name {first % 4}"}),
            ("actions", {"action": "remove", "target": target}),
            ("actions", {"action": "undo"}),
            ("actions", {"action": "undo"}),
            ("actions", {"action": "redo"}),
            ("track", {"targets": [target], "frame": first, "direction": pick.choice([-1, 0, 1])}),
            ("track", {"targets": ids, "frame": first, "direction": 0}),
            ("stop", {}),
        ]
    )


@pytest.mark.parametrize(("pages", "count"), [(1, 50), pytest.param(4, 120, marks=pytest.mark.full)])
def test_events_lead_to_what_there_is(page, pages, count):
    """Whatever pages do at once: no revision is left out, no request fails in another way than by one line."""
    ids = [page.act("box", target=None, frame=5 * k, box=BOX) for k in range(3)]
    begun, answers = page.get(page.here)["document"], []

    def work(seed):
        pick = random.Random(seed)
        for _ in range(count):
            address, content = anything(pick, ids)
            answers.append(page.post(f"{page.here}/{address}", content))

    with page.listening() as heard:
        threads = [threading.Thread(target=work, args=[seed]) for seed in range(pages)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        page.wait()
        same(page, heard, begun)
    assert len(answers) == count * pages and {status for status, _ in answers} == {200, 400}
    states = [one for one in heard if one["kind"] == "run"]
    assert {one["state"] for one in states} <= {"waiting", "compiling", "tracking", "done", "stopped"}
    assert states[-1]["state"] in ("done", "stopped")


def test_of_two_runs_that_begin_at_once_one_is_left(place, monkeypatch):
    videos, runner = Library(place, Hub()), Runner({TRACKER: None})
    video = videos.session(videos.videos()[0]["id"])
    video.edit("draw", partial(drawn, tracker=TRACKER))
    both = threading.Barrier(2)

    def plan(*arguments):
        try:
            both.wait(0.3)  # the second comes here at once, or after the first has begun
        except threading.BrokenBarrierError:
            pass
        return real(*arguments)

    real = runs.plan
    monkeypatch.setattr(runs, "plan", plan)
    monkeypatch.setattr(runner, "_work", lambda: None)
    threads = [threading.Thread(target=runner.start, args=[video, [1], 0, 1]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = [runner._waiting.get_nowait() for _ in range(2)]
    assert [run.stopped.is_set() for run in begun] == [True, False]
    videos.close()


def odd(change):
    """A tracker whose estimate is changed."""

    def make(config):
        plain = trivial_tracker.make(config)

        def track(params, state, frame):
            state, estimate = plain.track(params, state, frame)
            return state, change(estimate)

        return Tracker(plain.init, track)

    return trackers.Entry(trivial_tracker.Config(), make, init_params=lambda key: trivial_tracker.params())


def raising(estimate):
    raise RuntimeError("a fault of\nits own")


NAN = odd(lambda estimate: estimate._replace(confidence=jnp.float32(jnp.nan)))
SURE = odd(lambda estimate: estimate._replace(confidence=jnp.float32(2)))
FAR = odd(lambda estimate: estimate._replace(box=Box(estimate.box.center * jnp.inf, estimate.box.size)))
SAYING = odd(lambda estimate: estimate._replace(verdict=jnp.int32(9)))
RAISING = odd(raising)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NAN", "frame 1: the confidence nan"),
        ("SURE", "frame 1: the confidence 2"),
        ("FAR", "frame 1: the box"),
        ("SAYING", "frame 1: the verdict 9"),
        ("RAISING", "RuntimeError: a fault of its own"),
        ("NOWHERE", "NOWHERE"),
    ],
)
def test_trackers_that_do_what_none_should(place, name, why, monkeypatch):
    hub, told = Hub(), []
    monkeypatch.setattr(hub, "tell", lambda kind, **content: told.append({"kind": kind, **content}))
    name = f"{__name__}:{name}"
    videos, runner = Library(place, hub), Runner({name: None, TRACKER: None})
    video = videos.session(videos.videos()[0]["id"])
    for tracker in (name, TRACKER):
        video.edit("draw", partial(drawn, tracker=tracker))
    for target in (1, 2):  # the thread lives on
        runner.start(video, [target], 0, 1)
        until(lambda: runner.status(video) is None)
    ends = [one for one in told if one["kind"] == "run" and one["state"] in ("failed", "done")]
    assert [one["state"] for one in ends] == ["failed", "done"] and why in ends[0]["message"]
    assert video.insights.of(1, 1) is None and len(video.document.target(2).forward) == 59
    runner.close()
    videos.close()


def test_a_page_that_never_reads_is_let_go(monkeypatch):
    monkeypatch.setattr(events, "BEHIND", 1000)

    async def heard():
        hub = Hub()
        lines = hub.listen()
        await anext(lines)
        for number in range(8):
            hub.tell("changed", number=number)
        await asyncio.sleep(0)
        assert '"number": 0' in await anext(lines)
        for number in range(8, 200):
            hub.tell("changed", number=number)
            await asyncio.sleep(0)
        (waiting,) = hub._listeners
        kept = sum(len(text or "") for text in waiting._texts)
        rest = [line async for line in lines]
        return kept, rest, hub._listeners

    kept, rest, listeners = asyncio.run(heard())
    assert kept <= 1000 and rest == [] and listeners == {}


def test_what_was_not_saved_is_saved_when_that_is_possible(place, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    real, file = session.replace_file, place / "clip.mp4.annotation.json"

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with annotator.served(place, place.parent / "scratch") as base:
        page = Page(base)
        monkeypatch.setattr(session, "replace_file", full)
        with page.listening() as heard:
            page.act("box", target=None, frame=0, box=BOX, name="spot")
            until(lambda: any("not saved" in one.get("message", "") for one in heard))
        assert not file.exists() and page.rows(1)
        monkeypatch.setattr(session, "replace_file", real)
    assert json.loads(file.read_text())["targets"][0]["name"] == "spot"

    place.joinpath("again").mkdir()
    with pytest.raises(ResultError, match=r"(?s)No space.*annotation is now in ") as caught:
        with annotator.served(place, place / "again") as base:
            monkeypatch.setattr(session, "replace_file", full)
            Page(base).act("rename", target=1, name="other")
    elsewhere = str(caught.value).split(" is now in ")[1]
    assert '"other"' in open(elsewhere).read() and '"spot"' in file.read_text()


def test_a_full_disk(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "scratch").mkdir()
    size = -(-clip.stat().st_size // 4096) * 4 + 8  # KiB, hardly more than the clip
    with small_disk(tmp_path / "disk", size) as place:
        (place / "clip.mp4").write_bytes(clip.read_bytes())
        with pytest.raises(ResultError, match="No space left"), annotator.served(place, tmp_path / "scratch") as base:
            page = Page(base)
            with page.listening() as heard:
                page.act("box", target=None, frame=0, box=BOX)
                page.track([1], 0)
                until(lambda: any("No space left" in one.get("message", "") for one in heard))
            status, answer = page.post("api/videos?name=other.mp4", clip.read_bytes())
            assert status == 422 and "free space" in answer["error"] and len(page.rows(1)) == 60
        assert {path.name for path in place.iterdir()} <= {"clip.mp4", "clip.mp4.annotation.json"}
    (elsewhere,) = tmp_path.glob("jaxtrack-*/clip.mp4.annotation.json")
    assert len(json.loads(elsewhere.read_text())["targets"][0]["boxes"]) == 60


@pytest.mark.parametrize("name", ODD)
def test_odd_names(place, name):
    (place / "clip.mp4").rename(place / name)
    with annotator.served(place, place.parent / "scratch") as base:
        page = Page(base)
        (listed,) = page.get("api/videos")["videos"]
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        assert listed["name"] == shown == page.get(page.here)["name"]
        with page.listening() as heard:
            page.act("box", target=None, frame=0, box=BOX)
            status, headers, _ = page.open(f"{page.here}/export/csv")
        assert not [one for one in heard if one["kind"] == "problem"] and (place / f"{name}.annotation.json").is_file()
        plain, _, coded = headers["Content-Disposition"].removeprefix("attachment; filename=").partition("; ")
        assert status == 200 and unquote(coded.removeprefix("filename*=UTF-8''")) == shown.replace(".mp4", ".csv")
        assert plain.isascii() and plain.isprintable() and plain.count('"') == 2


def test_a_video_that_is_replaced_is_not_mixed_with_the_first(page, place, tmp_path):
    status, headers, _ = page.open(f"{page.here}/frames/0.jpg")
    assert status == 200
    again = {"If_None_Match": headers["ETag"]}
    assert page.open(f"{page.here}/frames/0.jpg", **again)[::2] == (304, b"")
    annotator.walking_spot(tmp_path / "other.mp4", 70).replace(place / "clip.mp4")
    assert page.open(f"{page.here}/frames/50.jpg")[0] == 200  # what is open is the first one
    page.act("box", target=None, frame=0, box=BOX)
    with page.listening() as heard:
        page.track([1], 0)
        failed = until(lambda: [one for one in heard if one.get("state") == "failed"])
    assert "changed or moved" in failed[0]["message"]
    (place / "clip.mp4").unlink()
    assert page.get("api/videos")["videos"] == [] and page.rows(1)


def test_a_folder_that_is_gone_is_one_line(page, place):
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    status, _, body = page.open("api/videos")
    assert status == 500 and "No such file" in json.loads(body)["error"]


def test_what_nobody_thought_of_is_one_line(page, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("what\nnow")

    monkeypatch.setattr(app, "csv_text", broken)
    status, _, body = page.open(f"{page.here}/export/csv")
    assert status == 500 and "what" in json.loads(body)["error"]
    monkeypatch.setattr(app, "render", broken)
    with page.listening() as heard:
        page.post(f"{page.here}/render")
        (one,) = until(lambda: [one for one in heard if one["kind"] == "render"])
    assert (one["state"], one["message"]) == ("failed", "what now")


def test_a_long_file_that_is_opened_holds_up_no_other(place, clip, monkeypatch):
    (place / "long.mp4").write_bytes(clip.read_bytes())
    videos, go_on = Library(place, Hub()), threading.Event()
    known, waited = {one["name"]: one["id"] for one in videos.videos()}, []

    class Slow(session.Session):
        def __init__(self, identity, *more):
            if identity == known["long.mp4"]:
                waited.append(go_on.wait(20))
            super().__init__(identity, *more)

    monkeypatch.setattr(library, "Session", Slow)
    opening = threading.Thread(target=videos.session, args=[known["long.mp4"]])
    opening.start()
    try:
        assert videos.session(known["clip.mp4"]).path.name == "clip.mp4"
    finally:
        go_on.set()
        opening.join()
    assert waited == [True]
    videos.close()


def test_videos_that_nobody_looks_at_keep_no_images(place, clip, monkeypatch):
    monkeypatch.setattr(library, "AWAKE", 2)
    for number in range(4):
        (place / f"{number}.mp4").write_bytes(clip.read_bytes())
    videos = Library(place, Hub())
    for one in videos.videos():
        assert videos.session(one["id"]).pictures.jpeg(3)
    keeping = [one.path.name for one in videos._sessions.values() if one.frames._kept or one.pictures._kept]
    assert keeping == ["3.mp4", "clip.mp4"]
    videos.close()


def test_hosts_and_origins(page):
    port = page.base.rstrip("/").rpartition(":")[2]
    for host, status in ((f"LOCALHOST:{port}", 200), (f"[::1]:{port}", 200), ("[::1", 403), ("127.0.0.1.evil", 403)):
        assert page.open("api/videos", Host=host)[0] == status, host
    act = f"{page.here}/actions", {"action": "undo"}
    for origin in ("http://[evil", "null", "http://127.0.0.1:1", "file://", "x"):
        assert page.post(*act, Origin=origin)[0] == 403, origin
    assert page.post(*act, Origin=f"http://127.0.0.1:{port}")[0] == 400  # nothing to undo


def test_a_very_long_name_in_a_file_is_cut(page, place):
    page.act("box", target=None, frame=0, box=BOX)
    text = page.open(f"{page.here}/export/csv")[2].decode().replace("target 1", "x" * 5000)
    for _ in range(2):
        assert page.post(f"{page.here}/import?name=x.csv", text.encode())[0] == 200
    names = [one["name"] for one in page.get(page.here)["document"]["targets"].values()]
    assert names[1].strip("x") == "" and names[2] == names[1] + "-2" and len(names[2]) < 200
    whole = json.loads((place / "clip.mp4.annotation.json").read_text())
    assert [one["name"] for one in whole["annotation"]["targets"]] == names


def test_an_upload_that_breaks_off_leaves_nothing(page, place, capfd):
    host, port = page.base.split("/")[2].split(":")
    with socket.create_connection((host, int(port))) as line:
        head = f"POST /api/videos?name={quote('b é.mp4')} HTTP/1.1\r\nHost: {host}\r\nX-Jaxtrack: 1\r\n"
        line.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + bytes(70_000))
        until(lambda: len(list(place.iterdir())) == 2)
    until(lambda: [one.name for one in place.iterdir()] == ["clip.mp4"])
    page.get("api/videos")  # once the first request has come to its end
    assert capfd.readouterr().err == ""


def test_bodies(page):
    """Numbers that are none, and more of them than JSON should have."""
    act = f"{page.here}/actions"
    for text in (
        '{"action": "box", "frame": NaN, "box": [1, 2, 3, 4]}',
        '{"action": "box", "frame": 0, "box": [NaN, 2, 30, 40]}',
        '{"action": "box", "frame": 0, "box": [1, 2, Infinity, 40]}',
        '{"action": "box", "frame": 1e400, "box": [1, 2, 30, 40]}',
        '{"action": "box", "frame": 0, "box": [1, 2, %s, 40]}' % ("9" * 400),
        '{"action": "box", "frame": %s, "box": [1, 2, 30, 40]}' % ("9" * 5000),
        '{"action": "box", "frame": 0, "box": [1, 2, 30, 40], "name": "\\ud800"}',
        '{"action": "box", "frame": 0, "box": [1, 2, 30, 40], "name": "a\\u0000b"}',
        '{"action": "undo", "action": "redo"}',
        '{"action": "box", "frame": 0, "box": [1, 2, 30, 40], "name": "%s"}' % ("x" * 900_000),
        '{"action": "box", "frame": 0, "box": {"0": 1}}',
    ):
        status, answer = page.post(act, text.encode())
        assert status == 400 and "\n" not in answer["error"], text
    assert page.open(f"{page.here}/frames/{'9' * 5000}.jpg")[0] in (400, 404)
    assert page.open(f"{page.here}/insight/{'9' * 40}/{'9' * 40}")[0] == 404
    assert page.get(page.here)["document"]["order"] == []
