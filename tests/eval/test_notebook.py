"""The helpers of the notebooks; what they ask of the browser has made-up answers."""

import base64
import json
import re
import sys
import types

import cv2
import numpy as np
import pytest

from eval import notebook
from eval.sources import synthetic, video

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def test_clips_are_drawn_or_read_alike(tmp_path):
    notebook.draw_sequences(tmp_path / "all", 2, 4)
    read = notebook.clip(tmp_path / "all" / "clip1", 3, seed=0)
    assert read.boxes.shape == (3, 4) and read.image(2).shape == (240, 320, 3)
    expected = list(synthetic.clip(synthetic.ClipConfig(num_frames=4, **synthetic.HARD), 1))[2]
    np.testing.assert_allclose(read.boxes[2], expected.box, atol=1e-3)
    assert np.abs(read.image(2).astype(int) - expected.image).mean() < 10  # red and blue in their places
    drawn = notebook.clip("", 3, seed=5)
    np.testing.assert_array_equal(drawn.boxes[1], list(synthetic.clip(synthetic.ClipConfig(num_frames=3), 5))[1].box)
    whole = notebook.frames(drawn.image(t) for t in range(3))
    np.testing.assert_array_equal(whole.image[2, :240, :320], drawn.image(2))
    assert whole.extent.tolist() == [[240, 320]] * 3


def test_overlap_is_unknown_where_the_box_is():
    boxes, truth = np.array([[0, 0, 4, 4.0]] * 2), np.array([[2, 0, 4, 4], [np.nan] * 4])
    np.testing.assert_allclose(notebook.overlap(boxes, truth), [1 / 3, np.nan])


def test_the_short_form_is_asked_for_by_the_environment(monkeypatch):
    monkeypatch.setattr(notebook, "prepare_process", lambda: None)
    monkeypatch.delenv(notebook.SHORT, raising=False)
    assert notebook.start() is False
    monkeypatch.setenv(notebook.SHORT, "1")
    assert notebook.start() is True


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


def test_the_drawer_shows_the_image_pixel_for_pixel_and_gives_back_its_boxes():
    given = np.array([[1, 2, 30, 20.5], [40, 10, 10, 10]])
    drawer = notebook.box_drawer(IMAGE, given)
    data = drawer.picture.removeprefix("data:image/png;base64,")
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., ::-1], IMAGE)
    np.testing.assert_array_equal(notebook.drawn_boxes(drawer), given)
    drawer.boxes = [[5.5, 6, 7, 8]]  # as the browser sends them
    np.testing.assert_array_equal(notebook.drawn_boxes(drawer), [[5.5, 6, 7, 8]])
    named = set(re.findall(r'model\.[gs]et\("(\w+)"', notebook.DRAWER.read_text()))
    assert named == {"picture", "boxes"} <= set(drawer.keys)


@pytest.mark.parametrize(
    ("boxes", "message"), [([], "no box was drawn"), ([[1, 2, 3]], "four numbers"), ([[90, 5, 9, 9]], "outside")]
)
def test_what_is_no_box_gets_one_clear_line(boxes, message):
    drawer = notebook.box_drawer(IMAGE)
    drawer.boxes = boxes
    with pytest.raises(ValueError, match=message) as error:
        notebook.drawn_boxes(drawer)
    assert "\n" not in str(error.value)


def test_without_the_widget_library_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxtrack\[notebook\]'"):
        notebook.box_drawer(IMAGE)


def test_frames_of_the_browsers_camera_become_a_video(colab, tmp_path):
    encoded = base64.b64encode(cv2.imencode(".jpg", IMAGE)[1].tobytes()).decode()
    colab.reply = json.dumps([encoded] * 12)
    (tmp_path / "webcam_0099.jpg").write_bytes(b"of an earlier recording")
    source = video.open_source(notebook.record_webcam(tmp_path, count=12, fps=10))
    assert source.count == 12 and {frame.shape for frame in source.frames} == {IMAGE.shape}
    assert "index < 12" in colab.scripts[0] and "wait(100.0)" in colab.scripts[0]
    (tmp_path / "holiday.jpg").write_bytes(b"of the reader")
    with pytest.raises(video.VideoError, match="holds other files"):
        notebook.record_webcam(tmp_path, count=12, fps=10)
    assert len(list(tmp_path.iterdir())) == 13


def test_without_colab_the_browsers_camera_is_refused(tmp_path):
    with pytest.raises(video.VideoError, match=r"eval\.track --video 0"):
        notebook.record_webcam(tmp_path / "new")
    assert not (tmp_path / "new").exists()
