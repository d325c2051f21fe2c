"""From the layout of a benchmark, or of images with boxes, to clips; and clips that are drawn."""

import csv
import io
import json
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import cv2
import numpy as np

from eval.sources import layouts, synthetic
from eval.sources.layouts import Layout
from eval.sources.sequences import IMAGE_SUFFIXES, SequenceError
from trackers.rules import COUNT, NOT_NEGATIVE, QUALITY
from train.datasets import boxes
from train.datasets.records import Clip, ClipLoader, Target

MIN_VISIBILITY = 0.25  # share of a drawn target that must be seen for its frame to be of use


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
    parts = {"lasot": "test" if split == "test" else "train", "trackingnet": split}
    found = layouts.find_sequences(dataset, root, **({"part": parts[dataset]} if dataset in parts else {}))
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
    visible = sequence.visible.copy()
    if sequence.cover is not None:
        visible &= sequence.cover > 0
    unusable = []
    for index in _suspects(sequence.boxes, boxes.size_of(sequence.frames[0])):
        path, box = sequence.frames[index], sequence.boxes[index]
        fault = boxes.fault_of(box, boxes.size_of(path))
        if fault:
            unusable.append(f"{path}: {fault}")
            visible[index] = False
    return Clip(sequence.frames, (Target(sequence.name, sequence.boxes, visible),), tuple(unusable))


def _suspects(places: np.ndarray, size: tuple[int, int] | None) -> list[int]:
    """Rows x, y, w, h that cannot be used, were all images of `size`; nan or no size at all says absent, not faulty."""
    low, sides = places[:, :2], places[:, 2:]
    with np.errstate(invalid="ignore"):
        suspect = (sides <= 0).any(1) & (sides != 0).any(1)
        if size is not None:
            suspect |= (sides > 0).all(1) & ((low + sides <= 0) | (low >= size)).any(1)
    return np.flatnonzero(suspect & np.isfinite(places).all(1)).tolist()


class _Images:
    """The images of a folder, by the names that annotations give them."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found.setdefault(path.stem, []).append(path)
        return found

    def named(self, stated: str, source: str, stem: str = "") -> Path:
        """The image of the stated name, else the only one with the stem of that name or with `stem`.

        Tools write names without a suffix, with another one and with folders. SequenceError with `source`, the place of
        the name, where several images could be meant; where none is, the path as it is stated.
        """
        last = re.split(r"[/\\]", stated)[-1]
        for name in (stated, last):
            if name and os.path.isfile(self.folder / name):
                return self.folder / name
        stems = dict.fromkeys(filter(None, (last, Path(last).stem, stem)))
        found = [path for key in stems for path in self.by_stem.get(key, ())]
        if len(found) > 1:
            several = " and ".join(path.name for path in found)
            raise SequenceError(f"{source}: its image {stated!r} is not there, but {several} are; write which it is")
        return found[0] if found else self.folder / (stated or f"{stem}.jpg")


def find_voc(root: Path, split: str) -> dict[str, ClipLoader]:
    """Pascal VOC: JPEGImages/*.jpg, Annotations/*.xml; ImageSets/Main/<split>.txt chooses where there are such lists.

    Corners are inclusive: w = xmax - xmin + 1. A difficult object is not visible.
    """
    chosen = root / "ImageSets" / "Main" / f"{split}.txt"
    if chosen.parent.is_dir():
        if not chosen.is_file():
            raise SequenceError(f"{chosen}: missing; choose a split that is listed there, or write its list")
        stems = [line.split()[0] for line in layouts.read_text(chosen).splitlines() if line.strip()]
    else:
        stems = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    images = _Images(root / "JPEGImages")
    return {stem: partial(_voc_image, root / "Annotations" / f"{stem}.xml", images) for stem in stems}


def _voc_image(path: Path, images: _Images) -> Clip:
    origin = LAYOUTS["voc"].origin
    try:
        tree = ElementTree.parse(path).getroot()
        rows = []
        for item in tree.iter("object"):
            corners = [float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            x, y, right, bottom = corners
            label = str(item.findtext("name"))
            box = (x - origin, y - origin, right - x + 1, bottom - y + 1)
            rows.append((label, box, item.findtext("difficult") != "1"))
    except (OSError, ElementTree.ParseError, TypeError, ValueError, LookupError) as error:
        raise SequenceError(f"{path}: no boxes can be read ({error}); restore the file") from error
    stated = (tree.findtext("filename") or "").strip()
    size = _size(tree.findtext("size/width"), tree.findtext("size/height"))
    return _still(images.named(stated, f"{path}: <filename>", path.stem), rows, size)


def find_csv(root: Path, split: str) -> dict[str, ClipLoader]:
    """JPEGImages/ and annotations.csv: image,class,x,y,w,h[,truncated], a line for each object."""
    path = root / "annotations.csv"
    if not path.is_file():
        return {}
    lines: dict[str, list] = {}
    rows = csv.DictReader(io.StringIO(layouts.read_text(path)))
    try:
        missing = [name for name in ("image", "class", "x", "y", "w", "h") if name not in (rows.fieldnames or ())]
        if missing:
            raise SequenceError(f"{path}: no column {', '.join(missing)}; the first line names the columns")
        for row in rows:
            lines.setdefault(row["image"] or "", []).append((rows.line_num, row))
    except csv.Error as error:
        raise SequenceError(f"{path}: not fields between commas ({error}); restore the file") from error
    images = _Images(root / "JPEGImages")
    return {image: partial(_csv_image, path, images, image, rows) for image, rows in lines.items()}


def _csv_image(path: Path, images: _Images, image: str, lines: list) -> Clip:
    rows = []
    for number, row in lines:
        try:
            box = tuple(float(row[key]) for key in "xywh")
        except (TypeError, ValueError) as error:
            raise SequenceError(f"{path}:{number}: x,y,w,h are not four numbers ({error}); correct the line") from error
        rows.append((row["class"], box, True))
    return _still(images.named(image, f"{path}:{lines[0][0]}"), rows)


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
        photographs = {
            int(image["id"]): (str(image["file_name"]), _size(image.get("width"), image.get("height")))
            for image in content["images"]
        }
        categories = {int(item["id"]): str(item["name"]) for item in content.get("categories", ())}
        rows: dict[int, list] = {}
        for item in content["annotations"]:
            if not item.get("iscrowd"):
                label = categories.get(int(item["category_id"]), str(item["category_id"]))
                rows.setdefault(int(item["image_id"]), []).append((label, _numbers(item.get("bbox")), True))
        lost = [str(number) for number in rows if number not in photographs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SequenceError(f"{path}: not the JSON of COCO instances ({error!r}); restore the file") from error
    if lost:
        raise SequenceError(f"{path}: boxes of images that it does not list: {', '.join(lost[:5])}; restore the file")
    part = path.stem.removeprefix("instances_")
    folders = [folder for folder in (root / part, root / "images" / part, root / "images") if folder.is_dir()]
    images = _Images(folders[0] if folders else root / part)
    return {
        photographs[number][0]: partial(_coco_image, path, images, *photographs[number], rows[number])
        for number in sorted(rows)
    }


def _coco_image(path: Path, images: _Images, name: str, size: tuple[int, int] | None, rows: list) -> Clip:
    return _still(images.named(name, f"{path}: {name}"), rows, size)


def _numbers(values: Any) -> tuple[float, ...]:
    """A box of COCO, nothing where it is not one."""
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return ()


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) of an image as an annotation states it; None where it does not."""
    try:
        return int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        return None


def _still(path: Path, rows: Iterable[tuple[str, tuple, bool]], stated: tuple[int, int] | None = None) -> Clip:
    """One photograph as a clip of one frame; `rows` are (class, box, visible), and a target each.

    stated: its (width, height) by the annotation, see `boxes.lying_of`. A target whose box cannot be used is not
    visible; an image without any other has no targets.
    """
    size, upright = boxes.lying_of(path, stated)
    targets, unusable = [], []
    for number, (label, box, visible) in enumerate(rows):
        fault = boxes.fault_of(box, size)
        if fault:
            unusable.append(f"{path}: {label} {number + 1}: {fault}")
        name = f"{path.stem}:{number}:{'_'.join(label.split())}"
        places = np.full((1, 4), np.nan) if fault else np.array([box], np.float64)
        targets.append(Target(name, places, np.array([visible and not fault])))
    return Clip((path,), tuple(targets) if len(unusable) < len(targets) else (), tuple(unusable), upright)


LAYOUTS: dict[str, Layout] = {
    **{name: layout._replace(find=partial(find_videos, name)) for name, layout in layouts.LAYOUTS.items()},
    "voc": Layout(
        find_voc,
        "DIR/JPEGImages/*.jpg and DIR/Annotations/*.xml",
        1,
        "its development kit: the top left pixel is (1,1)",
    ),
    "csv": Layout(
        find_csv, "DIR/JPEGImages/* and DIR/annotations.csv (image,class,x,y,w,h)", 0, "the layout is this project's"
    ),
    "coco": Layout(
        find_coco,
        "DIR/annotations/instances_<split>*.json and DIR/<split>*/*.jpg",
        0,
        "its description: box coordinates are measured from the top left image corner and are 0-indexed",
    ),
}
SYNTHETIC = "synthetic_tracking"
