"""Images, videos, and the ground truth of every layout."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from eval.scoring import metrics, ope
from eval.sources import video
from eval.sources.layouts import LAYOUTS, read_dataset
from eval.sources.sequences import SequenceError, image_size, read_image
from eval.sources.video_writer import VideoWriter
from tests.campaign.kinds.base import Kind, write
from tests.helpers.bright_spot import spots

COUNT = 4  # frames
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".bmp")


def picture(number: int = 0, depth: type = np.uint8) -> np.ndarray:
    """`[16, 20, 3]`: a bright spot over noise."""
    return spots(number + 1, 16, 40)[number][:, :20].astype(depth) * (257 if depth is np.uint16 else 1)


def encoded(suffix: str, number: int = 0, depth: type = np.uint8) -> bytes:
    return cv2.imencode(suffix, picture(number, depth))[1].tobytes()


def _make_image(suffix: str, depth: type = np.uint8):
    return lambda folder: write(folder / f"image{suffix}", encoded(suffix, 0, depth))


def _read_images(folder: Path) -> list[SequenceError]:
    problems = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            read_image(path)
        except SequenceError as error:
            problems.append(error)
    return problems


def _make_video(suffix: str):
    def make(folder: Path) -> None:
        with VideoWriter(folder / f"video{suffix}", 25.0) as writer:
            for image in spots(8, 32, 48):
                writer.write(image)

    return make


def _read_video(folder: Path) -> None:
    paths = sorted(folder.iterdir()) if folder.is_dir() else [folder / "gone"]
    for path in paths:
        for _ in video.open_source(path).frames:
            pass


def _images(folder: Path, names: str = "{:04}.jpg", first: int = 1, count: int = COUNT) -> None:
    for number in range(first, first + count):
        write(folder / names.format(number), encoded(".jpg", 0))


def rows(count: int = COUNT, separator: str = ",", first: float = 0.0) -> str:
    """Lines x, y, w, h of a target that moves."""
    return "".join(separator.join(f"{v:g}" for v in (2.5 + t + first, 3 + first, 8, 6)) + "\n" for t in range(count))


def _labels(value: int = 0, separator: str = "\n") -> str:
    return separator.join([str(value)] * COUNT) + "\n"


def _make_folder(root: Path) -> None:
    for name, separator in (("a", ","), ("b", "\t")):
        _images(root / name / "img")
        write(root / name / "groundtruth_rect.txt", rows(separator=separator))


def _make_otb(root: Path) -> None:
    _make_folder(root)
    _images(root / "Tiger1" / "img", count=8)
    write(root / "Tiger1" / "groundtruth_rect.txt", rows(8, first=1))
    for target in "12":
        write(root / "Jogging" / f"groundtruth_rect.{target}.txt", rows(first=1))
    _images(root / "Jogging" / "img")


def _make_uav(part: str):
    def make(root: Path) -> None:
        videos, truths = root / "data_seq" / "UAV123", root / "anno" / part
        _images(videos / "bike1", "{:06}.jpg")
        _images(videos / "bird1", "{:06}.jpg", 775)
        write(truths / "bike1.txt", rows())
        write(truths / "bird1_2.txt", rows(COUNT - 1) + "NaN,NaN,NaN,NaN\n")

    return make


def _make_lasot(root: Path) -> None:
    for name in ("airplane-1", "airplane-2"):
        folder = root / "airplane" / name
        _images(folder / "img", "{:08}.jpg")
        write(folder / "groundtruth.txt", rows(first=1))
        write(folder / "full_occlusion.txt", _labels(separator=","))
        write(folder / "out_of_view.txt", _labels(separator=","))
    write(root / "testing_set.txt", "airplane-1\nairplane-2\n")


def _make_got10k(root: Path) -> None:
    for name in ("GOT_1", "GOT_2"):
        _images(root / name, "{:08}.jpg")
        write(root / name / "groundtruth.txt", rows() if name == "GOT_1" else rows(1))
        write(root / name / "absence.label", _labels())
        write(root / name / "cover.label", _labels(8))
        write(root / name / "meta_info.ini", "[METAINFO]\nobject_class: bear\nmotion_class: walk\n")
    write(root / "list.txt", "GOT_1\nGOT_2\n")


def _make_vot(root: Path) -> None:
    _images(root / "a" / "color", "{:08}.jpg")
    write(root / "a" / "groundtruth.txt", "2,3,10,3,10,9,2,9\n" * COUNT)
    _images(root / "b", "{:08}.jpg")
    write(root / "b" / "groundtruth.txt", rows())
    write(root / "list.txt", "a\nb\n")


def _make_nfs(rate: int):
    def make(root: Path) -> None:
        _images(root / "car" / str(rate) / "car", "{:05}.jpg")
        lines = (f'0 {2 + t} 3 {10 + t} 9 {t * 240 // rate} 0 0 0 "car"\n' for t in range(COUNT))
        write(root / "car" / str(rate) / "car.txt", "".join(lines))

    return make


def _make_packed_nfs(root: Path) -> None:
    _images(root / "sequences" / "car", "{:05}.jpg")
    write(root / "anno" / "nfs_car.txt", rows())


def _make_tcolor128(root: Path) -> None:
    _images(root / "Ball_ce1" / "img", first=3)
    write(root / "Ball_ce1" / "Ball_ce1_gt.txt", rows(first=1))
    write(root / "Ball_ce1" / "Ball_ce1_frames.txt", f"3,{COUNT + 2}\n")


def _make_avist(root: Path) -> None:
    _images(root / "sequences" / "fog", "img_{:05}.jpg")
    write(root / "anno" / "fog.txt", rows())
    for flag in ("full_occlusion", "out_of_view"):
        write(root / flag / f"fog_{flag}.txt", _labels())


def _make_trackingnet(root: Path) -> None:
    for name in ("v_0", "v_1"):
        _images(root / "TRAIN_0" / "frames" / name, "{}.jpg", 0)
        write(root / "TRAIN_0" / "anno" / f"{name}.txt", rows())


def _make_oxuva(root: Path) -> None:
    _images(root / "images" / "dev" / "vid", "{:06}.jpeg", 0)
    write(
        root / "annotations" / "dev.csv",
        "vid,obj,1,dog,false,true,0,present,0.1,0.5,0.2,0.6\nvid,obj,1,dog,false,true,3,absent,-1,-1,-1,-1\n",
    )


def _make_vot_masks(root: Path) -> None:
    _images(root / "ants" / "color", "{:08}.jpg")
    write(root / "ants" / "groundtruth.txt", "".join(f"m{2 + t},3,4,3,0,5,1,2,1,1\n" for t in range(COUNT)))


MAKERS: dict[str, Callable[[Path], None]] = {
    "folder": _make_folder,
    "dtb70": _make_folder,
    "otb": _make_otb,
    "uav123": _make_uav("UAV123"),
    "uav20l": _make_uav("UAV20L"),
    "lasot": _make_lasot,
    "got10k": _make_got10k,
    "vot": _make_vot,
    "vot_fitted": _make_vot_masks,
    "nfs": _make_nfs(30),
    "nfs240": _make_nfs(240),
    "tcolor128": _make_tcolor128,
    "avist": _make_avist,
    "trackingnet": _make_trackingnet,
    "oxuva": _make_oxuva,
}


def _read_layout(layout: str):
    def read(root: Path) -> list[SequenceError]:
        """As a run does: every image; and the scores of boxes that are the annotated ones."""
        problems: list[SequenceError] = []
        for sequence in read_dataset(layout, root, None, problems):
            try:
                for path in sequence.frames:
                    read_image(path)
                image_size(sequence)
            except SequenceError as error:
                problems.append(error)
                continue
            if sequence.scored:
                metrics.score_sequence(sequence.boxes, sequence.boxes, sequence.visible)
                rule = ope.rule("jaxtrack", layout)
                ope.curves(ope.judge(rule, sequence.boxes, sequence.boxes, sequence.visible))
        return problems

    return read


KINDS = {
    **{f"image{suffix}": Kind(_make_image(suffix), _read_images) for suffix in SUFFIXES},
    "image.16bit.png": Kind(_make_image(".png", np.uint16), _read_images),
    "image.16bit.tif": Kind(_make_image(".tif", np.uint16), _read_images),
    **{f"video{suffix}": Kind(_make_video(suffix), _read_video, quick=False) for suffix in (".webm", ".mp4")},
    "video.folder": Kind(lambda folder: _images(folder / "images"), _read_video),
    **{f"layout.{name}": Kind(MAKERS[name], _read_layout(name)) for name in LAYOUTS},
    "layout.nfs.packed": Kind(_make_packed_nfs, _read_layout("nfs")),
}
