"""Data sets for training: from each benchmark's true layout to records and a table, and back."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from eval.sources.sequences import SequenceError, read_image
from eval.sources.synthetic import ClipConfig, clip
from tests.helpers import places
from tests.helpers.containers import photograph
from tests.helpers.disk import small_disk
from train.datasets import LAYOUTS, DatasetError, SyntheticConfig, load, prepare, records
from train.datasets.__main__ import main
from train.datasets.boxes import fault_of, lying_of, size_of
from train.samples.loader import decode

JPEG = [".jpg", [cv2.IMWRITE_JPEG_QUALITY, 80]]


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def images(folder: Path, numbers, digits: int = 4, suffix: str = ".jpg") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:0{digits}}{suffix}" for number in numbers]
    for path in paths:
        cv2.imwrite(str(path), picture(zlib.crc32("/".join(path.parts[-4:]).encode())))
    return paths


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(count: int, separator: str = ",") -> str:
    """Line k (from 1) is k, 2k, 10, 8."""
    return "".join(separator.join(map(str, (k, 2 * k, 10, 8))) + "\n" for k in range(1, count + 1))


def ramp(count: int) -> np.ndarray:
    return np.array([(k, 2 * k, 10, 8) for k in range(1, count + 1)], np.float32)


def sequence(dataset, name: str) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """(boxes, visible, images) of a sequence by name."""
    at = dataset.table.names.index(name)
    start, length = dataset.table.starts[at], dataset.table.lengths[at]
    part = slice(start, start + length)
    frames = [dataset.frames[index]["image"] for index in range(start, start + length)]
    return dataset.table.boxes[part], dataset.table.visible[part], frames


def folder_of(dataset_dir: Path, name: str = "folder") -> Path:
    return dataset_dir / name / "train" / "1.0.0"


@pytest.fixture
def own(tmp_path):
    """A folder of two sequences of one's own."""
    for name, count in (("walk", 3), ("run", 2)):
        images(tmp_path / "own" / name / "img", range(1, count + 1))
        write(tmp_path / "own" / name / "groundtruth_rect.txt", lines(count))
    return tmp_path / "own"


def test_round_trip_keeps_bytes_boxes_types_and_order(own, tmp_path):
    dataset = prepare("folder", own, tmp_path / "out")
    table = dataset.table
    assert dataset.name == "folder" and table.names == ("run", "walk") and len(dataset.frames) == 5
    assert table.starts.tolist() == [0, 2] and table.lengths.tolist() == [2, 3]
    assert table.starts.dtype == table.lengths.dtype == np.int64
    assert table.boxes.dtype == np.float32 and table.visible.dtype == bool and table.visible.all()
    for name, count in (("walk", 3), ("run", 2)):
        boxes, _, frames = sequence(dataset, name)
        np.testing.assert_array_equal(boxes, ramp(count))
        assert frames == [path.read_bytes() for path in sorted((own / name / "img").iterdir())]
    again = load("folder", tmp_path / "out")
    assert again.frames[np.int64(4)] == dataset.frames[4] and again.table.names == table.names
    with pytest.raises(IndexError):
        dataset.frames[5]


def test_frames_are_for_worker_processes(own, tmp_path):
    dataset = prepare("folder", own, tmp_path / "out")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.frames[3] == dataset.frames[3] and len(copy.frames) == 5
    command = "import pickle, sys; d = pickle.load(sys.stdin.buffer); print(len(d.frames[3]['image']))"
    command += "; print([n for n in sys.modules if n.split('.')[0] in ('tensorflow', 'torch')])"
    out = subprocess.run([sys.executable, "-c", command], input=pickle.dumps(dataset), capture_output=True, check=True)
    assert out.stdout.decode().split("\n")[:2] == [str(len(dataset.frames[3]["image"])), "[]"]


def test_several_shards_read_as_one(tmp_path):
    target = records.Target("a", ramp(5), np.ones(5, bool))
    frames = [cv2.imencode(JPEG[0], picture(k))[1].tobytes() for k in range(5)]
    size = len(frames[0]) * 2 + 200
    records.write("made", tmp_path, "train", [records.Clip(frames, (target,))], origin={}, shard_bytes=size)
    dataset = load("made", tmp_path)
    assert len(list(folder_of(tmp_path, "made").glob("*.array_record-*"))) > 2
    assert [dataset.frames[k]["image"] for k in range(5)] == frames


def test_other_formats_become_png_without_loss(tmp_path):
    (path,) = images(tmp_path / "own" / "a" / "img", [1], suffix=".bmp")
    write(tmp_path / "own" / "a" / "groundtruth_rect.txt", lines(1))
    data = prepare("folder", tmp_path / "own", tmp_path / "out").frames[0]["image"]
    assert data.startswith(b"\x89PNG")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, cv2.imread(str(path)))


def test_images_of_more_bits_are_what_is_tracked(tmp_path):
    folder = tmp_path / "own" / "a"
    write(folder / "groundtruth_rect.txt", lines(2))
    (folder / "img").mkdir()
    for name, level in (("1.png", 4), ("2.tiff", 16)):
        cv2.imwrite(str(folder / "img" / name), picture(level).astype(np.uint16) * level)  # 10 and 12 bits
    dataset = prepare("folder", tmp_path / "own", tmp_path / "out")
    for frame, name in enumerate(("1.png", "2.tiff")):
        decoded = decode(dataset.frames[frame]["image"])[..., ::-1]
        np.testing.assert_array_equal(decoded, read_image(folder / "img" / name))
        np.testing.assert_allclose(decoded, picture((4, 16)[frame])[..., ::-1] / (4, 1)[frame], atol=1.5)
    deep = cv2.imencode(".png", picture(0).astype(np.uint16))[1].tobytes()
    with pytest.raises(SequenceError, match="8 bits"):
        records.encoded(deep)


@pytest.mark.parametrize(
    ("orientation", "stated", "upright"), [(6, "24 32", 1), (6, "32 24", 0), (3, "32 24", 1), (6, "", 1)]
)
def test_photographs_lie_as_their_boxes_do(tmp_path, orientation, stated, upright):
    root = tmp_path / "voc"
    (root / "JPEGImages").mkdir(parents=True)
    image = photograph(root / "JPEGImages" / "1.jpg", cv2.resize(picture(1, 3, 4), (32, 24)), orientation)
    size = "<size><width>{}</width><height>{}</height></size>".format(*stated.split()) if stated else ""
    write(root / "Annotations" / "1.xml", f"<annotation>{size}{VOC_OBJECT.format('dog', 0, 1, 1, 20, 20)}</annotation>")
    found = decode(prepare("voc", root, tmp_path / "out").frames[0]["image"])[..., ::-1]
    np.testing.assert_array_equal(found, read_image(image, upright=bool(upright)))


def test_otb_is_zero_based_with_two_targets_in_a_folder(tmp_path):
    images(tmp_path / "otb" / "Coke" / "img", range(1, 4))
    write(tmp_path / "otb" / "Coke" / "groundtruth_rect.txt", lines(3, "\t"))
    images(tmp_path / "otb" / "Jogging" / "img", range(1, 3))
    for target in (1, 2):
        write(tmp_path / "otb" / "Jogging" / f"groundtruth_rect.{target}.txt", lines(2))
    dataset = prepare("otb", tmp_path / "otb", tmp_path / "out")
    assert dataset.table.names == ("Coke", "Jogging-1", "Jogging-2")
    np.testing.assert_array_equal(sequence(dataset, "Coke")[0], ramp(3) - [1, 1, 0, 0])


def got10k(root: Path, names: list[str]) -> None:
    for name in names:
        images(root / name, range(1, 5), 8)
        write(root / name / "groundtruth.txt", "1.0,2.0,10.0,8.0\n" * 4)
        write(root / name / "absence.label", "0\n1\n0\n0\n")
        write(root / name / "cover.label", "8\n8\n0\n3\n")
    write(root / "list.txt", "".join(name + "\n" for name in names))


def test_got10k_splits_flags_and_lists(tmp_path):
    got10k(tmp_path / "got" / "train", ["T_3", "T_1", "T_2"])
    got10k(tmp_path / "got" / "val", ["V_1"])
    train = prepare("got10k", tmp_path / "got", tmp_path / "out")
    assert train.table.names == ("T_3", "T_1", "T_2")
    # absent, and covered in full (cover 0), are not visible
    assert train.table.visible[:4].tolist() == [True, False, False, True]
    val = prepare("got10k", tmp_path / "got", tmp_path / "out", "val")
    assert val.table.names == ("V_1",) and load("got10k", tmp_path / "out").table.names == train.table.names
    part = prepare("got10k", tmp_path / "got", tmp_path / "part", chosen=["2", "T_3"])
    assert part.table.names == ("T_2", "T_3")
    with pytest.raises(DatasetError, match="no sequence 3; there are 3"):
        prepare("got10k", tmp_path / "got", tmp_path / "other", chosen=["3"])


def test_lasot_train_is_what_is_not_in_the_testing_set(tmp_path):
    for name in ("cat-1", "cat-2", "dog-1"):
        folder = tmp_path / "lasot" / name.split("-")[0] / name
        images(folder / "img", range(1, 4), 8)
        write(folder / "groundtruth.txt", lines(3))
        write(folder / "full_occlusion.txt", "0,1,0\n")
        write(folder / "out_of_view.txt", "0,0,1\n")
    write(tmp_path / "lasot" / "testing_set.txt", "cat-2\n")
    train = prepare("lasot", tmp_path / "lasot", tmp_path / "out")
    assert train.table.names == ("cat-1", "dog-1")
    np.testing.assert_array_equal(train.table.boxes[:3], ramp(3) - [1, 1, 0, 0])  # LaSOT counts from 1
    assert train.table.visible.tolist() == [True, False, False] * 2
    assert prepare("lasot", tmp_path / "lasot", tmp_path / "out", "test").table.names == ("cat-2",)
    write(tmp_path / "lasot" / "training_set.txt", "dog-1\n")
    assert prepare("lasot", tmp_path / "lasot", tmp_path / "out", overwrite=True).table.names == ("dog-1",)


def test_uav123_parts_and_absent_frames(tmp_path):
    root = tmp_path / "uav"
    folder = root / "data_seq" / "UAV123" / "uav1"
    paths = images(folder, [*range(1, 3), *range(1555, 1558)], 6)
    write(root / "anno" / "UAV123" / "uav1_2.txt", "1,2,10,8\nNaN,NaN,NaN,NaN\n3,4,10,8\n")
    dataset = prepare("uav123", root, tmp_path / "out")
    boxes, visible, frames = sequence(dataset, "uav1_2")
    assert visible.tolist() == [True, False, True] and np.isnan(boxes[1]).all()
    assert frames == [path.read_bytes() for path in paths[2:]]


def test_nfs_at_240_frames_per_second(tmp_path):
    folder = tmp_path / "nfs" / "ball" / "240"
    images(folder / "ball", range(1, 5), 5)
    rows = [f'0 {k} {2 * k} {k + 10} {2 * k + 8} {k} {k == 2:d} {k == 3:d} 1 "a ball"\n' for k in range(1, 6)]
    write(folder / "ball.txt", "".join(rows))
    dataset = prepare("nfs240", tmp_path / "nfs", tmp_path / "out")
    boxes, visible, _ = sequence(dataset, "ball")
    np.testing.assert_array_equal(boxes, ramp(4))  # right, bottom -> w, h; one line more than images is dropped
    assert visible.tolist() == [True, False, False, True]  # lost, occluded
    write(folder / "ball.txt", "".join(rows[:2]))
    with pytest.raises(DatasetError, match="2 boxes for 4 images"):
        prepare("nfs240", tmp_path / "nfs", tmp_path / "other")
    with pytest.raises(DatasetError, match="NFS at 240 frames/s, and none at 30; its layout is called nfs240"):
        prepare("nfs", tmp_path / "nfs", tmp_path / "other")


def test_vot_polygons_become_boxes(tmp_path):
    images(tmp_path / "vot" / "bag" / "color", range(1, 3), 8)
    write(tmp_path / "vot" / "bag" / "groundtruth.txt", "3,2,13,2,13,10,3,10\n" * 2)
    write(tmp_path / "vot" / "list.txt", "bag\n")
    dataset = prepare("vot", tmp_path / "vot", tmp_path / "out")
    np.testing.assert_array_equal(dataset.table.boxes, [[3, 2, 10, 8]] * 2)


def test_trackingnet_chunks_in_order_with_frames_from_zero(tmp_path):
    for chunk, name in (("TRAIN_0", "b"), ("TRAIN_2", "a"), ("TRAIN_10", "c"), ("TEST", "d")):
        images(tmp_path / "tn" / chunk / "frames" / name, range(12), 1)
        write(tmp_path / "tn" / chunk / "anno" / f"{name}.txt", lines(12 if chunk != "TEST" else 1))
    dataset = prepare("trackingnet", tmp_path / "tn", tmp_path / "out")
    assert dataset.table.names == ("b", "a", "c")
    folder = tmp_path / "tn" / "TRAIN_0" / "frames" / "b"
    assert sequence(dataset, "b")[2] == [(folder / f"{k}.jpg").read_bytes() for k in range(12)]  # not 0, 1, 10, 11, 2
    test = prepare("trackingnet", tmp_path / "tn", tmp_path / "out", "test")
    assert test.table.visible.tolist() == [True] + [False] * 11
    chunk = prepare("trackingnet", tmp_path / "tn" / "TRAIN_2", tmp_path / "chunk")
    assert chunk.table.names == ("a",)


VOC_OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
VOC_OBJECT += "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def test_voc_is_one_based_inclusive_and_stores_an_image_once(tmp_path):
    root = tmp_path / "voc"
    (path, _) = images(root / "JPEGImages", (1, 2), 6)
    objects = VOC_OBJECT.format("dog", 0, 1, 1, 32, 24) + VOC_OBJECT.format("tv monitor", 1, 3, 5, 3, 5)
    write(root / "Annotations" / "000001.xml", f"<annotation><filename>000001.jpg</filename>{objects}</annotation>")
    write(root / "Annotations" / "000002.xml", "<annotation><filename>000002.jpg</filename></annotation>")
    dataset = prepare("voc", root, tmp_path / "out")
    assert dataset.table.names == ("000001:0:dog", "000001:1:tv_monitor")
    assert LAYOUTS["voc"].origin == 1  # the whole image is 1, 1, width, height
    np.testing.assert_array_equal(dataset.table.boxes, [[0, 0, 32, 24], [2, 4, 1, 1]])
    assert dataset.table.visible.tolist() == [True, False]  # difficult
    assert dataset.table.lengths.tolist() == [1, 1] and len(dataset.frames) == 2
    assert dataset.frames[0] == dataset.frames[1] == {"image": path.read_bytes()}
    assert len(pickle.loads(pickle.dumps(dataset)).frames.source) == 1
    write(root / "ImageSets" / "Main" / "val.txt", "000009\n")
    with pytest.raises(DatasetError, match=r"000009.xml: no boxes can be read"):
        prepare("voc", root, tmp_path / "out", "val")
    with pytest.raises(DatasetError, match=r"Main/test.txt: missing; choose a split"):
        prepare("voc", root, tmp_path / "out", "test")


@pytest.mark.parametrize(
    "stated, there, found",
    [
        ("000001", ["000001.png", "000002.png"], "000001.png"),  # no suffix
        ("000001.jpg", ["000001.png"], "000001.png"),  # another one
        ("000001.JPG", ["000001.jpg", "000001.png"], None),
        ("", ["000001.bmp"], "000001.bmp"),
        ("C:\\photos\\frame.7.jpg", ["frame.7.jpg", "frame.png"], "frame.7.jpg"),
        ("photos/frame.7", ["frame.7.png", "000002.png"], "frame.7.png"),
        ("as it was called.jpg", ["000001.png"], "000001.png"),  # the annotation's own stem
        ("frame", ["frame.png", "000001.png"], None),
        ("frame.png", ["frame.png", "000001.png"], "frame.png"),
        ("frame.jpg", ["000002.png"], "frame.jpg"),  # missing
    ],
)
def test_voc_finds_the_image_that_an_annotation_means(tmp_path, stated, there, found):
    root = tmp_path / "voc"
    for name in there:
        (path,) = images(root / "JPEGImages", [0], suffix=Path(name).suffix)
        path.rename(path.with_name(name))
    name = f"<filename>{stated}</filename>" if stated else ""
    write(
        root / "Annotations" / "000001.xml", f"<annotation>{name}{VOC_OBJECT.format('a', 0, 1, 1, 9, 9)}</annotation>"
    )
    (loader,) = LAYOUTS["voc"].find(root, "train").values()
    if found is None:
        with pytest.raises(
            SequenceError, match=r"000001\.xml: <filename>: its image .* is not there, but .* and .* are"
        ):
            loader()
    else:
        assert loader().frames == (root / "JPEGImages" / found,)


@pytest.mark.parametrize("layout", ["csv", "coco"])
def test_other_lists_of_boxes_find_their_images_too(tmp_path, layout):
    (path,) = images(tmp_path / ("JPEGImages" if layout == "csv" else "train"), [7])
    write(tmp_path / "annotations.csv", "image,class,x,y,w,h\n0007,dog,1,2,3,4\n")
    content = {"images": [{"id": 7, "file_name": "train/0007.png"}], "annotations": []}
    content["annotations"].append({"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]})
    write(tmp_path / "annotations" / "instances_train.json", json.dumps(content))
    (loader,) = LAYOUTS[layout].find(tmp_path, "train").values()
    assert loader().frames == (path,)


UNUSABLE = {
    (3, 4, 0, 8): "has no area",
    (3, 4, 5, -1): "has no area",
    (float("nan"), 4, 5, 6): "is not finite",
    (3, 4, float("inf"), 6): "is not finite",
    (32, 4, 5, 6): "lies outside of its 32x24 image",
    (3, -6, 5, 6): "lies outside of its 32x24 image",
}


def objects(layout: str, root: Path, rows: list[tuple[int, tuple]]) -> None:
    """Objects (number of the image, box x, y, w, h from 0) in a layout of single images of 32 x 24 pixels."""
    numbers = sorted({number for number, _ in rows})
    images(root / ("train2017" if layout == "coco" else "JPEGImages"), numbers, 6)
    if layout == "csv":
        lines = (f"{number:06}.jpg,dog,{','.join(map(str, box))}\n" for number, box in rows)
        write(root / "annotations.csv", "image,class,x,y,w,h\n" + "".join(lines))
    elif layout == "coco":
        found = [{"image_id": number, "category_id": 1, "bbox": box} for number, box in rows]
        files = [{"id": number, "file_name": f"{number:06}.jpg"} for number in numbers]
        write(root / "annotations" / "instances_train2017.json", json.dumps({"images": files, "annotations": found}))
    for number in numbers if layout == "voc" else ():
        corners = ((x + 1, y + 1, x + w, y + h) for one, (x, y, w, h) in rows if one == number)
        every = "".join(VOC_OBJECT.format("dog", 0, *corner) for corner in corners)
        write(root / "Annotations" / f"{number:06}.xml", f"<annotation>{every}</annotation>")


@pytest.mark.parametrize("layout", ["voc", "csv", "coco"])
def test_an_object_that_cannot_be_used_is_not_visible_and_the_rest_stays(tmp_path, layout, capsys):
    """One beside a sound object for every kind, and an image that has nothing else."""
    rows = [(number, box) for number, bad in enumerate(UNUSABLE) for box in (bad, (1, 2, 10, 8))]
    objects(layout, tmp_path / "source", [*rows, (9, (1, 1, 0, 0))])
    arguments = [layout, "--source", str(tmp_path / "source"), "--data_dir", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if line.startswith("not used: "))
    assert line.startswith(
        "not used: 7 boxes (no area, not finite or outside of the image), 1 image without any other;"
    )
    assert "/000000.jpg: " in line and "the box 3,4,0,8 has no area" in line
    assert "12 sequences, 12 frames, 50.0 % of them visible" in printed.out
    table = load(layout, tmp_path / "out").table
    assert table.visible.tolist() == [False, True] * 6 and np.isnan(table.boxes[::2]).all()
    np.testing.assert_array_equal(table.boxes[1::2], [[1, 2, 10, 8]] * 6)
    notes = []
    with pytest.raises(DatasetError, match=r"no box can be used: 1 box .*, 1 image without any other; the first: "):
        objects(layout, tmp_path / "nothing", [(9, (1, 1, 0, 0))])
        prepare(layout, tmp_path / "nothing", tmp_path / "none", notes=notes)
    assert not notes


@pytest.mark.parametrize("box, fault", UNUSABLE.items(), ids=str)
def test_the_fault_of_a_box(box, fault):
    assert fault_of(box, (32, 24)).endswith(fault) and not fault_of((31, 23, 5, 5), (32, 24))
    assert bool(fault_of(box, None)) != ("outside" in fault)


def test_a_photograph_on_its_side_has_its_boxes_upright_unless_its_stated_size_says_otherwise(tmp_path):
    (plain,) = images(tmp_path, [1])
    for suffix in (".jpg", ".tif", ".png", ".webp"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            path = tmp_path / f"turned{suffix}"
            Image.fromarray(picture(2)).save(path, exif=exif)
            size, upright = lying_of(path, None)
            assert size == ((24, 32) if orientation > 4 else (32, 24)) == read_image(path, upright=True).shape[1::-1]
            assert size_of(path) == read_image(path).shape[1::-1]
            if suffix != ".tif":  # which every reader turns
                assert upright == (orientation > 1) and size_of(path) == (32, 24)
                assert lying_of(path, (32, 24)) == ((32, 24), 2 <= orientation <= 4)
    assert lying_of(tmp_path / "none.jpg", None) == (None, False) and size_of(plain) == (32, 24)
    plain.write_bytes(plain.read_bytes()[:200])
    assert size_of(plain) in (None, (32, 24))  # its head may be whole


def test_coco_box_that_is_no_box(tmp_path):
    objects("coco", tmp_path / "coco", [(1, (1, 2, 10, 8)), (1, ()), (1, (1, 2, 3)), (1, None), (1, ("a", 1, 2, 3))])
    notes = []
    assert (
        prepare("coco", tmp_path / "coco", tmp_path / "out", notes=notes).table.visible.tolist() == [True] + [False] * 4
    )
    assert len(notes) == 1 and notes[0].startswith("not used: 4 boxes") and notes[0].endswith("the box is not x,y,w,h")


def test_a_video_keeps_its_other_frames(tmp_path):
    """A box outside of its own image, one without a side; images may differ in size, an absent target is no fault."""
    folder = tmp_path / "lasot" / "cat-1"
    images(folder / "img", range(1, 7), 8)
    cv2.imwrite(str(folder / "img" / "00000003.jpg"), picture(3, 24, 64))
    write(folder / "groundtruth.txt", "2,3,10,8\n40,3,10,8\n41,3,10,8\n2,3,0,8\n0,0,0,0\n2,3,10,8\n")
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        write(folder / name, "0,0,0,0,0,0\n")
    notes = []
    dataset = prepare("lasot", tmp_path / "lasot", tmp_path / "out", notes=notes)
    assert dataset.table.visible.tolist() == [True, False, True, False, False, True]
    np.testing.assert_array_equal(dataset.table.boxes[[0, 2]], [[1, 2, 10, 8], [40, 2, 10, 8]])  # LaSOT counts from 1
    (note,) = notes
    assert note.startswith("not used: 2 boxes") and "00000002.jpg: the box 39,2,10,8 lies outside of its 32x24" in note


def test_csv_of_boxes(tmp_path):
    root = tmp_path / "csv"
    images(root / "JPEGImages", (1, 2), 6)
    text = "image,class,x,y,w,h,truncated\n000002.jpg,dog,1.5,2,10,8,0\n000001.jpg,cat,0,0,5,6,1\n"
    write(root / "annotations.csv", text + "000002.jpg,dog,3,4,5,6,0\n")
    dataset = prepare("csv", root, tmp_path / "out")
    assert dataset.table.names == ("000002:0:dog", "000002:1:dog", "000001:0:cat")
    assert dataset.table.boxes[0].tolist() == [1.5, 2, 10, 8] and dataset.frames[1] == dataset.frames[0]
    assert dataset.frames[2]["image"] == (root / "JPEGImages" / "000001.jpg").read_bytes()
    faulty = "000004.jpg,dog,1,1,5,5,0\n000005.jpg,dog,1,1,,5,0\n"
    write(root / "annotations.csv", text + faulty)
    with pytest.raises(DatasetError) as caught:
        prepare("csv", root, tmp_path / "other")
    # missing; not a number
    assert [fault.split(":")[0].rsplit("/")[-1] for fault in caught.value.faults] == ["000004.jpg", "annotations.csv"]
    problems = []
    left = prepare("csv", root, tmp_path / "other", problems=problems)
    assert len(problems) == 2 and left.table.names == ("000002:0:dog", "000001:0:cat")
    for damaged, reason in (
        (b"image,class,x,y,w,h\n\xff\xfe", "cannot be read"),
        (b"image,class,x,y\n", "no column w, h"),
    ):
        (root / "annotations.csv").write_bytes(damaged)
        with pytest.raises(DatasetError, match=rf"annotations\.csv: {reason}"):
            prepare("csv", root, tmp_path / "damaged")


def test_coco_leaves_crowds_out(tmp_path):
    root = tmp_path / "coco"
    images(root / "train2017", (1, 7), 12)
    content = {
        "images": [{"id": 7, "file_name": f"{7:012}.jpg"}, {"id": 1, "file_name": f"{1:012}.jpg"}],
        "categories": [{"id": 3, "name": "traffic light"}],
        "annotations": [
            {"image_id": 7, "bbox": [1.5, 2, 10, 8], "category_id": 3, "iscrowd": 0},
            {"image_id": 1, "bbox": [0, 0, 32, 24], "category_id": 3, "iscrowd": 1},
            {"image_id": 7, "bbox": [0, 0, 3, 4], "category_id": 9},
        ],
    }
    write(root / "annotations" / "instances_train2017.json", json.dumps(content))
    write(root / "annotations" / "instances_val2017.json", "{")
    dataset = prepare("coco", root, tmp_path / "out")
    assert dataset.table.names == (f"{7:012}:0:traffic_light", f"{7:012}:1:9")
    np.testing.assert_array_equal(dataset.table.boxes, [[1.5, 2, 10, 8], [0, 0, 3, 4]])
    with pytest.raises(DatasetError, match=r"instances_val2017.json: not the JSON of COCO instances"):
        prepare("coco", root, tmp_path / "out", "val")


def test_synthetic_is_seeded_and_marks_hidden_frames(tmp_path):
    config = ClipConfig(height=48, width=64, num_frames=16, target_size=(10, 14), speed=6, exit_reentry=True)
    settings = SyntheticConfig(num_clips=2, seed=5, clip=config)
    dataset = prepare("synthetic_tracking", None, tmp_path / "a", synthetic=settings)
    other = prepare("synthetic_tracking", None, tmp_path / "b", synthetic=settings)
    np.testing.assert_array_equal(dataset.table.boxes, other.table.boxes)
    assert [dataset.frames[k] for k in (0, 20)] == [other.frames[k] for k in (0, 20)]
    val = prepare("synthetic_tracking", None, tmp_path / "a", "val", synthetic=settings)
    assert len(dataset.table.names) == 2 and not np.array_equal(val.table.boxes, dataset.table.boxes)
    assert 0 < dataset.table.visible.sum() < 32
    image = cv2.imdecode(np.frombuffer(dataset.frames[3]["image"], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (48, 64, 3)
    seed = int(np.random.SeedSequence([5, zlib.crc32(b"train")]).generate_state(2)[1])
    boxes, visible, _ = sequence(dataset, "clip_00001")
    for example, box, seen in zip(clip(config, seed), boxes, visible, strict=True):
        np.testing.assert_array_equal(box, example.box.astype(np.float32))
        assert seen == (example.visibility >= 0.25)
    with pytest.raises(DatasetError, match="with other settings; overwrite it"):
        prepare("synthetic_tracking", None, tmp_path / "a", synthetic=SyntheticConfig(num_clips=3, clip=config))


def test_validator_names_each_fault(tmp_path):
    root = tmp_path / "own"
    paths = images(root / "bad" / "img", (1, 2, 3, 5, 6))
    paths[1].write_bytes(b"no image")
    paths[2].write_bytes(paths[0].read_bytes()[:300])
    text = "1,2,10,8\n1,2,ten,8\n1,2,0,8\nnan,nan,nan,nan\n0,0,0,0\n40,2,10,8\n1,2,3\n"
    write(root / "bad" / "groundtruth_rect.txt", text)
    images(root / "good" / "img", (1, 2))
    write(root / "good" / "groundtruth_rect.txt", "1,2,10,8\nnan,nan,nan,nan\n")
    write(root / "empty" / "groundtruth_rect.txt", "nan,nan,nan,nan\n")
    with pytest.raises(DatasetError) as caught:
        prepare("folder", root, tmp_path / "out")
    said = "\n".join(caught.value.faults)
    for expected in (
        "img: image 4 is missing",
        "7 boxes for 5 images",
        "groundtruth_rect.txt:2: expected four numbers x,y,w,h, found '1,2,ten,8'",
        "groundtruth_rect.txt:7: expected four numbers",
        "0002.jpg: not an image",
        "0003.jpg: not an image, or cut short",
        "empty/img: No such file",
        "empty/groundtruth_rect.txt:1: frame 1 has no box",
    ):
        assert said.count(expected) == 1, expected
    assert len(caught.value.faults) == 9 and "good" not in said
    assert not folder_of(tmp_path / "out").exists()
    problems = []
    assert prepare("folder", root, tmp_path / "out", problems=problems).table.names == ("good",)
    assert problems == list(caught.value.faults)


def test_a_frame_that_cannot_be_used_costs_that_frame(own, tmp_path):
    write(own / "walk" / "groundtruth_rect.txt", "1,2,10,8\n32,0,5,5\n1,2,0,8\n")
    notes = []
    dataset = prepare("folder", own, tmp_path / "out", notes=notes)
    assert sequence(dataset, "walk")[1].tolist() == [True, False, False]
    assert len(notes) == 1 and "2 boxes" in notes[0] and "0002.jpg: the box 32,0,5,5 lies outside of its" in notes[0]


def test_decode_finds_broken_images_of_a_benchmark(tmp_path):
    got10k(tmp_path / "got", ["a"])
    path = tmp_path / "got" / "a" / "00000003.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"00000003.jpg: not an image, or cut short"):
        prepare("got10k", tmp_path / "got", tmp_path / "out", decode=True)
    path.write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"00000003.jpg: not an image.*nothing was prepared"):
        prepare("got10k", tmp_path / "got", tmp_path / "out")
    assert not list((tmp_path / "out" / "got10k" / "train").glob("*1.0.0*"))


def test_interruption_leaves_nothing_and_starts_again(own, tmp_path, monkeypatch):
    frames = iter(range(100))

    def interrupted(frame, **_):
        if next(frames) == 3:
            raise KeyboardInterrupt
        return frame.read_bytes()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(records, "encoded", interrupted)
        prepare("folder", own, tmp_path / "out")
    assert not list((tmp_path / "out" / "folder" / "train").glob("*1.0.0*"))
    with pytest.raises(DatasetError, match=r"1.0.0: not prepared; run python -m train.datasets folder"):
        load("folder", tmp_path / "out")
    assert len(prepare("folder", own, tmp_path / "out").frames) == 5


def test_killed_preparation_is_cleared_away(own, tmp_path):
    """SIGKILL in the middle of writing: no data set, and the next run removes what was left."""
    code = "import sys, time; from train import datasets; from train.datasets import records; real = records.encoded\n"
    code += "def slow(frame, **how):\n    print('writing', flush=True); time.sleep(5); return real(frame, **how)\n"
    code += "records.encoded = slow; datasets.prepare('folder', *sys.argv[1:])\n"
    command = [sys.executable, "-c", code, str(own), str(tmp_path / "out")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=places.REPOSITORY)
    assert child.stdout.readline() == b"writing\n"
    with pytest.raises(DatasetError, match="another process is preparing it"):
        prepare("folder", own, tmp_path / "out")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    parent = tmp_path / "out" / "folder" / "train"
    assert list(parent.glob("incomplete.*"))
    with pytest.raises(DatasetError, match="not prepared"):
        load("folder", tmp_path / "out")
    assert len(prepare("folder", own, tmp_path / "out").frames) == 5
    assert not list(parent.glob("incomplete.*"))


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    images(tmp_path / "own" / "a" / "img", range(1, 201))
    write(tmp_path / "own" / "a" / "groundtruth_rect.txt", "1,2,10,8\n" * 200)
    with small_disk(tmp_path / "disk", kib=128) as disk:
        with pytest.raises(DatasetError, match="make room"):
            prepare("folder", tmp_path / "own", disk)
        assert not list((disk / "folder" / "train").glob("*1.0.0*"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"boxes.npy") + 200
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "pattern, harm",
    [
        ("table.npz", cut),
        ("table.npz", flip),
        ("table.npz", Path.unlink),
        ("table.npz", lambda path: path.write_bytes(b"")),
        ("*.array_record-*", cut),
        ("*.array_record-*", Path.unlink),
        ("dataset_info.json", cut),
        ("dataset_info.json", Path.unlink),
        ("features.json", Path.unlink),
    ],
)
def test_damage_is_one_line_with_the_folder_and_the_fix(own, tmp_path, pattern, harm):
    prepare("folder", own, tmp_path / "out")
    (path,) = folder_of(tmp_path / "out").glob(pattern)
    harm(path)
    with pytest.raises(DatasetError) as caught:
        load("folder", tmp_path / "out")
    message = str(caught.value)
    assert message.startswith(f"{folder_of(tmp_path / 'out')}: damaged") and "\n" not in message
    assert "delete the folder and prepare it again" in message
    assert len(prepare("folder", own, tmp_path / "out", overwrite=True).frames) == 5


def test_a_folder_that_no_preparation_wrote_is_kept(own, tmp_path):
    folder = folder_of(tmp_path / "out")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds what no preparation wrote"):
        prepare("folder", own, tmp_path / "out", overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_damage_inside_of_a_record_is_found_when_it_is_read(own, tmp_path):
    dataset = prepare("folder", own, tmp_path / "out")
    (path,) = folder_of(tmp_path / "out").glob("*.array_record-*")
    data = bytearray(path.read_bytes())
    data[data.index(dataset.frames[4]["image"]) + 100] ^= 1
    path.write_bytes(bytes(data))
    damaged = load("folder", tmp_path / "out")
    assert damaged.frames[1] == dataset.frames[1]
    with pytest.raises(DatasetError, match=r"1.0.0: frame 4 is damaged \(.*\); delete the folder"):
        damaged.frames[4]


def test_table_of_another_data_set_is_found(own, tmp_path):
    prepare("folder", own, tmp_path / "out")
    prepare("folder", own, tmp_path / "part", chosen=["walk"])
    (folder_of(tmp_path / "out") / "table.npz").write_bytes((folder_of(tmp_path / "part") / "table.npz").read_bytes())
    with pytest.raises(DatasetError, match=r"table.npz tells of 3 images, the records of 5"):
        load("folder", tmp_path / "out")


def test_prepared_data_set_is_not_built_again(own, tmp_path):
    prepare("folder", own, tmp_path / "out")
    info = folder_of(tmp_path / "out") / "dataset_info.json"
    before = info.stat().st_mtime_ns
    prepare("folder", own, tmp_path / "out")
    assert info.stat().st_mtime_ns == before
    prepare("folder", own, tmp_path / "out", overwrite=True)
    assert info.stat().st_mtime_ns != before


@pytest.mark.parametrize("name", LAYOUTS)
def test_empty_source_says_what_the_layout_is(tmp_path, name):
    with pytest.raises(DatasetError, match=f"the {name} layout is DIR"):
        prepare(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("imagenet", "train", "unknown data set"),
        ("folder", "Train!", "small letters"),
        ("folder", "train", "no such folder"),
    ],
)
def test_wrong_arguments(tmp_path, name, split, message):
    with pytest.raises(DatasetError, match=message):
        prepare(name, tmp_path / "none", tmp_path / "out", split)


def test_command(own, tmp_path, capsys):
    out = ["--data_dir", str(tmp_path / "out")]
    assert main(["folder", "--source", str(own), *out]) == 0
    assert "prepared; 2 sequences, 5 frames, 100.0 % of them visible" in capsys.readouterr().out
    assert main(["folder", "--source", str(own), *out]) == 0
    assert "was prepared already" in capsys.readouterr().out
    write(tmp_path / "list.txt", "1\n")
    assert main(["folder", "--source", str(own), *out, "--split", "part", "--list", str(tmp_path / "list.txt")]) == 0
    assert load("folder", tmp_path / "out", "part").table.names == ("walk",)
    write(own / "run" / "groundtruth_rect.txt", "1,2,10,8\n1,2,8\n1,2,3,4\n")
    assert main(["folder", "--source", str(own), *out, "--split", "new"]) == 1
    errors = capsys.readouterr().err
    assert "error: " in errors and "(and 1 more faults)" in errors and "fault: " in errors and "Traceback" not in errors
    assert main(["folder", "--source", str(own), *out, "--split", "new", "--skip_faulty"]) == 0
    assert "left out: " in capsys.readouterr().err
    assert main(["folder", "--source", str(tmp_path / "none"), *out, "--split", "x"]) == 1
    assert main(["folder", "--source", str(own), *out, "--set", "seed=1"]) == 1
    assert main(["synthetic_tracking", *out, "--set", "seeed=1"]) == 1
    assert main(["synthetic_tracking", *out, "--set", "clip.height=2"]) == 1
    few = [part for value in ("num_clips=1", "clip.num_frames=3", "clip.height=48") for part in ("--set", value)]
    assert main(["synthetic_tracking", *out, *few]) == 0
    assert "1 sequences, 3 frames" in capsys.readouterr().out


def test_random_frames_are_read_fast(tmp_path):
    """A record is read in well under a millisecond, wherever it is."""
    frames = [cv2.imencode(JPEG[0], picture(k, 240, 320))[1].tobytes() for k in range(200)]
    target = records.Target("a", np.ones((200, 4)), np.ones(200, bool))
    records.write("made", tmp_path, "train", [records.Clip(frames, (target,))], origin={}, shard_bytes=1 << 20)
    dataset = load("made", tmp_path)
    order = np.random.default_rng(0).integers(0, 200, 500)
    start = time.perf_counter()
    assert all(dataset.frames[k]["image"] == frames[k] for k in order)
    assert (time.perf_counter() - start) / 500 < 5e-3
