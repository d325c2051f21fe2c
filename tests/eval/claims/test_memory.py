"""`python -m eval.claims.memory`: a picture of a drawn clip and of a sequence, and what it refuses."""

import cv2
import numpy as np
import pytest

from eval.claims import memory
from eval.claims.memory import Trace
from tests.helpers.narrow_memtrack import narrow, start  # noqa: F401, a fixture
from trackers.weights import files


@pytest.fixture
def weights(narrow, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(memory, "prepare_process", lambda: None)
    files.save(tmp_path / "memtrack.safetensors", start(), model="memtrack")
    return tmp_path / "memtrack.safetensors"


def trace(count, confidence):
    rng = np.random.default_rng(0)
    return Trace(
        boxes=np.tile([20.0, 30, 40, 30], (count, 1)),
        confidence=confidence,
        attention=rng.random((count, 3, 3)),
        crops=np.tile([0.0, 0, 100, 100], (count, 1)),
        factors=rng.dirichlet(np.ones(3), count),
        decay=rng.random(count),
        read_weights=rng.dirichlet(np.ones(8), count),
        write_weights=rng.dirichlet(np.ones(8), count) / 2,
        residual_gate=rng.random((count, 16)),
    )


def test_frames_to_show():
    """Spread over the video, the worst among them."""
    visibility = np.ones(40)
    visibility[20:23] = 0.5, 0.2, 0.6
    confidence = np.append(np.nan, np.ones(39))
    shown = memory.frames_to_show(trace(40, confidence), visibility)
    assert shown[0] == 1 and shown[-1] == 39 and 21 in shown and len(shown) == memory.SHOWN
    confidence[30] = 0.1
    assert 30 in memory.frames_to_show(trace(40, confidence), np.ones(40))
    assert memory.frames_to_show(trace(3, confidence[:3]), np.ones(3)) == [1, 2]


@pytest.mark.full
def test_pictures(weights, tmp_path, capsys):
    """Of a drawn clip whose target is hidden for a while, then of a sequence on disk."""
    out = tmp_path / "new" / "drawn.png"
    assert memory.main(["--weights", str(weights), "--out", str(out), "--frames", "20"]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape[0] > 600 and picture.std() > 20
    assert capsys.readouterr().out.startswith(f"{out}: 20 frames of drawn")

    folder = tmp_path / "sequences" / "a"
    (folder / "img").mkdir(parents=True)
    for frame in range(4):
        image = np.random.default_rng(frame).integers(0, 255, (240, 320, 3), np.uint8)
        assert cv2.imwrite(str(folder / "img" / f"{frame + 1:04}.png"), image)
    (folder / "groundtruth_rect.txt").write_text("90,80,36,40\n90,80,36,40\nnan,nan,nan,nan\n90,80,36,40\n")
    sequence = ["--data_dir", str(folder.parent), "--sequence", "a"]
    assert memory.main(["--weights", str(weights), "--out", str(tmp_path / "a.png"), *sequence]) == 0
    assert cv2.imread(str(tmp_path / "a.png")) is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--sequence", "a"], "give both, or none"),
        (["--frames", "2"], "--frames 2: must be at least 3"),
        (["--set", "memory=False"], "nothing to show without the memory"),
        (["--weights", "missing.safetensors"], "missing.safetensors: no such file"),
        (["--data_dir", "nowhere", "--sequence", "a"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments, message, weights, tmp_path, capsys):
    assert memory.main(["--weights", str(weights), "--out", str(tmp_path / "out.png"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out.png").exists()
