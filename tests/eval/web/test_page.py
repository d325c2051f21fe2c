"""The page of eval.web in a real browser, on a small server with the contract: mouse, fingers, keys, events."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.browsers import CHROMIUM, QUIET, needs_browser
from tests.helpers.fake_annotator import SIZE, Annotation, Annotator, serve, truth

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def annotator():
    return Annotator()


@pytest.fixture
def address(annotator):
    with serve(annotator) as address:
        yield address


@pytest.fixture
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    yield context
    context.close()


@pytest.fixture
def page(context, address, request):
    """The page with the first frame shown; whatever it complains of in the console fails the test."""
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.goto(address)
    shows(page, 0)
    yield page
    save(page, request.node.name)
    assert page.problems == []


def save(page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def shows(page, frame: int) -> None:
    """Waits until the picture of a frame is on the canvas."""
    page.wait_for_selector(f"#picture[data-frame='{frame}']")


def on_screen(page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the image is, while all of it is shown."""
    stage = page.locator("#picture").bounding_box()
    scale = min(stage["width"] / SIZE[0], stage["height"] / SIZE[1])
    left, top = (stage["width"] - SIZE[0] * scale) / 2, (stage["height"] - SIZE[1] * scale) / 2
    return stage["x"] + left + x * scale, stage["y"] + top + y * scale


def drag(page, start, end, keys=()):
    for key in keys:
        page.keyboard.down(key)
    page.mouse.move(*on_screen(page, *start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *end), steps=5)
    page.mouse.up()
    for key in keys:
        page.keyboard.up(key)


def draw(page, box):
    x, y, w, h = box
    drag(page, (x, y), (x + w, y + h))


def add(page, annotator, box, frame=0):
    """A target that is there already, as another browser would have drawn it; selected."""
    with annotator.lock:
        answer = annotator.act("a1", "box", target=None, frame=frame, box=list(box))
    row = page.locator("#targets li").nth(len(annotator.videos["a1"].targets) - 1)
    row.locator(".choose").click()
    page.wait_for_selector("#targets li.selected")
    return answer["target"]


def posts(annotator, end: str) -> list:
    sent = [(path.split("?")[0], value) for method, path, value in annotator.requests if method == "POST"]
    return [value for path, value in sent if path.endswith(end)]


def wait_for(page, true, message=""):
    for _ in range(200):
        if found := true():
            return found
        page.wait_for_timeout(25)
    raise AssertionError(message or "waited for nothing")


def last_box(page, annotator, count: int) -> dict:
    """The last of so many boxes that were sent."""
    sent = wait_for(page, lambda: (found := posts(annotator, "/actions")) and len(found) >= count and found)
    assert len(sent) == count
    return sent[-1]


def pixel(page, canvas: str, x: float, y: float) -> np.ndarray:
    """RGBA of a canvas, at a place in CSS pixels."""
    script = """([name, x, y]) => { const c = document.querySelector(name), r = c.width / c.clientWidth;
        return [...c.getContext('2d').getImageData(Math.round(x * r), Math.round(y * r), 1, 1).data]; }"""
    return np.array(page.evaluate(script, [canvas, x, y]))


def lane(page, frame: float, y: float, frames: int = 60) -> np.ndarray:
    return pixel(page, "#lanes", (frame + 0.5) / frames * page.evaluate("lanes.clientWidth"), y)


GREEN, YELLOW, ORANGE, RED = (60, 220, 90), (250, 210, 40), (255, 130, 20), (235, 50, 50)
BAND = 31  # the line of a lane that has the verdict's color


def test_a_box_is_drawn_selected_moved_and_resized(page, annotator):
    draw(page, (20, 70, 48, 36))
    sent = last_box(page, annotator, 1)
    assert (sent["action"], sent["target"], sent["frame"], sent["tracker"]) == ("box", None, 0, "dimp_tiny")
    np.testing.assert_allclose(sent["box"], [20, 70, 48, 36], atol=0.6)
    page.wait_for_selector("#targets li.selected")  # the new one
    drag(page, (44, 88), (64, 98))
    sent = last_box(page, annotator, 2)
    assert sent["target"] == 1 and "tracker" not in sent
    np.testing.assert_allclose(sent["box"], [40, 80, 48, 36], atol=0.8)
    drag(page, (88, 116), (120, 140))  # the lower right handle
    np.testing.assert_allclose(last_box(page, annotator, 3)["box"], [40, 80, 80, 60], atol=1)
    drag(page, (80, 80), (60, 60))  # the upper side: only it moves
    np.testing.assert_allclose(last_box(page, annotator, 4)["box"], [40, 60, 80, 80], atol=1)
    drag(page, (60, 70), (90, 90), ["Shift"])  # over the box: drawn, not moved
    np.testing.assert_allclose(last_box(page, annotator, 5)["box"], [60, 70, 30, 20], atol=1)
    drag(page, (200, 100), (400, 300))  # beyond the border, a correction of the selected one
    sent = last_box(page, annotator, 6)
    assert sent["target"] == 1
    np.testing.assert_allclose(sent["box"], [200, 100, 120, 80], atol=1)


def test_a_click_selects_and_a_new_target_can_be_drawn_beside(page, annotator):
    first, second = add(page, annotator, (20, 20, 100, 100)), add(page, annotator, (50, 50, 30, 30))
    page.mouse.click(*on_screen(page, 30, 30))
    page.wait_for_selector("#targets li:nth-child(1).selected")
    page.mouse.click(*on_screen(page, 65, 65))  # of two, the smaller one
    page.wait_for_selector("#targets li:nth-child(2).selected")
    page.mouse.click(*on_screen(page, 300, 170))
    page.wait_for_selector("#targets li.selected", state="detached")
    page.locator("#targets .choose").nth(0).click()
    page.get_by_role("button", name="New target").click()
    page.locator("#hint").wait_for()
    page.select_option("#tracker", "siamfc")
    draw(page, (60, 60, 20, 20))  # over both
    sent = last_box(page, annotator, 1)
    assert sent["target"] is None and sent["tracker"] == "siamfc" and (first, second) == (1, 2)
    page.wait_for_selector("#targets li:nth-child(3).selected")
    page.select_option("#tracker", "siamrpn")
    wait_for(page, lambda: annotator.videos["a1"].targets[3]["tracker"] == "siamrpn")


def test_seeking_stepping_and_playing(page, annotator):
    for key, frame in (("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("End", 59), ("Home", 0)):
        page.keyboard.press(key)
        shows(page, frame)
    assert page.locator("#frame").input_value() == "0"
    page.locator("#frame").fill("30")
    page.locator("#frame").press("Enter")
    shows(page, 30)
    ruler = page.locator("#ruler").bounding_box()
    page.mouse.click(ruler["x"] + ruler["width"] * 45.5 / 60, ruler["y"] + 10)
    shows(page, 45)
    assert page.locator("#ruler").get_attribute("aria-valuenow") == "45"
    np.testing.assert_allclose(pixel(page, "#picture", *corner(page))[2], 4 * 45, atol=12)  # the frame's own picture
    page.keyboard.press("Space")
    shows(page, 59)  # plays to the end, and stops there
    page.wait_for_selector("#play-icon[href='#icon-play']")
    page.select_option("#speed", "4")
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 700, "y": 20})
    page.keyboard.press("Shift+Space")
    shows(page, 0)
    asked = [path for method, path, _ in annotator.requests if "/frames/" in path]
    assert len(set(asked)) >= 40 and all(path.count("width=") == 0 for path in asked)  # an image smaller than 480


def corner(page) -> tuple[float, float]:
    """The middle of the patch whose blue counts the frames, on the canvas."""
    stage = page.locator("#picture").bounding_box()
    x, y = on_screen(page, 4, 4)
    return x - stage["x"], y - stage["y"]


def test_seeking_is_never_late(page, annotator):
    """A slow server: what was passed is given up, and the last frame is shown."""
    annotator.delay = 0.15
    before = len(annotator.requests)
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    shows(page, 50)
    asked = [path for _, path, _ in annotator.requests[before:] if "/frames/50" in path]
    assert len(asked) == 1
    assert page.locator("#frame").input_value() == "50"


def test_tracking_paints_the_timeline_and_the_boxes(page, annotator):
    annotator.pace = 0.02
    add(page, annotator, truth(0))
    page.get_by_role("button", name="Track forward").click()
    page.wait_for_selector("#run:visible")
    assert "Compiling for 180x320" in page.locator("#run-text").inner_text()
    wait_for(page, lambda: page.evaluate("document.querySelector('#run-text').textContent.includes('frames/s')"))
    assert re.search(r"target 1 forward: \d+ of 59 frames, 100.0 frames/s, \d s left", page.inner_text("#run-text"))
    page.wait_for_selector("#run", state="hidden")
    assert posts(annotator, "/track") == [{"targets": [1], "frame": 0, "direction": 1}]
    shows(page, 59)  # it was followed
    for frame, color in ((10, GREEN), (27, YELLOW), (37, ORANGE), (47, RED)):
        np.testing.assert_allclose(lane(page, frame, BAND)[:3], color, atol=2)
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    shows(page, 20)
    label = page.locator("#picture").get_attribute("aria-label")
    x, y, w, h = (round(value) for value in truth(20))
    assert f"target 1 found 0.90 at {x}, {y}, {w}, {h}" in label
    assert page.locator("#targets .verdict").inner_text() == "found 0.90"
    stage = page.locator("#picture").bounding_box()
    left, beside = on_screen(page, truth(20)[0], truth(20)[1] + 9)  # between two handles
    rows = [pixel(page, "#picture", left - stage["x"] + dx, beside - stage["y"])[:3] for dx in (-1, 0, 1)]
    assert min(np.abs(row - GREEN).max() for row in rows) < 40
    assert page.locator("#status").inner_text() == "Tracked 59 frames."


def test_a_run_is_stopped_and_following_ends_with_a_seek(page, annotator):
    annotator.pace = 0.05
    add(page, annotator, truth(0))
    page.keyboard.press("t")
    wait_for(page, lambda: page.evaluate("document.querySelector('#picture').dataset.frame > 2"))
    page.keyboard.press("Home")
    assert not page.locator("#follow").is_checked()
    page.wait_for_timeout(300)
    shows(page, 0)
    page.locator("#follow").check()
    wait_for(page, lambda: page.evaluate("document.querySelector('#picture').dataset.frame > 8"))
    page.keyboard.press("Escape")
    page.wait_for_selector("#run", state="hidden")
    assert posts(annotator, "/stop") == [{}] and annotator.videos["a1"].run["state"] == "stopped"


def test_a_correction_can_track_on(page, annotator):
    add(page, annotator, truth(0))
    page.get_by_label("Track on after a correction").check()
    page.keyboard.press("ArrowRight")
    shows(page, 1)
    draw(page, truth(1))
    wait_for(page, lambda: posts(annotator, "/track"))
    assert posts(annotator, "/track") == [{"targets": [1], "frame": 1, "direction": 1}]
    wait_for(page, lambda: page.evaluate("document.querySelector('#status').textContent.startsWith('Tracked')"))


def test_all_targets_are_tracked_together(page, annotator):
    add(page, annotator, truth(0)), add(page, annotator, (5, 5, 30, 30)), add(page, annotator, (5, 5, 30, 30), frame=9)
    page.select_option("#scope", "all")
    page.locator("#targets [aria-label='Hide target 2']").click()
    page.keyboard.press("t")
    wait_for(page, lambda: posts(annotator, "/track"))
    assert posts(annotator, "/track")[0]["targets"] == [1]  # the second is hidden, the third has no box here
    page.wait_for_selector("#run", state="hidden")


def test_a_range_is_marked_absent_deleted_and_undone(page, annotator):
    add(page, annotator, truth(0))
    lanes = page.locator("#lanes").bounding_box()
    at = lambda frame: lanes["x"] + lanes["width"] * (frame + 0.5) / 60  # noqa: E731
    page.keyboard.down("Shift")
    page.mouse.move(at(10), lanes["y"] + 20)
    page.mouse.down()
    page.mouse.move(at(19), lanes["y"] + 20, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.keyboard.press("a")
    assert last_box(page, annotator, 1) == {"action": "absent", "target": 1, "first": 10, "last": 19}
    wait_for(page, lambda: "absent 10 to 19" in page.locator("#lanes").get_attribute("aria-label"))
    hatched = np.array([lane(page, 15, y)[:3] for y in range(12, 34)])
    assert np.ptp(hatched, 0).max() > 40  # lines on their ground
    page.keyboard.press("Escape")  # no range
    page.keyboard.press("Home")
    page.keyboard.press("i")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("o")
    page.keyboard.press("Delete")
    assert last_box(page, annotator, 2) == {"action": "delete", "target": 1, "first": 0, "last": 10}
    undo = page.get_by_role("button", name="Undo")
    page.wait_for_selector("[data-command=undo][title='Undo: delete target 1 (Ctrl+Z)']")
    undo.click()
    page.wait_for_selector("[data-command=redo][title='Redo: delete target 1 (Ctrl+Shift+Z)']")
    page.keyboard.press("Control+z")
    wait_for(page, lambda: "absent" not in page.locator("#lanes").get_attribute("aria-label"))
    page.keyboard.press("Control+Shift+Z")
    wait_for(page, lambda: "absent 10 to 19" in page.locator("#lanes").get_attribute("aria-label"))
    assert [sent["action"] for sent in posts(annotator, "/actions")[2:]] == ["undo", "undo", "redo"]
    wait_for(page, lambda: page.locator("#status").inner_text() == "Done again: absent target 1")


def test_a_mark_leads_to_its_key_frame_and_lines_join_key_frames(page, annotator):
    target = add(page, annotator, (20, 20, 40, 40))
    with annotator.lock:
        annotator.act("a1", "box", target=target, frame=40, box=[120, 60, 40, 40])
    wait_for(page, lambda: "2 key frames" in page.locator("#lanes").get_attribute("aria-label"))
    lanes = page.locator("#lanes").bounding_box()
    page.mouse.click(lanes["x"] + lanes["width"] * 40.5 / 60 + 4, lanes["y"] + 5)
    shows(page, 40)
    page.keyboard.press("PageUp")
    shows(page, 0)
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("button", name="Interpolate").click()
    wait_for(page, lambda: "target 1 interpolated at 45, 30, 40, 40" in page.get_attribute("#picture", "aria-label"))


def test_everything_by_keys(page, annotator):
    page.locator("#picture").focus()
    page.keyboard.press("d")
    np.testing.assert_allclose(last_box(page, annotator, 1)["box"], [120, 67.5, 80, 45])
    page.wait_for_selector("#targets li.selected")
    for key in ("Alt+ArrowLeft", "Alt+ArrowLeft", "Alt+ArrowDown", "Alt+Shift+ArrowRight", "Alt+Shift+ArrowUp"):
        page.keyboard.press(key)
    sent = last_box(page, annotator, 2)  # one for all
    assert sent["target"] == 1
    np.testing.assert_allclose(sent["box"], [118, 68.5, 81, 44])
    page.keyboard.press("n")
    page.keyboard.press("d")
    page.wait_for_selector("#targets li:nth-child(2).selected")
    page.keyboard.press("Shift+Tab")
    page.wait_for_selector("#targets li:nth-child(1).selected")
    page.keyboard.press("2")
    page.wait_for_selector("#targets li:nth-child(2).selected")
    assert page.evaluate("document.activeElement.id") == "picture"
    page.keyboard.press("Tab")  # after the last target the key leaves the picture
    assert page.evaluate("document.activeElement.id") != "picture"
    page.keyboard.press("F2")
    page.keyboard.type("car")
    page.keyboard.press("Enter")
    wait_for(page, lambda: annotator.videos["a1"].targets[2]["name"] == "car")
    page.wait_for_selector("#lane-names button:has-text('car')")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.locator("#zoom").inner_text() == "156%"
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("0")
    assert page.locator("#zoom").inner_text() == "100%"
    page.keyboard.press("End")
    page.keyboard.press("D")
    last_box(page, annotator, 5)
    page.keyboard.press("Shift+T")
    page.keyboard.press("b")
    wait_for(page, lambda: len(posts(annotator, "/track")) == 2)
    assert [sent["direction"] for sent in posts(annotator, "/track")] == [-1, 0]
    page.keyboard.press("Shift+Delete")
    wait_for(page, lambda: 2 not in annotator.videos["a1"].targets)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible() and "Track forward" in page.locator("#keys").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_zoom_keeps_the_place_under_the_mouse(page, annotator):
    add(page, annotator, (20, 20, 40, 40))
    page.mouse.move(*on_screen(page, 40, 40))
    page.mouse.wheel(0, -600)
    wait_for(page, lambda: page.evaluate("parseInt(document.querySelector('#zoom').textContent) > 200"))
    page.mouse.down()
    page.mouse.move(on_screen(page, 40, 40)[0] + 50, on_screen(page, 40, 40)[1], steps=3)
    page.mouse.up()
    sent = last_box(page, annotator, 1)  # the box was still under the mouse; 50 screen pixels are fewer of the image
    zoom = int(page.locator("#zoom").inner_text()[:-1]) / 100
    scale = (on_screen(page, 1, 0)[0] - on_screen(page, 0, 0)[0]) * zoom
    np.testing.assert_allclose(sent["box"], [20 + 50 / scale, 20, 40, 40], atol=0.5)


def test_files(page, annotator, tmp_path):
    add(page, annotator, truth(0))
    page.locator("summary").click()
    save(page, "menu")
    with page.expect_download() as download:
        page.get_by_text("YouTube-VIS").click()
    assert download.value.suggested_filename == "walk.youtube-vis"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("frame,target\n")
    page.set_input_files("#import-file", boxes)
    wait_for(page, lambda: posts(annotator, "/import") == [b"frame,target\n"])
    boxes.write_text("nothing")
    page.set_input_files("#import-file", boxes)
    page.get_by_role("alert").get_by_text("boxes.csv: not boxes of eval.track").wait_for()
    page.get_by_role("button", name="Dismiss").click()
    assert page.locator("#problems p").count() == 0
    page.locator("summary").click()
    page.get_by_role("button", name="Make annotated video").click()
    page.get_by_text("The annotated video is ready.").first.wait_for()
    with page.expect_download() as download:
        page.locator("#rendered").click()
    assert "rendered" in download.value.url
    page.problems[:] = [line for line in page.problems if "400" not in line]  # of the refused import


def test_videos_are_uploaded_and_chosen(page, annotator, tmp_path):
    assert not page.locator("#videos").is_visible()
    clip = tmp_path / "more.mp4"
    clip.write_bytes(b"x" * 100)
    page.set_input_files("#upload-file", clip)
    wait_for(page, lambda: page.evaluate("document.title.startsWith('more.mp4')"))
    assert posts(annotator, "/videos") == [b"x" * 100]
    page.select_option("#videos", "a1")
    wait_for(page, lambda: page.evaluate("document.title.startsWith('walk.mp4')"))
    clip.write_bytes(bytes(annotator.limit + 1))
    page.set_input_files("#upload-file", clip)
    page.get_by_text("more.mp4: 5 MiB, above the limit of 5 MiB.").wait_for()
    assert len(posts(annotator, "/videos")) == 1


def test_inside_the_tracker(page, annotator):
    add(page, annotator, truth(0))
    with annotator.lock:
        rows = annotator.videos["a1"].targets[1]["rows"]
        rows[12] = annotator.tracked_row(12)
        annotator.changed("a1", (), [annotator.videos["a1"].rows_of(1, 12, 12)])
    page.keyboard.press("g")
    page.get_by_text("Track through this frame to see inside.").wait_for()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("#crop").wait_for()
    assert "Confidence" in page.inner_text("#numbers") and "18 x 18" in page.inner_text("#numbers")
    assert page.locator("#memory img").count() == 6
    side = page.evaluate("document.querySelector('#crop').clientWidth")
    warm, cold = pixel(page, "#crop", 0.45 * side, 0.52 * side), pixel(page, "#crop", 0.1 * side, 0.9 * side)
    assert warm[0] > 200 and cold[0] < 120
    page.get_by_label("Score map").uncheck()
    assert not page.locator("#map-scale").is_visible()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Track through this frame to see inside.").wait_for()
    page.problems[:] = [line for line in page.problems if "404" not in line]  # frames of which nothing is known


def test_a_lost_connection_is_said_and_the_video_is_loaded_anew(page, annotator):
    with annotator.lock:
        for queue in annotator.listeners:
            queue.put(None)  # ends the stream
        annotator.listeners.clear()
        annotator.act("a1", "box", target=None, frame=0, box=[5, 5, 20, 20])  # nobody hears of it
    page.locator("#connection").wait_for(state="visible")
    page.wait_for_selector("#targets li")
    assert not page.locator("#connection").is_visible()
    with annotator.lock:
        annotator.videos["a1"].revision += 3
        annotator.videos["a1"].targets[1]["name"] = "renamed unseen"
        annotator.changed("a1")
    page.get_by_text("renamed unseen").first.wait_for()  # a revision that skips
    page.problems[:] = [line for line in page.problems if "ERR_" not in line]


def test_refused_actions_are_said(page, annotator):
    add(page, annotator, truth(0))
    page.get_by_role("button", name="Interpolate").click()
    page.get_by_text("target 1 has no key frames on both sides of frame 0").wait_for()
    annotator.emit({"kind": "problem", "video": None, "message": "clip.mp4: cut short after frame 12"})
    page.get_by_text("cut short after frame 12").wait_for()
    page.problems[:] = [line for line in page.problems if "400" not in line]


def test_the_address_keeps_video_frame_and_target(page, annotator):
    annotator.videos["b2"] = Annotation("more.mp4", 20)
    add(page, annotator, truth(0))
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_url("**/#video=a1&frame=10&target=1")
    page.reload()
    shows(page, 10)
    page.wait_for_selector("#targets li.selected")
    page.select_option("#videos", "b2")
    page.wait_for_url("**/#video=b2&frame=0")


def test_ten_thousand_frames(browser, annotator):
    annotator.videos = {"long": Annotation("long.mp4", 10_000)}
    long = annotator.videos["long"]
    with serve(annotator) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        for number in range(8):
            annotator.act("long", "box", target=None, frame=0, box=[5 + number, 5, 20, 20])
        for target in long.targets.values():
            target["rows"] = {at: annotator.tracked_row(at % 60) for at in range(10_000)}
        page.goto(address)
        shows(page, 0)
        tell = """async () => { const { change, state } = await import('/page/store.js');
            const next = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            await next();
            for (let i = 0; i < 50; i++) change({ revision: state.revision + 1, undo: null, redo: null,
              order: state.order, targets: {}, rows: [{ target: 1, first: 100 * i,
              rows: Array(40).fill([1, 2, 3, 4, 0.5, 3, 'tracked']) }] });
            await next(); }"""
        page.evaluate(tell)
        save(page, "long")
        np.testing.assert_allclose(lane(page, 120, BAND, 10_000)[:3], RED, atol=2)
        page.close()


@pytest.fixture
def phone(browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield context.new_page()
    context.close()


def test_a_phone(phone, annotator, address):
    problems = []
    phone.on("pageerror", lambda error: problems.append(str(error)))
    phone.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    phone.goto(address)
    shows(phone, 0)
    touch(phone, [[on_screen(phone, 20, 70)], [on_screen(phone, 40, 90)], [on_screen(phone, 68, 106)]])
    np.testing.assert_allclose(last_box(phone, annotator, 1)["box"], [20, 70, 48, 36], atol=1.5)
    phone.wait_for_selector("#targets li.selected")
    apart = [[on_screen(phone, 150 - d, 90), on_screen(phone, 170 + d, 90)] for d in (10, 20, 40, 60)]
    touch(phone, apart)  # a pinch draws nothing
    assert int(phone.locator("#zoom").inner_text()[:-1]) > 200 and len(posts(annotator, "/actions")) == 1
    phone.locator("#zoom").tap()
    phone.get_by_role("button", name="Track forward").tap()
    wait_for(phone, lambda: annotator.videos["a1"].run and annotator.videos["a1"].run["state"] == "done")
    phone.locator("[data-command=insight]").tap()
    phone.locator("#crop").wait_for()
    wide, seen = phone.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen == 390
    heights = phone.evaluate("[...document.querySelectorAll('.tools button')].map((button) => button.offsetHeight)")
    assert min(heights) >= 40  # large enough for fingers
    phone.evaluate("scrollTo(0, 0)")
    save(phone, "phone")
    phone.emulate_media(color_scheme="dark")
    if folder := os.environ.get("SCREENSHOTS"):
        phone.screenshot(path=Path(folder) / "phone_dark.png", full_page=True)
    assert problems == []


def touch(page, places):
    """Fingers that go down at the first places, along the others, and up."""
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart"] + ["touchMove"] * (len(places) - 1)
    for kind, points in zip(kinds, places):
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_dark_and_light(page, annotator):
    add(page, annotator, truth(0)), add(page, annotator, (200, 40, 60, 40))
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("t")
    wait_for(page, lambda: page.evaluate("document.querySelector('#status').textContent.startsWith('Tracked')"))
    page.keyboard.press("Home")
    for _ in range(27):
        page.keyboard.press("ArrowRight")
    shows(page, 27)
    page.keyboard.press("g")
    page.locator("#crop").wait_for()
    ground = lane(page, 30, 14)[:3]
    save(page, "light")
    page.emulate_media(color_scheme="dark")
    wait_for(page, lambda: lane(page, 30, 14)[:3].sum() < ground.sum() / 2)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
