"""The first of the damaged inputs of `tests.campaign.mutations`, in this process."""

import itertools

import numpy as np
import pytest

from tests.campaign import mutants, trial
from tests.campaign.kinds import KINDS
from tests.campaign.kinds.base import Kind
from tests.campaign.kinds.weights import readable_models
from trackers.rules import SettingError

QUICK = [name for name, kind in KINDS.items() if kind.quick]
COUNT = 300


@pytest.fixture(autouse=True)
def models():
    with readable_models():
        yield


def test_damaged_inputs_are_read_or_refused_in_one_line():
    turns = itertools.islice(((name, index) for index in itertools.count() for name in QUICK), COUNT)
    outcomes = {f"{name}:{index}": trial.attempt(name, index, seed=0) for name, index in turns}
    assert not {key: outcome.text for key, outcome in outcomes.items() if outcome.status == trial.MISSED}
    statuses = [outcome.status for outcome in outcomes.values()]
    assert (
        min(statuses.count(trial.READ), statuses.count(trial.REFUSED)) > COUNT / 10
    )  # the damage is neither all nor none


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS)
def test_what_is_damaged_was_valid(name):
    outcome = trial.attempt(name, -1, seed=0)
    assert outcome.status == trial.READ, outcome.text


def raising(error: Exception) -> Kind:
    def read(folder):
        raise error

    return Kind(lambda folder: (folder / "a.txt").write_text("1,2,3,4\n"), read)


@pytest.mark.parametrize(
    "kind, text",
    [
        (raising(ValueError("text")), "ValueError instead of a domain error: text"),
        (raising(SystemExit(1)), "SystemExit instead"),
        (raising(SettingError("a=1: must be > 2")), "names no file"),
        (raising(SettingError("two\nlines")), "not one line"),
        (raising(SettingError("a=1: must be > 2"))._replace(names_file=False), ""),
        (Kind(raising(SystemExit()).make, lambda folder: [f"{folder / 'a.txt'}: empty"]), ""),
        (Kind(raising(SystemExit()).make, lambda folder: np.ones(10_000_000).sum() and None), "took"),
    ],
)
def test_the_judge(kind, text, monkeypatch):
    monkeypatch.setitem(KINDS, "test", kind)
    monkeypatch.setattr(trial, "MEBIBYTES", 50)
    outcome = trial.attempt("test", 0, seed=0)
    assert outcome.text.startswith(text) and (outcome.status == trial.MISSED) == bool(text)


def test_an_input_follows_from_its_kind_number_and_seed(tmp_path):
    def contents(index, seed):
        folder = tmp_path / f"{index}_{seed}_{len(list(tmp_path.iterdir()))}"
        trial.attempt("layout.got10k", index, seed, folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = contents(0, 0)
    assert contents(0, 0) == first
    assert first not in (contents(1, 0), contents(0, 1), contents(-1, 0))


@pytest.mark.parametrize("content", [b"", b"1,2,3\n4,5,6\n", b'{"a": [1, {"b": null}], "c": "d"}', bytes(range(256))])
def test_all_damage_is_bytes(content, rng):
    damaged = {mutants.damage(content, rng, trial.donors()) for _ in range(200)}
    assert len(damaged) > 20
