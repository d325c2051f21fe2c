"""A recording for Rerun's viewer, as Rerun itself reads it."""

import sys

import cv2
import numpy as np
import pytest

from eval.sources.rerun_writer import RerunWriter
from eval.sources.video import Source, VideoError
from eval.targets import Run, Target, follow
from tests.helpers import bright_spot
from tests.helpers.bright_spot import PARAMS, spots


def with_score_map():
    base = bright_spot.make(150.0)

    def track(params, state, frame):
        state, estimate = base.track(params, state, frame)
        return state, estimate._replace(extras={"score_map": np.ones((5, 5), np.float32) * estimate.confidence})

    return base._replace(track=track)


def test_without_the_package_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(VideoError, match=r"a\.rrd: --rerun needs a package: pip install 'jaxtrack\[rerun\]'"):
        RerunWriter(tmp_path / "a.rrd")
    with pytest.raises(VideoError, match=r"a\.txt: .* rename the output"):
        RerunWriter(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_a_recording(tmp_path):
    chunk = pytest.importorskip("rerun.chunk", reason="not installed: pip install -e '.[rerun]'")
    path, run = tmp_path / "new" / "out.rrd", Run(2)
    chosen = [Target("car", {2: [11, 12, 9, 9]}), Target("the dog, left", {5: [20, 15, 3, 3]})]
    follow(run, with_score_map(), PARAMS, Source("drawn", iter(spots(8)), 25.0, 8), chosen, recording=path)
    assert [file.name for file in path.parent.iterdir()] == ["out.rrd"] and path.stat().st_mode & 0o044
    rows: dict[str, list[dict]] = {}
    for piece in chunk.RrdReader(path).stream():
        if not piece.is_static:
            rows.setdefault(str(piece.entity_path), []).extend(piece.to_record_batch().to_pylist())
    car, dog = "/confidence/car", r"/confidence/the\ dog\,\ left"
    assert {car, dog, "/video", "/video/boxes", "/score_map/car"} <= {*rows}, rows.keys()
    assert [row["frame"] for row in rows["/video"]] == [2, 3, 4, 5, 6, 7]
    assert [row["frame"] for row in rows[dog]] == [5, 6, 7]
    np.testing.assert_allclose([row["Scalars:scalars"][0] for row in rows[car]], [1, 0.9, 0.9, 0.9, 0.9, 0.9])
    boxes = rows["/video/boxes"][-1]
    assert boxes["Boxes2D:labels"] == ["car found", "the dog, left found"]
    np.testing.assert_allclose(boxes["Boxes2D:half_sizes"], [[4.5, 4.5], [1.5, 1.5]])
    np.testing.assert_allclose(boxes["Boxes2D:centers"][0], [26 + 4.5, 17 + 4.5], atol=0.01)
    assert len(rows["/score_map/car"]) == 5
    shown = decoded(rows["/video"][-1])
    assert shown.shape == (48, 64, 3) and shown[18:24, 27:33].min() > 200 > 150 > shown[:10].max()


def decoded(row):
    blob = np.array(row["EncodedImage:blob"][0], np.uint8)
    return cv2.imdecode(blob, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.full
def test_red_is_red(tmp_path):
    chunk = pytest.importorskip("rerun.chunk", reason="not installed: pip install -e '.[rerun]'")
    red = np.zeros((16, 32, 3), np.uint8) + np.array([250, 10, 10], np.uint8)
    with RerunWriter(tmp_path / "a.rrd") as writer:
        writer.write(0, 0.0, red, ["car"], np.full((1, 4), np.nan), np.zeros(1), ["lost"], [(1, 2, 3)])
    rows = [row for one in chunk.RrdReader(tmp_path / "a.rrd").stream() for row in one.to_record_batch().to_pylist()]
    (image,) = [row for row in rows if row.get("EncodedImage:blob")]
    np.testing.assert_allclose(decoded(image).astype(int), red, atol=4)


@pytest.mark.full
def test_a_run_that_fails_leaves_none(tmp_path):
    pytest.importorskip("rerun", reason="not installed: pip install -e '.[rerun]'")
    chosen = [Target("car", {0: [5, 10, 9, 9], 3: [500, 10, 9, 9]})]
    with pytest.raises(VideoError, match="frame 3, target car"):
        source, recording = Source("drawn", iter(spots(8)), 25.0, 8), tmp_path / "a.rrd"
        follow(Run(), with_score_map(), PARAMS, source, chosen, recording=recording)
    assert list(tmp_path.iterdir()) == []
