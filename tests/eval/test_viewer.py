"""The viewer of notebooks in a real browser, with Python's own answers: playing, seeking, keys, curves, targets."""

import numpy as np
import pytest

from eval import notebook
from eval.sources import synthetic
from eval.sources.video import VideoError
from eval.targets import Run, Tracked
from tests.helpers.browsers import needs_browser
from tests.helpers.widget_page import widget_page
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN

pytestmark = needs_browser
COUNT = 60
CHANGES = FOUND, FOUND, UNCERTAIN, HARD_NEGATIVE, LOST, FOUND  # verdicts of a target, ten frames each
LIGHT, DARK = "background: #ffffff; color: #202124", "background: #1e1e1e; color: #d4d4d4"
LONG = 10_000


def run_of(count: int, names: list[str], first: int = 0) -> Run:
    """Targets that move to the right, and go through every verdict."""
    tracked = []
    for frame in range(first, count):
        boxes = [[30.0 + 70 * slot + frame % 100, 60 + 45 * slot, 60, 40] for slot in range(len(names))]
        confidence = [0.55 + 0.4 * np.cos(frame / 9 + slot) for slot in range(len(names))]
        verdicts = [CHANGES[(frame // 10 + slot) % len(CHANGES)] for slot in range(len(names))]
        tracked.append(Tracked(np.array(boxes), np.ones(len(names)), np.array(confidence), np.array(verdicts), 0.01))
    return Run(first=first, names=names, tracked=tracked, size=(320, 240))


def image(number: int) -> np.ndarray:
    """Its number is its brightness."""
    return np.full((240, 320, 3), number % 250, np.uint8)


def viewed(source, run, picture, **options):
    return widget_page(notebook.viewer(source, run), picture, **{"viewport": {"width": 860, "height": 760}, **options})


def shown(page, number: int) -> bool:
    """Waits for the picture of frame `number`: its lower right corner has the frame's brightness."""
    page.wait_for_function(
        f"""() => {{
        const canvas = document.querySelector(".stage canvas");
        const [red] = canvas.getContext("2d").getImageData(canvas.width - 9, canvas.height - 9, 1, 1).data;
        return Math.abs(red - {number % 250}) < 2;
    }}""",
        timeout=10_000,
    )
    return True


def frame_of(page) -> int:
    return int(page.get_by_role("slider", name="Frame").input_value())


def test_it_plays_to_the_end_at_its_speed_and_again(page_of_one):
    page = page_of_one
    assert shown(page, 0) and frame_of(page) == 0
    page.get_by_label("Speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"document.querySelector('input').value == {COUNT - 1}", timeout=20_000)
    page.get_by_role("button", name="Play").wait_for()
    assert shown(page, COUNT - 1)
    numbers = [number for message in page.evaluate("asked") for number in message["frames"]]
    assert 15 <= len(set(numbers)) == len(numbers) < COUNT  # at this speed some are left out; none comes twice
    page.get_by_label("Speed").select_option("0.25")
    page.get_by_role("button", name="Play").click()  # from the start again
    page.wait_for_function("document.querySelector('input').value == 2", timeout=10_000)
    page.get_by_role("button", name="Pause").click()
    paused = frame_of(page)
    page.wait_for_timeout(400)
    assert paused == frame_of(page) < COUNT - 1 and shown(page, paused)


def test_keys_and_buttons_go_to_frames(page_of_one):
    page = page_of_one
    page.get_by_role("button", name="One frame on").click()
    assert frame_of(page) == 1
    for key, frame in [
        ("ArrowRight", 2), ("Shift+ArrowRight", 12), ("ArrowLeft", 11), ("End", 59), ("ArrowRight", 59), ("Home", 0),
        ("ArrowLeft", 0), ("Shift+ArrowRight", 10),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert frame_of(page) == frame, key
        assert shown(page, frame)
    page.get_by_role("button", name="One frame back").click()
    page.get_by_role("slider", name="Frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert frame_of(page) == 11
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    page.wait_for_function("document.querySelector('input').value > 13", timeout=10_000)
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()
    assert set(page.evaluate("outside")) == {"Shift"}  # a notebook would take others for commands


@pytest.fixture
def page_of_one():
    with viewed(image, run_of(COUNT, ["1"]), "viewer_one") as page:
        page.evaluate("() => { window.outside = []; document.body.onkeydown = (event) => outside.push(event.key); }")
        yield page


def test_one_target_has_the_color_of_its_verdict(page_of_one):
    page = page_of_one
    colors = {0: ("found", (60, 220, 90)), 21: ("uncertain", (250, 210, 40)), 31: ("distractor", (255, 130, 20))}
    for frame, (name, color) in colors.items():
        page.get_by_role("slider", name="Frame").fill(str(frame))
        shown(page, frame)
        assert colors_of_list(page) == [f"rgb{color}"]
        assert page.locator("li span").inner_text().startswith(f"{name} 0.")
        assert f"Frame {frame}: 1 {name} 0." in page.locator(".stage canvas").get_attribute("aria-label")
        np.testing.assert_allclose(pixel(page, 30 + frame, 80), color, atol=40)  # of the box
    page.get_by_role("slider", name="Frame").fill("41")
    shown(page, 41)
    assert colors_of_list(page) == ["rgb(235, 50, 50)"] and "lost" in page.locator("li").inner_text()


def colors_of_list(page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('li i')].map((one) => getComputedStyle(one).backgroundColor)")


def pixel(page, x: int, y: int) -> list[int]:
    """RGB of what is drawn where the image of 320 x 240 has a pixel."""
    return page.evaluate(f"""() => {{
        const canvas = document.querySelector(".stage canvas");
        const at = [{x} / 320 * canvas.width, {y} / 240 * canvas.height];
        return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
    }}""")


def test_a_click_on_the_curves_goes_there_and_a_drag_follows(page_of_one):
    page = page_of_one
    curve = page.locator(".curve").bounding_box()
    page.mouse.click(curve["x"] + curve["width"] / 2, curve["y"] + 40)
    assert frame_of(page) in (29, 30) and shown(page, frame_of(page))
    page.mouse.down()
    page.mouse.move(curve["x"] + curve["width"] - 2, curve["y"] + 40, steps=5)
    page.mouse.up()
    assert frame_of(page) == COUNT - 1 and shown(page, COUNT - 1)
    page.mouse.move(curve["x"] + 30, curve["y"] + 40)  # no button held
    assert frame_of(page) == COUNT - 1
    playhead = page.locator(".playhead").bounding_box()
    assert abs(playhead["x"] + 1 - (curve["x"] + curve["width"] - 8)) <= 1


@pytest.mark.parametrize(("picture", "body"), [("viewer_light", LIGHT), ("viewer_dark", DARK)])
def test_several_targets_have_a_color_each(picture, body):
    scene = synthetic.make_scene(synthetic.ClipConfig(num_frames=COUNT), seed=5)
    run = run_of(COUNT, ["car", "the dog"])
    for late in run.tracked[:15]:
        late.boxes[1] = np.nan
    with viewed(lambda number: synthetic.render(scene, number).image, run, picture, body=body) as page:
        page.wait_for_function("document.querySelector('.stage canvas').width > 500")
        assert page.locator("li").nth(1).inner_text().split() == ["the", "dog", "not", "tracked", "here"]
        page.keyboard.press("Tab")
        page.keyboard.press("End")
        for _ in range(2):
            page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function("document.querySelector('.stage canvas').ariaLabel.includes('Frame 39')")
        colors = colors_of_list(page)
        assert len(set(colors)) == 2 and "the dog" in page.locator(".unseen").inner_text()
        drawn = page.evaluate("""() => {
            const canvas = document.querySelector(".curve canvas"), found = new Set();
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            for (let at = 0; at < data.length; at += 4) found.add(`rgb(${data.slice(at, at + 3).join(", ")})`);
            return [...found];
        }""")
        assert set(colors) <= set(drawn)
        page.wait_for_timeout(200)


def test_a_long_video_opens_at_once_and_little_is_asked_for():
    asked = []
    with viewed(lambda number: asked.append(number) or image(number), run_of(LONG, ["1"]), "viewer_long") as page:
        shown(page, 0)
        page.wait_for_timeout(200)
        assert len(asked) <= 3
        page.keyboard.press("Tab")
        page.keyboard.press("End")
        assert shown(page, LONG - 1)
        box = page.get_by_role("slider", name="Frame").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 12)
        page.mouse.down()
        page.mouse.move(box["x"] + 500, box["y"] + 12, steps=40)  # scrubbed: what was passed is not caught up on
        page.mouse.up()
        assert shown(page, frame_of(page)) and 4000 < frame_of(page) < 8000
        assert all(len(message["frames"]) <= 3 for message in page.evaluate("asked"))


def test_a_damaged_frame_is_named_and_passed_over():
    def source(number):
        if number in (3, 4):
            raise VideoError(f"clip.mp4: frame {number} cannot be decoded")
        return image(number)

    with viewed(source, run_of(20, ["1"]), "viewer_damaged") as page:
        shown(page, 0)
        page.get_by_role("slider", name="Frame").fill("3")
        page.get_by_text("clip.mp4: frame 3 cannot be decoded").wait_for()
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        page.wait_for_function("document.querySelector('input').value == 19", timeout=10_000)
        assert shown(page, 19) and not page.locator(".note").is_visible()


def test_without_answers_it_says_so_and_what_it_kept_goes_with_it():
    with viewed(image, run_of(20, ["1"]), "viewer_waiting") as page:
        shown(page, 0)
        page.evaluate("window.ask = async () => []")
        page.get_by_role("slider", name="Frame").fill("15")
        page.get_by_text("waiting for this frame").wait_for()
        page.evaluate("leave()")
        assert page.evaluate("asked.at(-1)") == {"left": True}


def test_it_works_by_touch_on_a_phone():
    phone = {"viewport": {"width": 390, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with viewed(image, run_of(COUNT, ["car", "dog", "walker"], first=5), "viewer_phone", **phone) as page:
        shown(page, 0)
        curve = page.locator(".curve").bounding_box()
        page.touchscreen.tap(curve["x"] + curve["width"] / 2, curve["y"] + 40)
        assert frame_of(page) in (29, 30) and shown(page, frame_of(page))
        play = page.get_by_role("button", name="Play")
        assert min(play.bounding_box()["width"], play.bounding_box()["height"]) > 43.9
        page.touchscreen.tap(150, 80)  # the picture
        page.get_by_role("button", name="Pause").wait_for()
        page.touchscreen.tap(150, 80)
        page.get_by_role("button", name="Play").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
