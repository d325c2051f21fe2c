"""Each reader on a small tree in the benchmark's true layout, with its traps."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from eval.scoring import ope
from eval.sources.layouts import LAYOUTS, read_dataset
from eval.sources.sequences import SequenceError, read_image
from tests.helpers import places

SHARED = places.SHARED / "data" / "sequences"


def images(folder: Path, numbers, digits: int = 4, suffix: str = ".jpg") -> None:
    """Empty files under image names: readers must not decode at listing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:0{digits}}{suffix}").touch()


def boxes(path: Path, count: int, separator: str = ",", first: int = 1) -> None:
    """Line k (from `first` on) is k, 2k, 10, 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ([number, 2 * number, 10, 20] for number in range(first, first + count))
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))


def names(sequence) -> list[str]:
    return [path.name for path in sequence.frames]


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "  "])
def test_folder_reads_any_separator_and_keeps_values(tmp_path, separator):
    images(tmp_path / "walk" / "img", range(1, 4))
    boxes(tmp_path / "walk" / "groundtruth_rect.txt", 3, separator)
    (sequence,) = read_dataset("folder", tmp_path)
    assert sequence.name == "walk" and sequence.boxes.dtype == np.float64
    np.testing.assert_array_equal(sequence.boxes, [[1, 2, 10, 20], [2, 4, 10, 20], [3, 6, 10, 20]])
    assert sequence.visible.all()


def test_folder_may_be_one_sequence(tmp_path, monkeypatch):
    images(tmp_path / "img", range(2))
    boxes(tmp_path / "groundtruth_rect.txt", 2)
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, "."):
        (sequence,) = read_dataset("folder", root)
        assert sequence.name == tmp_path.name and len(sequence.frames) == 2


def test_folder_orders_frames_by_number_and_ignores_other_files(tmp_path):
    folder = tmp_path / "a" / "img"
    folder.mkdir(parents=True)
    for name in ("frame_10.jpg", "frame_9.PNG", "frame_100.jpg", "._frame_1.jpg", "Thumbs.db"):
        (folder / name).touch()
    boxes(tmp_path / "a" / "groundtruth_rect.txt", 3)
    (sequence,) = read_dataset("folder", tmp_path)
    assert names(sequence) == ["frame_9.PNG", "frame_10.jpg", "frame_100.jpg"]


def test_absent_frames_are_nan_or_zero_rows(tmp_path):
    images(tmp_path / "a" / "img", range(4))
    (tmp_path / "a" / "groundtruth_rect.txt").write_text("1,2,3,4\r\nNaN,NaN,NaN,NaN\r\n0,0,0,0\r\n5,6,7,8\r\n\r\n")
    (sequence,) = read_dataset("folder", tmp_path)
    assert sequence.visible.tolist() == [True, False, False, True]
    assert np.isnan(sequence.boxes[1]).all()


def test_chosen_names_keep_their_order(tmp_path):
    for name in ("a", "b", "c"):
        images(tmp_path / name / "img", [1])
        boxes(tmp_path / name / "groundtruth_rect.txt", 1)
    assert [item.name for item in read_dataset("folder", tmp_path, ["c", "a", "c"])] == ["c", "a"]
    with pytest.raises(SequenceError, match=r"no sequence d; there are a, b, c"):
        read_dataset("folder", tmp_path, ["d"])


@pytest.mark.parametrize(
    ("name", "on_disk", "first", "last"),
    [
        ("David", range(1, 771), 300, 770),
        ("Football1", range(1, 76), 1, 74),
        ("Freeman3", range(1, 462), 1, 460),
        ("Freeman4", range(1, 285), 1, 283),
        ("Diving", range(1, 232), 1, 215),
        ("BlurCar1", range(247, 989), 247, 988),
        ("BlurCar3", range(3, 360), 3, 359),
        ("BlurCar4", range(18, 398), 18, 397),
    ],
)
def test_otb_frames_of_sequences_with_an_offset(tmp_path, name, on_disk, first, last):
    images(tmp_path / name / "img", on_disk)
    boxes(tmp_path / name / "groundtruth_rect.txt", last - first + 1)
    (sequence,) = read_dataset("otb", tmp_path)
    assert (names(sequence)[0], names(sequence)[-1]) == (f"{first:04}.jpg", f"{last:04}.jpg")
    assert len(sequence.frames) == len(sequence.boxes)
    assert sequence.boxes[0, 0] == 0


def test_otb_tiger1_starts_at_frame_6(tmp_path):
    images(tmp_path / "Tiger1" / "img", range(1, 355))
    boxes(tmp_path / "Tiger1" / "groundtruth_rect.txt", 354)
    (sequence,) = read_dataset("otb", tmp_path)
    assert names(sequence)[0] == "0006.jpg" and sequence.boxes[0, 0] == 5 and len(sequence.boxes) == 349


def test_otb_targets_of_one_folder(tmp_path):
    for folder in ("Jogging", "Skating2", "Human4"):
        images(tmp_path / folder / "img", range(1, 3))
        for target in (1, 2):
            boxes(tmp_path / folder / f"groundtruth_rect.{target}.txt", 2, first=target)
    sequences = {item.name: item for item in read_dataset("otb", tmp_path)}
    assert list(sequences) == ["Human4-2", "Jogging-1", "Jogging-2", "Skating2-1", "Skating2-2"]
    assert sequences["Jogging-1"].frames == sequences["Jogging-2"].frames
    assert sequences["Jogging-1"].boxes[0, 0] == 0 and sequences["Jogging-2"].boxes[0, 0] == 1


def test_otb_board_has_five_digits_and_kitesurf_png(tmp_path):
    images(tmp_path / "Board" / "img", range(1, 12), digits=5)
    images(tmp_path / "KiteSurf" / "img", range(1, 12), suffix=".png")
    for name in ("Board", "KiteSurf"):
        boxes(tmp_path / name / "groundtruth_rect.txt", 11)
    board, kite = read_dataset("otb", tmp_path)
    assert names(board)[-1] == "00011.jpg" and names(kite)[-1] == "0011.png"


def test_uav_parts_share_a_folder(tmp_path):
    images(tmp_path / "data_seq" / "UAV123" / "bird1", range(1, 800), digits=6)
    images(tmp_path / "data_seq" / "UAV123" / "car1_s", range(1, 6), digits=6)
    boxes(tmp_path / "anno" / "UAV123" / "bird1_1.txt", 253)
    boxes(tmp_path / "anno" / "UAV123" / "bird1_2.txt", 20)
    (tmp_path / "anno" / "UAV123" / "car1_s.txt").write_text("1,2,3,4\n" + "NaN,NaN,NaN,NaN\n" * 4)
    (tmp_path / "anno" / "UAV123" / "att").mkdir()
    sequences = {item.name: item for item in read_dataset("uav123", tmp_path)}
    assert list(sequences) == ["bird1_1", "bird1_2", "car1_s"]
    assert names(sequences["bird1_1"])[::252] == ["000001.jpg", "000253.jpg"]
    assert names(sequences["bird1_2"])[::19] == ["000775.jpg", "000794.jpg"]
    assert sequences["car1_s"].visible.tolist() == [True, False, False, False, False]


def test_uav20l_is_a_list_of_its_own_on_the_same_videos(tmp_path):
    images(tmp_path / "data_seq" / "UAV123" / "bird1", range(1, 8), digits=6)
    boxes(tmp_path / "anno" / "UAV20L" / "bird1.txt", 7)
    (sequence,) = read_dataset("uav20l", tmp_path)
    assert len(sequence.frames) == 7


def test_uav_part_beyond_the_last_image_is_an_error(tmp_path):
    images(tmp_path / "data_seq" / "UAV123" / "bird1", range(1, 780), digits=6)
    boxes(tmp_path / "anno" / "UAV123" / "bird1_2.txt", 10)
    with pytest.raises(SequenceError, match=r"image 780 is missing \(5 of 775\.\.784\)"):
        read_dataset("uav123", tmp_path)


@pytest.mark.parametrize("nested", [True, False])
def test_lasot_flags(tmp_path, nested):
    folder = tmp_path / "airplane" / "airplane-1" if nested else tmp_path / "airplane-1"
    images(folder / "img", range(1, 5), digits=8)
    boxes(folder / "groundtruth.txt", 4)
    (folder / "full_occlusion.txt").write_text("0,1,0,0")
    (folder / "out_of_view.txt").write_text("0,0,1,0\n")
    (sequence,) = read_dataset("lasot", tmp_path)
    assert sequence.name == "airplane-1" and sequence.visible.tolist() == [True, False, False, True]
    (folder / "out_of_view.txt").write_text("0,0,1")
    with pytest.raises(SequenceError, match=r"out_of_view.txt: 3 labels for 4 images"):
        read_dataset("lasot", tmp_path)
    (folder / "out_of_view.txt").unlink()
    with pytest.raises(SequenceError, match=r"out_of_view.txt: missing"):
        read_dataset("lasot", tmp_path)


def test_lasot_testing_set_chooses(tmp_path):
    for name in ("cat-1", "cat-2"):
        folder = tmp_path / "cat" / name
        images(folder / "img", [1], digits=8)
        boxes(folder / "groundtruth.txt", 1)
        for flag in ("full_occlusion.txt", "out_of_view.txt"):
            (folder / flag).write_text("0")
    (tmp_path / "testing_set.txt").write_text("cat-2\n")
    assert [item.name for item in read_dataset("lasot", tmp_path)] == ["cat-2"]


def test_got10k_cover_absence_and_order(tmp_path):
    for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000002"):
        images(tmp_path / name, range(1, 4), digits=8)
        boxes(tmp_path / name / "groundtruth.txt", 3)
        (tmp_path / name / "absence.label").write_text("0\n1\n0\n")
        (tmp_path / name / "cover.label").write_text("8\n0\n5\n")
    (tmp_path / "list.txt").write_text("GOT-10k_Val_000002\nGOT-10k_Val_000001\n")
    second, first = read_dataset("got10k", tmp_path)
    assert (second.name, first.name) == ("GOT-10k_Val_000002", "GOT-10k_Val_000001")
    assert first.cover.tolist() == [8, 0, 5] and first.visible.tolist() == [True, False, True] and first.scored


def test_got10k_test_split_withholds_boxes(tmp_path):
    images(tmp_path / "GOT-10k_Test_000001", range(1, 4), digits=8)
    boxes(tmp_path / "GOT-10k_Test_000001" / "groundtruth.txt", 1)
    (sequence,) = read_dataset("got10k", tmp_path)
    assert not sequence.scored and sequence.visible.tolist() == [True, False, False]


@pytest.mark.parametrize("subfolder", ["", "color"])
def test_vot_polygons(tmp_path, subfolder):
    images(tmp_path / "bag" / subfolder, range(1, 3), digits=8)
    (tmp_path / "bag" / "groundtruth.txt").write_text("2,0,4,2,2,4,0,2\n3,0,5,2,3,4,1,2\n")
    (tmp_path / "list.txt").write_text("bag\n")
    (sequence,) = read_dataset("vot", tmp_path)
    assert sequence.polygons.shape == (2, 8)
    np.testing.assert_array_equal(sequence.boxes, [[0, 0, 4, 4], [1, 0, 4, 4]])


def masks(folder: Path, *lines: str) -> None:
    images(folder / "color", range(1, len(lines) + 1), digits=8)
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")


def test_vot_masks_become_boxes_by_a_named_rule(tmp_path):
    """A 6 x 4 block with a thin antenna of 8 pixels on top of it, then nothing, said in four ways."""
    antenna = "m10,20,6,12,0," + 8 * "1,5," + "24"
    masks(tmp_path / "ants", antenna, "m0,0,0,0,0", "m5,5,3,3,9", "0", "nan,nan,nan,nan", antenna)
    (tight,), (fitted,) = read_dataset("vot", tmp_path), read_dataset("vot_fitted", tmp_path)
    assert tight.visible.tolist() == fitted.visible.tolist() == [True, False, False, False, False, True]
    np.testing.assert_array_equal(tight.boxes[[0, 5]], [[10, 20, 6, 12]] * 2)
    np.testing.assert_array_equal(fitted.boxes[[0, 5]], [[10, 28, 6, 4]] * 2)
    assert tight.regions is tight.masks and len(tight.masks) == 6 and int(tight.masks[0].pixels().sum()) == 32


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("m10,20,5,5,x", "is not m<left>"),
        ("m10,20,5", "is not m<left>"),
        ("m1,2,2,2,1,9", "has 10 pixels in its runs and 4 in its window"),
        ("m1,2,-2,2,1", "has a negative size"),
        ("m1,2,2,2,-1,2", "has a negative size"),
        ("m0,0,90000,90000,1", "is larger than any image"),
        ("1,2,3,4", "is not m<left>"),
    ],
)
def test_a_damaged_mask_is_named(tmp_path, line, what):
    masks(tmp_path / "ants", "m1,2,2,2,0,4", line)
    with pytest.raises(SequenceError, match=f"groundtruth.txt:2: '{line}' {what}.*; restore the file$"):
        read_dataset("vot", tmp_path)


def test_polygons_are_not_fitted(tmp_path):
    drawn("vot", tmp_path, 3, 4)
    with pytest.raises(SequenceError, match="has no masks to fit boxes to; its layout is called vot"):
        read_dataset("vot_fitted", tmp_path)


def write(folder: Path, text: str, count: int = 2) -> Path:
    images(folder / "img", range(1, count + 1))
    (folder / "groundtruth_rect.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n", r"groundtruth_rect.txt: 1 boxes for 2 images"),
        ("1,2,3,4\n" * 3, r"groundtruth_rect.txt: 3 boxes for 2 images"),
        ("1,2,3,4\n1,2,3\n", r"groundtruth_rect.txt:2: expected 4 numbers, found '1,2,3'"),
        ("1,2,3,4\n1,2,3,x\n", r"groundtruth_rect.txt:2: expected 4 numbers, found '1,2,3,x'"),
        ("1,2,3,4\n\n1,2,3,4\n", r"groundtruth_rect.txt:2: expected 4 numbers, found ''"),
        ("1,2,3,4\n1,2,inf,4\n", r"groundtruth_rect.txt:2: expected 4 numbers"),
        ("nan,nan,nan,nan\n1,2,3,4\n", r"groundtruth_rect.txt:1: frame 1 has no box"),
        ("1,2,0,4\n1,2,3,4\n", r"groundtruth_rect.txt:1: frame 1 has no box"),
        ("", r"groundtruth_rect.txt: no boxes"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path, text, message):
    write(tmp_path / "bad", text)
    with pytest.raises(SequenceError, match=message) as caught:
        read_dataset("folder", tmp_path)
    assert "\n" not in str(caught.value)


def test_binary_ground_truth_is_named(tmp_path):
    (write(tmp_path / "bad", "") / "groundtruth_rect.txt").write_bytes(b"\xff\xfe\x00\x9d")
    with pytest.raises(SequenceError, match=r"groundtruth_rect.txt: cannot be read"):
        read_dataset("folder", tmp_path)


def test_missing_parts_are_named(tmp_path):
    images(tmp_path / "no_truth" / "img", [1])
    boxes(tmp_path / "no_images" / "groundtruth_rect.txt", 1)
    boxes(tmp_path / "empty" / "groundtruth_rect.txt", 1)
    (tmp_path / "empty" / "img").mkdir()
    write(tmp_path / "good", "1,2,3,4\n1,2,3,4\n")
    problems = []
    assert [item.name for item in read_dataset("folder", tmp_path, problems=problems)] == ["good"]
    empty, no_images, no_truth = map(str, problems)
    assert "empty/img: no images" in empty
    assert "no_images/img: No such file or directory; put the images there" in no_images
    assert "no_truth/groundtruth_rect.txt: missing" in no_truth


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_an_empty_folder_names_the_layout(tmp_path, dataset):
    with pytest.raises(SequenceError, match=rf"no sequence found; the {dataset} layout is DIR"):
        read_dataset(dataset, tmp_path)
    with pytest.raises(SequenceError, match="no such folder"):
        read_dataset(dataset, tmp_path / "typo")


def test_unknown_dataset_names_the_choices(tmp_path):
    with pytest.raises(SequenceError, match=r"'otbb'; choose one of folder, otb"):
        read_dataset("otbb", tmp_path)


def test_otb_parts_that_are_missing_are_named(tmp_path):
    images(tmp_path / "Coke" / "img", [1])
    boxes(tmp_path / "Deer" / "groundtruth_rect.txt", 1)
    problems = []
    assert read_dataset("otb", tmp_path, problems=problems) == []
    assert "Coke/groundtruth_rect.txt: missing" in str(problems[0])
    assert "Deer/img: No such file" in str(problems[1])


def test_otb_range_that_is_not_on_disk_is_an_error(tmp_path):
    images(tmp_path / "David" / "img", range(1, 472))
    boxes(tmp_path / "David" / "groundtruth_rect.txt", 471)
    with pytest.raises(SequenceError, match=r"image 472 is missing \(299 of 300\.\.770\)"):
        read_dataset("otb", tmp_path)


def nfs(truth: Path, count: int) -> None:
    """Line k (from 0 on) is a box at k, 2k of 10 x 20 pixels; 8 and 24 are lost, 9 is occluded."""
    truth.parent.mkdir(parents=True, exist_ok=True)
    rows = (f"0 {k} {2 * k} {k + 10} {2 * k + 20} {k} {k in (8, 24):d} {k == 9:d} 1" for k in range(count))
    truth.write_text("".join(f'{row} "a ball"\n' for row in rows))


@pytest.mark.parametrize("lines", [32, 33, 25, 4, 5])
def test_nfs_at_30_frames_takes_every_eighth_line_of_a_file_of_all(tmp_path, lines):
    images(tmp_path / "ball" / "30" / "ball", range(1, 5), digits=5)
    nfs(tmp_path / "ball" / "30" / "ball.txt", lines)
    images(tmp_path / "ball" / "240" / "ball", range(1, 33), digits=5)
    nfs(tmp_path / "ball" / "240" / "ball.txt", 32)
    (slow,), (fast,) = read_dataset("nfs", tmp_path), read_dataset("nfs240", tmp_path)
    step = 8 if lines > 5 else 1
    assert (slow.name, fast.name) == ("ball", "ball") and len(slow.frames) == 4 and len(fast.frames) == 32
    np.testing.assert_array_equal(slow.boxes, [[step * k, 2 * step * k, 10, 20] for k in range(4)])
    assert slow.visible.tolist() == ([True, False, True, False] if step == 8 else [True] * 4)
    assert np.flatnonzero(~fast.visible).tolist() == [8, 9, 24]


@pytest.mark.parametrize("separator", ["\t", ","])
def test_nfs_as_pytracking_repackaged_it(tmp_path, separator):
    images(tmp_path / "sequences" / "Gymnastics", range(1, 4), digits=5)
    boxes(tmp_path / "anno" / "nfs_Gymnastics.txt", 4, separator)
    (sequence,) = read_dataset("nfs", tmp_path)
    assert sequence.name == "Gymnastics" and len(sequence.frames) == 3
    np.testing.assert_array_equal(sequence.boxes[2], [3, 6, 10, 20])


def test_the_two_rates_of_nfs_are_told_apart(tmp_path):
    for rate, other, name in ((240, "nfs", "nfs240"), (30, "nfs240", "nfs")):
        images(tmp_path / str(rate) / "ball" / str(rate) / "ball", range(1, 3), digits=5)
        nfs(tmp_path / str(rate) / "ball" / str(rate) / "ball.txt", 2)
        with pytest.raises(SequenceError, match=rf"NFS at {rate} .*, and none at \d+; its layout is called {name}$"):
            read_dataset(other, tmp_path / str(rate))
    assert "pytracking/nfs" in ope.RULES and "pytracking/nfs240" not in ope.RULES  # what was published is at 30
    boxes(tmp_path / "240" / "ball" / "240" / "ball.txt", 2)
    with pytest.raises(SequenceError, match=r"ball\.txt:1: expected 9 numbers"):
        read_dataset("nfs240", tmp_path / "240")


def test_tcolor128_takes_the_frames_its_file_names(tmp_path):
    images(tmp_path / "Ball_ce1" / "img", range(1, 12))
    boxes(tmp_path / "Ball_ce1" / "Ball_ce1_gt.txt", 4)
    (tmp_path / "Ball_ce1" / "Ball_ce1_frames.txt").write_text("5,8\n")
    (sequence,) = read_dataset("tcolor128", tmp_path)
    assert sequence.name == "Ball_ce1" and names(sequence) == ["0005.jpg", "0006.jpg", "0007.jpg", "0008.jpg"]
    (tmp_path / "Ball_ce1" / "Ball_ce1_frames.txt").write_text("5,12\n")
    with pytest.raises(SequenceError, match="image 12 is missing"):
        read_dataset("tcolor128", tmp_path)


def test_dtb70_is_a_folder_of_folders(tmp_path):
    images(tmp_path / "Animal1" / "img", range(3), digits=5)
    boxes(tmp_path / "Animal1" / "groundtruth_rect.txt", 3)
    (sequence,) = read_dataset("dtb70", tmp_path)
    assert sequence.name == "Animal1" and len(sequence.frames) == 3


def test_avist_flags_hide_the_target(tmp_path):
    folder = tmp_path / "sequences" / "bear_in_snow"
    folder.mkdir(parents=True)
    for number in range(1, 4):
        (folder / f"img_{number:05}.jpg").touch()
    boxes(tmp_path / "anno" / "bear_in_snow.txt", 3, " ")
    for kind, text in (("full_occlusion", "0\n1\n0\n"), ("out_of_view", "0\n0\n0\n")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"bear_in_snow_{kind}.txt").write_text(text)
    (sequence,) = read_dataset("avist", tmp_path)
    assert sequence.visible.tolist() == [True, False, True] and names(sequence)[0] == "img_00001.jpg"
    (tmp_path / "out_of_view" / "bear_in_snow_out_of_view.txt").write_text("0\n")
    with pytest.raises(SequenceError, match="1 labels for 3 images"):
        read_dataset("avist", tmp_path)


def oxuva(root: Path) -> Path:
    """A video with two targets, annotated every third frame; the second is absent in the middle."""
    folder = root / "images" / "dev" / "vid0025"
    images(folder, range(13), digits=6, suffix=".jpeg")
    for path in folder.iterdir():
        assert cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
    lines = [f"vid0025,obj0000,5,bear,false,unknown,{frame},present,0.25,0.5,0.1,0.4" for frame in (0, 3, 6, 9)]
    lines += [f"vid0025,obj0001,20,elephant,unknown,false,{frame},present,0.5,1.0,0.5,1.0" for frame in (3, 12)]
    lines.insert(5, "vid0025,obj0001,20,elephant,unknown,false,6,absent,-1,-1,-1,-1")
    (root / "annotations").mkdir()
    (root / "annotations" / "dev.csv").write_text("\n".join(lines) + "\n")
    return root


def test_oxuva_knows_which_frames_someone_looked_at(tmp_path):
    first, second = read_dataset("oxuva", oxuva(tmp_path))
    assert (first.name, second.name) == ("vid0025_obj0000", "vid0025_obj0001")
    assert len(first.frames) == 10 and names(second) == [f"{number:06}.jpeg" for number in range(3, 13)]
    np.testing.assert_allclose(first.boxes[[0, 3, 6, 9]], [[20, 6, 20, 18]] * 4)
    np.testing.assert_allclose(second.boxes[[0, 9]], [[40, 30, 40, 30]] * 2)
    assert np.flatnonzero(second.annotated).tolist() == [0, 3, 9] and np.flatnonzero(second.visible).tolist() == [0, 9]
    assert np.isnan(first.boxes[1]).all() and not first.visible[1] and not first.annotated[1]


@pytest.mark.parametrize("line", ["vid0025,obj0000,5,bear", "vid0025,obj0000,5,bear,a,b,1,there,0,1,0,1", "vid,"])
def test_oxuva_names_a_line_it_cannot_read(tmp_path, line):
    truth = oxuva(tmp_path) / "annotations" / "dev.csv"
    truth.write_text(truth.read_text() + line + "\n")
    problems = []
    assert read_dataset("oxuva", tmp_path, problems=problems)
    assert len(problems) == 1 and str(problems[0]).startswith(f"{truth}:8: expected video,object,class")


def drawn(dataset: str, root: Path, x: int, y: int) -> None:
    """A sequence `a` of two frames in the layout, whose files give x, y and 10 x 20 pixels."""
    line = f"{x},{y},10,20\n" * 2
    vatic = f'0 {x} {y} {x + 10} {y + 20} 0 0 0 1 "a ball"\n' * 2
    zeros = "0\n0\n"
    shares = f"{x / 80},{(x + 10) / 80},{y / 60},{(y + 20) / 60}"
    files, numbers, digits = {
        "folder": ({"a/groundtruth_rect.txt": line}, "a/img", 4),
        "otb": ({"a/groundtruth_rect.txt": line}, "a/img", 4),
        "dtb70": ({"a/groundtruth_rect.txt": line}, "a/img", 5),
        "uav123": ({"anno/UAV123/a.txt": line}, "data_seq/UAV123/a", 6),
        "uav20l": ({"anno/UAV20L/a.txt": line}, "data_seq/UAV123/a", 6),
        "lasot": ({"a/groundtruth.txt": line, "a/full_occlusion.txt": "0,0", "a/out_of_view.txt": "0,0"}, "a/img", 8),
        "got10k": ({"a/groundtruth.txt": line, "a/absence.label": zeros, "a/cover.label": "8\n8\n"}, "a", 8),
        "vot": ({"a/groundtruth.txt": f"{x},{y},{x + 10},{y},{x + 10},{y + 20},{x},{y + 20}\n" * 2}, "a", 8),
        "vot_fitted": ({"a/groundtruth.txt": f"m{x},{y},10,20,0,200\n" * 2}, "a", 8),
        "nfs": ({"a/30/a.txt": vatic}, "a/30/a", 5),
        "nfs240": ({"a/240/a.txt": vatic}, "a/240/a", 5),
        "tcolor128": ({"a/a_gt.txt": line, "a/a_frames.txt": "1,2"}, "a/img", 4),
        "avist": (
            {
                "anno/a.txt": line,
                "full_occlusion/a_full_occlusion.txt": zeros,
                "out_of_view/a_out_of_view.txt": zeros,
            },
            "sequences/a",
            5,
        ),
        "trackingnet": ({"TRAIN_0/anno/a.txt": line}, "TRAIN_0/frames/a", 1),
        "oxuva": (
            {"annotations/dev.csv": "".join(f"a,o,1,c,false,true,{k},present,{shares}\n" for k in (1, 2))},
            "images/dev/a",
            6,
        ),
    }[dataset]
    images(root / numbers, (1, 2), digits)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if dataset == "oxuva":
        for path in (root / numbers).iterdir():
            assert cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))


# What the upper left pixel has in each benchmark's files.
FROM_ONE = {"otb", "lasot", "tcolor128"}


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_boxes_are_zero_based_whatever_the_files_count_from(tmp_path, dataset):
    origin = LAYOUTS[dataset].origin
    assert origin == (dataset in FROM_ONE) and LAYOUTS[dataset].evidence
    drawn(dataset, tmp_path / "border", origin, origin)
    drawn(dataset, tmp_path / "inside", 8, 6)
    (border,), (inside,) = read_dataset(dataset, tmp_path / "border"), read_dataset(dataset, tmp_path / "inside")
    np.testing.assert_allclose(border.boxes, [[0, 0, 10, 20]] * 2, atol=1e-12)
    np.testing.assert_allclose(inside.boxes, [[8 - origin, 6 - origin, 10, 20]] * 2, atol=1e-12)
    assert border.visible.all()
    if dataset == "vot":
        np.testing.assert_allclose(border.polygons[0], [0, 0, 10, 0, 10, 20, 0, 20])


@pytest.mark.parametrize("rule", [rule for rule in ope.RULES if rule.partition("/")[2] in LAYOUTS])
def test_at_the_border_a_perfect_result_is_judged_in_the_coordinates_of_the_files(tmp_path, rule):
    """pytracking and MATLAB count a box whose numbers are all positive, in the files; 1-based ones always are."""
    dataset = rule.partition("/")[2]
    origin = LAYOUTS[dataset].origin
    drawn(dataset, tmp_path, origin, origin)
    (sequence,) = read_dataset(dataset, tmp_path)
    scores = ope.score(ope.RULES[rule], sequence.boxes, sequence.boxes, sequence.visible)
    missed = not origin and ope.RULES[rule].usable_overlap == "positive"
    assert scores["auc"] == pytest.approx(0 if missed else 20 / 21)


def test_otb_at_the_border_as_pytracking_scores_it(tmp_path):
    """By its own code, on the numbers of the files as they are: x or y of 1 is a box, 0 is none."""
    annotated = np.array([[1, 5, 10, 20], [1, 1, 10, 20], [4, 1, 10, 20], [0, 4, 10, 20], [3, 3, 10, 20], [0, 0, 0, 0]])
    images(tmp_path / "Biker" / "img", range(1, 7))
    np.savetxt(tmp_path / "Biker" / "groundtruth_rect.txt", annotated, "%d", delimiter=",")
    (sequence,) = read_dataset("otb", tmp_path)
    valid = ((annotated > 0).sum(1) == 4).mean()  # extract_results.py: calc_seq_err_robust
    assert valid == 4 / 6
    for toolkit in ("pytracking", "paper"):
        scores = ope.score(ope.rule(toolkit, "otb"), sequence.boxes, sequence.boxes)
        assert scores["auc"] == pytest.approx(valid * 20 / 21)
        # MATLAB's error of a box that is none is -1, which every threshold exceeds
        assert scores["precision20"] == pytest.approx(valid if toolkit == "pytracking" else 1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real sequences of ../shared/data")
def test_real_sequences_are_read():
    sequences = read_dataset("folder", SHARED)
    assert len(sequences) > 1
    for sequence in sequences:
        assert len(sequence.frames) == len(sequence.boxes) == len(sequence.visible)
        height, width = read_image(sequence.frames[0]).shape[:2]
        x, y, w, h = sequence.boxes[0]
        assert 0 <= x + w / 2 < width and 0 <= y + h / 2 < height
