"""From the layout of a benchmark, or of images with boxes, to clips; and clips that are drawn."""

import csv
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import cv2
import numpy as np

from eval.sources import layouts, synthetic
from eval.sources.sequences import SequenceError
from trackers.rules import COUNT, NOT_NEGATIVE, Rule
from train.datasets.records import Clip, ClipLoader, Target

Find = Callable[[Path, str], dict[str, ClipLoader]]

MIN_VISIBILITY = 0.25  # share of a drawn target that must be seen for its frame to be of use


QUALITY = Rule("in [1, 100]", lambda value: 1 <= value <= 100)


@dataclass(frozen=True)
class SyntheticConfig:
    """What `synthetic_tracking` draws."""

    num_clips: Annotated[int, COUNT] = 64
    seed: Annotated[int, NOT_NEGATIVE] = 0  # each split has clips of its own
    quality: Annotated[int, QUALITY] = 90  # of the JPEG files
    clip: synthetic.ClipConfig = field(default_factory=lambda: synthetic.ClipConfig(num_frames=100, **synthetic.HARD))


def find_synthetic(config: SyntheticConfig, split: str) -> dict[str, ClipLoader]:
    """Clips of `eval.sources.synthetic`; the same configuration and split give the same clips."""
    seeds = np.random.SeedSequence([config.seed, zlib.crc32(split.encode())]).generate_state(config.num_clips)
    names = (f"clip_{index:05}" for index in range(config.num_clips))
    return {name: partial(_draw, config, name, int(seed)) for name, seed in zip(names, seeds)}


def _draw(config: SyntheticConfig, name: str, seed: int) -> Clip:
    images, boxes, visibility = zip(*synthetic.clip(config.clip, seed))
    options = [cv2.IMWRITE_JPEG_QUALITY, config.quality]
    frames = tuple(cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes() for image in images)
    return Clip(frames, (Target(name, np.array(boxes), np.array(visibility) >= MIN_VISIBILITY),))


def find_videos(dataset: str, root: Path, split: str) -> dict[str, ClipLoader]:
    """The sequences that `eval.sources.layouts` finds in `root`, or in root/<split> where there is such a folder."""
    root = _part(root, split)
    if dataset == "lasot":
        found = layouts.find_lasot(root, part="test" if split == "test" else "train")
    elif dataset == "trackingnet":
        found = layouts.find_trackingnet(root, part=split)
    else:
        found = layouts.LAYOUTS[dataset][0](root)
    return {name: partial(_video, loader) for name, loader in found.items()}


def folder_named(root: Path, split: str, name: str) -> Path:
    """The folder of a sequence of the `folder` layout."""
    root = _part(root, split)
    own = (root / "img").exists() or (root / "groundtruth_rect.txt").exists()
    return root if own else root / name


def _part(root: Path, split: str) -> Path:
    return root / split if (root / split).is_dir() else root


def _video(loader: layouts.Loader) -> Clip:
    sequence = loader()
    visible = sequence.visible
    if sequence.cover is not None:
        visible = visible & (sequence.cover > 0)
    return Clip(sequence.frames, (Target(sequence.name, sequence.boxes, visible),))


def find_voc(root: Path, split: str) -> dict[str, ClipLoader]:
    """Pascal VOC: JPEGImages/*.jpg, Annotations/*.xml; ImageSets/Main/<split>.txt chooses where there are such lists.

    Boxes are 1-based and inclusive: x = xmin - 1, w = xmax - xmin + 1. A difficult object is not visible.
    """
    chosen = root / "ImageSets" / "Main" / f"{split}.txt"
    if chosen.parent.is_dir():
        if not chosen.is_file():
            raise SequenceError(f"{chosen}: missing; choose a split that is listed there, or write its list")
        stems = [line.split()[0] for line in chosen.read_text().splitlines() if line.strip()]
    else:
        stems = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    return {stem: partial(_voc_image, root, stem) for stem in stems}


def _voc_image(root: Path, stem: str) -> Clip:
    path = root / "Annotations" / f"{stem}.xml"
    try:
        tree = ElementTree.parse(path).getroot()
        rows = []
        for item in tree.iter("object"):
            corners = [float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            x, y, right, bottom = corners
            label = str(item.findtext("name"))
            rows.append((label, (x - 1, y - 1, right - x + 1, bottom - y + 1), item.findtext("difficult") != "1"))
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise SequenceError(f"{path}: no boxes can be read ({error}); restore the file") from error
    return _still(root / "JPEGImages" / (tree.findtext("filename") or f"{stem}.jpg"), rows)


def find_csv(root: Path, split: str) -> dict[str, ClipLoader]:
    """JPEGImages/ and annotations.csv: image,class,x,y,w,h[,truncated]; 0-based pixels, a line for each object."""
    path = root / "annotations.csv"
    if not path.is_file():
        return {}
    lines: dict[str, list] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [name for name in ("image", "class", "x", "y", "w", "h") if name not in (rows.fieldnames or ())]
        if missing:
            raise SequenceError(f"{path}: no column {', '.join(missing)}; the first line names the columns")
        for row in rows:
            lines.setdefault(row["image"], []).append((rows.line_num, row))
    return {image: partial(_csv_image, path, image, rows) for image, rows in lines.items()}


def _csv_image(path: Path, image: str, lines: list) -> Clip:
    rows = []
    for number, row in lines:
        try:
            box = tuple(float(row[key]) for key in "xywh")
        except (TypeError, ValueError) as error:
            raise SequenceError(f"{path}:{number}: x,y,w,h are not four numbers ({error}); correct the line") from error
        rows.append((row["class"], box, True))
    return _still(path.parent / "JPEGImages" / image, rows)


def find_coco(root: Path, split: str) -> dict[str, ClipLoader]:
    """COCO: annotations/instances_<split>[year].json and the images in <split>[year]/ (also under images/).

    Crowds are left out. The whole file is held in memory while the images are written.
    """
    found = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if not found:
        return {}
    path = found[0]
    try:
        content = json.loads(path.read_text())
        names = {int(image["id"]): image["file_name"] for image in content["images"]}
        categories = {int(item["id"]): item["name"] for item in content.get("categories", ())}
        rows: dict[int, list] = {}
        for item in content["annotations"]:
            if not item.get("iscrowd"):
                box = tuple(float(value) for value in item["bbox"])
                label = categories.get(int(item["category_id"]), str(item["category_id"]))
                rows.setdefault(int(item["image_id"]), []).append((label, box, len(box) == 4))
        lost = [str(number) for number in rows if number not in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SequenceError(f"{path}: not the JSON of COCO instances ({error!r}); restore the file") from error
    if lost:
        raise SequenceError(f"{path}: boxes of images that it does not list: {', '.join(lost[:5])}; restore the file")
    part = path.stem.removeprefix("instances_")
    folders = [folder for folder in (root / part, root / "images" / part, root / "images") if folder.is_dir()]
    folder = folders[0] if folders else root / part
    return {names[number]: partial(_still, folder / names[number], rows[number]) for number in sorted(rows)}


def _still(path: Path, rows: Iterable[tuple[str, tuple, bool]]) -> Clip:
    """One image as a clip of one frame; `rows` are (class, box, visible), and a target each."""
    targets = []
    for number, (label, box, visible) in enumerate(rows):
        sound = len(box) == 4 and all(map(math.isfinite, box)) and min(box[2:]) > 0
        if not sound:
            raise SequenceError(f"{path}: {label} {number + 1} has the box {box}, not x,y,w,h with an area; correct it")
        words = "_".join(label.split())
        targets.append(Target(f"{path.stem}:{number}:{words}", np.array([box], np.float64), np.array([visible])))
    return Clip((path,), tuple(targets))


LAYOUTS: dict[str, tuple[Find, str]] = {
    **{name: (partial(find_videos, name), layout) for name, (_, layout) in layouts.LAYOUTS.items()},
    "voc": (find_voc, "DIR/JPEGImages/*.jpg and DIR/Annotations/*.xml"),
    "csv": (find_csv, "DIR/JPEGImages/* and DIR/annotations.csv (image,class,x,y,w,h)"),
    "coco": (find_coco, "DIR/annotations/instances_<split>*.json and DIR/<split>*/*.jpg"),
}
SYNTHETIC = "synthetic_tracking"
