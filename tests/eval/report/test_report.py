"""The report: what it writes, what it says, and how it fails."""

import argparse
import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import trackers
from eval.files import ResultError
from eval.report import __main__ as report
from eval.report import figures, strips
from eval.report import scores as report_scores
from eval.scoring import formats, ope, statistics
from eval.settings import plain
from eval.sources.sequences import Sequence
from tests.helpers.disk import small_disk

COUNT = 24
TRUTH = np.array([[10.0 + t, 8 + t / 2, 12, 9] for t in range(COUNT)])
FILES = {"index.html", "scores.csv", "table.tex", "success.png", "precision.png", "norm_precision.png"}
TIMED = FILES | {"speed.png", "calibration.png"}


@pytest.fixture
def data(tmp_path):
    """Two sequences of gray images; of "b" the middle is absent."""
    for name in "ab":
        (tmp_path / "data" / name / "img").mkdir(parents=True)
        image = np.full((48, 64, 3), 90, np.uint8)
        for t in range(COUNT):
            cv2.imwrite(str(tmp_path / "data" / name / "img" / f"{t + 1:04}.png"), image)
        truth = TRUTH.copy()
        if name == "b":
            truth[8:12] = np.nan
        np.savetxt(tmp_path / "data" / name / "groundtruth_rect.txt", truth, fmt="%.3f", delimiter=",")
    return tmp_path / "data"


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing curves is most of the time of a report."""
    monkeypatch.setattr(report.report_figures, "draw_all", lambda report: {})


def write_tracker(
    folder: Path, name: str, shift: float, *, seed: int = 0, gain: float = 1.0, lost: int = COUNT
) -> Path:
    """Results as eval.run writes them, `shift` pixels off, and far away from frame `lost` on."""
    run = {"tracker": name, "dataset": "folder", "config": {"gain": gain}, "seed": seed, "weights": "0"}
    boxes = TRUTH + [shift, 0, 0, 0]
    boxes[0], boxes[lost:, 0] = TRUTH[0], 500
    confidence = np.where(np.arange(COUNT) < lost, 0.9, 0.2)
    results = {key: (formats.ResultRun(list(boxes), np.full(COUNT, 0.02), confidence),) for key in "ab"}
    formats.write_results(folder, results, "jaxtrack")
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def run(*arguments) -> int:
    return report.main([str(argument) for argument in arguments])


class Page(HTMLParser):
    """Every tag is closed in order; collects tables as rows of text, ids and references."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tables, self.ids, self.references, self.pictures = [], [], [], [], 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [attributes[key] for key in ("href", "src") if key in attributes]
        if tag in ("img", "br", "meta"):
            self.pictures += attributes.get("src", "").startswith("data:image/jpeg")
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, text):
        if self.open and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1] += text


def page(out: Path) -> Page:
    return Page((out / "index.html").read_text())


def test_everything_of_two_trackers(data, tmp_path, capsys):
    write_tracker(tmp_path / "res" / "near", "near", 1)
    write_tracker(tmp_path / "res" / "far_&_off", "far_&_off", 4, lost=14)
    (tmp_path / "guests.json").write_text(
        json.dumps({"rule": "", "KCF": {"mean": 0.2, "sequences": {"a": 0.05, "b": 0.1}}})
    )
    (tmp_path / "attributes.json").write_text(json.dumps({"a": ["OCC", "FM"], "b": ["OCC"]}))
    out = tmp_path / "out"
    more = "--attributes", tmp_path / "attributes.json", "--title", "A <title>"
    assert run(tmp_path / "res", tmp_path / "guests.json", "--data_dir", data, "--out", out, *more) == 0
    assert "3 trackers, 2 sequences" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == TIMED
    found = page(out)
    main, rules, others, attributes, sequences = found.tables
    assert [row[0] for row in main] == ["tracker", "near", "far_&_off", "KCF"]
    near, far, guest = main[1:]
    assert near[1] == "0.816" and guest[1:4] == ["0.075", "–", "–"]
    assert near[6:] == ["0", "50.0", "20.0", "2 of 2"] and far[6] == "2"
    assert rules[0][1:6] == ["AUCjaxtrack", "AUCpysot", "AUCpytracking", "AUCgot10k", "P@20pxjaxtrack"]
    assert rules[1][1] > rules[1][3]  # pytracking counts absent frames as misses
    assert others[0] == ["tracker", "long-term Pr", "long-term Re", "long-term F"] and len(others) == 3
    assert attributes[0] == ["tracker", "FM (1)", "OCC (2)"] and attributes[3][1:] == ["0.050", "0.075"]
    assert sequences[0] == ["sequence", "near", "far_&_off", "KCF"] and sequences[1][3] == "0.050"
    assert {"figures", "sequences", "made-from", "sequence-a", "sequence-b"} <= set(found.ids)
    # Nothing outside the file is needed.
    assert all(reference.startswith(("#", "data:")) for reference in found.references)
    assert all(reference[1:] in found.ids for reference in found.references if reference.startswith("#"))
    text = (out / "index.html").read_text()
    assert (
        "<title>A &lt;title&gt;</title>" in text
        and "far_&amp;_off" in text
        and "http" not in text.replace("http://www.w3.org", "")
    )
    assert "frame 15: far_&amp;_off lost" in text and found.pictures == 12  # 5 frames and a loss of each sequence
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert [(row["tracker"], row["sequence"]) for row in rows[:3]] == [("near", "mean"), ("near", "a"), ("near", "b")]
    assert float(rows[0]["auc"]) == pytest.approx(0.816, abs=5e-4) and rows[-1]["op50"] == ""
    latex = (out / "table.tex").read_text()
    assert r"\textbf{0.816}" in latex and r"far\_\&\_off" in latex and latex.count(r"\\") == 4


def test_the_same_results_give_the_same_page(data, tmp_path):
    write_tracker(tmp_path / "t", "t", 1)
    for out in ("one", "two"):  # with figures: matplotlib dates and numbers what it writes
        assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / out) == 0
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()


def build(*arguments) -> report.Report:
    return report.build_report(report.parse_arguments([str(argument) for argument in (*arguments, "--out", "unused")]))


def test_seeds_are_one_row_and_other_settings_another(no_figures, data, tmp_path, monkeypatch):
    for seed, shift in enumerate((1, 2, 3)):
        write_tracker(tmp_path / f"s{seed}" / "t", "t", shift, seed=seed)
    write_tracker(tmp_path / "other" / "t", "t", 1, gain=0.5)
    folders = [tmp_path / f"s{seed}" / "t" for seed in range(3)]
    built = build(*folders, tmp_path / "other" / "t", f"named={tmp_path / 'other' / 't'}", "--data_dir", data)
    rows = {entry.name: entry for entry in built.entries}
    assert set(rows) == {"t", "t (other)", "named"} and rows["t"].seeds == 3
    alone = [build(folder, "--data_dir", data).entries[0].mean("auc") for folder in folders]
    assert rows["t"].spread["auc"] == pytest.approx((np.mean(alone), np.std(alone, ddof=1)))
    monkeypatch.setattr(report.page, "MOST_PICTURED", 1)
    report.write_report(built, tmp_path / "out")
    mean, deviation = rows["t"].spread["auc"]
    (row,) = [row for row in page(tmp_path / "out").tables[0] if row[0] == "t"]
    assert row[1] == f"{mean:.3f} ± {deviation:.3f}"
    assert rf"{mean:.3f} $\pm$ {deviation:.3f}" in (tmp_path / "out" / "table.tex").read_text()
    assert page(tmp_path / "out").pictures == 5  # of one sequence, as was asked for
    assert rows["named"].mean("auc") == rows["t (other)"].mean("auc") == pytest.approx(alone[0])


def test_one_run_twice_is_no_second_seed(no_figures, data, tmp_path, capsys):
    write_tracker(tmp_path / "t", "t", 1, seed=4)
    shutil.copytree(tmp_path / "t", tmp_path / "copy")
    (entry,) = build(tmp_path / "t", tmp_path / "copy" / ".." / "t", "--data_dir", data).entries
    assert entry.seeds == 1
    assert run(tmp_path / "t", tmp_path / "copy", "--data_dir", data, "--out", tmp_path / "out") == 1
    expected = f"{tmp_path / 'copy'}: the same tracker, config and seed 4 as {tmp_path / 't'}; give one, or NAME=FOLDER"
    assert capsys.readouterr().err == f"error: {expected}\n"
    assert len(build(tmp_path / "t", f"copy={tmp_path / 'copy'}", "--data_dir", data).entries) == 2


def test_without_the_sequences_the_summary_speaks(tmp_path, data):
    write_tracker(tmp_path / "t", "t", 1)
    scores = {
        "auc": 0.5,
        "op50": 0.6,
        "op75": 0.1,
        "precision20": 0.7,
        "norm_precision": None,
        "fps": 9.0,
        "frames": 24,
    }
    summary = {"mean": scores, "sequences": {"a": scores}, "speed": {"ms_median": 111.0}}
    (tmp_path / "t" / "summary.json").write_text(json.dumps(summary))
    assert run(tmp_path / "t", "--out", tmp_path / "out") == 0
    main, sequences = page(tmp_path / "out").tables
    assert main[1] == ["t", "0.500", "0.600", "0.100", "0.700", "–", "9.0", "111.0", "1 of 1"]
    assert sequences[1] == ["a", "0.500"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html",
        "scores.csv",
        "table.tex",
        "speed.png",
    }


def test_means_over_other_sequences_are_not_ranked(no_figures, data, tmp_path, capsys):
    """A tracker with the easy sequence alone has the higher mean, and neither the first place nor bold face."""
    for name, shift in (("whole", 3), ("second", 4)):
        write_tracker(tmp_path / name, name, shift)
    write_tracker(tmp_path / "part", "part", 0)
    (tmp_path / "part" / "b.txt").unlink()
    sources = [tmp_path / "part", tmp_path / "whole"]
    for folders in (sources, [*sources, tmp_path / "second"]):
        assert run(*folders, "--data_dir", data, "--out", tmp_path / "out") == 1
        error = capsys.readouterr().err
        assert error == "skipped: part: no result of b (1 of 2)\n"
        main = page(tmp_path / "out").tables[0]
        assert [row[0] for row in main[1:]] == [folder.name for folder in (*folders[1:], folders[0])]
        text, latex = ((tmp_path / "out" / name).read_text() for name in ("index.html", "table.tex"))
        trackers_table = text[: text.index("By each toolkit")]
        assert ('class="best"' in trackers_table) == (r"\textbf" in latex) == (len(folders) == 3)
        assert latex.splitlines()[-3].startswith("part (1 of 2) & 0.9") and "bf" not in latex.splitlines()[-3]
        assert "none of them bold" in text
    assert run(*sources, "--data_dir", data, "--sequences", "a", "--out", tmp_path / "out") == 0
    assert r"part & \textbf" in (tmp_path / "out" / "table.tex").read_text()


def test_names_of_other_toolkits_and_those_of_nothing(no_figures, data, tmp_path, capsys):
    write_tracker(tmp_path / "t", "t", 1)
    for part in (".txt", "_time.value", "_confidence.value"):
        (tmp_path / "t" / f"a{part}").rename(tmp_path / "t" / f"uav_A{part}")
        (tmp_path / "t" / f"x{part}").write_text((tmp_path / "t" / f"b{part}").read_text())
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"skipped: {tmp_path / 't'}: no sequence is called x; ")
    assert page(tmp_path / "out").tables[0][1][-1] == "2 of 2"


def test_seeds_are_compared_on_the_sequences_that_all_have(no_figures, data, tmp_path, capsys):
    for seed in range(2):
        write_tracker(tmp_path / f"s{seed}" / "t", "t", seed, seed=seed)
    (tmp_path / "s1" / "t" / "b.txt").unlink()
    entry = build(tmp_path / "s0", tmp_path / "s1", "--data_dir", data).entries[0]
    assert list(entry.scores) == list(entry.tracks) == ["a"] and entry.seeds == 2
    alone = [build(tmp_path / f"s{seed}", "--data_dir", data, "--sequences", "a").entries[0] for seed in range(2)]
    assert entry.mean("auc") == pytest.approx(np.mean([one.mean("auc") for one in alone]))
    np.testing.assert_allclose(entry.curves.success.mean(), entry.mean("auc"))


@pytest.mark.parametrize("times", ["0\n" * COUNT, "nan\n" * COUNT, "0.1\n\n" * (COUNT // 2), "-1\n" * COUNT])
def test_what_cannot_be_times_gives_no_speed(no_figures, data, tmp_path, capsys, times):
    write_tracker(tmp_path / "t", "t", 1)
    for name in "ab":
        (tmp_path / "t" / f"{name}_time.value").write_text(times)
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert "skipped: t: the times of a, b are no seconds, and left out of its speed" in capsys.readouterr().err
    assert page(tmp_path / "out").tables[0][1][7:9] == ["–", "–"]
    assert "nan" not in (latex := (tmp_path / "out" / "table.tex").read_text()) and r" & -- \\" in latex
    write_tracker(tmp_path / "t", "t", 1)  # one of two sequences has times
    (tmp_path / "t" / "b_time.value").write_text(times)
    assert build(tmp_path / "t", "--data_dir", data).entries[0].fps == pytest.approx(50)


def test_sequences_of_one_frame(no_figures, data, tmp_path, capsys):
    write_tracker(tmp_path / "t", "t", 1)
    for name in "ab":
        for image in sorted((data / name / "img").iterdir())[1:]:
            image.unlink()
        for path in (data / name / "groundtruth_rect.txt", *(tmp_path / "t").glob(f"{name}*")):
            path.write_text(path.read_text().splitlines()[0] + "\n")
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err == "skipped: t: no speed, since there is no time of a tracked frame\n"
    assert page(tmp_path / "out").tables[0][1][-1] == "2 of 2"


ODD = ["_baseline", "a$b$", "x^2~{y}", "<i>&amp;", r"\section*{[1]}", 'a, "b"', "--", "%#|"]


def test_names_are_shown_as_they_are(data, tmp_path, monkeypatch):
    """In the legends of all figures, page, CSV and LaTeX."""
    monkeypatch.setattr(report.plots, "save", lambda figure, path: None)  # the page has the same figures
    for number, name in enumerate(ODD):
        write_tracker(tmp_path / str(number), name, number / 2)
    assert run(*(tmp_path / str(number) for number in range(len(ODD))), "--data_dir", data, "--out", tmp_path) == 0
    found = page(tmp_path)
    assert [row[0] for row in found.tables[0][1:]] == ODD
    with (tmp_path / "scores.csv").open() as file:
        assert list(dict.fromkeys(row["tracker"] for row in csv.DictReader(file))) == ODD
    figures = re.findall(r"<figure class=.*?</figure>", (tmp_path / "index.html").read_text(), re.S)
    assert len(figures) == 5
    for figure in figures:
        texts = [html.unescape(text).strip("\u200b ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", figure)]
        assert [next((name for name in ODD if text.startswith(f"{name} [")), text) for text in texts[-8:]] == ODD
    rows = (tmp_path / "table.tex").read_text().splitlines()[4:-2]
    assert [row.partition(" & ")[0] for row in rows] == [
        r"\_baseline",
        r"a\$b\$",
        r"x\textasciicircum{}2\textasciitilde{}\{y\}",
        r"\textless{}i\textgreater{}\&amp;",
        r"\textbackslash{}section{*}\{{[}1]\}",
        'a, "b"',
        "-{}-",
        r"\%\#\textbar{}",
    ]


def test_a_path_may_hold_an_equals_sign(no_figures, data, tmp_path):
    for gain in ("1.0", "2.0"):
        write_tracker(tmp_path / "sweep" / f"gain={gain}", "t", float(gain), gain=float(gain))
    folders = [tmp_path / "sweep" / f"gain={gain}" for gain in ("1.0", "2.0")]
    names = [entry.name for entry in build(*folders, f"mine={folders[1]}", "--data_dir", data).entries]
    assert names == ["t", "t (gain=2.0)", "mine"]


@pytest.mark.parametrize("speeds", [[50, 50, 50], [0.02, 3, 4321, 120_000], [101, 104], [7]])
def test_the_speed_figure_can_be_read(speeds):
    """Every mark lies inside the axes, and at least one number and no two over each other are on the axis."""
    entries = [
        report_scores.Entry(f"t{k}", {}, {"a": {"auc": 0.5}}, {"auc": (0.5 - k / 50, np.nan)}, fps=fps)
        for k, fps in enumerate(speeds)
    ]
    built = report.Report("", "", entries, {}, ["a"], {}, [], [])
    figure = report.report_figures.draw_all(built)["speed"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert all(low < fps < high for fps in speeds) and len(axes.get_legend().get_texts()) == len(speeds)
    extents = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    inside = [box for box in extents if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
    assert inside and all(one.x1 < other.x0 for one, other in pairwise(inside))


@pytest.mark.parametrize(("right", "said"), [(True, "every box is right"), (False, "every box is wrong")])
def test_a_roc_of_one_kind_of_boxes_says_so(right, said):
    found = statistics.calibration(np.linspace(0, 1, 9), np.full(9, right))
    entry = report_scores.Entry("t", {}, {"a": {"auc": 0.5}}, {"auc": (0.5, np.nan)}, calibration=found)
    figure = report.report_figures.draw_all(report.Report("", "", [entry], {}, ["a"], {}, [], []))["calibration"]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [f"t: {said}"]


@pytest.mark.parametrize("name", ["index.html", "table.tex", "success.png"])
def test_a_report_replaces_reports_only(no_figures, data, tmp_path, capsys, name):
    write_tracker(tmp_path / "t", "t", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'out' / name}: is there already, and not from a")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "out" / name).unlink()
    assert [run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") for _ in "12"] == [0, 0]


@pytest.mark.parametrize("rule", ["pysot", "pytracking", "got10k"])
def test_another_toolkits_rule(data, tmp_path, rule):
    write_tracker(tmp_path / "t", "t", 3)
    built = build(tmp_path / "t", "--data_dir", data, "--rule", rule)
    entry = built.entries[0]
    assert built.rule.startswith(f"{rule}/folder: ") and entry.mean("auc") == pytest.approx(entry.rules[rule]["auc"])


def test_results_of_another_toolkit(data, tmp_path):
    runs = tuple(formats.ResultRun(list(TRUTH + [shift, 0, 0, 0]), np.full(COUNT, 0.01)) for shift in (0, 2))
    formats.write_results(tmp_path / "guest", {"a": runs, "b": runs}, "got10k")
    entry = build(f"guest={tmp_path / 'guest'}", "--data_dir", data).entries[0]
    assert entry.fps == pytest.approx(100) and entry.calibration is None
    with_jitter = ope.score(ope.OWN, TRUTH + [2, 0, 0, 0], TRUTH)["auc"]
    assert entry.scores["a"]["auc"] == pytest.approx((20 / 21 + with_jitter) / 2, abs=0.002)


def test_results_of_another_toolkit_count_as_the_files_of_the_benchmark(no_figures, data, tmp_path, capsys):
    """Boxes of OTB start at 1: those that another program wrote too, and those of eval.run at 0."""
    write_tracker(tmp_path / "ours", "ours", 0)
    settings = json.loads((tmp_path / "ours" / "run.json").read_text())
    (tmp_path / "ours" / "run.json").write_text(json.dumps({**settings, "dataset": "otb"}))
    boxes = (formats.ResultRun(list(TRUTH)),)
    formats.write_results(tmp_path / "guest", {"a": boxes, "b": boxes}, "otb", origin=1)
    for folder in data.iterdir():  # as OTB's own files
        boxes = np.loadtxt(folder / "groundtruth_rect.txt", delimiter=",") + [1, 1, 0, 0]
        np.savetxt(folder / "groundtruth_rect.txt", boxes, fmt="%.3f", delimiter=",")
    arguments = (tmp_path / "ours", tmp_path / "guest", "--data_dir", data, "--dataset", "otb")
    assert run(*arguments, "--out", tmp_path / "out") == 0
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"{tmp_path / 'guest'}: not of eval.run, so x and y are taken to count from 1")
    assert [entry.mean("auc") for entry in build(*arguments).entries] == pytest.approx([20 / 21] * 2, abs=1e-9)
    assert build(*arguments, "--origin", 0).entries[1].mean("auc") < 0.9


def test_got10k_has_its_own_measures(data, tmp_path):
    folder = tmp_path / "got" / "GOT-10k_Val_000001"
    folder.parent.mkdir()
    (data / "a" / "img").rename(folder)
    np.savetxt(folder / "groundtruth.txt", TRUTH, fmt="%.3f", delimiter=",")
    (folder / "absence.label").write_text("0\n" * COUNT)
    (folder / "cover.label").write_text("8\n" * (COUNT - 4) + "0\n" * 4)
    (folder / "meta_info.ini").write_text("[METAINFO]\nobject_class: bear\n")
    run = formats.ResultRun(list(TRUTH + [3, 0, 0, 0]))
    formats.write_results(tmp_path / "t", {folder.name: (run,)}, "got10k")
    entry = build(f"t={tmp_path / 't'}", "--data_dir", tmp_path / "got", "--dataset", "got10k").entries[0]
    assert entry.others["ao"] == entry.others["mao"] == pytest.approx(9 / 15) and entry.others["sr50"] == 1


def test_what_is_broken_is_left_out_and_said(no_figures, data, tmp_path, capsys):
    write_tracker(tmp_path / "t", "t", 1)
    lines = (tmp_path / "t" / "a.txt").read_text().splitlines()
    (tmp_path / "t" / "a.txt").write_text("\n".join(lines[:-3]))
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("skipped: ") and "a_time.value: 24 lines for 21 frames" in error
    assert page(tmp_path / "out").tables[0][1][-1] == "1 of 2"
    for part in ("_time", "_confidence"):
        (tmp_path / "t" / f"a{part}.value").unlink()
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert "a: rule jaxtrack: 21 predictions for 24 frames" in capsys.readouterr().err
    (tmp_path / "t" / "a.txt").write_text("\n".join(["1,2,3"] + lines[1:]))
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 1
    assert "a.txt:1: expected 4 numbers" in capsys.readouterr().err


def test_frames_that_are_not_there_leave_their_place(no_figures, data, tmp_path):
    write_tracker(tmp_path / "t", "t", 1)
    (data / "a" / "img" / "0001.png").write_bytes(b"")
    assert run(tmp_path / "t", "--data_dir", data, "--out", tmp_path / "out") == 0
    assert page(tmp_path / "out").pictures == 9 and "not readable" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["t", "--data_dir", "nodata"], "nodata: no such folder"),
        (["t"], "t: no summary.json; give --data-dir"),
        (["t", "--rule", "pysot"], "--rule pysot: boxes are scored by another rule only with --data-dir"),
        (["t", "--data_dir", "data", "--rule", "paper"], "rule paper: does not score folder"),
        (["t", "--data_dir", "data", "--rule", "vot"], "rule vot: no rule of one pass; it scores runs with restarts"),
        (["empty.json", "--data_dir", "data"], "empty.json: no scores"),
        (["broken.json", "--data_dir", "data"], "broken.json: not JSON"),
        (["words.json", "--data_dir", "data"], "words.json: KCF: a score is not a number"),
        (["half"], "summary.json: not a summary of one pass (KeyError('mean'))"),
        (["t", "--data_dir", "data", "--attributes", "words.json"], "words.json: KCF: must be a list of attributes"),
        (["t", "--data_dir", "data", "--attributes", "broken.json"], "broken.json: not JSON"),
    ],
)
def test_mistakes_are_one_line(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_tracker(tmp_path / "t", "t", 1)
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "words.json").write_text(json.dumps({"KCF": {"sequences": {"a": "good"}}}))
    write_tracker(tmp_path / "half", "half", 1)
    (tmp_path / "half" / "summary.json").write_text(json.dumps({"sequences": {}}))
    assert run(*arguments, "--out", "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(no_figures, data, tmp_path, capsys):
    write_tracker(tmp_path / "t", "t", 1)
    with small_disk(tmp_path / "disk", kib=16) as disk:
        assert run(tmp_path / "t", "--data_dir", data, "--out", disk / "out") == 1
        assert "No space left on device" in capsys.readouterr().err
        assert not list(disk.rglob("*.part")) and not (disk / "out" / "index.html").exists()


def test_moments_of_loss():
    overlap = np.full(60, 0.8)
    overlap[10:19] = 0.0  # nine frames are no loss
    overlap[30:45] = 0.05
    overlap[33] = np.nan  # absent: neither continues nor ends the streak
    assert report_scores.loss_starts(overlap) == [30]
    shown = strips.moments(60, {"one": [30], "two": [32, 50], "three": [], "four": [7]})
    assert shown == [(0, ""), (7, "four lost"), (14, ""), (29, ""), (30, "one, two lost"), (44, ""), (59, "")]


def test_a_source_that_is_neither_folder_nor_scores_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ResultError, match="must be an object"):
        report.build_report(
            argparse.Namespace(**vars(report.parse_arguments([str(tmp_path / "list.json"), "--out", "x"])))
        )


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "build_report", interrupted)
    assert run("t", "--out", "out") == 130
    assert capsys.readouterr().err == "interrupted; the report is not whole, run it again\n"


def test_oxuva_counts_the_annotated_frames_but_the_first(tmp_path):
    """Two targets found, one of them where the confidence is too low; one absent and reported, one absent and not."""
    cv2.imwrite(str(tmp_path / "0.jpg"), np.zeros((60, 80, 3), np.uint8))
    truth, annotated = np.full((13, 4), np.nan), np.arange(13) % 3 == 0
    truth[[0, 3, 6]] = 40, 30, 40, 30
    sequence = Sequence("v_o", (tmp_path / "0.jpg",) * 13, truth, np.isfinite(truth[:, 0]), annotated=annotated)
    boxes = np.tile([40.0, 30, 60, 50], (13, 1))  # beyond the image, where the annotation is cut
    confidence = np.array([1, 0, 0, 0.5, 0, 0, 0.2, 0, 0, 0.9, 1, 1, 0.1])
    runs = {"v_o": (formats.ResultRun(list(boxes), None, confidence),)}
    scores = report_scores.oxuva_scores(runs, {"v_o": sequence}, 0.25)
    assert scores == {"oxuva_tpr": 0.5, "oxuva_tnr": 0.5, "oxuva_gm": 0.5, "oxuva_maxgm": 0.5}
    assert report_scores.oxuva_scores(runs, {"v_o": sequence}, 0.0)["oxuva_tpr"] == 1
    assert report_scores.longterm_scores(runs, {"v_o": sequence}) == {}
    assert len(report_scores._judged_confidence(runs["v_o"][0], sequence)[0]) == 4
    runs["v_o"] = (runs["v_o"][0]._replace(confidence=None),)
    assert report_scores.oxuva_scores(runs, {"v_o": sequence}, 0.25) == {}


def test_every_tracker_that_says_lost_has_its_threshold():
    thresholds = {name: report_scores.present_above(plain(trackers.get(name).config)) for name in trackers.names()}
    wanted = {"dimp18": 0.25, "siamfc": 0, "siamrpn": 0, "memtrack": 0, "siamrpnpp_resnet50_lt": 0.8}
    assert {name: thresholds[name] for name in wanted} == wanted
    lost = trackers.get("dasiamrpn").config.rpn.lost
    assert thresholds["dasiamrpn"] == lost.enter > 0


def test_no_two_trackers_of_a_plot_have_the_same_line():
    lines = [tuple(figures.line_of(index).values()) for index in range(4 * len(figures.PALETTE))]
    assert len(set(lines)) == len(lines)
