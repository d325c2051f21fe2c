"""The addresses of the annotator, over a real connection: draw, track, correct, undo, export, and what is refused."""

import json
import tempfile
import time

import av
import cv2
import numpy as np
import pytest

from eval import annotations
from eval.files import ResultError
from tests.helpers import annotator
from tests.helpers.annotator import BOX, TRACKER, Page

pytest.importorskip("starlette", reason="needs the extra `web`")
pytest.importorskip("uvicorn", reason="needs the extra `web`")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return annotator.walking_spot(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def place(tmp_path, clip):
    """A folder with the clip."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    return folder


@pytest.fixture
def page(place, tmp_path):
    (tmp_path / "scratch").mkdir()
    with annotator.served(place, tmp_path / "scratch", upload_limit=200_000) as base:
        yield Page(base)


def stored(place):
    return json.loads((place / "clip.mp4.annotation.json").read_text())


def test_what_a_page_begins_with(page):
    assert "<!doctype html>" in page.open("")[2].decode().lower()
    assert [one["name"] for one in page.get("api/trackers") if one["default"]] == [TRACKER]
    (tiny,) = [one for one in page.get("api/trackers") if one["name"] == "dimp_tiny"]
    assert tiny["paper"] == "DiMP" and tiny["auc"] > 0.4
    listed = page.get("api/videos")
    assert listed["folder"] == "videos" and listed["uploads"] and listed["videos"][0]["name"] == "clip.mp4"
    opened = page.get(page.here)
    assert (opened["frames"], opened["width"], opened["height"], opened["fps"]) == (60, 64, 48, 25.0)
    assert opened["document"] == {"revision": 0, "undo": None, "redo": None, "order": [], "targets": {}, "rows": []}


def test_frames_are_the_video_s(page, clip):
    with av.open(str(clip)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for number in (37, 0, 59, 36):
        status, headers, body = page.open(f"{page.here}/frames/{number}.jpg")
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert status == 200 and headers["Content-Type"] == "image/jpeg"
        assert np.abs(image.astype(int) - images[number]).mean() < 6  # JPEG of noise
        spot = np.unravel_index(cv2.blur(image, (5, 5)).sum(-1).argmax(), image.shape[:2])
        assert abs(spot[1] - (14 + min(number, 60 - number))) <= 1
    for address, status in (("60.jpg", 404), ("0.jpg?width=7", 400), ("x.jpg", 404), ("-1.jpg", 404)):
        assert page.open(f"{page.here}/frames/{address}")[0] == status


def test_draw_track_correct_and_undo(page, place):
    with page.listening() as heard:
        target = page.act("box", target=None, frame=0, box=BOX, name="spot")
        page.track([target], 0)
        time.sleep(0.1)
    rows = page.rows(target)
    assert sorted(rows) == [*range(60)] and rows[0][4:] == [1.0, 0, "key", None]
    assert {row[6] for at, row in rows.items() if at} == {"tracked"}
    assert all(row[7] > 100 for at, row in rows.items() if at)  # the trivial tracker's score is a gray level
    for at in (1, 25, 59):
        np.testing.assert_allclose(rows[at][:2], [10 + min(at, 60 - at), 14], atol=1.5)
    states = [one["state"] for one in heard if one["kind"] == "run"]
    assert states[0] == "waiting" and "compiling" in states and states[-1] == "done"
    assert any(one["message"].startswith("compiling for ") for one in heard if one["kind"] == "run")
    assert [one for one in heard if one["kind"] == "run"][-1]["done"] == 59
    revisions = [one["revision"] for one in heard if one["kind"] == "changed"]
    assert revisions == [*range(1, len(revisions) + 1)]  # a page sees from a gap that it has missed something
    told = {}
    for one in heard:
        for part in one.get("rows", ()):
            told.update(enumerate(part["rows"], part["first"]))
    assert told == rows
    assert stored(place)["targets"][0]["name"] == "spot" and len(stored(place)["targets"][0]["boxes"]) == 60

    page.act("box", target=target, frame=20, box=[40, 30, 8, 8])  # a correction: what followed is of another box
    assert sorted(page.rows(target)) == [*range(21)]
    page.track([target], 20)
    assert page.rows(target)[20][:2] == [40, 30] and len(page.rows(target)) == 60
    for left in (21, 60):
        page.act("undo")
        assert len(page.rows(target)) == left
    assert page.rows(target) == rows
    page.act("redo")
    assert sorted(page.rows(target)) == [*range(21)]


def test_what_a_tracker_saw_is_told_of_boxes_that_are_shown(page):
    target = page.act("box", target=None, frame=0, box=BOX)
    page.track([target], 0)
    saw = page.get(f"{page.here}/insight/{target}/30")
    np.testing.assert_allclose(saw["box"], page.rows(target)[30][:4], atol=0.01)
    assert saw["verdict"] == "found" and page.get(f"{page.here}/insight/{target}/0")["score"] is None
    page.act("box", target=target, frame=20, box=[40, 30, 8, 8])  # forgets what followed
    assert page.open(f"{page.here}/insight/{target}/30")[0] == 404
    page.act("undo")
    assert page.get(f"{page.here}/insight/{target}/30") == saw
    page.act("absent", target=target, first=30, last=30)
    page.act("remove", target=target)
    assert page.open(f"{page.here}/insight/{target}/29")[0] == page.open(f"{page.here}/insight/{target}/30")[0] == 404


def test_between_two_key_frames_both_runs_are_blended(page):
    target = page.act("box", target=None, frame=10, box=[20, 14, 8, 8])
    page.act("box", target=target, frame=20, box=[30, 14, 12, 8])
    page.track([target], 15, direction=0)
    rows = page.rows(target)
    assert sorted(rows) == [*range(10, 21)] and {row[6] for row in rows.values()} == {"key", "blended"}
    widths = [rows[at][2] for at in range(10, 21)]
    np.testing.assert_allclose(widths, np.linspace(8, 12, 11), atol=0.02)  # by the distances, equally confident
    page.track([target], 20, direction=-1)  # nothing new between
    page.track([target], 10, direction=-1)
    assert sorted(page.rows(target)) == [*range(21)]


def test_several_targets_in_one_run(page):
    ids = [page.act("box", target=None, frame=5, box=[15, 14 + 2 * k, 8, 8], name=f"t{k}") for k in range(3)]
    page.act("box", target=ids[1], frame=9, box=[19, 14, 8, 8])
    page.track(ids, 5)
    known = [sorted(page.rows(target)) for target in ids]
    assert known == [[*range(5, 60)], [*range(5, 10)], [*range(5, 60)]]
    assert page.get(page.here)["document"]["undo"] == "track t0, t1, t2"
    page.act("remove", target=ids[0])
    assert page.get(page.here)["document"]["order"] == ids[1:]


def test_a_box_that_was_tracked_becomes_a_key_frame_to_track_from(page):
    target = page.act("box", target=None, frame=30, box=[40, 14, 8, 8])
    page.track([target], 30)
    page.track([target], 40)
    assert page.get(page.here)["document"]["targets"][str(target)]["keys"] == [30, 40]


def test_a_run_is_stopped_by_a_correction_of_its_target(tmp_path):
    long = annotator.walking_spot(tmp_path / "long.mp4", 1500)
    (tmp_path / "scratch").mkdir()
    with annotator.served(long, tmp_path / "scratch") as base:
        page = Page(base)
        target = page.act("box", target=None, frame=0, box=BOX)
        page.post(f"{page.here}/track", {"targets": [target], "frame": 0, "direction": 1})
        while len(page.rows(target)) < 20:
            time.sleep(0.01)
        page.act("box", target=target, frame=5, box=[20, 20, 8, 8])
        assert sorted(page.rows(target)) == [*range(6)]
        page.wait()
        assert sorted(page.rows(target)) == [*range(6)], "boxes of the stopped run have come later"
        page.post(f"{page.here}/track", {"targets": [target], "frame": 5, "direction": 1})
        page.post(f"{page.here}/stop")
        page.wait()
        assert len(page.rows(target)) < 1500


def test_other_actions(page):
    target = page.act("box", target=None, frame=0, box=BOX)
    page.act("box", target=target, frame=10, box=[20, 14, 8, 8])
    page.act("interpolate", target=target, frame=4)
    assert page.rows(target)[4][:2] == [14, 14] and page.rows(target)[4][6] == "interpolated"
    page.act("absent", target=target, first=20, last=25)
    assert page.rows(target)[22] == [None, None, None, None, 0.0, 3, "absent", None]
    page.act("delete", target=target, first=24, last=30)
    page.act("rename", target=target, name="a spot")
    revision = page.get(page.here)["document"]["revision"]
    page.act("rename", target=target, name="a spot")  # nothing changes, so there is nothing to undo
    assert page.get(page.here)["document"]["revision"] == revision
    page.act("tracker", target=target, tracker="dimp_tiny")
    head = page.get(page.here)["document"]["targets"][str(target)]
    assert (head["name"], head["tracker"], head["absent"], head["keys"]) == ("a spot", "dimp_tiny", [[20, 23]], [0, 10])


@pytest.mark.parametrize("form", ["csv", "json", *annotations.FORMATS])
def test_every_export_is_read_again(page, tmp_path, form):
    target = page.act("box", target=None, frame=0, box=BOX, name="spot")
    page.track([target], 0)
    status, headers, body = page.open(f"{page.here}/export/{form}")
    name = headers["Content-Disposition"].split('"')[1]
    assert status == 200 and name.startswith("clip")
    (video,) = annotations.parse(name, body.decode())
    np.testing.assert_allclose(video.tracks[0].boxes[59], page.rows(target)[59][:4], atol=1e-3)

    status, answer = page.post(f"{page.here}/import?name={name}", body)
    assert status == 200, answer
    again = [page.rows(int(one)) for one in page.get(page.here)["document"]["order"]]
    assert len(again) == 2 and {row[6] for row in again[1].values()} == {"imported"}
    np.testing.assert_allclose(again[1][30][:4], again[0][30][:4], atol=1e-3)
    page.act("undo")
    assert len(page.get(page.here)["document"]["order"]) == 1


def test_an_annotated_video(page, tmp_path):
    page.act("box", target=None, frame=0, box=[10, 14, 20, 20])
    assert page.open(f"{page.here}/rendered")[0] == 404
    with page.listening() as heard:
        page.post(f"{page.here}/render")
        end = time.monotonic() + 30
        while not any(one["kind"] == "render" and one["state"] == "done" for one in heard):
            assert time.monotonic() < end
            time.sleep(0.05)
    (tmp_path / "made.mp4").write_bytes(page.open(f"{page.here}/rendered")[2])
    with av.open(str(tmp_path / "made.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    green = [image[24, 10].astype(int) for image in images]
    assert len(images) == 60 and green[0][1] > green[0][0] + 60 and abs(green[30][1] - green[30][0]) < 60


def test_the_annotation_is_there_after_a_restart(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(2):
        (tmp_path / f"scratch{number}").mkdir()
    with annotator.served(place, tmp_path / "scratch0") as base:
        page = Page(base)
        target = page.act("box", target=None, frame=0, box=BOX)
        page.track([target], 0)
        rows = page.rows(target)
    with (
        pytest.raises(ResultError, match="changed by another program"),
        annotator.served(place, tmp_path / "scratch1") as base,
    ):
        page = Page(base)
        assert page.rows(target) == rows and page.get("api/videos")["videos"][0]["annotated"]
        file = place / "clip.mp4.annotation.json"
        changed = file.read_text().replace('"target 1"', '"other"')
        file.write_text(changed)  # by somebody else
        with page.listening() as heard:
            page.act("rename", target=target, name="mine")
            time.sleep(0.1)
        assert any("changed by another program" in one.get("message", "") for one in heard)
        assert file.read_text() == changed
    (elsewhere,) = tmp_path.glob("jaxtrack-*/clip.mp4.annotation.json")
    assert json.loads(elsewhere.read_text())["targets"][0]["name"] == "mine"


@pytest.mark.parametrize("damage", ["{", "[]", '{"targets": []}', "\xff"])
def test_a_damaged_annotation_is_told_and_left_alone(page, place, damage):
    file = place / "clip.mp4.annotation.json"
    file.write_bytes(damage.encode("latin-1"))
    status, _, body = page.open(page.here)
    assert status == 422 and "clip.mp4.annotation.json" in json.loads(body)["error"]
    assert file.read_bytes() == damage.encode("latin-1")


BAD = [
    {},
    {"action": "dance"},
    {"action": "box"},
    {"action": "box", "frame": 0},
    {"action": "box", "frame": 60, "box": BOX},
    {"action": "box", "frame": -1, "box": BOX},
    {"action": "box", "frame": 0.5, "box": BOX},
    {"action": "box", "frame": True, "box": BOX},
    {"action": "box", "frame": 0, "box": [1, 2, 3]},
    {"action": "box", "frame": 0, "box": "12"},
    {"action": "box", "frame": 0, "box": [0, 0, float("inf"), 5]},
    {"action": "box", "frame": 0, "box": [100, 100, 5, 5]},
    {"action": "box", "frame": 0, "box": BOX, "name": ""},
    {"action": "box", "frame": 0, "box": BOX, "name": 5},
    {"action": "box", "frame": 0, "box": BOX, "tracker": "atom"},
    {"action": "box", "frame": 0, "box": BOX, "target": 9},
    {"action": "box", "frame": 0, "box": BOX, "target": "1"},
    {"action": "absent", "target": 1},
    {"action": "absent", "target": 1, "first": 5, "last": 4},
    {"action": "delete", "target": None, "first": 0, "last": 4},
    {"action": "interpolate", "target": 1, "frame": 5},
    {"action": "remove", "target": 4},
    {"action": "rename", "target": 1},
    {"action": "rename", "target": 1, "name": ["x"]},
    {"action": "tracker", "target": 1, "tracker": {}},
    {"action": "redo"},
]


def test_bad_actions_change_nothing(page):
    page.act("box", target=None, frame=0, box=BOX)
    before = page.get(page.here)
    for asked in BAD:
        status, answer = page.post(f"{page.here}/actions", asked)
        assert status == 400 and "\n" not in answer["error"] and len(answer["error"]) > 8, (asked, status, answer)
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        assert page.post(f"{page.here}/actions", body)[0] == 400
    assert page.post(f"{page.here}/actions", b" " * (2 << 20))[0] == 413
    odd = [{"targets": [1], "frame": 0, "direction": direction} for direction in (True, 1.0, 2, [1])]
    for asked in (
        {},
        {"targets": [1], "frame": 0},
        {"targets": [7], "frame": 0, "direction": 1},
        {"targets": "1"},
        *odd,
    ):
        assert page.post(f"{page.here}/track", asked)[0] == 400
    assert page.post(f"{page.here}/track", {"targets": [1], "frame": 5, "direction": 1})[0] == 400  # no box there
    assert page.post(f"{page.here}/track", {"targets": [1], "frame": 0, "direction": -1})[0] == 400  # nothing before
    for name, body in (("x.csv", b"a,b\n"), ("x.xml", b"<a>"), ("x.json", b"{}"), ("", b"\xff\xfe"), ("x.txt", b"")):
        status, answer = page.post(f"{page.here}/import?name={name}", body)
        assert status == 422 and "\n" not in answer["error"]
    assert page.open(f"{page.here}/export/exe")[0] == 404 and page.open("api/videos/none")[0] == 404
    assert page.open(f"{page.here}/insight/1/0")[0] == 404
    assert page.get(page.here) == before


def test_uploads(page, place, clip):
    for name in (
        "",
        "../x.mp4",
        "a/b.mp4",
        ".hidden.mp4",
        "notes.txt",
        "clip.mp4",
        "x" * 300 + ".mp4",
        "%C3%A9" * 190 + ".mp4",
        "a%00b.mp4",
    ):
        status, answer = page.post(f"api/videos?name={name}", clip.read_bytes())
        assert status == 422 and "\n" not in answer["error"], name
    assert page.post("api/videos?name=other.mp4", b"no video")[0] == 422
    assert page.post("api/videos?name=other.mp4", bytes(300_000))[0] == 422  # beyond the limit
    assert sorted(path.name for path in place.iterdir()) == ["clip.mp4"]
    status, answer = page.post("api/videos?name=other.mp4", clip.read_bytes())
    assert status == 200 and page.get(f"api/videos/{answer['id']}")["frames"] == 60
    assert sorted(path.name for path in place.iterdir()) == ["clip.mp4", "other.mp4"]


def test_nothing_outside_the_folder_is_served(page, place, tmp_path):
    (place / "secret.txt").write_text("secret")
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (place / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    assert [one["name"] for one in page.get("api/videos")["videos"]] == ["clip.mp4"]
    for address in (
        "page/../app.py",
        "page/%2e%2e/app.py",
        "page/..%2fapp.py",
        "api/videos/..%2f..%2fetc",
        "secret.txt",
    ):
        assert page.open(address)[0] == 404, address


def test_only_the_page_itself_may_ask(page):
    act = f"{page.here}/actions", {"action": "undo"}
    for headers in ({"X_Jaxtrack": ""}, {"Origin": "http://evil.test"}, {"Host": "evil.test"}):
        assert page.post(*act, **headers)[0] == 403
    assert page.open("api/videos", Host="evil.test:80")[0] == 403
    port = page.base.rstrip("/").rpartition(":")[2]
    assert page.open("api/videos", Host=f"localhost:{port}")[0] == 200


def test_a_token(place, tmp_path):
    (tmp_path / "scratch").mkdir()
    with annotator.served(place, tmp_path / "scratch", token="correct horse", hosts=()) as base:
        page = Page(base, "none")
        assert page.open("api/videos")[0] == 403 and page.open("")[0] == 403
        assert page.open("?token=wrong")[0] == 403
        assert page.open("api/videos", Authorization="Bearer correct horse")[0] == 200
        assert page.open("api/videos", Cookie='jaxtrack="correct horse"')[0] == 200
