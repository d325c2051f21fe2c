"""Which settings to try: random search, successive halving and Optuna, and how much of a gain is real.

Nothing here tracks. `Evaluate` gives the scores and remembers them, so that searches that overlap cost little; a
search sees only the sequences it is given.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eval.tune.batch import Setting
from trackers.rules import SettingError

LEAST_SEQUENCES = 2  # of the first rung of successive halving
DIGITS = 4  # of a drawn value: what is printed is what was tried

Evaluate = Callable[[list[Setting], list[str]], np.ndarray]  # settings, names of sequences -> score of each of each


class Range(NamedTuple):
    """Where a field is searched."""

    field: str  # dotted path
    low: float
    high: float
    log: bool = False  # drawn uniformly in the logarithm


class Search(NamedTuple):
    """The arguments of every search."""

    default: Setting  # always a candidate
    ranges: tuple[Range, ...]
    trials: int  # settings beside the default
    batch: int  # settings at once
    seed: int


class Fold(NamedTuple):
    """What a search that had not seen these sequences gains on them."""

    setting: Setting
    gains: dict[str, float]  # score - default's, of each held-out sequence
    training_gain: float  # the same on the sequences it was chosen on, mean


def random_search(search: Search, evaluate: Evaluate, names: list[str]) -> Setting:
    """The best of uniformly drawn settings and the default, each on all sequences."""
    return _best([search.default, *random_settings(search)], evaluate, names)


def halving_search(search: Search, evaluate: Evaluate, names: list[str]) -> Setting:
    """Successive halving over sequences (Jamieson and Talwalkar 2016).

    All settings on a few sequences, the better half on twice as many, and so on; those of the last rung and the default
    have seen all sequences.
    """
    chosen, names = random_settings(search), shuffled(names, search.seed)
    rungs = max(int(np.log2(min(len(chosen), len(names) / LEAST_SEQUENCES))), 0)
    for rung in range(rungs):
        some = names[: -(-len(names) // 2 ** (rungs - rung))]
        order = np.argsort(-evaluate(chosen, some).mean(1), kind="stable")
        chosen = [chosen[index] for index in order[: -(-len(chosen) // 2)]]
    return _best([search.default, *chosen], evaluate, names)


def optuna_search(search: Search, evaluate: Evaluate, names: list[str]) -> Setting:
    """Optuna's tree-structured Parzen estimator, asked for a batch of settings at a time."""
    try:
        import optuna
    except ImportError as error:
        raise SettingError("--search optuna needs a package: pip install 'jaxtrack[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed))
    space = {
        each.field: optuna.distributions.FloatDistribution(each.low, each.high, log=each.log) for each in search.ranges
    }
    tried = [search.default]
    while len(tried) <= search.trials:
        asked = [study.ask(space) for _ in range(min(search.batch, search.trials + 1 - len(tried)))]
        chosen = [tuple(_rounded(each, trial.params[each.field]) for each in search.ranges) for trial in asked]
        for trial, score in zip(asked, evaluate(chosen, names).mean(1), strict=True):
            study.tell(trial, float(score))
        tried += chosen
    return _best(tried, evaluate, names)


SEARCHES = {"random": random_search, "halving": halving_search, "optuna": optuna_search}


def cross_validate(search: Search, driver: Callable, evaluate: Evaluate, names: list[str], folds: int) -> list[Fold]:
    """`driver` on the sequences outside of each of `folds` parts, and its choice scored on the part."""
    names, found = shuffled(names, search.seed), []
    for part in range(folds):
        held_out = names[part::folds]
        training = [name for name in names if name not in held_out]
        setting = driver(search, evaluate, training)
        pair = [setting, search.default]
        gains, training_gains = (np.subtract(*evaluate(pair, some)) for some in (held_out, training))
        found.append(Fold(setting, dict(zip(held_out, gains.tolist())), float(training_gains.mean())))
    return found


def random_settings(search: Search) -> list[Setting]:
    """`trials` settings; with fewer trials, the first of the same settings."""
    draws = np.random.default_rng(search.seed).random((search.trials, len(search.ranges)))
    return [tuple(_rounded(each, _at(each, share)) for each, share in zip(search.ranges, row)) for row in draws]


def _at(where: Range, share: float) -> float:
    if where.log:
        return where.low * (where.high / where.low) ** share
    return where.low + share * (where.high - where.low)


def _rounded(where: Range, value: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), where.low), where.high)


def shuffled(names: list[str], seed: int) -> list[str]:
    """In an order given by the seed, the same for every selection of them."""
    return sorted(names, key=lambda name: (zlib.crc32(f"{seed} {name}".encode()), name))


def _best(chosen: list[Setting], evaluate: Evaluate, names: list[str]) -> Setting:
    """The setting with the highest mean; the first among equals, so that only a gain replaces the default."""
    return chosen[int(np.argmax(evaluate(chosen, names).mean(1)))]
