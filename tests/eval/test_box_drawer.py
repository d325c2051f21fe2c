"""The box drawer of notebooks in a real browser: mouse, keys, and what the model then holds."""

import numpy as np
import pytest

from eval import notebook
from tests.helpers.browsers import needs_browser
from tests.helpers.widget_page import widget_page

pytestmark = needs_browser


@pytest.fixture
def page():
    with widget_page(notebook.box_drawer(np.full((120, 200, 3), 90, np.uint8)), "box_drawer") as page:
        page.wait_for_function("document.querySelector('canvas')?.width === 200")
        yield page


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
    drag(page, (100, 20), (101, 21))  # a click
    assert len(boxes(page)) == 2
    drag(page, (150, 10), (400, 60))  # beyond the border
    np.testing.assert_allclose(boxes(page)[2], [150, 10, 50, 50], atol=0.01)
    page.locator("canvas").focus()
    for key in ("ArrowLeft", "Shift+ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    np.testing.assert_allclose(boxes(page)[2], [150, 20, 50, 50], atol=0.01)  # not over the border
    page.keyboard.press("Backspace")
    page.get_by_role("button", name="Remove").click()
    np.testing.assert_allclose(boxes(page), [[20, 30, 60, 40]], atol=0.01)
    assert page.locator("code").inner_text() == "20.0,30.0,60.0,40.0" and page.evaluate("saved") > 4


def test_boxes_are_dragged_by_their_inside_and_their_corners(page):
    page.evaluate("model.set('boxes', [[20, 30, 60, 40], [120, 60, 30, 40]])")
    drag(page, (50, 50), (60, 45))
    np.testing.assert_allclose(boxes(page), [[30, 25, 60, 40], [120, 60, 30, 40]], atol=0.01)
    drag(page, (60, 45), (-90, 300))  # stays within the image
    np.testing.assert_allclose(boxes(page)[0], [0, 80, 60, 40], atol=0.01)
    drag(page, (121, 61), (101, 41))  # its opposite corner stays
    np.testing.assert_allclose(boxes(page)[1], [101, 41, 49, 59], atol=0.01)
    drag(page, (20, 100), (21, 100))  # a click changes nothing, but now this is the box of the keys
    page.keyboard.press("ArrowUp")
    np.testing.assert_allclose(boxes(page), [[0, 79, 60, 40], [101, 41, 49, 59]], atol=0.01)
    page.keyboard.down("Shift")
    drag(page, (110, 50), (140, 90))  # one over another
    page.keyboard.up("Shift")
    np.testing.assert_allclose(boxes(page)[2], [110, 50, 30, 40], atol=0.01)
    drag(page, (20, 100), (21, 100))
    page.keyboard.press("Delete")
    np.testing.assert_allclose(boxes(page), [[101, 41, 49, 59], [110, 50, 30, 40]], atol=0.01)


def test_all_can_be_cleared_and_python_can_set_them(page):
    page.evaluate("model.set('boxes', [[5, 6, 70, 80]])")
    assert page.locator("code").inner_text() == "5.0,6.0,70.0,80.0"
    green = page.evaluate("[...document.querySelector('canvas').getContext('2d').getImageData(5, 40, 1, 1).data]")
    assert green[1] > 200 > green[0]
    page.get_by_role("button", name="Clear").click()
    assert boxes(page) == [] and page.locator("code").inner_text() == "Draw a box."
