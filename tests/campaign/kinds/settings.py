"""What is typed: `--set`, and the options of the commands."""

import contextlib
import io
import shlex
from functools import cache
from pathlib import Path

import trackers
from eval import parsers, run, track
from eval.report import __main__ as report
from eval.tune import __main__ as tune
from tests.campaign.kinds.base import Kind, write
from trackers import rules
from trackers.rules import SettingError
from train.configs import dimp_smoke, memtrack_smoke, siamrpn_smoke
from train.datasets import SyntheticConfig
from train.datasets import __main__ as datasets

TRACKERS = ("atom", "atom_multiscale", "dimp18", "siamfc", "dasiamrpn", "thor_siamfc", "memtrack")
TRAINED = {"dimp": dimp_smoke, "siamrpn": siamrpn_smoke, "memtrack": memtrack_smoke}
CONFIGS = {
    **{name: trackers.get(name).config for name in TRACKERS},
    **{f"train.{name}": module.get_config() for name, module in TRAINED.items()},
    "synthetic": SyntheticConfig(),
}
COMMANDS = {
    "run": (run.parse_arguments, "--tracker siamfc --data_dir D --out O --jitter 0.05 --shard 1/4 --workers 2"),
    "track": (track.parse_arguments, "--video v.webm --box 10,20,30.5,40 --start 3 --seed 1"),
    "export": (parsers.export().parse_args, "--tracker siamfc --out O --size 480x640 --targets 2 --platforms cpu,tpu"),
    "report": (report.parse_arguments, "R --out O --dataset otb --sequences a,b"),
    "tune": (tune.parse_arguments, "--tracker siamfc --data_dir D --out O --range scale_step=1.01:1.1:log --trials 3"),
    "datasets": (datasets.parse_arguments, "got10k --source S --data_dir D --split train --set seed=1"),
}


def _make_settings(name: str):
    """A line FIELD=VALUE for each field that holds a number or a name."""

    return lambda folder: write(folder / name, "".join(f"{line}\n" for line in _assignments(name)))


@cache
def _assignments(name: str) -> tuple[str, ...]:
    fields = rules._paths(CONFIGS[name], "")
    return tuple(f"{path}={value}" for path, value in fields if isinstance(value, int | float | str))


def _lines(path: Path) -> list[str]:
    """As a shell hands over what is no UTF-8, in words that Linux takes."""
    if not path.is_file():
        return []
    return [line[:100_000] for line in path.read_text("utf-8", "surrogateescape").split("\n") if line]


def _set(name: str):
    def read(folder: Path) -> list[SettingError]:
        """Each assignment by itself, but those that are as they were."""
        problems, valid = [], set(_assignments(name)[1:])
        for line in _lines(folder / name):
            if line in valid:
                continue
            try:
                config = rules.configure(CONFIGS[name], [line])
                if name in TRACKERS:
                    trackers.get(name).make(config)
            except SettingError as error:
                problems.append(error)
        return problems

    return read


def _make_ranges(folder: Path) -> None:
    found = rules.searches(CONFIGS["dimp18"]).items()
    lines = (f"{field}={where.low}:{where.high}{':log' * where.log}\n" for field, where in found)
    write(folder / "ranges", "".join(lines))


def _search(folder: Path) -> list[SettingError]:
    problems = []
    for line in _lines(folder / "ranges"):
        try:
            tune.parse_ranges(CONFIGS["dimp18"], [line])
        except SettingError as error:
            problems.append(error)
    return problems


def _parse(name: str):
    parse, _ = COMMANDS[name]

    def read(folder: Path) -> list[str]:
        try:
            words = shlex.split(" ".join(_lines(folder / name)))
        except ValueError:  # a quotation without its end
            return []
        stream = io.StringIO()
        try:
            with contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
                parse(words)
        except SystemExit as ending:
            if ending.code != 2:
                return []
            return [stream.getvalue().splitlines()[-1][:200]]  # it repeats what was typed
        return []

    return read


KINDS = {
    **{f"set.{name}": Kind(_make_settings(name), _set(name), names_file=False) for name in CONFIGS},
    "set.ranges": Kind(_make_ranges, _search, names_file=False),
    **{
        f"options.{name}": Kind(
            lambda folder, name=name, text=text: write(folder / name, text), _parse(name), names_file=False
        )
        for name, (_, text) in COMMANDS.items()
    },
}
