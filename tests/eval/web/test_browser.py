"""The annotator whole, page and server, in a browser: draw, track, correct, undo, export, reload, a killed server."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval import annotations
from eval.sources.video_writer import VideoWriter
from tests.helpers import annotator, places
from tests.helpers.annotator import TRACKER, Page
from tests.helpers.browsers import CHROMIUM, QUIET, needs_browser

pytest.importorskip("starlette", reason="needs the extra `web`")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytestmark = needs_browser
SIZE = 64, 48  # of the clip


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def clip(tmp_path):
    return annotator.walking_spot(tmp_path / "clip.mp4")


@pytest.fixture
def address(clip, tmp_path):
    (tmp_path / "scratch").mkdir()
    with annotator.served(clip, tmp_path / "scratch") as base:
        yield base


def opened(browser, address, frame: int = 0, **more):
    page = browser.new_page(viewport={"width": 1280, "height": 720}, **more)
    page.set_default_timeout(15_000)
    page.goto(address)
    shows(page, frame)
    return page


def shows(page, frame: int) -> None:
    page.wait_for_selector(f"#picture[data-frame='{frame}']")


def draw(page, box, size=SIZE) -> None:
    """A box of the image, by the mouse."""
    stage = page.locator("#picture").bounding_box()
    scale = min(stage["width"] / size[0], stage["height"] / size[1])
    left, top = (stage["width"] - size[0] * scale) / 2, (stage["height"] - size[1] * scale) / 2
    corners = [(box[0], box[1]), (box[0] + box[2], box[1] + box[3])]
    (x, y), (u, v) = [(stage["x"] + left + x * scale, stage["y"] + top + y * scale) for x, y in corners]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(u, v, steps=5)
    page.mouse.up()


def until(page, true):
    for _ in range(600):
        if found := true():
            return found
        page.wait_for_timeout(25)
    raise AssertionError("waited for nothing")


def test_draw_track_correct_undo_export_reload(browser, address, tmp_path):
    server, page = Page(address), opened(browser, address)
    draw(page, (10, 14, 8, 8))
    page.wait_for_selector("#targets li.selected")
    np.testing.assert_allclose(server.rows(1)[0][:4], [10, 14, 8, 8], atol=0.2)
    page.keyboard.press("t")
    until(page, lambda: len(server.rows(1)) == 60)
    server.wait()
    rows = server.rows(1)
    np.testing.assert_allclose(rows[30][:2], [40, 14], atol=1.5)

    page.keyboard.press("Home")
    shows(page, 0)
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    shows(page, 20)
    page.keyboard.press("Shift+ArrowDown")  # nothing
    page.keyboard.down("Shift")  # a new box over the old one
    draw(page, (30, 20, 10, 10))
    page.keyboard.up("Shift")
    until(page, lambda: sorted(server.rows(1)) == [*range(21)])
    page.keyboard.press("Control+z")
    until(page, lambda: server.rows(1) == rows)
    page.keyboard.press("Control+Shift+z")
    until(page, lambda: len(server.rows(1)) == 21)
    page.keyboard.press("b")  # both: between the two key frames
    until(page, lambda: {row[6] for row in server.rows(1).values()} >= {"key", "blended"})
    server.wait()

    page.get_by_role("status").filter(has_text="Tracked 38 frames").wait_for()
    page.keyboard.press("End")  # the run was followed somewhere
    shows(page, 59)
    page.locator("#file summary").click()
    with page.expect_download() as download:
        page.locator("#exports").get_by_text(re.compile("cvat", re.I)).click()
    (video,) = annotations.parse("clip.cvat.xml", Path(download.value.path()).read_text())
    np.testing.assert_allclose(video.tracks[0].boxes[20], server.rows(1)[20][:4], atol=1e-3)
    page.wait_for_url(re.compile("frame=59"))  # where a reload begins
    page.reload()
    shows(page, 59)
    assert page.locator("#targets li").count() == 1
    save(page, "whole")


def test_two_browsers_see_the_same(browser, address):
    one, other = (opened(browser, address) for _ in range(2))
    draw(one, (10, 14, 8, 8))
    other.wait_for_selector("#targets li")
    draw(other, (40, 30, 12, 10))
    until(one, lambda: one.locator("#targets li").count() == 2)
    other.keyboard.press("Control+z")
    until(one, lambda: one.locator("#targets li").count() == 1)


def test_a_killed_server_is_gone_on_with(browser, clip):
    with annotator.free_port() as port:
        command = [sys.executable, "-m", "eval.web", str(clip), "--port", str(port), "--tracker", TRACKER]
    address = f"http://127.0.0.1:{port}/"

    def start():
        process = subprocess.Popen(command, cwd=places.REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert address in process.stdout.readline()
        return process

    process = start()
    page, server = opened(browser, address), Page(address)
    draw(page, (10, 14, 8, 8))
    page.wait_for_selector("#targets li.selected")  # the page has heard of it
    page.keyboard.press("t")
    until(page, lambda: len(server.rows(1)) > 10)
    process.kill()
    process.wait()
    page.get_by_text("Connection lost").wait_for()
    process = start()
    try:
        page.get_by_text("Connection lost").wait_for(state="hidden", timeout=30_000)
        page.keyboard.press("Home")
        shows(page, 0)
        page.keyboard.press("t")
        until(page, lambda: len(server.rows(1)) == 60)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_a_video_of_4k(browser, tmp_path):
    slope = np.broadcast_to(np.linspace(0, 100, 3840)[None, :, None], (2160, 3840, 3)).astype(np.uint8)
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        for t in range(12):
            image = slope.copy()
            image[1000:1100, 1000 + 40 * t : 1100 + 40 * t] = 255
            writer.write(image)
    (tmp_path / "scratch").mkdir()
    with annotator.served(tmp_path / "clip.mp4", tmp_path / "scratch") as address:
        page, server = opened(browser, address), Page(address)
        draw(page, (900, 900, 300, 300), (3840, 2160))
        page.wait_for_selector("#targets li.selected")
        np.testing.assert_allclose(server.rows(1)[0][:4], [900, 900, 300, 300], atol=6)
        page.keyboard.press("t")
        until(page, lambda: len(server.rows(1)) == 12)
        page.keyboard.press("Home")
        shows(page, 0)
        save(page, "4k")


def test_what_is_no_video_is_said(browser, tmp_path, clip):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "scratch").mkdir()
    with annotator.served(tmp_path / "videos", tmp_path / "scratch") as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_text("broken.mp4: not a video").wait_for()
        clip.rename(tmp_path / "videos" / "a.mp4")
        page = opened(browser, address)
        begun = page.locator("#videos").input_value()
        page.select_option("#videos", label="broken.mp4")
        page.get_by_text("broken.mp4: not a video").wait_for()
        assert page.locator("#videos").input_value() == begun  # the one that is shown


def save(page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"browser_{name}.png")
