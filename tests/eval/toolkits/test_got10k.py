"""The adapter for the GOT-10k toolkit, run by the toolkit itself where it is installed."""

from types import SimpleNamespace

import numpy as np
import pytest

import trackers
from eval import run
from eval.scoring import got10k
from tests.helpers import trivial_tracker
from tests.helpers.videos import make_video, rows


@pytest.mark.full
def test_the_toolkit_gets_the_boxes_of_eval_run(tmp_path, monkeypatch):
    experiments = pytest.importorskip("got10k.experiments", reason="needs the extra `toolkits`")
    from eval.toolkits.got10k import got10k_tracker

    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", {"dot": entry}.__getitem__)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params())
    monkeypatch.setattr(run, "prepare_process", lambda threads: None)
    counts = {"GOT-10k_Val_000001": 7, "GOT-10k_Val_000002": 5}
    for name, count in counts.items():
        place = tmp_path / "data" / "val" / name
        make_video(tmp_path / "made" / name, count)
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name / "img").rename(place)
        (tmp_path / "made" / name / "groundtruth_rect.txt").rename(place / "groundtruth.txt")
        for image in place.glob("*.png"):
            image.rename(image.with_suffix(".jpg"))  # readers go by the content, which so stays exact
        for label in ("absence", "cut_by_image"):
            np.savetxt(place / f"{label}.label", np.zeros(count), fmt="%d")
        np.savetxt(place / "cover.label", np.full(count, 8), fmt="%d")
        (place / "meta_info.ini").write_text("[METAINFO]\nresolution: (56, 40)\n")
    (tmp_path / "data" / "val" / "list.txt").write_text("\n".join(counts) + "\n")

    # A slow tracker with a random start: equal boxes need the same images, first boxes and keys.
    changes = ["gain=0.4", "jitter=1.5"]
    experiment = experiments.ExperimentGOT10k(
        str(tmp_path / "data"), "val", str(tmp_path / "results"), str(tmp_path / "reports")
    )
    experiment.run(got10k_tracker("dot", assignments=changes, seed=3))
    arguments = ["--tracker", "dot", "--dataset", "got10k", "--data_dir", str(tmp_path / "data" / "val"), "--seed", "3"]
    assert (
        run.main([*arguments, "--out", str(tmp_path), *(part for change in changes for part in ("--set", change))]) == 0
    )
    overlaps = {}
    for name, count in counts.items():
        truth, ours = rows(tmp_path / "data" / "val" / name / "groundtruth.txt"), rows(tmp_path / "dot" / f"{name}.txt")
        overlaps[name] = got10k.frame_overlaps([ours], truth, None, (56, 40))
        theirs = rows(tmp_path / "results" / "GOT-10k" / "dot" / name / f"{name}_001.txt")
        assert theirs.shape == (count, 4)
        np.testing.assert_allclose(theirs, ours, atol=5.1e-4)  # they write 3 digits
    average = experiment.report(["dot"])["dot"]["overall"]["ao"]
    assert average == pytest.approx(got10k.overall(overlaps)["ao"], abs=1e-3) and average < 0.99
    assert not list((tmp_path / "results").rglob("*_002.txt"))  # deterministic: one repetition
