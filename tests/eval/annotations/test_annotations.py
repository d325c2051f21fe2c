"""The formats of annotations: what is written comes back to the digit, other programs read it, damage is one line."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from eval import annotations, formats
from eval.annotations import FORMATS, cvat, table
from eval.annotations.tracks import Row, Video, make_track
from eval.files import ResultError
from eval.scoring.formats import ResultRun, boxes_of, read_results, read_videos, write_results


def a_track(identity, name, frames, lost=()):
    rng = np.random.default_rng(identity)
    boxes = np.concatenate([rng.uniform(-5, 50, (len(frames), 2)), rng.uniform(1, 30, (len(frames), 2))], 1)
    sure = rng.uniform(0, 1, len(frames)).round(4)
    return make_track(
        identity,
        name,
        [Row(f, box, float(c), "lost" if f in lost else "found", 0.5) for f, box, c in zip(frames, boxes, sure)],
    )


VIDEO = Video(
    "clip", [a_track(1, "car", range(10), {5, 6}), a_track(2, '"dog" & <cat>, left', [3, 4, 5, 8, 9])], (64, 48)
)
MISSING = "not installed: pip install -e '.[interchange]'"
SEEN = {1: [0, 1, 2, 3, 4, 7, 8, 9], 2: [3, 4, 5, 8, 9]}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_comes_back(tmp_path, name):
    form = FORMATS[name]
    path = tmp_path / f"clip{form.suffix}"
    text = form.render(VIDEO)
    path.write_text(text)
    (again,) = annotations.read(path)
    assert form.render(again) == text and again.name == "clip"
    assert again.size == (None if name == "mot" else (64, 48))
    for track, before in zip(again.tracks, VIDEO.tracks, strict=True):
        there = [frame for frame, verdict in zip(track.frames, track.verdicts) if verdict == "found"]
        assert track.id == before.id and there == SEEN[track.id]
        assert track.name == (str(before.id) if name == "mot" else before.name)
        places = np.searchsorted(track.frames, there), np.searchsorted(before.frames, there)
        np.testing.assert_allclose(track.boxes[places[0]], before.boxes[places[1]], atol=2e-4)
        if name == "cvat":
            assert np.isnan(track.confidence).all()
        else:
            np.testing.assert_allclose(track.confidence[places[0]], before.confidence[places[1]], atol=1e-9)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_tables_of_ours_come_back(kind):
    video = VIDEO._replace(tracks=[a_track(1, "car, red", range(6), {2}), a_track(2, "2", range(3, 6))])
    text = table.csv_text(video) if kind == "csv" else table.json_text(video, {"image_size": (64, 48)})
    (again,) = annotations.parse(f"clip_boxes.{kind}", text)
    assert again.name == "clip" and [track.name for track in again.tracks] == ["car, red", "2"]
    assert again.tracks[0].verdicts == ["found"] * 2 + ["lost"] + ["found"] * 3
    assert (table.csv_text(again) if kind == "csv" else table.json_text(again, {"image_size": (64, 48)})) == text


def test_the_conventions():
    """Where frames, ids and the upper left pixel count from; what a frame without the target has."""
    rows = [Row(0, (0, 0, 4, 2), 0.5), Row(1, (1, 2, 4, 2), 0.25, "lost")]
    video = Video("clip", [make_track(1, "car", rows)], (8, 6))
    assert FORMATS["mot"].render(video) == "1,1,1.0000,1.0000,4.0000,2.0000,0.5000,-1,-1,-1\n"
    coco = json.loads(FORMATS["coco"].render(video))
    assert [(image["id"], image["frame_id"]) for image in coco["images"]] == [(1, 0), (2, 1)]
    (annotation,) = coco["annotations"]
    assert (annotation["track_id"], annotation["image_id"], annotation["score"]) == (1, 1, 0.5)
    assert annotation["bbox"] == [0, 0, 4, 2] and annotation["area"] == 8
    assert coco["categories"] == [{"id": 1, "name": "car"}]
    vis = json.loads(FORMATS["youtube-vis"].render(video))
    assert vis["videos"][0]["length"] == 2 and vis["annotations"][0]["bboxes"] == [[0, 0, 4, 2], None]
    track = ElementTree.fromstring(FORMATS["cvat"].render(video)).find("track")
    assert track.get("id") == "0" and track.get("label") == "car"
    boxes = [{key: float(box.get(key)) for key in ("frame", "outside", *cvat.CORNERS)} for box in track]
    assert boxes[0] == {"frame": 0, "outside": 0, "xtl": 0, "ytl": 0, "xbr": 4, "ybr": 2}
    assert boxes[1] == {"frame": 1, "outside": 1, "xtl": 1, "ytl": 2, "xbr": 5, "ybr": 4}


def test_cvat_draws_a_line_between_key_frames():
    def box(frame, x, outside=0):
        return f'<box frame="{frame}" outside="{outside}" xtl="{x}" ytl="0" xbr="{x + 4}" ybr="4"/>'

    boxes = box(2, 0) + box(6, 8) + box(7, 8, 1) + box(9, 1)
    text = f'<annotations><track id="3" label="car">{boxes}</track></annotations>'
    (video,) = annotations.parse("a.xml", text)
    (track,) = video.tracks
    assert track.frames.tolist() == [2, 3, 4, 5, 6, 7, 9] and track.verdicts[5] == "lost"
    assert track.boxes[:5, 0].tolist() == [0, 2, 4, 6, 8] and track.id == 4


def test_files_of_others():
    """Ground truth of MOTChallenge, COCO with instance_id and without frame_id, several tracks of a category."""
    (video,) = annotations.parse("gt.txt", "1, 3, 794.27, 247.59, 71.245, 174.88, 1, 1, 0.86\n3,3,1,1,2,2,0,1,1\n")
    assert video.tracks[0].frames.tolist() == [0, 2] and video.tracks[0].name == "3"
    np.testing.assert_allclose(video.tracks[0].boxes[0], [793.27, 246.59, 71.245, 174.88])
    coco = {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 4, "file_name": "a.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 1, "instance_id": 5, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 7, "category_id": 1, "instance_id": 6, "bbox": [1, 2, 3, 4]},
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    (video,) = annotations.parse("x.json", json.dumps(coco))
    assert [(track.name, track.frames.tolist()) for track in video.tracks] == [("car-5", [1]), ("car-6", [0])]
    assert video.files == ("b.jpg", "a.jpg")
    vis = {
        "videos": [{"id": i, "length": 2, "file_names": [f"v{i}/0.jpg", f"v{i}/1.jpg"]} for i in (1, 2)],
        "annotations": [{"id": i, "video_id": i, "category_id": 1, "bboxes": [None, [1, 2, 3, 4]]} for i in (1, 2)],
        "categories": [],
    }
    videos = annotations.parse("x.json", json.dumps(vis))
    assert [video.name for video in videos] == ["v1", "v2"] and videos[1].tracks[0].frames.tolist() == [1]
    assert [annotations.file_name(video._replace(name="../a:b")) for video in videos] == ["_a_b"] * 2


def changed(name, before, after):
    text = FORMATS[name].render(VIDEO)
    assert before in text
    return text.replace(before, after, 1)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("a.txt", "1,1,5,5,5,5,1,-1,-1,-1\n1,1,5,5,5\n", "line 2: 5 numbers"),
        ("a.txt", "0,1,5,5,5,5,1,-1,-1,-1\n", "line 1: 0 is neither a frame nor an id"),
        ("a.txt", "1,-1,5,5,5,5,1,-1,-1,-1\n", "line 1: -1 is neither"),
        ("a.txt", "1,1,5,5,5,5,1,-1,-1,-1\n" * 2, "target 1: frame 0 is there twice"),
        ("a.txt", "1,1,nan,5,5,5,1,-1,-1,-1\n", "not finite"),
        ("a.txt", "1,1,5,5,-5,5,1,-1,-1,-1\n", "negative"),
        ("a.txt", "9999999,1,5,5,5,5,1,-1,-1,-1\n", "is not below 1000000"),
        ("a.txt", "", "a box is missing"),
        ("a.json", "[]", "an object is needed"),
        ("a.json", "{", "Expecting property name"),
        ("a.json", "{}", "a box is missing"),
        ("a.json", changed("coco", '"bbox": [', '"bbox": [null, '), r"annotations\[0\]: \[None"),
        ("a.json", changed("coco", '"image_id": 1', '"image_id": 99'), r"annotations\[0\]: there is no image 99"),
        ("a.json", changed("coco", '"track_id"', '"tracks"'), r"annotations\[0\]: track_id or instance_id must be"),
        ("a.json", changed("coco", '"images": [', '"images": [7, '), r"images\[0\]: must be an object"),
        ("a.json", changed("coco", '"category_id": 1', '"category_id": []'), "unhashable"),
        ("a.json", changed("youtube-vis", '"bboxes"', '"boxes"'), r"annotations\[0\]: bboxes must be"),
        ("a.json", changed("youtube-vis", '"bboxes": [[', '"bboxes": [["x", '), r"annotations\[0\].bboxes\[0\]: "),
        ("a.json", changed("youtube-vis", '"video_id": 1', '"video_id": 3'), "there is no video 3"),
        ("a.json", changed("youtube-vis", '"id": 2, "video_id"', '"id": 1, "video_id"'), "the id 1 is there twice"),
        ("a.xml", changed("cvat", "</track>", ""), "line .*mismatched tag"),
        ("a.xml", changed("cvat", 'xtl="', 'xtl="x'), "track 0: frame 0: xtl, ytl, xbr, ybr must be numbers"),
        ("a.xml", changed("cvat", 'frame="0"', 'frame="-1"'), "track 0: box: frame='-1' is not a whole number"),
        ("a.xml", changed("cvat", 'frame="1" key', 'frame="0" key'), "target car: frame 0 is there twice"),
        ("a.xml", "<annotations><image/></annotations>", "not of CVAT for video"),
        ("a.xml", "<annotations></annotations>", "a box is missing"),
    ],
)
def test_damage_is_one_line(tmp_path, file, text, reason):
    (tmp_path / file).write_text(text)
    with pytest.raises(ResultError, match=reason) as raised:
        annotations.read(tmp_path / file)
    assert str(raised.value).startswith(f"{tmp_path / file}: not ") and "\n" not in str(raised.value)


def test_the_command_converts_from_each_to_each(tmp_path, capsys):
    for number, name in enumerate(FORMATS):
        source = tmp_path / str(number) / f"clip{FORMATS[name].suffix}"
        source.parent.mkdir()
        source.write_text(FORMATS[name].render(VIDEO))
        for to, form in FORMATS.items():
            out = tmp_path / f"{name}-{to}"
            assert formats.main([str(source), "--to", to, "--out", str(out)]) == 0
            assert capsys.readouterr().out == f"1 video: {out}\n"
            (video,) = annotations.read(out / f"clip{form.suffix}")
            for track, before in zip(video.tracks, VIDEO.tracks, strict=True):
                there = [frame for frame, verdict in zip(track.frames, track.verdicts) if verdict == "found"]
                assert there == SEEN[before.id]
                places = np.searchsorted(track.frames, there), np.searchsorted(before.frames, there)
                np.testing.assert_allclose(track.boxes[places[0]], before.boxes[places[1]], atol=2e-4)
    assert formats.main([str(source), "--to", "cvat", "--out", str(source.parent)]) == 1
    assert "would replace" in capsys.readouterr().err


def test_between_annotations_and_results(tmp_path, capsys):
    boxes = np.array([[1.0, 2, 3, 4], [2, 3, 3, 4], [3, 4, 3, 4]])
    write_results(tmp_path / "ours", {"a": (ResultRun(list(boxes), None, np.full(3, 0.5)),)}, "jaxtrack")
    write_results(tmp_path / "vot", {"b": (ResultRun([1, boxes[1], 2]),)}, "vot")
    assert formats.main([str(tmp_path / "ours"), "--to", "mot", "--out", str(tmp_path / "mot")]) == 0
    assert (tmp_path / "mot" / "a.txt").read_text().startswith("1,1,2.0000,3.0000,3.0000,4.0000,0.5000,-1")
    (run,) = read_results(tmp_path / "mot")["a"]
    np.testing.assert_allclose(boxes_of(run), boxes)
    assert run.confidence.tolist() == [0.5] * 3
    assert formats.main([str(tmp_path / "mot" / "a.txt"), "--to", "otb", "--out", str(tmp_path / "otb")]) == 0
    assert (tmp_path / "otb" / "a.txt").read_text().startswith("2.0000,3.0000,3.0000,4.0000")
    (video,) = read_videos(tmp_path / "vot")
    assert video.name == "b" and video.tracks[0].frames.tolist() == [1]
    capsys.readouterr()
    (tmp_path / "clip.xml").write_text(FORMATS["cvat"].render(VIDEO))
    assert formats.main([str(tmp_path / "clip.xml"), "--to", "otb", "--out", str(tmp_path / "none")]) == 1
    assert "target \"dog\" & <cat>, left starts at frame 3" in capsys.readouterr().err
    assert formats.main([str(tmp_path / "ours"), "--to", "coco", "--origin", "1", "--out", str(tmp_path / "none")]) == 1
    assert "says itself what x and y count from" in capsys.readouterr().err and not (tmp_path / "none").exists()


@pytest.mark.full
def test_pycocotools_reads_coco(tmp_path):
    pytest.importorskip("pycocotools", reason=MISSING)
    from pycocotools.coco import COCO

    (tmp_path / "clip.json").write_text(FORMATS["coco"].render(VIDEO))
    coco = COCO(str(tmp_path / "clip.json"))
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == [track.name for track in VIDEO.tracks]
    for track in VIDEO.tracks:
        found = coco.loadAnns(coco.getAnnIds(catIds=[track.id]))
        assert [coco.imgs[one["image_id"]]["frame_id"] for one in found] == SEEN[track.id]
        expected = track.boxes[np.searchsorted(track.frames, SEEN[track.id])]
        np.testing.assert_allclose([one["bbox"] for one in found], expected, atol=1e-4)


@pytest.mark.full
def test_motmetrics_reads_mot(tmp_path):
    motmetrics = pytest.importorskip("motmetrics", reason=MISSING)
    (tmp_path / "clip.txt").write_text(FORMATS["mot"].render(VIDEO))
    frame = motmetrics.io.loadtxt(str(tmp_path / "clip.txt"), fmt="mot15-2D")
    for track in VIDEO.tracks:
        rows = frame.xs(track.id, level="Id")
        assert (rows.index - 1).tolist() == SEEN[track.id]
        places = np.searchsorted(track.frames, SEEN[track.id])
        # It takes 1 from x and y, "for the convention of MATLAB".
        np.testing.assert_allclose(rows[["X", "Y", "Width", "Height"]], track.boxes[places], atol=1e-4)
        np.testing.assert_allclose(rows["Confidence"], track.confidence[places], atol=1e-4)


@pytest.mark.full
def test_trackeval_scores_mot(tmp_path):
    trackeval = pytest.importorskip("trackeval", reason=MISSING)
    text = FORMATS["mot"].render(VIDEO)
    truth, found = tmp_path / "truth" / "clip" / "gt" / "gt.txt", tmp_path / "found" / "ours" / "data" / "clip.txt"
    marked = re.sub(r"[\d.]+,-1,-1,-1", "1,1,1", text)  # true boxes have a flag, a class and the visible part instead
    for path, content in ((truth, marked), (found, text)):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    half = [line for line in text.splitlines(keepends=True) if line.split(",")[1] == "1"]
    (tmp_path / "found" / "half" / "data").mkdir(parents=True)
    (tmp_path / "found" / "half" / "data" / "clip.txt").write_text("".join(half))
    config = {"GT_FOLDER": str(tmp_path / "truth"), "TRACKERS_FOLDER": str(tmp_path / "found"), "BENCHMARK": "MOT15"}
    config |= {"SEQ_INFO": {"clip": 10}, "SKIP_SPLIT_FOL": True, "DO_PREPROC": False, "PRINT_CONFIG": False}
    quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False}
    quiet |= {"PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False, "TIME_PROGRESS": False, "BREAK_ON_ERROR": True}
    data = trackeval.datasets.MotChallenge2DBox(config)
    results, _ = trackeval.Evaluator(quiet).evaluate([data], [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR()])
    scores = {name: one["clip"]["pedestrian"] for name, one in results["MotChallenge2DBox"].items()}
    assert scores["ours"]["CLEAR"]["MOTA"] == 1 and scores["ours"]["HOTA"]["HOTA"].min() == 1
    assert scores["ours"]["CLEAR"]["CLR_TP"] == 13 and scores["half"]["CLEAR"]["CLR_FN"] == 5


# What datumaro makes of the folder that it is given: label, track, frame, box of all that are there.
DATUMARO = """
import json, sys
from datumaro import Dataset
data = Dataset.import_from(sys.argv[1], "cvat")
names = [label.name for label in next(iter(data.categories().values())).items]
rows = [
    (names[one.label], one.attributes["track_id"], item.attributes["frame"], [*map(float, one.get_bbox())])
    for item in data for one in item.annotations if not one.attributes.get("outside")
]
print(json.dumps(rows))
"""


@pytest.mark.full
@pytest.mark.skipif("DATUMARO_PYTHON" not in os.environ, reason="DATUMARO_PYTHON names no Python with datumaro")
def test_datumaro_reads_cvat(tmp_path):
    """In an environment of its own: datumaro brings another OpenCV, which would take the place of ours."""
    (tmp_path / "clip.xml").write_text(FORMATS["cvat"].render(VIDEO))
    command = [os.environ["DATUMARO_PYTHON"], "-c", DATUMARO, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for track in VIDEO.tracks:
        rows = [row for row in json.loads(done.stdout.splitlines()[-1]) if row[1] == track.id - 1]
        assert {row[0] for row in rows} == {track.name}
        found = {frame: box for _, _, frame, box in rows}
        assert sorted(found) == SEEN[track.id]
        expected = track.boxes[np.searchsorted(track.frames, SEEN[track.id])]
        np.testing.assert_allclose([found[at] for at in sorted(found)], expected, atol=0.01)
