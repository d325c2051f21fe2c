"""Tuning: settings in one call are settings on their own, searches are honest, and the command goes on."""

import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import trackers
from eval import run
from eval.measure.flops import count_flops
from eval.running import passes
from eval.sources.layouts import read_dataset
from eval.tune import __main__ as tune
from eval.tune import batch as tune_batch
from eval.tune import search as tune_search
from eval.tune.search import Range, Search
from tests.helpers import trivial_tracker
from tests.helpers.small_trackers import params as formula_params
from tests.helpers.small_trackers import small
from tests.helpers.videos import make_video
from trackers import rules
from trackers.images import xywh_to_box
from trackers.rules import SettingError

FRAMES = {"a": 6, "b": 4, "c": 5, "d": 7}
GAIN = (Range("gain", 0.1, 1.0),)
SLOW = ("--set", "gain=0.2", "--range", "gain=0.1:1", "--folds", "2")  # the default follows slowly


@pytest.fixture
def registry(monkeypatch):
    entry = SimpleNamespace(config=trivial_tracker.Config(), make=trivial_tracker.make)
    monkeypatch.setattr(trackers, "get", {"dot": entry}.__getitem__)
    monkeypatch.setattr(trackers, "load_params", lambda name, weights: trivial_tracker.params())
    monkeypatch.setattr(run, "prepare_process", lambda threads: None)
    monkeypatch.setattr(tune, "prepare_process", lambda: None)


@pytest.fixture
def data(tmp_path):
    for name, count in FRAMES.items():
        make_video(tmp_path / "data" / name, count)
    return tmp_path / "data"


def command(data, out, *more: str) -> int:
    return tune.main(["--tracker", "dot", "--data_dir", str(data), "--out", str(out), "--batch", "4", *more])


def stored(out, name="summary"):
    return json.loads((out / "tune" / "dot" / f"{name}.json").read_text())


def spy(monkeypatch, before=lambda calls: None) -> list[tuple[list, str]]:
    """The (settings, sequence) of every call that tracks."""
    calls, tracked = [], tune_batch.track_settings

    def record(compiled, params, chosen, sequence, key):
        before(calls)
        calls.append((chosen, sequence.name))
        return tracked(compiled, params, chosen, sequence, key)

    monkeypatch.setattr(tune_batch, "track_settings", record)
    return calls


def search_of(trials: int, batch: int = 4, seed: int = 0) -> Search:
    return Search((0.2,), GAIN, trials, batch, seed)


def test_settings_in_one_call_are_those_of_eval_run_with_set(registry, data, tmp_path):
    """float32 of a traced number or of a constant: the same operations, rounded to six decimals in the files."""
    fields, chosen = ("gain", "jitter"), [(0.3, 0.0), (1.0, 2.0), (0.7, 0.5)]
    tracker = tune_batch.batched(trivial_tracker.make, trivial_tracker.Config(), fields)
    track = tune_batch.tracking(tracker, trivial_tracker.params(), seed=3)
    selected = read_dataset("folder", data)
    together = {sequence.name: track(chosen, sequence) for sequence in selected}
    for index, setting in enumerate(chosen):
        changes = [text for pair in zip(fields, setting) for text in ("--set", f"{pair[0]}={pair[1]}")]
        out = tmp_path / str(index)
        arguments = ["--tracker", "dot", "--data_dir", str(data), "--out", str(out), "--seed", "3", *changes]
        assert run.main(arguments) == 0
        for name, boxes in together.items():
            assert boxes.shape == (3, FRAMES[name], 4)
            np.testing.assert_allclose(boxes[index], np.loadtxt(out / "dot" / f"{name}.txt", delimiter=","), atol=1e-4)
    assert np.abs(together["a"][0] - together["a"][1]).max() > 1


@pytest.mark.full
def test_settings_of_a_real_tracker_in_one_call(tmp_path):
    """SiamFC with random weights: a sum in another order moves the peak of a flat map by thousandths of a pixel."""
    make_video(tmp_path / "data" / "v", 3)
    (sequence,) = read_dataset("folder", tmp_path / "data")
    make, config, params = trackers.get("siamfc").make, small("siamfc"), formula_params("siamfc")
    fields, chosen = ("window_influence", "scale_rate"), [(0.0, 0.2), (0.9, 0.8)]
    track = tune_batch.tracking(tune_batch.batched(make, config, fields), params, seed=0)
    together = track(chosen, sequence)
    compiled = passes.Compiled.of(make(rules.substitute(config, dict(zip(fields, chosen[1])))))
    key = passes.sequence_key(jax.random.key(0), sequence.name)
    alone = passes.track_sequence(compiled, params, sequence, key).boxes
    np.testing.assert_allclose(together[1], alone, atol=1e-2)
    assert np.abs(together[0] - together[1])[-1].max() > 0.1


def test_what_does_not_depend_on_the_settings_is_computed_once():
    """SiamFC reads its template from frame 1 whatever the settings; ATOM's search region depends on one of them."""

    def flops(name, field, count):
        tracker = tune_batch.batched(trackers.get(name).make, small(name), (field,))
        frame, box = trackers.frame(np.zeros((64, 64, 3), np.uint8)), xywh_to_box(np.array([20.0, 20, 20, 20]))
        values = np.linspace(1, 2, count, dtype=np.float32)[:, None]
        return count_flops(tracker.init, (formula_params(name), values), jax.random.key(0), frame, box)

    assert flops("siamfc", "window_influence", 8) < 1.1 * flops("siamfc", "window_influence", 1)
    assert flops("atom_filterbank", "region.search_area_scale", 8) > 4 * flops(
        "atom_filterbank", "region.search_area_scale", 1
    )


def test_chunks_have_few_sizes_and_lose_nothing():
    ten = [(float(n),) for n in range(10)]
    assert [len(chunk) for chunk in tune_batch.chunks(ten, 4)] == [4, 4, 2]
    assert [len(chunk) for chunk in tune_batch.chunks(ten, 7)] == [7, 4]
    assert list(tune_batch.chunks(ten[:3], 8)) == [[*ten[:3], ten[2]]]
    assert [one for chunk in tune_batch.chunks(ten, 7) for one in chunk][:10] == ten
    assert list(tune_batch.chunks([], 4)) == []


def test_a_box_that_is_not_finite_scores_nothing(data):
    (sequence,) = read_dataset("folder", data, ["a"])
    boxes = sequence.boxes.copy()
    assert tune_batch.auc(boxes, sequence) == pytest.approx(20 / 21)
    boxes[3, 2] = np.nan
    assert tune_batch.auc(boxes, sequence) == 0


def peak(setting, name) -> float:
    """A score with its best setting at 0.7, and something of each sequence."""
    return 1 - (setting[0] - 0.7) ** 2 - 0.01 * (ord(name) % 7)


def noise(setting, name) -> float:
    return np.random.default_rng([int(setting[0] * 1e6), ord(name)]).random()


def evaluate_with(score, calls: list):
    def evaluate(chosen, names):
        calls.append((list(chosen), list(names)))
        return np.array([[score(setting, name) for name in names] for setting in chosen])

    return evaluate


@pytest.mark.parametrize("name", tune_search.SEARCHES)
def test_a_search_finds_the_peak_in_its_range_and_repeats_itself(name):
    if name == "optuna":
        pytest.importorskip("optuna", reason="one of the searches is its: the extra `tune`")
    names = list("abcdefgh")
    driver, calls = tune_search.SEARCHES[name], []
    found = driver(search_of(32), evaluate_with(peak, calls), names)
    assert abs(found[0] - 0.7) < 0.05
    tried = {setting for chosen, _ in calls for setting in chosen} - {(0.2,)}
    assert len(tried) == 32 and all(0.1 <= value <= 1 for (value,) in tried)
    assert driver(search_of(32), evaluate_with(peak, []), names) == found
    other = []
    driver(search_of(32, seed=1), evaluate_with(peak, other), names)
    assert {setting for chosen, _ in other for setting in chosen} != tried | {(0.2,)}


def test_without_optuna_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingError, match=r"pip install 'jaxtrack\[tune\]'"):
        tune_search.optuna_search(search_of(4), evaluate_with(peak, []), ["a", "b"])


def test_halving_costs_less_and_ends_on_all_sequences():
    names, calls = list("abcdefgh"), []
    tune_search.halving_search(search_of(16), evaluate_with(peak, calls), names)
    assert [(len(chosen), len(some)) for chosen, some in calls] == [(16, 2), (8, 4), (1 + 4, 8)]
    runs = {(setting, name) for chosen, some in calls for setting in chosen for name in some}
    assert len(runs) < 0.6 * 17 * 8
    better = sorted(calls[0][0], key=lambda setting: abs(setting[0] - 0.7))[:8]
    assert set(calls[1][0]) == set(better)


def test_the_default_is_only_left_for_a_gain():
    evaluate = evaluate_with(lambda setting, name: 0.5, [])
    assert tune_search.random_search(search_of(8), evaluate, ["a", "b"]) == (0.2,)


def test_more_trials_begin_with_those_of_fewer():
    few, many = (tune_search.random_settings(search_of(trials)) for trials in (5, 9))
    assert many[:5] == few
    log = tune_search.random_settings(Search((1.0,), (Range("x", 1e-4, 1.0, log=True),), 400, 4, 0))
    assert 0.4 < np.mean([value < 1e-2 for (value,) in log]) < 0.6
    assert all(float(f"{value:.4g}") == value for (value,) in log)


@pytest.mark.parametrize("name", ["random", "halving"])
def test_a_search_never_sees_what_it_is_judged_on(name):
    names, calls = list("abcdefgh"), []
    folds = tune_search.cross_validate(
        search_of(8), tune_search.SEARCHES[name], evaluate_with(peak, calls), names, folds=3
    )
    assert sorted(held for fold in folds for held in fold.gains) == names
    for fold in folds:
        on_held_out = [chosen for chosen, some in calls if set(some) & set(fold.gains) and len(some) == len(fold.gains)]
        assert [fold.setting, (0.2,)] in on_held_out
        training = set(names) - set(fold.gains)
        assert any(set(some) == training for _, some in calls)
    gain = peak(folds[0].setting, "a") - peak((0.2,), "a")
    assert folds[0].gains[min(folds[0].gains)] == pytest.approx(gain) == pytest.approx(folds[0].training_gain)


def test_a_gain_on_noise_is_not_believed(tmp_path):
    """What was chosen among noise looks good where it was chosen, and only there."""
    selected = [SimpleNamespace(name=chr(ord("a") + n)) for n in range(20)]
    search = search_of(64)
    summary = tune.tune(search, "random", evaluate_with(noise, []), selected, folds=5)
    assert summary["auc"] - summary["default_auc"] > 0.1
    low, high = summary["held_out_interval"]
    assert low < 0 < high and low < summary["held_out_gain"] < high
    last = tune.report(summary).splitlines()[-1]
    assert last.startswith("--set gain=") and "contains zero" in last
    believed = tune.tune(search, "random", evaluate_with(peak, []), selected, folds=5)
    assert believed["held_out_interval"][0] > 0.2 and "zero" not in tune.report(believed)


def test_the_command_finds_the_gain_and_writes_it_down(registry, data, tmp_path, capsys):
    assert command(data, tmp_path, *SLOW, "--trials", "12") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    found = stored(tmp_path)
    assert found["chosen"]["gain"] > 0.8 and found["default"] == {"gain": 0.2}
    assert f"--set gain={found['chosen']['gain']!r}  # held-out gain +" in last and "4 sequences" in last
    assert found["held_out_interval"][0] > 0 and found["held_out_gain"] > 0.05
    assert list(found["held_out_gains"]) == [*FRAMES]
    assert found["config"]["gain"] == 0.2 and found["rule"].startswith("jaxtrack") and "versions" in found
    trials = stored(tmp_path, "trials")["trials"]
    assert len(trials) == 13 and all(sorted(trial["auc"]) == sorted(FRAMES) for trial in trials)
    # eval.run with the printed words has the AUC that was promised
    arguments = ["--tracker", "dot", "--data_dir", str(data), "--out", str(tmp_path / "run")]
    assert run.main([*arguments, *last.split("  #")[0].split()]) == 0
    ran = json.loads((tmp_path / "run" / "dot" / "summary.json").read_text())
    assert ran["mean"]["auc"] == pytest.approx(found["auc"], abs=1e-6)


def test_the_same_command_goes_on_and_takes_more_trials_and_another_search(registry, data, tmp_path, monkeypatch):
    whole = stored_after(data, tmp_path / "whole")
    out, interrupted = tmp_path / "out", True

    def stop(calls):
        if interrupted and len(calls) == 5:
            raise KeyboardInterrupt

    calls = spy(monkeypatch, stop)
    assert command(data, out, *SLOW, "--trials", "6") == 130
    assert not (out / "tune" / "dot" / "summary.json").exists() and not list(out.rglob("*.part"))
    kept = sum(len(trial["auc"]) for trial in stored(out, "trials")["trials"])
    assert kept == len({(setting, name) for chosen, name in calls for setting in chosen}) > 0
    interrupted = False
    assert command(data, out, *SLOW, "--trials", "6") == 0
    runs = [(setting, name) for chosen, name in calls for setting in dict.fromkeys(chosen)]
    assert len(runs) == len(set(runs)) == 7 * 4  # nothing twice
    assert stored(out) == whole
    assert command(data, out, *SLOW, "--trials", "8") == 0
    assert len({run for chosen, name in calls for run in [(one, name) for one in chosen]}) == 9 * 4
    before = len(calls)
    assert command(data, out, *SLOW, "--trials", "8", "--search", "halving") == 0
    assert len(calls) == before
    assert command(data, out, *SLOW, "--trials", "6", "--overwrite") == 0
    assert len(calls) > before and stored(out) == whole


def stored_after(data, out):
    assert command(data, out, *SLOW, "--trials", "6") == 0
    return stored(out)


def test_a_sequence_that_changed_is_run_again(registry, data, tmp_path, monkeypatch):
    assert command(data, tmp_path, *SLOW, "--trials", "3") == 0
    make_video(tmp_path / "other" / "b", 5)
    for name in "acd":
        (tmp_path / "other" / name).symlink_to(data / name)
    calls = spy(monkeypatch)
    assert command(tmp_path / "other", tmp_path, *SLOW, "--trials", "3") == 0
    assert {name for _, name in calls} == {"b"}
    # those of a selection leave the others as they are
    assert command(tmp_path / "other", tmp_path, *SLOW, "--trials", "4", "--sequences", "c,d") == 0
    assert {name for _, name in calls} == {"b", "c", "d"}
    assert sorted(len(trial["auc"]) for trial in stored(tmp_path, "trials")["trials"]) == [2, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--range", "gian=0:1"), "no field 'gian'"),
        (("--range", "threshold=0:9"), "threshold: not a float, so not searched; floats: gain, jitter"),
        (("--range", "gain=0.5"), "--range gain=0.5: not field=low:high"),
        (("--range", "gain=1:0.5"), "needs low < high"),
        (("--range", "gain=0:1:log"), "low > 0 with :log"),
        (("--range", "gain=0:1:lin"), "and no other scale"),
        (("--range", "gain=nan:1"), "needs low < high"),
        (("--range", "gain=-1:1"), "gain=-1.0: must be >= 0"),
        (("--range", "gain=0:1", "--range", "gain=0:2"), "named twice"),
        ((), "no usual ranges for Config; give --range, of gain, jitter"),
        (("--range", "gain=0:1", "--folds", "5"), "--folds 5: must be 2 to 4, the number of sequences"),
        (("--range", "gain=0:1", "--sequences", "z"), "no sequence z"),
    ],
)
def test_mistakes_in_the_command_are_one_line(registry, data, tmp_path, capsys, more, message):
    assert command(data, tmp_path, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "tune").exists()


def test_what_cannot_be_reused_or_written_is_one_line(registry, data, tmp_path, capsys):
    assert command(data, tmp_path, *SLOW, "--trials", "2") == 0
    capsys.readouterr()
    assert command(data, tmp_path, *SLOW, "--trials", "2", "--seed", "1") == 1
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
    (tmp_path / "tune" / "dot" / "trials.json").write_text('{"frames": {}}')
    assert command(data, tmp_path, *SLOW, "--trials", "2") == 1
    error = capsys.readouterr().err
    assert "trials.json: not trials of this program" in error and error.count("\n") == 1
    (tmp_path / "file").write_text("")
    assert command(data, tmp_path / "file", *SLOW, "--trials", "2") == 1
    assert "error: " in capsys.readouterr().err


def test_a_float_that_shapes_the_program_is_refused_by_name(registry):
    def make(config):
        float(config.gain)  # as a number that a table is made of with numpy
        return trivial_tracker.make(config)

    message = "gain: decides the program itself, so not searched; others: jitter"
    with pytest.raises(SettingError, match=message):
        tune_batch.check_arguments(make, trivial_tracker.Config(), ("jitter", "gain"), trivial_tracker.params())
    tune_batch.check_arguments(make, trivial_tracker.Config(gain=1), ("jitter",), trivial_tracker.params())


@pytest.mark.parametrize("name", trackers.names())
def test_usual_ranges_are_within_the_rules(name):
    config = trackers.get(name).config
    ranges = tune.parse_ranges(config, [])
    assert {each.field for each in ranges} <= set(rules.float_fields(config)) and len(ranges) >= 2


def test_usual_ranges_of_an_online_tracker_can_be_arguments():
    config = small("dimp_tiny")
    fields = tuple(each.field for each in tune.parse_ranges(config, []))
    assert {"online.learning_rate", "localization.not_found_threshold"} <= set(fields)
    tune_batch.check_arguments(trackers.get("dimp_tiny").make, config, fields, formula_params("dimp_tiny"))


def test_the_benchmark_compares_in_the_same_rounds(registry, data, tmp_path, capsys):
    cached = jax.config.jax_enable_compilation_cache
    few = ("--range", "gain=0.1:1", "--batch", "2", "--frames", "3", "--sequences", "a,b")
    try:
        assert command(data, tmp_path, *few, "--benchmark") == 0
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    measured = stored(tmp_path, "benchmark")
    rows = measured["settings_a_call"]
    assert list(rows) == ["1", "2", "1, program of its own"] and measured["frames_a_setting"] == 6
    assert rows["1"]["times_one_at_a_time"] == 1
    assert all(value > 0 for row in rows.values() for value in row.values())
    assert "settings/minute" in capsys.readouterr().out and not (tmp_path / "tune" / "dot" / "trials.json").exists()
