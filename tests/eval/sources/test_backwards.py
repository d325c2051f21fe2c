"""A video from one of its frames back to the first: the very frames that are read forward, and few of them at once."""

import weakref

import cv2
import numpy as np
import pytest

from eval.sources import backwards
from eval.sources.backwards import open_backwards
from eval.sources.video import VideoError, open_source
from tests.helpers import containers
from tests.helpers.bright_spot import spots

SIZE = 48 * 64 * 3  # bytes of an image


@pytest.mark.parametrize("name", containers.CLIPS)
def test_the_frames_are_those_read_forward(tmp_path, monkeypatch, name):
    path = containers.encode(tmp_path / name, spots(12) + spots(12)[::-1] + spots(6), **containers.CLIPS[name])
    forward = open_source(path)
    images = list(forward.frames)
    for last, held in ((len(images) - 1, 5), (17, 3), (9, 1000), (0, 1)):
        monkeypatch.setattr(backwards, "MOST_BYTES", held * SIZE)
        source = open_backwards(path, last)
        read = list(source.frames)
        assert source.count == len(read) == last + 1
        for number, image in enumerate(reversed(read)):
            np.testing.assert_array_equal(image, images[number], err_msg=f"{number} of {last}")
        np.testing.assert_allclose(source.times, forward.times[: last + 1])


def test_few_images_are_held_and_key_frames_are_sought(tmp_path, monkeypatch):
    path = containers.encode(tmp_path / "clip.mp4", spots(12) * 5, options={"bf": "0", "x264-params": "scenecut=0"})
    monkeypatch.setattr(backwards, "MOST_BYTES", 10 * SIZE)
    decoded, alive, most = [], [], []
    to_image, collect = backwards.to_image, backwards._collect

    def counted(frame, reformatter):
        image = to_image(frame, reformatter)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(backwards, "to_image", counted)
    monkeypatch.setattr(backwards, "_collect", lambda *arguments: decoded.append(arguments[-1]) or collect(*arguments))
    for image in open_backwards(path, 59).frames:
        most.append(sum(reference() is not None for reference in alive))
        del image
    assert max(most) <= 10 and len(alive) == 60  # each converted once
    assert None not in decoded[:-1] and len(decoded) <= 10


def test_edit_lists_and_turned_videos(tmp_path):
    path = containers.encode(tmp_path / "trimmed.mp4", spots(12) * 3, options={"bf": "2"})
    images = list(open_source(containers.trimmed(path, first=9 / 25, seconds=20 / 25)).frames)
    back = list(open_backwards(path, len(images) - 1).frames)
    np.testing.assert_array_equal(np.stack(back[::-1]), np.stack(images))
    path = containers.turned(containers.encode(tmp_path / "turned.mp4", spots(4)), (0, 1, -1, 0))
    assert next(open_backwards(path, 3).frames).shape == (64, 48, 3)


def test_a_folder_of_images(tmp_path):
    for number, image in enumerate(spots(5)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
    (tmp_path / "1.png").write_bytes(b"no image")
    source, read = open_backwards(tmp_path, 3), []
    with pytest.raises(VideoError, match=r"1\.png.*frame 1 of 5"):
        for image in source.frames:
            read.append(image)
    np.testing.assert_array_equal(read, spots(5)[3:1:-1])
    with pytest.raises(VideoError, match="has no frame 5"):
        open_backwards(tmp_path, 5)


def test_a_damaged_video_is_named_after_its_frames(tmp_path):
    path = containers.encode(tmp_path / "cut.webm", spots(12) * 2, codec="vp9")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    count, images = 0, []
    with pytest.raises(VideoError):
        for image in open_source(path).frames:
            count += 1
            images.append(image)
    back = list(open_backwards(path, count - 2).frames)
    np.testing.assert_array_equal(back[0], images[-2])
    with pytest.raises(VideoError, match=rf"cut\.webm: has no frame {count}; choose an earlier one"):
        next(open_backwards(path, count).frames)
    with pytest.raises(VideoError, match="no such file"):
        open_backwards(tmp_path / "none.mp4", 3)
