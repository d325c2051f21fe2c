"""Results of every format, and what runs, reports, tunings and benchmarks keep."""

import contextlib
import json
from pathlib import Path

import numpy as np

from eval import annotations, targets, track
from eval.annotations.tracks import Row, Video, make_tracks
from eval.benchmark import reporting
from eval.files import ResultError
from eval.report import __main__ as report
from eval.running import PROTOCOLS, restarts
from eval.running import folder as run_folder
from eval.scoring import results
from eval.scoring.formats import FORMATS, ResultRun, pack_results, read_results, read_videos, render, write_results
from eval.scoring.results import TrackResult
from eval.sources.layouts import read_dataset
from eval.sources.sequences import Sequence
from eval.tune import __main__ as tune
from eval.tune.search import Range, Search
from tests.campaign.kinds.base import Kind, fixed_folder, write
from tests.campaign.kinds.sequences import COUNT, MAKERS

MADE_FROM = {"tracker": "dot", "dataset": "folder", "seed": 0, "config": {"gain": 1.0}, "weights": "00"}


def _sequences() -> list[Sequence]:
    return read_dataset("folder", fixed_folder(MAKERS["folder"]))


def _runs(sequence: Sequence) -> tuple[ResultRun, ...]:
    numbers = np.linspace(0.1, 1, COUNT)
    return (ResultRun(list(sequence.boxes + 0.5), numbers, numbers),)


def _make_format(name: str):
    def make(folder: Path) -> None:
        write_results(folder / "results", {item.name: _runs(item) for item in _sequences()}, name)

    return make


def _make_tracked(suffix: str):
    """What `eval.track` writes beside its video."""

    def make(folder: Path) -> None:
        run, (sequence, _) = targets.Run(), _sequences()
        for box in sequence.boxes:
            shown = np.array([box]), np.array([0.5]), np.array([0.75]), np.array([0]), 0.01
            run.tracked.append(targets.Tracked(*shown))
        text = track.boxes_csv(run) if suffix == ".csv" else track.boxes_json(run, {"tracker": "dot"})
        write(folder / f"clip_boxes{suffix}", text)

    return make


def _annotated() -> Video:
    rows = [[Row(frame, box, 0.75, "lost" if frame == 2 else "found") for frame, box in enumerate(item.boxes)]
            for item in _sequences()]
    return Video("clip", make_tracks({number: (f"car{number}", one) for number, one in enumerate(rows, 1)}), (64, 48))


def _make_annotations(name: str):
    form = annotations.FORMATS[name]
    return lambda folder: write(folder / f"clip{form.suffix}", form.render(_annotated()))


def _read_annotations(folder: Path) -> None:
    """As `eval.formats` and `eval.track --boxes` do."""
    place = next(iter(sorted(folder.glob("*"))), folder / "gone")
    targets.starts_of(place, "clip") if place.is_file() else annotations.read(place)
    for video in read_videos(place):
        if max(int(track.frames[-1]) for track in video.tracks) < 1000:  # else the others are as long as they may be
            for form in annotations.FORMATS.values():
                annotations.parse(str(folder / f"again{form.suffix}"), form.render(video)).clear()
    with contextlib.suppress(ResultError):  # of targets that are not in every frame
        render(read_results(place), "otb", origin=1)


def _make_zip(folder: Path) -> None:
    pack_results(folder / "results.zip", {item.name: _runs(item) for item in _sequences()}, "got10k")


def _read_format(folder: Path) -> list[ResultError]:
    """As `eval.report` does, which goes on, and as `eval.formats`, which does not."""
    problems: list[ResultError] = []
    place = next(iter(sorted(folder.glob("*"))), folder / "gone")
    read_results(place, problems=problems, allow_nan=True)
    if not problems:
        render(read_results(place), "vot-lt", origin=1)
    return problems


def _make_run(folder: Path) -> None:
    place = folder / "results" / "dot"
    results.claim_folder(place, MADE_FROM)
    for item in _sequences():
        boxes, times, confidence = item.boxes, np.full(COUNT, 0.01), np.ones(COUNT)
        results.write_result(place, item.name, TrackResult(boxes, times, confidence))
    summary = run_folder.summarize(place, {item: item.boxes[0] for item in _sequences()}, MADE_FROM, {"jax": "0"})
    write(place / "summary.json", json.dumps(summary))


def _resume(folder: Path) -> None:
    """What `eval.run` does in a folder that has results."""
    place, starts = folder / "results" / "dot", {item: item.boxes[0] for item in _sequences()}
    results.claim_folder(place, MADE_FROM)
    for item, box in starts.items():
        results.read_result(place, item, box)
    summary = run_folder.summarize(place, starts, MADE_FROM, {})
    run_folder.table(summary)
    json.dumps(summary, allow_nan=False)


def _report(*options: str):
    def read(folder: Path) -> list[str]:
        arguments = report.parse_arguments([str(folder / "results"), *options, "--out", str(folder / "report")])
        found = report.build_report(arguments)
        report.csv_text(found)
        report.latex_text(found)
        return found.problems

    return read


def _report_truth(folder: Path) -> list[str]:
    return _report("--data_dir", str(fixed_folder(MAKERS["folder"])))(folder)


def _make_scores(folder: Path) -> None:
    write(folder / "scores.json", json.dumps({"CSRT": {"sequences": {"a": 0.5, "b": 0.25}}, "note": "drawn"}))
    write(folder / "attributes.json", json.dumps({"a": ["OCC", "FM"], "b": []}))


def _report_scores(folder: Path) -> list[str]:
    options = ["--attributes", str(folder / "attributes.json"), "--out", str(folder / "report")]
    found = report.build_report(report.parse_arguments([str(folder / "scores.json"), *options]))
    report.csv_text(found)
    report.latex_text(found)
    return found.problems


def _restart(protocol: str):
    def session(sequence: Sequence, stop) -> restarts.Session:
        return restarts.Session(lambda index, box: None, lambda index: sequence.boxes[index])

    def run(folder: Path) -> list[str]:
        made_from = {**MADE_FROM, "protocol": protocol}
        found = restarts.run_protocol(protocol, session, _sequences(), folder / "dot", made_from=made_from)
        restarts.table(found.summary)
        return found.problems

    return run


def _raise_problems(run):
    """`run`, whose problems mean that what was made is not valid."""

    def make(folder: Path) -> None:
        assert not run(folder)

    return make


def _tune(folder: Path) -> None:
    """A search of `eval.tune` that goes on."""
    selected = _sequences()
    frames = {item.name: len(item.frames) for item in selected}
    scores = tune.Scores(folder / "trials.json", ("gain",), frames)
    scores.load()

    def track(settings, sequence):
        return np.repeat(sequence.boxes[None], len(settings), 0)

    search = Search((1.0,), (Range("gain", 0.5, 1.0),), trials=2, batch=1, seed=0)
    evaluate = tune.evaluator(track, selected, scores, 1)
    tune.report(tune.tune(search, "random", evaluate, selected, 2))


def _make_benchmark(folder: Path) -> None:
    rows = {name: {"median_ms": 1.5, "p95_ms": 2.0} for name in ("crop", "track")}
    for name in "ab":
        write(folder / f"{name}.json", json.dumps({"rows": rows, "versions": {"device": "cpu", "jax": "0"}}))


KINDS = {
    **{f"results.{name}": Kind(_make_format(name), _read_format) for name in FORMATS},
    "results.zip": Kind(_make_zip, _read_format),
    **{f"results.track{suffix}": Kind(_make_tracked(suffix), _read_format) for suffix in (".csv", ".json")},
    **{f"annotations.{name}": Kind(_make_annotations(name), _read_annotations) for name in annotations.FORMATS},
    "run.resume": Kind(_make_run, _resume),
    **{f"run.{name}": Kind(_raise_problems(_restart(name)), _restart(name)) for name in PROTOCOLS},
    "report.truth": Kind(_make_run, _report_truth, names_file=False),  # the tracker and the sequence
    "report.summary": Kind(_make_run, _report()),
    "report.scores": Kind(_make_scores, _report_scores),
    "tune.trials": Kind(_tune, _tune),
    "benchmark.json": Kind(_make_benchmark, lambda f: print(reporting.compare(f / "a.json", f / "b.json"))),
}
