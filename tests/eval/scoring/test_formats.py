"""Result files of every toolkit: written, read back, read although they differ, and refused by name and line."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from eval import formats
from eval.files import ResultError
from eval.scoring.formats import FORMATS, ResultRun, boxes_of, pack_results, read_results, render, write_results
from eval.targets import Run, Tracked
from eval.track import boxes_csv, boxes_json
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


@pytest.mark.parametrize("second", ["lap_time", "lap_confidence", "lap_object_presence_scores", "lap_001", "lap_s"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_sequence_may_be_called_like_the_files_of_another(tmp_path, name, second):
    """Both come back with their own numbers; a toolkit that stores both in one file is refused instead."""
    runs = [ResultRun(list(BOXES + shift), SECONDS + shift, CONFIDENCE / (1 + shift)) for shift in (0, 9)]
    results = {"lap": (runs[0],), second: (runs[1],)}
    form = FORMATS[name]
    files = [one(sequence) for one in (form.time_path, lambda s: form.path(s, 1)) if one for sequence in results]
    files += [form.confidence_path(sequence, 1) for sequence in results if form.confidence_path]
    if len(set(files)) < len(files):
        with pytest.raises(ResultError, match=rf"{second}: its {second}.txt is another sequence's as well"):
            write_results(tmp_path, results, name)
        results = {sequence: (run._replace(seconds=None, confidence=None),) for sequence, (run,) in results.items()}
    write_results(tmp_path, results, name)
    again = read_results(tmp_path)
    assert set(again) == set(results)
    for sequence, (run,) in results.items():
        (found,) = again[sequence]
        np.testing.assert_allclose(boxes_of(found), boxes_of(run), atol=1, rtol=0)
        for kind, path in (("seconds", form.time_path), ("confidence", form.confidence_path)):
            wanted, got = getattr(run, kind), getattr(found, kind)
            assert (got is None) == (path is None or wanted is None)
            assert got is None or np.allclose(got, wanted, atol=1e-6)
        if form.path(sequence, 1) == f"{sequence}.txt":  # one file, given by its name, is one sequence
            assert list(read_results(tmp_path / f"{sequence}.txt")) == [sequence]


def test_what_a_mac_adds_to_an_archive_is_not_read(tmp_path):
    texts = render(RESULTS, "jaxtrack")
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for file, text in texts.items():
            archive.writestr(f"res/{file}", text)
            archive.writestr(f"__MACOSX/res/._{file}", bytes(range(256)))
        archive.writestr("res/.DS_Store", bytes(range(256)))
        archive.writestr("res/.hidden.txt", bytes(range(256)))
    with zipfile.ZipFile(tmp_path / "mac.zip") as archive:
        archive.extractall(tmp_path / "folder")
    for path in (tmp_path / "mac.zip", tmp_path / "folder"):
        again = read_results(path)
        assert list(again) == sorted(RESULTS) and again["Deer"][0].confidence is not None


def test_a_file_that_is_no_text_costs_itself_alone(tmp_path):
    write_results(tmp_path, RESULTS, "jaxtrack")
    (tmp_path / "Deer.txt").write_bytes(b"1,2,3,\xff\n")
    with pytest.raises(ResultError, match=r"Deer\.txt: not text \(invalid start byte at byte 6\)"):
        read_results(tmp_path)
    problems = []
    assert list(read_results(tmp_path, problems=problems)) == ["Bolt-2"] and len(problems) == 1


def tracked(count: int) -> Run:
    """What eval.track holds of `count` targets."""
    places = np.stack([BOXES + 10 * target for target in range(count)], 1)
    share = np.linspace(0.3, 0.9, count)
    return Run(tracked=[Tracked(at, np.zeros(count), share, np.zeros(count, int), 0.01) for at in places])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_eval_track_writes_is_read(tmp_path, count, kind):
    path = tmp_path / f"clip_boxes.{kind}"
    path.write_text(boxes_csv(tracked(count)) if kind == "csv" else boxes_json(tracked(count), {}))
    results = read_results(path)
    assert list(results) == (["clip"] if count == 1 else ["clip-1", "clip-2", "clip-3"])
    for target, (run,) in enumerate(results.values()):
        np.testing.assert_allclose(boxes_of(run), BOXES + 10 * target, atol=5.1e-5)
        np.testing.assert_allclose(run.confidence, np.linspace(0.3, 0.9, count)[target], atol=5.1e-5)
    if kind == "csv":  # and in a folder, where its .json lies beside and other tables may
        (tmp_path / "clip_boxes.json").write_text("{}")
        (tmp_path / "scores.csv").write_text("tracker,auc\n")
        assert list(read_results(tmp_path)) == list(results)
    assert formats.main([str(path), "--to", "otb", "--origin", "1", "--out", str(tmp_path / "otb")]) == 0
    assert sorted(file.stem for file in (tmp_path / "otb").iterdir()) == list(results)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("csv", ("3,2,", "3,1,"), "target 1: frame 3 is there twice"),
        ("csv", ("3,2,", "7,2,"), "a line is in another place"),
        ("csv", ("frame,target", "frame,object"), "the first line is not frame,target,x"),
        ("csv", ("20.1235", "nan"), "not finite"),
        ("csv", ("20.1235", ""), "could not convert"),
        ("json", ('"targets"', '"rows"'), "no 'targets'"),
        ("json", ("[20.1235,", "["), "is not a box"),
        ("csv", ("0,1,", '"0"x,1,'), "expected after"),
        ("json", ('"first_frame": 0', '"first_frame": 4'), "starts at frame 4"),
        ("json", ('"first_frame": 0', '"first_frame": Infinity'), "cannot convert float infinity"),
        ("json", ("[20.1235,", f"[{'9' * 400},"), "too large"),
        ("json", ('"targets": ', '"targets": ' + "[" * 100_000), "recursion"),
    ],
)
def test_tables_that_eval_track_did_not_write_are_refused(tmp_path, kind, change, message):
    text = boxes_csv(tracked(2)) if kind == "csv" else boxes_json(tracked(2), {})
    assert change[0] in text
    (tmp_path / f"x.{kind}").write_text(text.replace(*change))
    with pytest.raises(ResultError, match=message) as caught:
        read_results(tmp_path / f"x.{kind}")
    assert f"x.{kind}" in str(caught.value) and "\n" not in str(caught.value)


def test_matlab_counts_from_one(tmp_path):
    write_results(tmp_path, RESULTS, "otb", origin=1)
    assert (tmp_path / "Deer.txt").read_text().startswith("21.1235,31.5000,40.2500")
    again = read_results(tmp_path, origin=1)
    np.testing.assert_allclose(boxes_of(again["Deer"][0]), BOXES, atol=1e-4)


@pytest.mark.parametrize(
    "dataset, to, added",
    [
        ("otb", "otb", 1),
        ("otb", "pytracking", 1),
        ("folder", "otb", 1),  # OTB's files are what its toolkit compares with, however they were read
        ("lasot", "lasot", 1),
        ("lasot", "got10k-ope", 1),
        ("tcolor128", "pysot", 1),
        ("uav123", "pytracking", 0),
        ("folder", "pysot", 0),
        ("got10k", "got10k", 0),
        ("otb", "jaxtrack", 0),
        (None, "otb", 0),  # not of eval.run: in whatever coordinates they are
    ],
)
def test_the_command_counts_as_the_toolkits_true_boxes_do(tmp_path, capsys, dataset, to, added):
    write_results(tmp_path / "ours", RESULTS, "jaxtrack")
    if dataset:
        (tmp_path / "ours" / "run.json").write_text(json.dumps({"dataset": dataset}))
    assert formats.main([str(tmp_path / "ours"), "--to", to, "--out", str(tmp_path / "out")]) == 0
    assert ("(1 added to x and y" in capsys.readouterr().out) == added
    (run,) = read_results(tmp_path / "out")["Deer"]
    expected = BOXES + [added, added, 0, 0]
    np.testing.assert_allclose(boxes_of(run), expected, atol=1 if to == "pytracking" else 0.00051, rtol=0)
    again = ["--to", "jaxtrack", "--from_origin", str(added), "--out", str(tmp_path / "again")]
    assert formats.main([str(tmp_path / "out"), *again]) == 0
    np.testing.assert_allclose(
        boxes_of(read_results(tmp_path / "again")["Deer"][0]), expected - [added, added, 0, 0], atol=1
    )


def test_boxes_of_eval_track_count_from_zero(tmp_path):
    rows = ["frame,target,x,y,w,h,score,confidence,verdict", "0,1,5,6,7,8,1,1,found", "1,1,6,6,7,8,1,1,found"]
    (tmp_path / "clip_boxes.csv").write_text("\n".join(rows) + "\n")
    track = tmp_path / "clip_boxes.csv"
    assert formats.main([str(track), "--to", "otb", "--out", str(tmp_path / "otb")]) == 0
    assert (tmp_path / "otb" / "clip.txt").read_text().startswith("6.0000,7.0000,7.0000")
    np.testing.assert_array_equal(boxes_of(read_results(track, origin=1)["clip"][0])[0], [5, 6, 7, 8])


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
    (tmp_path / "Deer_time.value").write_text("0.1\n0.2\n")
    with pytest.raises(ResultError, match=r"Deer_time\.value: 2 lines for 6 frames"):
        read_results(tmp_path)
    (tmp_path / "Deer_time.value").write_text("")
    with pytest.raises(ResultError, match=r"Deer_time\.value: 0 lines for 6 frames"):
        read_results(tmp_path)
    (tmp_path / "Deer_time.value").write_text("\n0.1\n" + "\n" * 9)  # the last frames have none either
    assert np.isnan(read_results(tmp_path)["Deer"][0].seconds).tolist() == [True, False, True, True, True, True]
    (tmp_path / "Deer_time.value").write_text("0.1\nfast\n")
    with pytest.raises(ResultError, match=r"Deer_time\.value:2: not numbers"):
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


def test_what_is_read_is_never_replaced(tmp_path, capsys):
    """In place, through a link, a file of the folder, an archive, and a folder that a run has claimed."""
    write_results(tmp_path / "ours", RESULTS, "jaxtrack")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    pack_results(tmp_path / "up.zip", RESULTS, "got10k")
    (tmp_path / "claimed").mkdir()
    (tmp_path / "claimed" / "run.json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    pairs = [("ours", "ours"), ("ours", "link"), ("ours/Deer.txt", "ours"), ("up.zip", "up.zip"), ("ours", "claimed")]
    for source, out in pairs:
        assert formats.main([str(tmp_path / source), "--to", "got10k-ope", "--out", str(tmp_path / out)]) == (1), (
            source,
            out,
        )
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / out}") and error.count("\n") == 1, error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_full_disk_leaves_no_archive(tmp_path):
    noise = np.random.default_rng(0).uniform(1, 900, (4000, 4))
    with small_disk(tmp_path / "disk", kib=16) as disk:
        with pytest.raises(ResultError, match="No space left on device"):
            pack_results(Path(disk) / "big.zip", {"a": (ResultRun(list(noise)),)}, "trackingnet")
        assert not list(disk.iterdir())
