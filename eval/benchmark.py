"""How fast a tracker is: `python -m eval.benchmark --tracker dimp18 --json dimp18.json`.

Measures on procedural frames, with the given weights or random ones (random ones see no target, so that no frame
learns; what learning costs is a row of its own): compile time and run time apart, the stages of a frame, many
targets at once, and what a second start takes with the compilation cache.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import trackers
from eval import settings
from eval.compilation import enable_compilation_cache
from eval.flops import count_flops
from eval.frames import to_canvas, xywh_to_box
from eval.synthetic import ClipConfig, clip
from trackers import base

Compiled = Callable[..., Any]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, write JSON if asked; the exit status."""
    options = _parser().parse_args(argv)
    enable_compilation_cache()
    entry = trackers.get(options.tracker)
    if options.first_box:
        _first_box(entry, options)
        return 0
    report = {"tracker": options.tracker, "canvas": [options.height, options.width], "repeats": options.repeats}
    report["second_start_to_first_box_s"] = None if options.no_restart else _restart_seconds(options)
    jax.config.update("jax_enable_compilation_cache", False)  # compile times below are those of a first start
    report |= measure(entry, options)
    report |= {"config": settings.plain(entry.config), "versions": settings.versions()}
    print(table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(entry: trackers.Entry, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one tracker in one run: seconds, milliseconds, frames per second, bytes."""
    params = _params(options)
    first, second, box = _scene(options)
    tracker = entry.make(entry.config)
    key = jax.random.key(0)

    init, init_compile = _compile(tracker.init, params, key, first, box)
    state = jax.block_until_ready(init(params, key, first, box))
    init_seconds = _time(init, (params, key, first, box), 3)
    track, track_compile = _compile(tracker.track, params, state, second, donate=(1,))
    memory = track.memory_analysis()
    seconds = _time_stateful(track, params, state, second, options.repeats)
    report = {
        "compile_s": {"init": init_compile, "track": track_compile},
        "init_s": float(np.median(init_seconds)),
        "frame_ms": _milliseconds(seconds),
        "frame_flops": count_flops(tracker.track, params, init(params, key, first, box), second),
    }
    report |= _stage_report(entry, params, init(params, key, first, box), second, options.repeats)
    rate = report["stages"]["features"]["flops"] / report["stages"]["features"]["median_ms"]
    report["ideal_ms_at_features_rate"] = report["frame_flops"] / rate
    report["frame_over_ideal"] = report["frame_ms"]["median"] / report["ideal_ms_at_features_rate"]
    report["targets"] = [_targets(tracker, params, first, second, box, n, options) for n in options.targets]
    report["peak_memory_bytes"] = {
        "track_temporary": memory.temp_size_in_bytes,
        "track_arguments": memory.argument_size_in_bytes,
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    return report


def _stage_report(entry, params, state, frame, repeats: int) -> dict[str, Any]:
    """Each stage jitted on its own, fed with what the stages before it return."""
    stages = entry.make_stages(entry.config)
    rows = {}

    def run(name: str, function: Callable, *args):
        compiled, _ = _compile(function, *args)
        row = _milliseconds(_time(compiled, args, repeats))
        rows[name] = {"median_ms": row["median"], "p95_ms": row["p95"], "flops": count_flops(function, *args)}
        return compiled(*args)

    region = run("crop", stages.crop, state, frame)
    features = run("features", stages.features, params, region.image)
    location = run("localize", stages.localize, state, frame, region, features)
    state, box, _ = run("refine", stages.refine, params, state, frame, region, features, location)
    seen = location._replace(verdict=jnp.int32(base.FOUND))
    run("update, no step", stages.update, params, state, region, features, seen, box)
    due = state._replace(frame_number=jnp.int32(entry.config.train_skipping))
    run("update, scheduled steps", stages.update, params, due, region, features, seen, box)
    return {"stages": rows}


def _targets(tracker, params, first, second, box, count: int, options) -> dict[str, float]:
    """Frames per second of `count` targets of one video: one call, beside as many calls of one."""
    group = base.many(tracker, count)
    keys = jax.random.split(jax.random.key(0), count)
    boxes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), box)
    state = jax.jit(group.init)(params, keys, first, boxes)
    together, _ = _compile(group.track, params, state, second, donate=(1,))
    repeats = max(3, options.repeats // count)
    one_call = float(np.median(_time_stateful(together, params, state, second, repeats)))
    single_state = jax.jit(tracker.init)(params, keys[0], first, box)
    alone, _ = _compile(tracker.track, params, single_state, second, donate=(1,))
    single = float(np.median(_time_stateful(alone, params, single_state, second, options.repeats)))
    return {
        "count": count,
        "one_call_fps": 1 / one_call,
        "separate_calls_fps": 1 / (single * count),
        "speedup": single * count / one_call,
    }


def _scene(options) -> tuple[base.Frame, base.Frame, Any]:
    """Two frames on the device and the target's box in the first."""
    config = ClipConfig(height=options.height, width=options.width, num_frames=2, target_size=(60.0, 60.0))
    first, second = list(clip(config, seed=0))
    frames = [jax.device_put(to_canvas(example.image)) for example in (first, second)]
    return frames[0], frames[1], jax.device_put(xywh_to_box(first.box))


def _params(options) -> base.Params:
    if options.weights:
        return trackers.load_params(options.tracker, options.weights)
    return trackers.init_params(options.tracker, jax.random.key(0))


def _compile(function: Callable, *args, donate: tuple[int, ...] = ()) -> tuple[Compiled, float]:
    """The executable and the seconds to trace and compile it."""
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*args).compile()
    return compiled, time.perf_counter() - start


def _time(compiled: Compiled, args: tuple, repeats: int) -> np.ndarray:
    """Seconds of each call, `[repeats]`, after two calls that are not counted."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[2:])


def _time_stateful(track: Compiled, params, state, frame, repeats: int) -> np.ndarray:
    """As `_time`, of a tracker whose donated state runs along."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        state, estimate = track(params, state, frame)
        jax.block_until_ready((state, estimate))
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[2:])


def _milliseconds(seconds: np.ndarray) -> dict[str, float]:
    return {"median": 1e3 * float(np.median(seconds)), "p95": 1e3 * float(np.percentile(seconds, 95))}


def _first_box(entry: trackers.Entry, options) -> None:
    """What a user waits for: parameters, frame 1, and the box of frame 2."""
    params = _params(options)
    first, second, box = _scene(options)
    tracker = entry.make(entry.config)
    state = jax.jit(tracker.init)(params, jax.random.key(0), first, box)
    _, estimate = jax.jit(tracker.track)(params, state, second)
    print("first box", np.asarray(estimate.box.center))


def _restart_seconds(options) -> float:
    """From the start of a second process to its first box; the first one fills the compilation cache."""
    command = [sys.executable, "-m", "eval.benchmark", "--first_box", "--tracker", options.tracker]
    command += ["--height", str(options.height), "--width", str(options.width)]
    command += ["--weights", options.weights] if options.weights else []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"{report['tracker']} on {report['versions']['device']}, jax {report['versions']['jax']}", ""]
    lines += ["| what | median ms | p95 ms | GFLOP |", "|---|---|---|---|"]
    frame = report["frame_ms"]
    lines.append(f"| frame | {frame['median']:.1f} | {frame['p95']:.1f} | {report['frame_flops'] / 1e9:.2f} |")
    for name, row in report.get("stages", {}).items():
        lines.append(f"| {name} | {row['median_ms']:.1f} | {row['p95_ms']:.1f} | {row['flops'] / 1e9:.2f} |")
    lines += ["", "| targets | one call, frames/s | separate calls, frames/s | speedup |", "|---|---|---|---|"]
    for row in report["targets"]:
        rates = f"{row['one_call_fps']:.2f} | {row['separate_calls_fps']:.2f} | {row['speedup']:.2f}"
        lines.append(f"| {row['count']} | {rates} |")
    compile_s = report["compile_s"]
    lines += ["", f"compile: init {compile_s['init']:.1f} s, track {compile_s['track']:.1f} s"]
    lines.append(f"init: {report['init_s']:.2f} s")
    if report["second_start_to_first_box_s"]:
        lines.append(f"second start to first box: {report['second_start_to_first_box_s']:.1f} s")
    if "frame_over_ideal" in report:
        ideal = report["ideal_ms_at_features_rate"]
        lines.append(
            f"frame over its FLOPs at the features' rate: {report['frame_over_ideal']:.2f} ({ideal:.1f} ms)"
        )
    peak = {name: f"{size / 2**20:.0f} MiB" for name, size in report["peak_memory_bytes"].items()}
    return "\n".join([*lines, f"peak memory: {peak}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compile time, run time by stage, frames per second and memory of a tracker.",
        epilog="example: python -m eval.benchmark --tracker dimp18 --targets 1,4,16 --json dimp18.json",
    )
    parser.add_argument("--tracker", default="dimp18", choices=trackers.names())
    parser.add_argument("--weights", help="safetensors file; random weights without")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--repeats", type=int, default=30, help="timed frames (default 30)")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--no_restart", action="store_true", help="leave out the time of a second start")
    parser.add_argument("--first_box", action="store_true", help="only track one frame (used for the second start)")
    parser.add_argument(
        "--targets",
        type=lambda text: [int(count) for count in text.split(",")],
        default=[1, 4, 16],
        help="numbers of targets (default 1,4,16)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
