"""Video files and photographs as phones and browsers write them, made of our own by changing their headers."""

import struct
from pathlib import Path

import av
import cv2
import numpy as np

DURATION, DEFAULT_DURATION = b"\x44\x89", b"\x23\xe3\x83"  # WebM: of the file, and of each frame


def without(path: Path, *elements: bytes) -> Path:
    """The WebM file, changed: each element that has the ID becomes a void one of its size."""
    data = bytearray(path.read_bytes())
    for element in elements:
        at = data.index(element)
        size = data[at + len(element)] & 0x7F
        assert size in (4, 8), "not the header of a number"
        whole = len(element) + 1 + size
        data[at : at + whole] = bytes([0xEC, 0x80 | whole - 2]) + bytes(whole - 2)
    path.write_bytes(data)
    return path


def trimmed(path: Path, first: float, seconds: float) -> Path:
    """The MP4 file, whose edit list now shows `seconds` from `first` on: as phones trim, without encoding again."""
    data = bytearray(path.read_bytes())
    (movie_scale,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    (media_scale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    entry = data.index(b"elst") + 12  # after version and count: the duration, and where in the media it starts
    (start,) = struct.unpack_from(">i", data, entry + 4)
    struct.pack_into(">Ii", data, entry, round(seconds * movie_scale), start + round(first * media_scale))
    path.write_bytes(data)
    return path


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The MP4 file, whose pixel x, y is now shown at a x + c y, b x + d y; `matrix` is a, b, c, d."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def photograph(path: Path, image: np.ndarray, orientation: int) -> Path:
    """A JPEG file of `[H, W, 3]` uint8 RGB whose EXIF says how to turn it, from 1 (not at all) to 8."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, 1) + entry + bytes(4)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    return path


def encode(path: Path, images, codec="h264", options=None, every=7) -> Path:
    """A video of 48 x 64 pixels whose key frames are `every` frames apart, with B-frames where the codec has them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.gop_size, stream.options = every, options or {}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path


# What `encode` makes of each: kinds of files in which frames are found in different ways
CLIPS = {
    "closed.mp4": dict(options={"bf": "2", "x264-params": "open-gop=0:scenecut=0"}),
    "open.mp4": dict(options={"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "open.mkv": dict(options={"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "one_key.mp4": dict(every=1000, options={"x264-params": "scenecut=0"}),
    "all_keys.mp4": dict(every=1),
    "stream.ts": dict(options={"bf": "2"}),
    "bare.h264": dict(options={"bf": "2"}),  # has no time stamps
    "clip.webm": dict(codec="vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "clip.avi": dict(codec="mpeg4", options={"bf": "2"}),
}
