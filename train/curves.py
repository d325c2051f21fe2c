"""Learning curves of runs as one figure: `python -m train.curves runs/first runs/second --out curves.png`.

A panel for each number that `log.jsonl` has: the loss, its terms and what validation says. Of a list (DiMP's loss of
every iterate) the last counts. Lines are means over a share of the run, since single batches differ by more than a
training gains in as many steps; what was logged lies behind them, thin.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from eval import plots
from eval.command import reports
from eval.files import ResultError, keep_apart
from train import parsers
from train.loop import LOG

ABOUT = {"gradient_norm", "steps_per_second", "data_wait_share"}  # the run itself, not what it learns
SMOOTHED = 0.05  # of the run's logged steps
COLUMNS = 3

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> steps [N] int64, values [N] float64


def read_curves(run: Path) -> Curves:
    """The curves of a run's folder, or of a log. ResultError, one line, where there is none or it is damaged."""
    path = run / LOG if run.is_dir() else run
    points: dict[str, list[tuple[int, float]]] = {}
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise ResultError(f"{path}: no such file; give the folder of a training's run") from error
    except ValueError as error:
        raise ResultError(f"{path}: not the text of a training's log; give the folder of its run") from error
    for number, line in enumerate(lines, 1):
        try:
            logged = json.loads(line)
            for name in logged.keys() - ABOUT - {"step"}:
                value = logged[name][-1] if isinstance(logged[name], list) else logged[name]
                points.setdefault(name, []).append((int(logged["step"]), float(value)))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ResultError(f"{path}:{number}: not a line of a training's log ({error}); restore it") from error
    if not points:
        raise ResultError(f"{path}: nothing is logged yet")
    return {
        name: (np.array([step for step, _ in found], np.int64), np.array([value for _, value in found]))
        for name, found in sorted(points.items())
    }


def smooth(values: np.ndarray, share: float = SMOOTHED) -> np.ndarray:
    """Means `[N]` of `[N]` over windows of that share of them, cut at both ends."""
    reach = max(round(share * len(values)), 1) // 2
    return np.array([values[max(i - reach, 0) : i + reach + 1].mean() for i in range(len(values))])


def draw(path: Path, runs: dict[str, Curves]) -> None:
    """PNG of all `runs`, each a color, in a panel for each name. ResultError where it cannot be written."""
    names = sorted(set().union(*runs.values()))
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = plots.new_figure(4 * columns, 2.6 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, axes in zip(names, panels):
        for number, curves in enumerate(runs.values()):
            if name in curves:
                steps, values = curves[name]
                axes.plot(steps, values, color=f"C{number}", linewidth=0.6, alpha=0.3)
                axes.plot(steps, smooth(values), color=f"C{number}")
        axes.set(xlabel="step", title=plots.literal(name))
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for number, name in enumerate(runs):
        panels[0].plot([], [], color=f"C{number}", label=plots.literal(name))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    plots.save(figure, path)


@reports(ResultError, OSError)
def main(argv: list[str] | None = None) -> int:
    """The command."""
    arguments = parsers.curves().parse_args(argv)
    if arguments.out.suffix.lower() != ".png":
        raise ResultError(f"{arguments.out}: the name must end with .png")
    keep_apart([arguments.out], arguments.runs)
    runs = {str(run): read_curves(run) for run in arguments.runs}
    draw(arguments.out, runs)
    print(f"{arguments.out}: {len(runs)} runs, {len(set().union(*runs.values()))} curves")
    return 0


if __name__ == "__main__":
    sys.exit(main())
