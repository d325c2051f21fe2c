"""What notebooks ask of the browser, with the browser's answer made up."""

import base64
import json
import re
import sys
import types

import cv2
import numpy as np
import pytest

from eval import notebook
from eval.sources import video

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def colab(monkeypatch):
    """A `google.colab.output` that keeps what it is told to run and answers `reply`."""
    output = types.ModuleType("google.colab.output")
    output.scripts, output.reply = [], ""

    def eval_js(script, timeout_sec=None):
        output.scripts.append(script)
        return output.reply

    output.eval_js = eval_js
    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["google.colab"].output = output
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    return output


def test_the_page_shows_the_image_pixel_for_pixel():
    page = notebook.drawer(IMAGE, "boxes_1")
    (data,) = re.findall(r'"data:image/png;base64,([^"]+)"', page)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., ::-1], IMAGE)
    assert "window.boxes_1 = new Promise" in page and 'id="boxes_1-done"' in page


def test_colab_sends_the_boxes_by_itself(colab, monkeypatch):
    pages = []
    monkeypatch.setattr(notebook, "_show_html", pages.append)
    colab.reply = "1.0,2.0,30.0,20.5; 40,10,10,10"
    boxes = notebook.draw_boxes(IMAGE, ask=lambda _: pytest.fail("asked for what Colab sends"))
    np.testing.assert_array_equal(boxes, [[1, 2, 30, 20.5], [40, 10, 10, 10]])
    (script,) = colab.scripts
    assert f"{script} = new Promise" in pages[0]


def test_elsewhere_the_reader_pastes_them(monkeypatch):
    monkeypatch.setattr(notebook, "_show_html", lambda page: None)
    np.testing.assert_array_equal(notebook.draw_boxes(IMAGE, ask=lambda _: " 1,2,3,4 "), [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no box was drawn"), ("1,2,3", "four numbers"), ("a,b,c,d", "must be x,y,w,h"), ("90,5,9,9", "outside")],
)
def test_what_is_no_box_gets_one_clear_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        notebook.parse_boxes(text, IMAGE)
    assert "\n" not in str(error.value)


def test_frames_of_the_browsers_camera_become_a_video(colab, tmp_path):
    encoded = base64.b64encode(cv2.imencode(".jpg", IMAGE)[1].tobytes()).decode()
    colab.reply = json.dumps([encoded] * 12)
    (tmp_path / "0099.jpg").write_bytes(b"of an earlier recording")
    source = video.open_source(notebook.record_webcam(tmp_path, count=12, fps=10))
    assert source.count == 12 and {frame.shape for frame in source.frames} == {IMAGE.shape}
    assert "index < 12" in colab.scripts[0] and "wait(100.0)" in colab.scripts[0]


def test_without_colab_the_browsers_camera_is_refused(tmp_path):
    with pytest.raises(video.VideoError, match=r"eval\.track --video 0"):
        notebook.record_webcam(tmp_path / "new")
    assert not (tmp_path / "new").exists()
