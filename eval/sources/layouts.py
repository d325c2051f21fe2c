"""Readers of sequences on disk: one for each benchmark's layout and for a folder of one's own.

Readers list files and parse text; no image is decoded before `read_image`, except where a layout needs its size.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.sources.masks import EMPTY, Mask, mask_to_box, parse_mask
from eval.sources.sequences import Sequence, SequenceError, list_images, numeric_order, polygon_to_box, read_image

Loader = Callable[[], Sequence]

# OTB (configSeqs.m of the benchmark): numbers of the annotated images where not 1..number of images.
OTB_RANGES = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
# Leading frames that are annotated but not part of the sequence (pytracking starts it at frame 6).
OTB_SKIPPED = {"Tiger1": 5}
# Targets that belong to OTB-100, in folders that annotate more.
OTB_TARGETS = {"Human4": (2,)}

# UAV123 (configSeqs.m): first image of each part of a video that is cut; the part's boxes give its length.
UAV_PARTS = {
    "bird1": (1, 775, 1573),
    "car1": (1, 751, 1627),
    "car6": (1, 487, 1807, 2953, 3925),
    "car8": (1, 1357),
    "car16": (1, 415),
    "group1": (1, 1333, 2515, 3925),
    "group2": (1, 907, 1771),
    "group3": (1, 1567, 2827, 4369),
    "person2": (1, 1189),
    "person4": (1, 1501),
    "person5": (1, 877),
    "person7": (1, 1249),
    "person8": (1, 1075),
    "person12": (1, 601),
    "person14": (1, 847, 1813),
    "person17": (1, 1501),
    "person19": (1, 1243, 2791),
    "truck4": (1, 577),
    "uav1": (1, 1555, 2473),
}


def read_dataset(
    dataset: str,
    data_dir: Path | str,
    names: list[str] | None = None,
    problems: list[SequenceError] | None = None,
) -> list[Sequence]:
    """The sequences of `data_dir` in the layout `dataset` (a key of LAYOUTS): all, or `names` in that order.

    A sequence that cannot be read raises SequenceError, or is appended to `problems` and left out where a
    list is given. An unknown name, a folder without sequences and a missing folder always raise.
    """
    root = Path(data_dir)
    if dataset not in LAYOUTS:
        raise SequenceError(f"unknown dataset {dataset!r}; choose one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise SequenceError(f"{root}: no such folder; give the folder of the sequences as data_dir")
    loaders = find_sequences(dataset, root)
    if not loaders:
        raise SequenceError(f"{root}: no sequence found; the {dataset} layout is {LAYOUTS[dataset].files}")
    unknown = [name for name in names or () if name not in loaders]
    if unknown:
        raise SequenceError(f"{root}: no sequence {', '.join(unknown)}; there are {shortened(list(loaders))}")
    sequences = []
    for name in dict.fromkeys(names or loaders):
        try:
            sequences.append(loaders[name]())
        except SequenceError as error:
            if problems is None:
                raise
            problems.append(error)
    return sequences


def find_sequences(dataset: str, root: Path, **options: str) -> dict[str, Loader]:
    """Name -> what reads the sequence, of the layout `dataset`, with 0-based boxes whatever the files count from.

    `options` are those of the layout's reader: `part` of LaSOT and TrackingNet.
    """
    layout = LAYOUTS[dataset]
    return {name: partial(_from_zero, loader, layout.origin) for name, loader in layout.find(root, **options).items()}


def _from_zero(loader: Loader, origin: int) -> Sequence:
    sequence = loader()
    polygons = None if sequence.polygons is None else sequence.polygons - origin
    return replace(sequence, boxes=sequence.boxes - np.array([origin, origin, 0, 0]), polygons=polygons)


def find_folder(root: Path) -> dict[str, Loader]:
    """`root` itself, or every folder in it, with img/ and groundtruth_rect.txt."""
    own = root / "img", root / "groundtruth_rect.txt"
    folders = [root.resolve()] if any(path.exists() for path in own) else _folders(root)
    return {
        folder.name: partial(_load_folder, folder)
        for folder in folders
        if (folder / "img").exists() or (folder / "groundtruth_rect.txt").exists()
    }


def _load_folder(folder: Path) -> Sequence:
    truth = folder / "groundtruth_rect.txt"
    return _sequence(folder.name, list_images(folder / "img"), _read_numbers(truth, (4,)), truth)


def find_otb(root: Path) -> dict[str, Loader]:
    """OTB-50/100: <name>/{img/, groundtruth_rect.txt}, or groundtruth_rect.<k>.txt for target <name>-<k>.

    The files count from 1, and pytracking and got10k give a tracker what they hold, which starts it 1 px off.
    Frames are those of OTB_RANGES less OTB_SKIPPED, looked up by image number.
    """
    loaders = {}
    for folder in _folders(root):
        truths = {path.name.split(".")[-2]: path for path in folder.glob("groundtruth_rect.*.txt")}
        kept = {target: path for target, path in sorted(truths.items()) if target.isdecimal()}
        truth = folder / "groundtruth_rect.txt"
        if not kept and ((folder / "img").is_dir() or truth.is_file()):
            loaders[folder.name] = partial(_load_otb, folder, folder.name, truth)
        for target, path in kept.items():
            if int(target) in OTB_TARGETS.get(folder.name, (int(target),)):
                name = f"{folder.name}-{target}"
                loaders[name] = partial(_load_otb, folder, name, path)
    return loaders


def _load_otb(folder: Path, name: str, truth: Path) -> Sequence:
    frames, boxes = list_images(folder / "img"), _read_numbers(truth, (4,))
    if folder.name in OTB_RANGES:
        first, last = OTB_RANGES[folder.name]
        frames = _numbered(frames, first, last - first + 1, folder / "img")
    skipped = OTB_SKIPPED.get(folder.name, 0)
    whole = _sequence(name, frames, boxes, truth)
    return _sequence(name, whole.frames[skipped:], boxes[skipped:], truth)


def find_uav123(root: Path, part: str = "UAV123") -> dict[str, Loader]:
    """UAV123 or UAV20L: anno/<part>/<name>.txt, data_seq/UAV123/<folder>/%06d.jpg; nan rows: out of view.

    A sequence is (folder, start image, end image): its own folder from image 1, or a part in UAV_PARTS; its
    end follows from the number of boxes.
    """
    videos = root / "data_seq" / "UAV123"
    return {path.stem: partial(_load_uav, path, videos) for path in sorted((root / "anno" / part).glob("*.txt"))}


def _load_uav(truth: Path, videos: Path) -> Sequence:
    name, first = truth.stem, 1
    folder, _, part = name.rpartition("_")
    if folder in UAV_PARTS and part.isdecimal():
        if int(part) > len(UAV_PARTS[folder]):
            raise SequenceError(f"{truth}: {folder} has {len(UAV_PARTS[folder])} parts; remove the file")
        first = UAV_PARTS[folder][int(part) - 1]
    else:
        folder = name
    boxes = _read_numbers(truth, (4,))
    frames = _numbered(list_images(videos / folder), first, len(boxes), videos / folder)
    return _sequence(name, frames, boxes, truth)


def find_lasot(root: Path, part: str = "test") -> dict[str, Loader]:
    """LaSOT: [<class>/]<name>/{img/%08d.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}.

    `testing_set.txt` in `root` (one name a line) chooses the sequences where it exists; part "train" is the
    names of `training_set.txt`, or without that file all that are not in `testing_set.txt`. Visible = neither
    flag (paper protocol).
    """
    found = sorted(path.parent for pattern in ("*/img", "*/*/img") for path in root.glob(pattern))
    folders = {folder.name: folder for folder in found}
    names = _listed(root, "testing_set.txt", folders)
    if part == "train":
        tested = set(names) if (root / "testing_set.txt").is_file() else ()
        others = {name: folder for name, folder in folders.items() if name not in tested}
        names = _listed(root, "training_set.txt", others)
    return {name: partial(_load_lasot, folders.get(name, root / name)) for name in names}


def _load_lasot(folder: Path) -> Sequence:
    truth = folder / "groundtruth.txt"
    sequence = _sequence(folder.name, list_images(folder / "img"), _read_numbers(truth, (4,)), truth)
    flagged = np.zeros(len(sequence.frames), bool)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        flagged |= _read_labels(folder / name, len(flagged)) != 0
    return _sequence(folder.name, sequence.frames, sequence.boxes, truth, flagged=flagged)


def find_got10k(root: Path) -> dict[str, Loader]:
    """A split of GOT-10k: <name>/{%08d.jpg, groundtruth.txt, absence.label, cover.label}, order by list.txt.

    The test split has one box a sequence and no labels: its sequences are not `scored`.
    """
    folders = {folder.name: folder for folder in _folders(root) if (folder / "groundtruth.txt").is_file()}
    return {name: partial(_load_got10k, root / name) for name in _listed(root, "list.txt", folders)}


def _load_got10k(folder: Path) -> Sequence:
    truth = folder / "groundtruth.txt"
    frames, boxes = list_images(folder), _read_numbers(truth, (4,))
    if len(boxes) == 1 < len(frames):
        return _one_box_or_all(folder.name, frames, boxes, truth)
    labels = [_read_labels(folder / name, len(frames)) for name in ("absence.label", "cover.label")]
    return _sequence(folder.name, frames, boxes, truth, flagged=labels[0] != 0, cover=labels[1])


def find_vot(root: Path, rule: str = "tight") -> dict[str, Loader]:
    """VOT: <name>/{%08d.jpg | color/%08d.jpg, groundtruth.txt}, order by list.txt.

    Ground truth is x,y,w,h or, to 2019, a polygon of 8 numbers, kept in `polygons`; `boxes` is the enclosing box of it
    (`polygon_to_box`, "tight"). From 2020 on it is a mask, kept in `masks`, and `boxes` has its box by `rule` of
    `mask_to_box`; an empty mask, and a line that is a single number or nan, say that the target is absent.
    """
    folders = {folder.name: folder for folder in _folders(root) if (folder / "groundtruth.txt").is_file()}
    return {name: partial(_load_vot, root / name, rule) for name in _listed(root, "list.txt", folders)}


def _load_vot(folder: Path, rule: str) -> Sequence:
    truth = folder / "groundtruth.txt"
    frames = list_images(folder / "color" if (folder / "color").is_dir() else folder)
    lines = read_text(truth).rstrip().splitlines()
    if any(line.startswith("m") for line in lines):
        masks = tuple(_read_mask(line, f"{truth}:{number}") for number, line in enumerate(lines, 1))
        boxes = np.array([mask_to_box(mask, rule) for mask in masks])
        return _sequence(folder.name, frames, boxes, truth, masks=masks)
    if rule != "tight":
        raise SequenceError(f"{truth}: has no masks to fit boxes to; its layout is called vot")
    numbers = _parse_numbers(lines, (4, 8), truth)
    polygons = numbers if numbers.shape[1] == 8 else None
    boxes = numbers if polygons is None else polygon_to_box(polygons)
    return _sequence(folder.name, frames, boxes, truth, polygons=polygons)


def _read_mask(line: str, place: str) -> Mask:
    if not line.startswith("m") and re.fullmatch(r"\s*(\d+(\.0*)?|nan(,nan)*)\s*", line):
        return EMPTY
    try:
        return parse_mask(line)
    except ValueError as error:
        raise SequenceError(f"{place}: {line.strip()[:40]!r} {error}; restore the file") from error


def find_nfs(root: Path, rate: int = 30) -> dict[str, Loader]:
    """NFS at 30 or 240 frames/s: <name>/<rate>/{<name>/%05d.jpg, <name>.txt}; or at 30 as pytracking repackaged it.

    A line is: track, left, top, right, bottom, frame, lost, occluded, generated, "label"; lost and occluded frames are
    not visible. Where a file at 30 frames/s has the lines of all frames, every 8th belongs to an image. Repackaged, the
    images are in sequences/<name>/, and anno/nfs_<name>.txt holds x, y, w, h. The counts may differ by one: the surplus
    is dropped, as the got10k toolkit does.
    """
    truths = sorted(root.glob(f"*/{rate}/*.txt"))
    loaders = {path.parents[1].name: partial(_load_nfs, path, 240 // rate) for path in truths}
    if not loaders and rate == 30:
        packed = sorted((root / "anno").glob("nfs_*.txt"))
        loaders = {path.stem.removeprefix("nfs_"): partial(_load_packed_nfs, path) for path in packed}
    other, name = (240, "nfs240") if rate == 30 else (30, "nfs")
    if not loaders and any(root.glob(f"*/{other}/*.txt")):
        raise SequenceError(f"{root}: NFS at {other} frames/s, and none at {rate}; its layout is called {name}")
    return loaders


def _load_nfs(truth: Path, step: int) -> Sequence:
    lines = [" ".join(line.split()[:9]) for line in read_text(truth).rstrip().splitlines()]  # less the label
    table, frames = _parse_numbers(lines, (9,), truth), list_images(truth.with_suffix(""))
    if abs(len(table) - len(frames)) > 1 and abs(len(table[::step]) - len(frames)) <= 1:
        table = table[::step]
    frames, table = _less_one(frames, table)
    boxes = np.concatenate([table[:, 1:3], table[:, 3:5] - table[:, 1:3]], 1)
    return _sequence(truth.parents[1].name, frames, boxes, truth, flagged=(table[:, 6:8] != 0).any(1))


def _load_packed_nfs(truth: Path) -> Sequence:
    name = truth.stem.removeprefix("nfs_")
    frames, boxes = _less_one(list_images(truth.parents[1] / "sequences" / name), _read_numbers(truth, (4,)))
    return _sequence(name, frames, boxes, truth)


def _less_one(frames: list[Path], table: np.ndarray) -> tuple[list[Path], np.ndarray]:
    """Both without the last one that the other has not."""
    if abs(len(frames) - len(table)) > 1:
        return frames, table
    return frames[: len(table)], table[: len(frames)]


def find_tcolor128(root: Path) -> dict[str, Loader]:
    """TColor-128: <name>/{img/%04d.jpg, <name>_gt.txt, <name>_frames.txt}, the last with the first and last image."""
    return {path.parent.name: partial(_load_tcolor128, path) for path in sorted(root.glob("*/*_gt.txt"))}


def _load_tcolor128(truth: Path) -> Sequence:
    path = truth.with_name(truth.name.replace("_gt.txt", "_frames.txt"))
    first, last = _read_numbers(path, (2,))[0].tolist()
    if not (first.is_integer() and last.is_integer() and first <= last):
        raise SequenceError(f"{path}: {first:g},{last:g} are not the numbers of the first and last image; restore it")
    first, last = int(first), int(last)
    frames = _numbered(list_images(truth.parent / "img"), first, last - first + 1, truth.parent / "img")
    return _sequence(truth.parent.name, frames, _read_numbers(truth, (4,)), truth)


def find_avist(root: Path) -> dict[str, Loader]:
    """AVisT: sequences/<name>/img_%05d.jpg, anno/<name>.txt, and for each name a file of flags in two folders.

    full_occlusion/<name>_full_occlusion.txt and out_of_view/<name>_out_of_view.txt; visible = neither flag.
    """
    return {path.stem: partial(_load_avist, path) for path in sorted((root / "anno").glob("*.txt"))}


def _load_avist(truth: Path) -> Sequence:
    root, name = truth.parents[1], truth.stem
    frames = list_images(root / "sequences" / name)
    flagged = np.zeros(len(frames), bool)
    for kind in ("full_occlusion", "out_of_view"):
        flagged |= _read_labels(root / kind / f"{name}_{kind}.txt", len(frames)) != 0
    return _sequence(name, frames, _read_numbers(truth, (4,)), truth, flagged=flagged)


def find_trackingnet(root: Path, part: str = "train") -> dict[str, Loader]:
    """TrackingNet: {TRAIN_<k> | TEST}/{anno/<name>.txt, frames/<name>/<number>.jpg}, or one such chunk itself.

    Frames are numbered from 0 without leading zeros. Of TRAIN_0 ... TRAIN_11 those that exist are read. The
    test part has one box a sequence: its sequences are not `scored`.
    """
    pattern = "TEST*" if part == "test" else "TRAIN*"
    chunks = [root] if (root / "anno").is_dir() else sorted(root.glob(pattern), key=numeric_order)
    truths = (path for chunk in chunks for path in sorted((chunk / "anno").glob("*.txt")))
    return {path.stem: partial(_load_trackingnet, path) for path in truths}


def _load_trackingnet(truth: Path) -> Sequence:
    frames = list_images(truth.parents[1] / "frames" / truth.stem)
    return _one_box_or_all(truth.stem, frames, _read_numbers(truth, (4,)), truth)


def find_oxuva(root: Path) -> dict[str, Loader]:
    """OxUvA, the dev part: images/dev/<video>/%06d.jpeg and annotations/dev.csv, which the benchmark's repository has.

    A line of it is one target on one frame: video, object, class number, class, cuts, always visible, frame, "present"
    or "absent", then xmin, xmax, ymin, ymax as shares of the image's width and height. A sequence <video>_<object> runs
    from its first line's frame to its last's. About one frame a second is `annotated`; on the others no box is known.
    The first image of each sequence is decoded, for its size. The test part withholds even who is absent: not read.
    """
    truth = root / "annotations" / "dev.csv"
    lines: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for number, line in enumerate(read_text(truth).splitlines() if truth.is_file() else (), 1):
        fields = line.strip().split(",")
        lines.setdefault(tuple(fields[:2]), []).append((number, fields))
    return {"_".join(key): partial(_load_oxuva, truth, key[0], chosen) for key, chosen in lines.items()}


def _load_oxuva(truth: Path, video: str, lines: list[tuple[int, list[str]]]) -> Sequence:
    shares: dict[int, tuple[float, ...]] = {}  # frame -> xmin, xmax, ymin, ymax; nan where the target is absent
    for number, fields in lines:
        try:
            *_, frame, presence, left, right, top, bottom = fields
            if len(fields) != 12 or presence not in ("present", "absent"):
                raise ValueError(presence)
            box = (float(left), float(right), float(top), float(bottom)) if presence == "present" else (np.nan,) * 4
            shares[int(frame)] = box
        except ValueError as error:
            wanted = "video,object,class,name,cuts,visible,frame,present|absent,xmin,xmax,ymin,ymax"
            raise SequenceError(f"{truth}:{number}: expected {wanted}; restore the file") from error
    folder, first, count = truth.parents[1] / "images" / "dev" / video, min(shares), max(shares) - min(shares) + 1
    frames = _numbered(list_images(folder), first, count, folder)
    height, width = read_image(frames[0]).shape[:2]
    annotated, boxes = np.zeros(count, bool), np.full((count, 4), np.nan)
    for frame, (left, right, top, bottom) in shares.items():
        annotated[frame - first] = True
        boxes[frame - first] = left * width, top * height, (right - left) * width, (bottom - top) * height
    return replace(_sequence("_".join(lines[0][1][:2]), frames, boxes, truth), annotated=annotated)


class Layout(NamedTuple):
    """How a data set stores its sequences."""

    find: Callable[..., dict[str, Loader]]  # its reader, whose boxes are as in the files
    files: str  # where they lie
    origin: int  # x and y of the upper left pixel in the files: subtracted where they are read
    evidence: str  # how that is known; "not stated": the values are taken as they are


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(
        find_folder, "DIR[/<name>]/img/*.jpg and DIR[/<name>]/groundtruth_rect.txt", 0, "the layout is this project's"
    ),
    "otb": Layout(
        find_otb,
        "DIR/<name>/img/*.jpg and DIR/<name>/groundtruth_rect.txt",
        1,
        "the benchmark is in MATLAB; boxes at the left and upper border have 1, not 0, in seven sequences",
    ),
    "uav123": Layout(
        find_uav123,
        "DIR/anno/UAV123/<name>.txt and DIR/data_seq/UAV123/<folder>/*.jpg",
        0,
        "not stated; pytracking, pysot and got10k take the values as they are",
    ),
    "uav20l": Layout(
        partial(find_uav123, part="UAV20L"),
        "DIR/anno/UAV20L/<name>.txt and DIR/data_seq/UAV123/<folder>/*.jpg",
        0,
        "not stated, as of UAV123",
    ),
    "lasot": Layout(
        find_lasot,
        "DIR/[<class>/]<name>/img/*.jpg and .../groundtruth.txt",
        1,
        "the toolkit is in MATLAB; of 3.42 million visible boxes in its annotations the smallest x is 1, none has 0",
    ),
    "got10k": Layout(
        find_got10k,
        "DIR/<name>/*.jpg and DIR/<name>/groundtruth.txt; give the split's folder",
        0,
        "not stated; the toolkit of its authors hands the values to trackers as they are",
    ),
    "vot": Layout(
        find_vot,
        "DIR/<name>/[color/]*.jpg and DIR/<name>/groundtruth.txt",
        0,
        "the toolkit hands the values to trackers as they are, by TraX, which counts from 0",
    ),
    "vot_fitted": Layout(
        partial(find_vot, rule="fitted"),
        "DIR/<name>/[color/]*.jpg and DIR/<name>/groundtruth.txt with masks",
        0,
        "as vot",
    ),
    "nfs": Layout(
        find_nfs,
        "DIR/<name>/30/<name>/*.jpg and DIR/<name>/30/<name>.txt, or DIR/sequences/<name>/*.jpg and "
        "DIR/anno/nfs_<name>.txt",
        0,
        "the columns are those of VATIC, whose boxes start at 0",
    ),
    "nfs240": Layout(
        partial(find_nfs, rate=240),
        "DIR/<name>/240/<name>/*.jpg and DIR/<name>/240/<name>.txt",
        0,
        "the columns are those of VATIC, whose boxes start at 0",
    ),
    "tcolor128": Layout(
        find_tcolor128,
        "DIR/<name>/img/*.jpg, DIR/<name>/<name>_gt.txt and DIR/<name>/<name>_frames.txt",
        1,
        "it was scored by OTB's MATLAB code, and shares sequences with OTB (recalled)",
    ),
    "dtb70": Layout(
        find_folder,
        "DIR/<name>/img/*.jpg and DIR/<name>/groundtruth_rect.txt",
        0,
        "not stated; got10k takes the values as they are",
    ),
    "avist": Layout(
        find_avist,
        "DIR/sequences/<name>/*.jpg, DIR/anno/<name>.txt, DIR/full_occlusion and DIR/out_of_view",
        0,
        "not stated; pytracking takes the values as they are",
    ),
    "oxuva": Layout(
        find_oxuva,
        "DIR/images/dev/<video>/*.jpeg and DIR/annotations/dev.csv",
        0,
        "shares of the image's width and height, from its edge",
    ),
    "trackingnet": Layout(
        find_trackingnet,
        "DIR/TRAIN_<k>/frames/<name>/*.jpg and DIR/TRAIN_<k>/anno/<name>.txt",
        0,
        "made from the boxes of YouTube-BoundingBoxes, which are shares of the image, from its edge",
    ),
}


def _sequence(
    name, frames, boxes, truth, *, flagged=None, cover=None, polygons=None, masks=None, scored=True
) -> Sequence:
    """A checked Sequence: as many boxes as frames, and a box on frame 1."""
    if len(boxes) != len(frames):
        raise SequenceError(
            f"{truth}: {len(boxes)} boxes for {len(frames)} images in {frames[0].parent}; write one line for each image"
        )
    visible = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)
    if not visible[0]:
        raise SequenceError(f"{truth}:1: frame 1 has no box of positive size, so a tracker cannot start there")
    if max(boxes[0]) <= 1:
        raise SequenceError(f"{truth}:1: the box lies within one pixel; write boxes in pixels, not as fractions")
    if flagged is not None:
        visible &= ~flagged
    return Sequence(name, tuple(frames), boxes, visible, cover, polygons, masks, scored)


def _one_box_or_all(name: str, frames: list[Path], boxes: np.ndarray, truth: Path) -> Sequence:
    """A sequence with all its boxes, or one that is not `scored`: a single box, nan on every other frame."""
    scored = len(boxes) != 1 or len(frames) == 1
    if not scored:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
    return _sequence(name, frames, boxes, truth, scored=scored)


def _read_numbers(path: Path, columns: tuple[int, ...]) -> np.ndarray:
    """`[T, one of columns]` float64 from fields separated by comma, tab or blank; nan: target absent."""
    return _parse_numbers(read_text(path).rstrip().splitlines(), columns, path)


def _parse_numbers(lines: list[str], columns: tuple[int, ...], path: Path) -> np.ndarray:
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = [float(field) for field in re.split(r"\s*[,;\s]\s*", line.strip())]
        except ValueError:
            row = []
        if len(row) not in columns or (rows and len(row) != len(rows[0])) or np.isinf(row).any():
            wanted = " or ".join(str(count) for count in columns)
            raise SequenceError(
                f"{path}:{number}: expected {wanted} numbers, found {line.strip()[:60]!r}; correct the line"
            )
        rows.append(row)
    if not rows:
        raise SequenceError(f"{path}: no boxes; write one line x,y,w,h per image")
    return np.array(rows, np.float64)


def _read_labels(path: Path, count: int) -> np.ndarray:
    """`[count]` int from a file of whole numbers, one a line or all on one line."""
    fields = [field for field in re.split(r"[,\s]+", read_text(path)) if field]
    try:
        labels = np.array([int(field) for field in fields], np.int64)
    except (ValueError, OverflowError) as error:
        raise SequenceError(f"{path}: not whole numbers ({error}); restore the file") from error
    if len(labels) != count:
        raise SequenceError(f"{path}: {len(labels)} labels for {count} images; restore the file")
    return labels


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark; SequenceError, one line, where it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise SequenceError(f"{path}: missing; put the benchmark's file there or leave the sequence out") from error
    except (OSError, ValueError) as error:  # ValueError: no text, or of a name that no file can have
        raise SequenceError(f"{path}: cannot be read ({error}); restore the file") from error


def _numbered(frames: list[Path], first: int, count: int, folder: Path) -> list[Path]:
    """`count` frames from image number `first` on, looked up by the number in the file name."""
    by_number = {int(path.stem): path for path in frames if path.stem.isdecimal()}
    wanted = range(first, first + count)
    missing = count - sum(number in wanted for number in by_number)
    if missing:
        number = next(number for number in wanted if number not in by_number)
        raise SequenceError(
            f"{folder}: image {number} is missing ({missing} of {first}..{first + count - 1});"
            " restore it, or read the sequence with the folder layout"
        )
    return [by_number[number] for number in wanted]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(root: Path, list_file: str, folders: dict[str, Path]) -> list[str]:
    """Names in `list_file` of `root` where it exists, else the names of `folders`."""
    path = root / list_file
    return read_text(path).split() if path.is_file() else list(folders)


def shortened(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
