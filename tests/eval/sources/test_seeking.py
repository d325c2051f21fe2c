"""Any frame of a video at once: the very frames that are read forward, at their times, whatever the order."""

import cv2
import numpy as np
import pytest

from eval.sources import seeking
from eval.sources.seeking import Seekable
from eval.sources.video import DEFAULT_FPS, VideoError, open_source
from tests.helpers import containers
from tests.helpers.bright_spot import spots

SIZE = 48 * 64 * 3  # bytes of an image


@pytest.mark.parametrize("held", [1, 6, 1000])
@pytest.mark.parametrize("name", containers.CLIPS)
def test_every_frame_is_the_one_read_forward(tmp_path, monkeypatch, name, held):
    path = containers.encode(tmp_path / name, spots(12) + spots(12)[::-1] + spots(6), **containers.CLIPS[name])
    forward = open_source(path)
    images = list(forward.frames)
    monkeypatch.setattr(seeking, "MOST_BYTES", held * SIZE)
    video = Seekable(path)
    assert len(video) == len(images) and video.size == (64, 48) and video.fps == forward.fps
    np.testing.assert_allclose(video.times, forward.times)
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    for number in [*order, *range(len(images)), *reversed(range(len(images)))]:
        np.testing.assert_array_equal(video.image(number), images[number], err_msg=str(number))
    other = video.again()
    for step, numbers in ((1, range(11, len(images))), (-1, range(11, -1, -1))):
        for number, image in zip(numbers, other.images(11, step), strict=True):
            np.testing.assert_array_equal(image, images[number], err_msg=str(number))
    for number in (-1, len(images)):
        with pytest.raises(IndexError):
            video.image(number)
    video.close()
    other.close()


def test_a_trimmed_video_has_the_frames_that_players_show(tmp_path):
    path = containers.encode(tmp_path / "clip.mp4", spots(12) * 2, options={"bf": "0", "x264-params": "scenecut=0"})
    containers.trimmed(path, 0.4, 0.4)
    images = list(open_source(path).frames)
    video = Seekable(path)
    assert len(video) == len(images) < 24
    for number in reversed(range(len(images))):
        np.testing.assert_array_equal(video.image(number), images[number])


def test_a_folder_of_images(tmp_path):
    images = spots(5)
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number + 1}.png"), image[..., ::-1])
    video = Seekable(tmp_path)
    assert len(video) == 5 and video.fps == DEFAULT_FPS and video.times[4] == 4 / DEFAULT_FPS
    for number in (3, 0, 4):
        np.testing.assert_array_equal(video.image(number), images[number])
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"3\.png: .*frame 2 of 5"):
        video.image(2)
    np.testing.assert_array_equal(video.image(1), images[1])


def test_damage_is_met_where_it_is(tmp_path):
    path = containers.encode(tmp_path / "clip.ts", spots(12) * 4, options={"bf": "0", "x264-params": "scenecut=0"})
    whole = list(open_source(path).frames)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 6] = bytes(188 * 6)
    path.write_bytes(data)
    video, damaged = Seekable(path), 0
    for number in range(len(video)):
        try:
            video.image(number)
        except VideoError as error:
            damaged += 1
            assert f"frame {number} cannot be decoded" in str(error) and "\n" not in str(error)
    np.testing.assert_array_equal(video.image(0), whole[0])
    np.testing.assert_array_equal(video.image(len(video) - 1), whole[-1])
    assert len(video) - damaged >= len(whole) // 2


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_what_is_no_video_is_one_line(tmp_path, content):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"clip\.mp4: ") as caught:
        Seekable(path)
    assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no images"):
        Seekable(tmp_path / "empty")
