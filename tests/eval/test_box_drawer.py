"""The box drawer of notebooks in a real browser: mouse, keys, and what the model then holds."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from eval import notebook

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

# The model of a widget, as the module sees it, without a notebook around it.
PAGE = """<!doctype html><title>drawer</title><div id="here"></div>
<script type="module">
import drawer from "./box_drawer.js";
const values = JSON.parse(document.querySelector("#values").textContent), heard = [];
window.model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; heard.forEach((call) => call()); },
  save_changes: () => { window.saved = (window.saved || 0) + 1; },
  on: (event, call) => heard.push(call),
  off: (event, call) => heard.splice(heard.indexOf(call), 1),
};
drawer.render({ model: window.model, el: document.querySelector("#here") });
</script>
<script type="application/json" id="values">VALUES</script>
"""


@pytest.fixture
def page(tmp_path):
    image = np.full((120, 200, 3), 90, np.uint8)
    widget = notebook.box_drawer(image)
    values = f'{{"picture": "{widget.picture}", "boxes": []}}'
    files = {"box_drawer.js": notebook.DRAWER.read_text(), "index.html": PAGE.replace("VALUES", values)}
    with playwright.sync_playwright() as browsers:
        quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page(viewport={"width": 640, "height": 400})
        kinds = {".js": "text/javascript", ".html": "text/html"}

        def serve(route):
            name = Path(route.request.url).name
            route.fulfill(body=files[name], content_type=kinds[Path(name).suffix])

        page.route("http://drawer.test/*", serve)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("http://drawer.test/index.html")
        page.wait_for_function("document.querySelector('canvas')?.width === 200")
        yield page
        assert not problems
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "box_drawer.png")
        browser.close()


def boxes(page) -> list[list[float]]:
    return page.evaluate("model.get('boxes')")


def drag(page, start, end):
    corner = page.locator("canvas").bounding_box()
    page.mouse.move(corner["x"] + start[0], corner["y"] + start[1])
    page.mouse.down()
    page.mouse.move(corner["x"] + end[0], corner["y"] + end[1], steps=4)
    page.mouse.up()


def test_boxes_are_drawn_moved_and_removed(page):
    drag(page, (20, 30), (80, 70))
    drag(page, (150, 100), (120, 60))  # from the lower right corner
    np.testing.assert_allclose(boxes(page), [[20, 30, 60, 40], [120, 60, 30, 40]], atol=0.01)
    drag(page, (50, 50), (51, 51))  # a click
    assert len(boxes(page)) == 2
    drag(page, (150, 10), (400, 60))  # beyond the border
    np.testing.assert_allclose(boxes(page)[2], [150, 10, 50, 50], atol=0.01)
    page.locator("canvas").focus()
    for key in ("ArrowLeft", "Shift+ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    np.testing.assert_allclose(boxes(page)[2], [150, 20, 50, 50], atol=0.01)  # not over the border
    page.keyboard.press("Backspace")
    page.get_by_role("button", name="Undo").click()
    np.testing.assert_allclose(boxes(page), [[20, 30, 60, 40]], atol=0.01)
    assert page.locator("code").inner_text() == "20.0,30.0,60.0,40.0" and page.evaluate("saved") > 4


def test_all_can_be_cleared_and_python_can_set_them(page):
    page.evaluate("model.set('boxes', [[5, 6, 70, 80]])")
    assert page.locator("code").inner_text() == "5.0,6.0,70.0,80.0"
    green = page.evaluate("[...document.querySelector('canvas').getContext('2d').getImageData(5, 40, 1, 1).data]")
    assert green[1] > 200 > green[0]
    page.get_by_role("button", name="Clear").click()
    assert boxes(page) == [] and page.locator("code").inner_text() == "Draw a box."
