"""What the options of `eval.xla` change: compilation, the first frame and the others, with and without, in turns.

Beside them the same with LLVM optimizing nothing, which no command asks for: it shows how much of the compilation is
left then, and how much longer frames take.

    python -m eval.benchmark.flags --trackers dimp_tiny,siamfc --json flags.json
"""

import sys
import time
from typing import Any

import jax
import numpy as np

import trackers
from eval import command, parsers, settings, xla
from eval.benchmark import reporting
from eval.command import keep_freed_memory
from eval.measure.timing import interleaved, stepper
from eval.sources.synthetic import ClipConfig, clip
from trackers.images import xywh_to_box

WITH, WITHOUT, UNOPTIMIZED = "with", "without", "unoptimized"
NO_OPTIMIZATION = {"xla_backend_optimization_level": 0}


def measure(name: str, repeats: int, height: int, width: int) -> dict[str, Any]:
    """Milliseconds by row with the options, without and unoptimized, and the other two over without; random weights.

    One target as the commands track it, by `trackers.many`. What is traced before the compilation is the same for all.
    """
    entry = trackers.get(name)
    tracker = trackers.many(entry.make(entry.config), 1)
    params = jax.device_put(trackers.init_params(name, jax.random.key(0)))
    config = ClipConfig(height=height, width=width, num_frames=2, target_size=(60.0, 60.0))
    first, second = list(clip(config, seed=0))
    keys, box = jax.random.split(jax.random.key(0), 1), xywh_to_box(first.box[None])
    args = params, keys, trackers.frame(first.image), box
    frame = jax.device_put(trackers.frame(second.image))
    start = time.perf_counter()
    lowered = jax.jit(tracker.init).lower(*args)
    tracked = jax.jit(tracker.track, donate_argnums=1).lower(params, lowered.out_info, frame)
    traced = np.array([time.perf_counter() - start])
    ways = {WITH: xla.compiler_options(), WITHOUT: {}, UNOPTIMIZED: xla.compiler_options() | NO_OPTIMIZATION}
    programs, seconds = {}, {"tracing": dict.fromkeys(ways, traced), "compilation": {}}
    for way, options in ways.items():
        start = time.perf_counter()
        programs[way] = [one.compile(compiler_options=options) for one in (lowered, tracked)]
        seconds["compilation"][way] = np.array([time.perf_counter() - start])
    seconds["first frame"] = interleaved({way: lambda way=way: programs[way][0](*args) for way in ways}, 5)
    steps = {way: stepper(programs[way][1], params, programs[way][0](*args), frame) for way in ways}
    seconds["frame"] = interleaved(steps, repeats, warm_up=3)
    return {row: _compared(found) for row, found in seconds.items()}


def _compared(seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the rounds of one row by way: median milliseconds, and median ratios to the way without."""
    times = {f"{way}_ms": 1e3 * float(np.median(each)) for way, each in seconds.items()}
    return times | {
        "ratio": float(np.median(seconds[WITH] / seconds[WITHOUT])),
        "ratio_unoptimized": float(np.median(seconds[UNOPTIMIZED] / seconds[WITHOUT])),
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"{report['options']} on {report['versions']['device']}, jax {report['versions']['jax']}", ""]
    lines += ["| tracker | what | with, ms | without, ms | ratio | unoptimized, ms | ratio |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, row in report["rows"].items():
        tracker, _, what = name.partition(", ")
        times = f"{row['with_ms']:.1f} | {row['without_ms']:.1f} | {row['ratio']:.2f}"
        times += f" | {row['unoptimized_ms']:.1f} | {row['ratio_unoptimized']:.2f}"
        lines.append(f"| `{tracker}` | {what} | {times} |")
    return "\n".join(lines)


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write JSON if asked."""
    options = parsers.benchmark_flags().parse_args(argv)
    keep_freed_memory()

    def measured() -> dict[str, Any]:
        rows = {}
        for name in options.trackers:
            found = measure(name, options.repeats, options.height, options.width)
            rows |= {f"{name}, {what}": row for what, row in found.items()}
        return {"options": xla.compiler_options(), "rows": rows, "versions": settings.versions()}

    reporting.run(options, measured, table)


if __name__ == "__main__":
    sys.exit(main())
