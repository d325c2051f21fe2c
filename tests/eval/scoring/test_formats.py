"""Result files of every toolkit: written, read back, read although they differ, and refused by name and line."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from eval import formats
from eval.files import ResultError
from eval.scoring.formats import FORMATS, ResultRun, boxes_of, pack_results, read_results, render, write_results
from tests.helpers.disk import small_disk

COUNT = 6
BOXES = np.array([[20.12345678 + t, 30.5 - t, 40.25, 20.75] for t in range(COUNT)])
SECONDS = np.linspace(0.01, 0.06, COUNT)
CONFIDENCE = np.linspace(1, 0.5, COUNT)
RESULTS = {name: (ResultRun(list(BOXES + shift), SECONDS, CONFIDENCE),) for name, shift in (("Deer", 0), ("Bolt-2", 7))}
DIGITS = {"pytracking": 1.0, "trackingnet": 0.005001, "got10k": 0.000501, "got10k-ope": 0.000501, "pysot": 1e-12}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(tmp_path, name):
    write_results(tmp_path, RESULTS, name)
    again = read_results(tmp_path)
    assert list(again) == sorted(RESULTS)
    for sequence, (run,) in again.items():
        expected = boxes_of(RESULTS[sequence][0])
        np.testing.assert_allclose(boxes_of(run), expected, atol=DIGITS.get(name, 0.000051), rtol=0)
        if FORMATS[name].time_path:
            np.testing.assert_allclose(run.seconds, SECONDS, atol=1e-8)
        if FORMATS[name].confidence_path:
            np.testing.assert_allclose(run.confidence, CONFIDENCE, atol=1e-6)


def test_pytracking_cuts_pixels_off(tmp_path):
    write_results(tmp_path, RESULTS, "pytracking")
    assert (tmp_path / "Deer.txt").read_text().splitlines()[0] == "20\t30\t40\t20"


@pytest.mark.parametrize(
    "line", ["1.5,2,3,4", "1.5\t2\t3\t4", "1.5 2 3 4", " 1.5, 2,\t3 , 4 ", "1.5;2;3;4", "1.5e0,2,3,4\r"]
)
def test_separators(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"{line}\n" * 3)
    (run,) = read_results(tmp_path)["a"]
    np.testing.assert_array_equal(boxes_of(run), [[1.5, 2, 3, 4]] * 3)


def test_one_file_a_folder_and_an_archive_hold_the_same(tmp_path):
    write_results(tmp_path / "folder", RESULTS, "jaxtrack")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (tmp_path / "folder").iterdir():
            archive.write(file, f"./deep/{file.name}")
    whole = read_results(tmp_path / "folder")
    assert list(read_results(tmp_path / "all.zip")) == list(whole)
    one = read_results(tmp_path / "folder" / "Deer.txt")
    assert list(one) == ["Deer"] and one["Deer"][0].confidence is not None
    np.testing.assert_array_equal(boxes_of(one["Deer"][0]), boxes_of(whole["Deer"][0]))


def test_matlab_counts_from_one(tmp_path):
    write_results(tmp_path, RESULTS, "otb", origin=1)
    assert (tmp_path / "Deer.txt").read_text().startswith("21.1235,31.5000,40.2500")
    again = read_results(tmp_path, origin=1)
    np.testing.assert_allclose(boxes_of(again["Deer"][0]), BOXES, atol=1e-4)


def test_repetitions_with_a_column_of_times_each(tmp_path):
    runs = tuple(ResultRun(list(BOXES + k), SECONDS * (k + 1)) for k in range(3))
    write_results(tmp_path, {"GOT-10k_Test_000001": runs}, "got10k")
    again = read_results(tmp_path)["GOT-10k_Test_000001"]
    assert [run.label for run in again] == ["001", "002", "003"]
    for k, run in enumerate(again):
        np.testing.assert_allclose(run.seconds, SECONDS * (k + 1), atol=1e-8)
        np.testing.assert_allclose(boxes_of(run), BOXES + k, atol=0.000501)
    with pytest.raises(ResultError, match="3 repetitions, the pysot format holds one"):
        render({"a": runs}, "pysot")


def test_codes_and_polygons_of_vot(tmp_path):
    polygon = np.array([0, 0, 4, 1, 3, 5, -1, 4.0])
    run = ResultRun([1, BOXES[1], polygon, 2, 0, 0])
    write_results(tmp_path, {"ants1": (run,)}, "vot")
    path = tmp_path / "baseline" / "ants1" / "ants1_001.txt"
    assert path.read_text().splitlines()[0] == "1" and path.read_text().splitlines()[3] == "2"
    (again,) = read_results(tmp_path)["ants1"]
    assert [region for region in again.regions if isinstance(region, int)] == [1, 2, 0, 0]
    np.testing.assert_allclose(again.regions[2], polygon)
    boxes = boxes_of(again)
    assert np.isnan(boxes[[0, 3, 4, 5]]).all()
    np.testing.assert_allclose(boxes[2], [-1, 0, 5, 5])
    with pytest.raises(ResultError, match="ants1, frame 1: a code of VOT or a polygon"):
        render({"ants1": (run,)}, "got10k")


def test_anchors_are_labels(tmp_path):
    for anchor in (0, 49):
        path = tmp_path / "car" / f"car_{anchor:08}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("1,2,3,4\n")
    assert [run.label for run in read_results(tmp_path)["car"]] == ["00000000", "00000049"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", r"a\.txt:2: expected 4 numbers"),
        ("1,2,3,4\n\n1,2,3,4\n", r"a\.txt:2: expected"),
        ("1,2,3,4\n1,2,x,4\n", r"a\.txt:2: expected"),
        ("hello\n", r"a\.txt:1: expected"),
        ("7\n", r"a\.txt:1: expected"),
        ("1,2,3,4\nnan,nan,nan,nan\n", r"a\.txt:2: .* is not a finite box"),
        ("1,2,inf,4\n", r"a\.txt:1: .* is not a finite box"),
        ("m0,0,3,2,1,5\n", r"a\.txt:1: a mask of VOT"),
        ("", r"a\.txt: empty"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ResultError, match=message) as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_faulty_is_left_out_where_a_list_is_given(tmp_path):
    write_results(tmp_path, RESULTS, "jaxtrack")
    (tmp_path / "Deer.txt").write_text("1,2\n")
    problems = []
    assert list(read_results(tmp_path, problems=problems)) == ["Bolt-2"]
    assert len(problems) == 1 and "Deer.txt:1" in str(problems[0])


def test_nan_is_read_where_it_is_allowed(tmp_path):
    (tmp_path / "a.txt").write_text("1,2,3,4\nNaN,NaN,NaN,NaN\n")
    (run,) = read_results(tmp_path, allow_nan=True)["a"]
    assert np.isnan(boxes_of(run)[1]).all()


def test_a_file_beside_of_another_length_is_named(tmp_path):
    write_results(tmp_path, RESULTS, "jaxtrack")
    (tmp_path / "Deer_time.txt").write_text("0.1\n0.2\n")
    with pytest.raises(ResultError, match=r"Deer_time\.txt: 2 lines for 6 frames"):
        read_results(tmp_path)
    (tmp_path / "Deer_time.txt").write_text("0.1\nfast\n")
    with pytest.raises(ResultError, match=r"Deer_time\.txt:2: could not convert"):
        read_results(tmp_path)


def test_two_experiments_are_not_mixed(tmp_path):
    for experiment in ("baseline", "realtime"):
        write_results(tmp_path / experiment, RESULTS, "lasot")
    with pytest.raises(ResultError, match=r"two results of Bolt-2.*give the folder of one tracker"):
        read_results(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "empty", "binary", "broken"])
def test_what_holds_no_results(tmp_path, kind):
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "binary":
        path.mkdir()
        (path / "car_00000000.bin").write_bytes(b"\0")
    elif kind == "broken":
        path = path.with_suffix(".zip")
        path.write_bytes(b"PK not a zip")
    message = {"binary": "binary results are not read", "broken": "cannot be read"}.get(kind, "no results")
    with pytest.raises(ResultError, match=message):
        read_results(path)


def test_archives_for_the_servers(tmp_path):
    pack_results(tmp_path / "tn.zip", RESULTS, "trackingnet")
    pack_results(tmp_path / "got.zip", RESULTS, "got10k")
    with zipfile.ZipFile(tmp_path / "tn.zip") as archive:
        assert archive.namelist() == ["Bolt-2.txt", "Deer.txt"]
        assert archive.read("Deer.txt").decode().splitlines()[0] == "20.12,30.50,40.25,20.75"
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        assert archive.namelist()[0] == "Bolt-2/Bolt-2_001.txt" and "Deer/Deer_time.txt" in archive.namelist()
    assert list(read_results(tmp_path / "got.zip")) == ["Bolt-2", "Deer"]
    first = (tmp_path / "got.zip").read_bytes()
    pack_results(tmp_path / "got.zip", RESULTS, "got10k")
    assert (tmp_path / "got.zip").read_bytes() == first
    untimed = {"Deer": (RESULTS["Deer"][0]._replace(seconds=None),)}
    with pytest.raises(ResultError, match="Deer: no times"):
        pack_results(tmp_path / "got.zip", untimed, "got10k")
    with pytest.raises(ResultError, match="no server takes it"):
        pack_results(tmp_path / "x.zip", RESULTS, "pysot")


def test_boxes_that_are_not_finite_are_not_written(tmp_path):
    broken = {"Deer": (ResultRun(list(np.where(np.arange(COUNT)[:, None] == 2, np.nan, BOXES))),)}
    with pytest.raises(ResultError, match="Deer, frame 3: the box is not finite"):
        write_results(tmp_path, broken, "lasot")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    write_results(tmp_path / "ours", RESULTS, "jaxtrack")
    convert = [str(tmp_path / "ours"), "--to"]
    assert formats.main([*convert, "pysot", "--out", str(tmp_path / "pysot")]) == 0
    assert formats.main([*convert, "got10k", "--out", str(tmp_path / "up.zip")]) == 0
    assert "2 sequences" in capsys.readouterr().out and (tmp_path / "up.zip").exists()
    (tmp_path / "ours" / "Deer.txt").write_text("1,2\n")
    assert formats.main([*convert, "pysot", "--out", str(tmp_path / "again")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Deer.txt:1" in error and error.count("\n") == 1
    assert not (tmp_path / "again").exists()


def test_a_full_disk_leaves_no_archive(tmp_path):
    noise = np.random.default_rng(0).uniform(1, 900, (4000, 4))
    with small_disk(tmp_path / "disk", kib=16) as disk:
        with pytest.raises(ResultError, match="No space left on device"):
            pack_results(Path(disk) / "big.zip", {"a": (ResultRun(list(noise)),)}, "trackingnet")
        assert not list(disk.iterdir())
