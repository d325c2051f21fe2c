"""Images of a sequence and boxes of polygons."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from eval.sources.sequences import SequenceError, polygon_to_box, read_image
from tests.helpers.containers import photograph

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_read_image_color_is_rgb(tmp_path):
    image = read_image(save(tmp_path / "a.png", RGB[..., ::-1]))
    np.testing.assert_array_equal(image, RGB)
    assert image.dtype == np.uint8 and image.flags.c_contiguous


def test_read_image_gray_alpha_and_16_bit(tmp_path):
    gray = read_image(save(tmp_path / "gray.png", RGB[..., 0]))
    np.testing.assert_array_equal(gray, np.repeat(RGB[..., :1], 3, axis=2))
    alpha = np.concatenate([RGB[..., ::-1], np.full((12, 16, 1), 7, np.uint8)], axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path / "alpha.png", alpha)), RGB)
    deep = RGB[..., ::-1].astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(save(tmp_path / "deep.png", deep)), RGB)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "deep_gray.png", deep[..., 2])), np.repeat(RGB[..., :1], 3, axis=2)
    )


def test_read_image_is_stored_or_upright(tmp_path):
    path = photograph(tmp_path / "phone.jpg", RGB, 6)
    stored, upright = read_image(path), read_image(path, upright=True)
    assert stored.shape == RGB.shape
    np.testing.assert_array_equal(upright, np.rot90(stored, -1))


@pytest.mark.parametrize(("bits", "suffix"), [(8, ".png"), (10, ".png"), (12, ".tiff"), (14, ".png"), (16, ".tiff")])
def test_the_range_of_16_bit_images_is_that_of_their_folder(tmp_path, caplog, bits, suffix):
    white = 2**bits - 1
    ramp = np.linspace(0, white, 12 * 16).reshape(12, 16).round().astype(np.uint16)
    for number, image in enumerate([ramp // 4, ramp // 2, ramp]):  # the sequence begins in the dark
        save(tmp_path / f"{number}{suffix}", image)
    read = [read_image(tmp_path / f"{number}{suffix}") for number in range(3)]
    for number, image in enumerate(read):
        np.testing.assert_allclose(image[..., 1], ramp * (255 / white) / 2 ** (2 - number), atol=1)
    assert [record.message for record in caplog.records] == (
        [f"{tmp_path}: 16-bit images, in which {white} is taken for white"] if bits < 16 else []
    )


def test_a_value_beyond_the_range_of_the_folder_is_white(tmp_path):
    for number in range(40):
        save(tmp_path / f"{number}.png", np.full((4, 6), 4000 if number == 1 else 900, np.uint16))
    assert [read_image(tmp_path / f"{number}.png").max() for number in (0, 1, 2)] == [224, 255, 224]


def test_a_folder_of_two_kinds_of_images(tmp_path):
    save(tmp_path / "0.png", RGB)
    save(tmp_path / "1.png", np.full((4, 6), 1023, np.uint16))
    (tmp_path / "2.png").write_bytes(b"damaged")
    lone = save(tmp_path / "lone.pgm", np.full((4, 6), 2000, np.uint16))  # not among those that make up a sequence
    assert read_image(tmp_path / "1.png").max() == 255 and read_image(lone).max() == 255


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_read_image_names_a_corrupt_file(tmp_path, suffix):
    whole = save(tmp_path / f"whole{suffix}", RGB).read_bytes()
    for name, data in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not an image"}.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(data)
        with pytest.raises(SequenceError, match=rf"{name}{suffix}: not an image, or cut short \({len(data)} bytes\)"):
            read_image(path)
    with pytest.raises(SequenceError, match=rf"gone{suffix}: No such file"):
        read_image(tmp_path / f"gone{suffix}")
    with pytest.raises(SequenceError, match="pixels are float32"):
        read_image(save(tmp_path / "float.tiff", RGB.astype(np.float32)))


def test_polygon_area_rule_recovers_an_upright_box_and_the_area_of_a_diamond():
    upright = np.array([10.0, 30, 10, 20, 40, 20, 40, 30])  # x 10..40, y 20..30
    x, y, w, h = polygon_to_box(upright, "area")
    assert (w, h) == (31, 11) and (x + (w - 1) / 2, y + (h - 1) / 2) == (25, 25)
    diamond = np.array([2.0, 0, 4, 2, 2, 4, 0, 2])
    w, h = polygon_to_box(diamond, "area")[2:]
    np.testing.assert_allclose((w - 1) * (h - 1), 8)  # half of the enclosing 16
