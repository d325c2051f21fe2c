"""The helpers of the notebooks; what they ask of the browser has made-up answers."""

import base64
import json
import re
import sys
import types

import cv2
import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel

from eval import notebook
from eval.sources import synthetic, video
from eval.sources.pictures import jpeg
from eval.targets import Run, Tracked
from tests.helpers import containers, places
from tests.helpers.bright_spot import spots
from trackers.base import FOUND, LOST

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


def run_of(count, first=0, step=1):
    """Two targets; the second starts on the third frame, and is lost in the last."""
    frames = []
    for at in range(count):
        boxes = np.array([[at, 2, 3, 4], [5, 6 + at, 7, 8.5]])
        boxes[1, :] = np.nan if at < 2 else boxes[1]
        verdicts = np.array([FOUND, LOST if at == count - 1 else FOUND])
        frames.append(Tracked(boxes, np.ones(2), np.array([1 - at / 10, 0.5]), verdicts, 0.01))
    return Run(first=first, step=step, names=["car", "dog"], tracked=frames)


def answers(viewer, monkeypatch, content):
    """What the page gets for a message: [(content, buffers)]."""
    sent = []
    monkeypatch.setattr(viewer, "send", lambda content, buffers: sent.append((content, buffers)))
    viewer._handle_custom_msg(content, [])
    return sent


def test_the_viewer_knows_every_box_at_its_frame():
    shown = notebook.viewer(lambda number: IMAGE, run_of(5, first=3))
    rows = np.frombuffer(shown.rows, "<f4").reshape(2, shown.count, 6)
    assert shown.count == 8 and shown.fps == video.DEFAULT_FPS
    np.testing.assert_allclose(rows[0, 4], [1, 2, 3, 4, 0.9, FOUND])
    np.testing.assert_allclose(rows[1, 7], [5, 10, 7, 8.5, 0.5, LOST])
    assert np.isnan(rows[:, :3]).all() and np.isnan(rows[1, :5]).all() and np.isfinite(rows[0, 3:]).all()
    back = notebook.viewer([IMAGE] * 9, run_of(5, first=6, step=-1), fps=50)
    assert back.count == 9 and back.fps == 50
    assert np.frombuffer(back.rows, "<f4").reshape(2, 9, 6)[0, :, 0].tolist()[2:7] == [4, 3, 2, 1, 0]
    assert [target["name"] for target in shown.targets] == ["car", "dog"]
    assert shown.targets[0]["color"] == "#{:02x}{:02x}{:02x}".format(*video.target_color(0))
    assert shown.verdicts[LOST] == {"name": "lost", "color": "#eb3232"}
    assert {"count", "fps", "targets", "verdicts", "rows"} <= set(shown.keys)


def test_the_viewer_sends_the_frames_that_are_asked_for(tmp_path, monkeypatch):
    images = spots(12)
    path = containers.encode(tmp_path / "clip.mp4", images, options={"bf": "0"})
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    read = list(video.open_source(path).frames)
    for source, expected in ((path, read), (str(folder), images), (images, images), (images.__getitem__, images)):
        shown = notebook.viewer(source, run_of(12))
        sent = answers(shown, monkeypatch, {"frames": [11, 0, 5]})
        assert [content for content, _ in sent] == [{"frame": number, "size": (64, 48)} for number in (11, 0, 5)]
        for content, buffers in sent:
            assert buffers == [jpeg(expected[content["frame"]])]
        assert answers(shown, monkeypatch, {"left": True}) == []
        assert answers(shown, monkeypatch, {"frames": [3]})[0][0]["frame"] == 3  # another view of it goes on
        shown.close()


def test_frames_that_cannot_be_shown_are_answered_with_the_reason(monkeypatch):
    def image(number):
        if number == 2:
            raise RuntimeError("of the caller")
        return np.broadcast_to(np.uint8([200, 100, 10 * number]), (40, 60, 3))

    shown = notebook.viewer(image, run_of(5), width=30)
    sent = answers(shown, monkeypatch, {"frames": [2, -1, 5, 1.5, "4", None, 4]})
    assert [content["frame"] for content, _ in sent] == [2, -1, 5, 1.5, "4", None, 4]
    assert sent[0] == ({"frame": 2, "problem": "of the caller"}, [])
    for content, buffers in sent[1:-1]:
        assert content["problem"] == f"there is no frame {content['frame']}; the last one is 4" and buffers == []
    small = cv2.imdecode(np.frombuffer(sent[-1][1][0], np.uint8), cv2.IMREAD_COLOR)
    assert sent[-1][0]["size"] == (60, 40) and small.shape == (20, 30, 3)
    np.testing.assert_allclose(small.mean((0, 1)), [40, 100, 200], atol=3)  # OpenCV's order
    assert len(answers(shown, monkeypatch, {"frames": [1] * 1000})) == notebook.MOST_ASKED
    assert answers(shown, monkeypatch, {}) == []


def test_the_viewer_asks_for_no_frame_before_the_page_does():
    def image(number):
        raise AssertionError(number)

    assert notebook.viewer(image, run_of(3)).count == 3


@pytest.mark.full
def test_a_kernel_opens_the_viewer_and_sends_its_frames(monkeypatch):
    """Of what a notebook does all but the page: the messages go through Jupyter's own channels."""
    monkeypatch.setenv("PYTHONPATH", str(places.REPOSITORY))
    code = """
import numpy as np
from eval import notebook
from eval.targets import Run, Tracked
tracked = [Tracked(np.array([[1.0, 2, 3, 4]]), np.ones(1), np.ones(1), np.zeros(1, int), 0.01)] * 5
shown = notebook.viewer(lambda number: np.full((40, 60, 3), 10 * number, np.uint8), Run(names=["1"], tracked=tracked))
"""
    manager, client = start_new_kernel()
    try:
        opened = []
        reply = client.execute_interactive(code, timeout=120, output_hook=opened.append)
        assert reply["content"]["status"] == "ok"
        [model] = [one["content"] for one in opened if "_esm" in one["content"].get("data", {}).get("state", {})]
        assert model["data"]["state"]["count"] == 5 and "--focus" in model["data"]["state"]["_css"]
        asked = {"comm_id": model["comm_id"], "data": {"method": "custom", "content": {"frames": [4, 7]}}}
        client.shell_channel.send(client.session.msg("comm_msg", asked))
        sent = []
        while len(sent) < 2:
            message = client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "comm_msg" and message["content"]["data"]["method"] == "custom":
                sent.append((message["content"]["data"]["content"], [bytes(one) for one in message["buffers"]]))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert sent[0] == ({"frame": 4, "size": [60, 40]}, [jpeg(np.full((40, 60, 3), 40, np.uint8))])
    assert sent[1] == ({"frame": 7, "problem": "there is no frame 7; the last one is 4"}, [])


def test_what_the_viewer_cannot_show_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="frames up to 11, the video 10; give the video that was tracked"):
        notebook.viewer([IMAGE] * 10, run_of(12))
    with pytest.raises(ValueError, match="the run has no frame"):
        notebook.viewer([IMAGE] * 10, Run())
    with pytest.raises(video.VideoError, match="no such file"):
        notebook.viewer(tmp_path / "clip.mp4", run_of(12))


def test_without_the_widget_library_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    for make in (lambda: notebook.box_drawer(IMAGE), lambda: notebook.viewer([IMAGE], run_of(1))):
        with pytest.raises(ImportError, match=r"pip install 'jaxtrack\[notebook\]'"):
            make()


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
