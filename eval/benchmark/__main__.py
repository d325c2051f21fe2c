"""How fast a tracker is: `python -m eval.benchmark --tracker dimp18 --json dimp18.json`.

Measures on procedural frames, with the given weights or random ones (with random ones no target is found, so that no
frame updates the model; an update has its own row): compile time and run time apart, the stages of a frame beside the
roofline, many targets at once, what a second start takes with the compilation cache and the same in PyTorch
(`--torch`): ATOM and DiMP as a whole, of the Siamese trackers the networks. Trackers compute in float32; `--dtype` adds
the backbone in another type. The operators have their own command, `eval.benchmark.operators`, and so has training,
`train.benchmark`.
"""

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import trackers
from eval import command, parsers, settings
from eval.benchmark import builds, reporting, torch_online, torch_siamese
from eval.benchmark.torch_online import FIRST_FRAME
from eval.command import enable_compilation_cache, keep_freed_memory
from eval.files import ResultError
from eval.measure import roofline
from eval.measure.flops import count_flops
from eval.measure.timing import compile_timed, interleaved, stepper
from eval.running import passes, stored
from eval.running.compilation import prepare_both
from eval.sources.synthetic import ClipConfig, clip
from eval.xla import compiler_options
from trackers import base
from trackers.images import xywh_to_box
from trackers.nets import filter_bank, models, resnet
from trackers.parts import templates
from trackers.parts.templates import Matcher
from trackers.weights import files, released

Compiled = Callable[..., Any]
IN_TORCH = "in PyTorch"  # rows, for each layout
FIRST_FRAMES = 5  # timed


class Part(NamedTuple):
    """A row: what is timed, and the work of one call."""

    call: Callable[[], Any]
    work: roofline.Work | None  # None: not counted


class Peer(NamedTuple):
    """A call in the process of PyTorch."""

    row: str  # of ours that it is set beside
    call: Callable[[], float]  # its seconds


@command.reports(ResultError, ValueError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write what is asked for."""
    options = parsers.benchmark().parse_args(argv)
    keep_freed_memory()
    entry = trackers.get(options.tracker)
    if options.first_box and not options.compare:
        enable_compilation_cache()
        with reporting.on_device(options.device):
            return _first_box(entry, options)

    def beside_build() -> dict[str, Any]:
        first, second, box = _scene(options)
        with _file_to_name(options) as weights:
            sides = np.concatenate([np.asarray(box.center), np.asarray(box.size)])
            found = builds.measure(
                options.beside_build, options.tracker, weights, first, second, sides, options.repeats
            )
        return {"tracker": options.tracker, **found, "versions": settings.versions()}

    def measured() -> dict[str, Any]:
        report = {"tracker": options.tracker, "canvas": [options.height, options.width], "repeats": options.repeats}
        report["start_to_first_box_s"] = None if options.no_restart else _start_seconds(options)
        report |= measure(entry, options)
        report |= {"config": settings.plain(entry.config), "versions": settings.versions()}
        report["versions"]["device"] = report.pop("device")
        return report

    if options.beside_build and options.plot:
        raise ResultError("--plot: there is no roofline of two builds; leave it out")
    if options.beside_build:
        reporting.run(options, beside_build, builds.table)
    else:
        reporting.run(options, measured, table)


def measure(entry: trackers.Entry, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one tracker in one run: seconds, milliseconds, frames per second, bytes."""
    if options.torch:
        _check_torch(entry)
    if options.dtype != "float32" and entry.model is None:
        raise ResultError(f"--dtype {options.dtype}: {options.tracker} has no network")
    if options.beside and trackers.get(options.beside).model != entry.model:
        raise ResultError(f"--beside {options.beside}: it has other networks than {options.tracker}")
    params = _params(options)
    first, second, box = _scene(options)
    tracker = entry.make(entry.config)
    key = jax.random.key(0)

    init, init_compile = _compiled(tracker.init, params, key, first, box)
    state = jax.block_until_ready(init(params, key, first, box))
    track, track_compile = _compiled(tracker.track, params, state, second, donate=(1,))
    memory = track.memory_analysis()
    work = _work(tracker.track, track, params, state, second)
    parts = {"frame": Part(stepper(track, params, _copy(state), second), work)}
    if options.beside:
        parts |= _frame_beside(options.beside, params, key, first, second, box)
    parts |= _parts(entry, params, state, second, options.dtype)
    sticks = roofline.yardsticks()
    with _in_torch(entry, params, state, options) if options.torch else nullcontext({}) as peers:
        starts = {name: peer.call for name, peer in peers.items() if peer.row == FIRST_FRAME}
        ours = {FIRST_FRAME: lambda: init(params, key, first, box)}
        start_seconds = interleaved({name: one.call for name, one in sticks.items()} | ours | starts, FIRST_FRAMES)
        parts |= {name: Part(peer.call, None) for name, peer in peers.items() if peer.row != FIRST_FRAME}
        seconds = interleaved({name: one.call for name, one in (sticks | parts).items()}, options.repeats, warm_up=2)
    rows = _rows({FIRST_FRAME: _work(tracker.init, init, params, key, first, box)}, sticks, start_seconds)
    rows |= _rows({name: one.work for name, one in parts.items()}, sticks, seconds)
    every = start_seconds | seconds
    targets = [_targets(tracker, track, params, state, second, n, sticks, options.repeats) for n in options.targets]
    return {
        "over_torch": {name: _beside(peer.row, every[peer.row], every[name]) for name, peer in peers.items()},
        "device": jnp.zeros(()).device.device_kind,
        "compile_s": {"init": init_compile, "track": track_compile},
        "rows": rows | {f"{row['count']} targets, one call": row.pop("row") for row in targets},
        "peaks": roofline.peaks(sticks, seconds),
        "targets": targets,
        "peak_memory_bytes": {
            "track_temporary": memory.temp_size_in_bytes,
            "track_arguments": memory.argument_size_in_bytes,
            "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
    }


def _check_torch(entry: trackers.Entry) -> None:
    reason = None if _is_siamese(entry) else torch_online.misfit(entry.config)
    if reason is not None:
        raise ResultError(f"--torch: {reason}")
    if importlib.util.find_spec("torch") is None:
        raise ResultError("--torch: PyTorch is not installed (pip install torch)")
    if jnp.zeros(()).device.platform != "cpu":
        raise ResultError("--torch: compares on a CPU only; give --device cpu")


def _is_siamese(entry: trackers.Entry) -> bool:
    return entry.model is not None and models.get(entry.model).samples == "pairs"


def _work(function: Callable, compiled: Any, *args: Any) -> roofline.Work:
    """FLOPs of products and convolutions, a while loop's body counted once; XLA's count of bytes, all bodies once."""
    return roofline.Work(count_flops(function, *args, while_steps=1), roofline.work(compiled).bytes)


def _frame_beside(name: str, params, key, first, second, box) -> dict[str, Part]:
    """A frame of another tracker with the same parameters, in the same rounds: what a wrapper adds to its host."""
    other = trackers.get(name)
    tracker = other.make(other.config)
    state = jax.jit(tracker.init, compiler_options=compiler_options())(params, key, first, box)
    track, _ = _compiled(tracker.track, params, state, second, donate=(1,))
    work = _work(tracker.track, track, params, state, second)
    return {f"frame of {name}": Part(stepper(track, params, state, second), work)}


def _parts(entry, params, state, frame, dtype: str) -> dict[str, Part]:
    """Each part of a frame jitted on its own, fed with what the parts before it return, the backbone in `dtype` too.

    None where the tracker has no such parts.
    """
    if entry.make_parts is None:
        return {}
    calls = {}

    def add(name: str, function: Callable, *args):
        compiled, _ = _compiled(function, *args)
        calls[name] = Part(lambda: compiled(*args), _work(function, compiled, *args))
        return compiled(*args)

    def add_backbone(images: jax.Array) -> None:
        add("backbone", _backbone(entry), params, images)
        if dtype != "float32":
            add(f"backbone, {dtype}", _backbone(entry), jax.tree.map(lambda leaf: leaf.astype(dtype), params), images)

    parts = entry.make_parts(entry.config)
    if isinstance(parts, Matcher):
        region = add("crop", parts.region, frame, state.box, state.fill)
        add_backbone(region.image)
        features = add("features", parts.features, params, region.image)
        response = add("match", parts.match, params, state.template, features)
        add("decode", parts.decode, response, state.box)
        return calls
    region = add("crop", parts.crop, state, frame)
    add_backbone(region.image)
    features = add("features", parts.features, params, region.image)
    location = add("localize", parts.localize, state, frame, region, features)
    refined, box, _ = add("refine", parts.refine, params, state, frame, region, features, location)
    seen = location._replace(verdict=jnp.int32(base.FOUND))
    update, _ = _compiled(parts.update, params, refined, region, features, seen, box, donate=(1,))
    once = {"update, no step": 1, "update, scheduled steps": entry.config.online.train_skipping}
    for name, number in once.items():
        start = _copy(refined)._replace(frame_number=jnp.int32(number))
        calls[name] = Part(_updater(update, params, start, region, features, seen, box), None)
    return calls


@contextmanager
def _in_torch(entry: trackers.Entry, params, state, options) -> Iterator[dict[str, Peer]]:
    """The first frame, a frame and its stages; of a Siamese tracker features and match of a frame.

    Those are without crop and decode, which our frame includes.
    """
    if _is_siamese(entry):
        first, second, box = _scene(options)
        crops = entry.make_parts(entry.config).region(second, state.box, state.fill).image
        exemplar = templates.exemplar(first, box, state.fill, entry.config.rounding)
        with torch_siamese.timed(entry.model, params, exemplar, crops) as calls:
            yield {f"networks alone {IN_TORCH}, {layout}": Peer("frame", call) for layout, call in calls.items()}
        return
    first, second = _clip(options)
    box = xywh_to_box(first.box)
    with torch_online.timed(entry.config, entry.model, params, first.image, second.image, *box) as calls:
        rows = ((*name.rsplit(", ", 1), call) for name, call in calls.items())
        yield {f"{row} {IN_TORCH}, {layout}": Peer(row, call) for row, layout, call in rows}


def _beside(row: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Median milliseconds, and our time over theirs: median and quartiles over the rounds."""
    low, middle, high = np.percentile(ours / theirs, (25, 50, 75)).tolist()
    times = {"ours_ms": 1e3 * float(np.median(ours)), "torch_ms": 1e3 * float(np.median(theirs))}
    return {"row": row, **times, "ratio": middle, "ratio_p25": low, "ratio_p75": high}


def _backbone(entry: trackers.Entry) -> Callable[[base.Params, jax.Array], Any]:
    """`(params, crops) -> taps`: the part of `features` whose rate is the yardstick of a frame.

    It computes in the type of the parameters.
    """
    if entry.model is None:
        return lambda params, images: filter_bank.extract(params["backbone"], images)
    network = models.networks(entry.model)["backbone"]
    normalize = jnp.asarray if models.get(entry.model).images == "raw" else resnet.normalize

    def taps(params, images):
        dtype = jax.tree.leaves(params["backbone"])[0].dtype
        return network.apply(params["backbone"], normalize(images).astype(dtype))

    return taps


def _rows(
    works: dict[str, roofline.Work | None], sticks: dict[str, roofline.Yardstick], seconds: dict[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Milliseconds of every row, its share of the roofline, and its FLOPs at the rate of the row "backbone".

    seconds: of all rows and yardsticks, round by round. `over_ideal` is the median over the rounds, each row against
    the backbone of its own round; None for a row without FLOPs, and where no row is called "backbone". A row far above
    1 is bound by memory or by many small operations, not by arithmetic.
    """
    ideal = seconds["backbone"] / works["backbone"].flops if "backbone" in works else None  # seconds per FLOP, by round
    rows = {}
    for name, work in works.items():
        each, (flops, moved) = seconds[name], work or roofline.Work(0, 0)
        rows[name] = {
            "median_ms": 1e3 * float(np.median(each)),
            "p95_ms": 1e3 * float(np.percentile(each, 95)),
            "min_ms": 1e3 * float(np.min(each)),
            "flops": flops,
            "bytes": moved,
            "over_ideal": float(np.median(each / (ideal * flops))) if flops and ideal is not None else None,
        }
        rows[name] |= roofline.share(name, work, sticks, seconds) if work else {"roofline_share": None, "bound": None}
    return rows


def _targets(tracker, track: Compiled, params, state, frame, count: int, sticks, repeats: int) -> dict[str, Any]:
    """Frames per second of `count` targets of one video: one call, beside as many calls of one; and the call's row."""
    group = base.many(tracker, count)
    states = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], count, 0), state)
    targets = base.Targets(states, jnp.ones(count, bool))
    together, _ = _compiled(group.track, params, targets, frame, donate=(1,))
    work = _work(group.track, together, params, targets, frame)
    calls = {name: stick.call for name, stick in sticks.items()} | {
        "together": stepper(together, params, targets, frame),
        "alone": stepper(track, params, _copy(state), frame),
    }
    seconds = interleaved(calls, max(3, repeats // count), warm_up=2)
    both, alone = float(np.median(seconds["together"])), float(np.median(seconds["alone"]))
    row = {"median_ms": 1e3 * both, "min_ms": 1e3 * float(np.min(seconds["together"])), **work._asdict()}
    return {
        "count": count,
        "one_call_fps": 1 / both,
        "separate_calls_fps": 1 / (alone * count),
        "speedup": alone * count / both,
        "row": row | roofline.share("together", work, sticks, seconds),
    }


def _scene(options) -> tuple[base.Frame, base.Frame, Any]:
    """Two frames on the device and the target's box in the first."""
    first, second = _clip(options)
    frames = [jax.device_put(trackers.frame(example.image)) for example in (first, second)]
    return frames[0], frames[1], jax.device_put(xywh_to_box(first.box))


def _clip(options) -> list[Any]:
    config = ClipConfig(height=options.height, width=options.width, num_frames=2, target_size=(60.0, 60.0))
    return list(clip(config, seed=0))


def _params(options) -> base.Params:
    if options.weights:
        return jax.device_put(trackers.load_params(options.tracker, options.weights))
    return trackers.init_params(options.tracker, jax.random.key(0))


def _updater(update: Compiled, params, state, *args) -> Callable[[], Any]:
    """A call that updates once more, always at the same frame number, and carries the donated state."""
    number = np.asarray(state.frame_number)

    def step():
        nonlocal state
        state = update(params, state._replace(frame_number=number), *args)
        return state

    return step


def _compiled(function: Callable, *args: Any, donate: tuple[int, ...] = ()) -> tuple[Compiled, float]:
    """As the commands compile a tracker."""
    return compile_timed(function, *args, donate=donate, options=compiler_options())


def _copy(state):
    """A copy in new buffers, to be donated."""
    return jax.tree.map(jnp.copy, state)


def _first_box(entry: trackers.Entry, options) -> None:
    """What a user waits for: parameters (those that come with the package, where none are named), and two boxes."""
    params = jax.device_put(trackers.load_params(options.tracker, options.weights))
    first, second, box = _scene(options)
    init, track = passes.Compiled.of(entry.make(entry.config), stored.made_of(entry, entry.config))
    args = params, jax.random.key(0), first, box
    state = prepare_both(init, track, *args)(*args)
    _, estimate = track.prepare(params, state, second)(params, state, second)
    print("first box", np.asarray(estimate.box.center))


def _start_seconds(options) -> dict[str, float]:
    """From the start of a process to its first box: with an empty compilation cache, and with the filled one."""
    line = [sys.executable, "-m", "eval.benchmark", "--first-box", "--tracker", options.tracker]
    line += ["--height", str(options.height), "--width", str(options.width)]
    line += ["--device", options.device] if options.device else []
    seconds = {}
    with tempfile.TemporaryDirectory() as cache, _file_to_name(options) as weights:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        line += ["--weights", weights] if weights else []
        for name in ("first", "second"):
            start = time.perf_counter()
            subprocess.run(line, check=True, capture_output=True, env=environment)
            seconds[name] = time.perf_counter() - start
    return seconds


@contextmanager
def _file_to_name(options) -> Iterator[str | None]:
    """The file of --weights, or one of random weights: a user reads one, and drawing parameters takes longer.

    None where a user names none: no networks, or weights that come with the package (of another build, its own).
    """
    model = trackers.get(options.tracker).model
    if options.weights or not model or released.path(model):
        yield options.weights
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/random.safetensors"
        files.save(path, _params(options), model=model)
        yield path


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"{report['tracker']} on {report['versions']['device']}, jax {report['versions']['jax']}", ""]
    lines += ["| what | median ms | p95 ms | min ms | GFLOP | over ideal | roofline share | bound |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, row in report["rows"].items():
        if "p95_ms" not in row or name in report["over_torch"]:
            continue  # of several targets and of PyTorch, which have tables of their own
        times = f"{row['median_ms']:.1f} | {row['p95_ms']:.1f} | {row['min_ms']:.1f}"
        work = f"{row['flops'] / 1e9:.2f}" if row["flops"] else ""
        work += f" | {row['over_ideal']:.2f}" if row["over_ideal"] else " | "
        lines.append(f"| {name} | {times} | {work} | {_share(row)} |")
    peaks = report["peaks"]
    product, copy = (f"{peaks[f'{unit}_per_second'] / 1e9:.1f}" for unit in ("flops", "bytes"))
    lines += ["", "Ideal: the FLOPs at the rate that the backbone reaches alone, round by round."]
    lines += [f"Roofline: a matrix product of {product} GFLOP/s and a copy of {copy} GB/s."]
    lines += ["", "| targets | one call, frames/s | separate calls, frames/s | speedup | roofline share | bound |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in report["targets"]:
        rates = f"{row['one_call_fps']:.2f} | {row['separate_calls_fps']:.2f} | {row['speedup']:.2f}"
        shares = _share(report["rows"][f"{row['count']} targets, one call"])
        lines.append(f"| {row['count']} | {rates} | {shares} |")
    if report["over_torch"]:
        lines += ["", "PyTorch in a process of its own, in turns; ratio: ours over it, median (quartiles) of rounds."]
        lines += ["", "| ours | median ms | beside | median ms | ratio |", "|---|---|---|---|---|"]
        for name, peer in report["over_torch"].items():
            ratio = f"{peer['ratio']:.2f} ({peer['ratio_p25']:.2f} to {peer['ratio_p75']:.2f})"
            lines.append(f"| {peer['row']} | {peer['ours_ms']:.1f} | {name} | {peer['torch_ms']:.1f} | {ratio} |")
    compile_s = report["compile_s"]
    lines += ["", f"trace and compile: init {compile_s['init']:.1f} s, track {compile_s['track']:.1f} s"]
    if report["start_to_first_box_s"]:
        starts = (f"{name} start {seconds:.1f} s" for name, seconds in report["start_to_first_box_s"].items())
        lines.append(f"start of the process to first box: {', '.join(starts)}")
    peak = {name: f"{size / 2**20:.0f} MiB" for name, size in report["peak_memory_bytes"].items()}
    return "\n".join([*lines, f"peak memory: {peak}"])


def _share(row: dict[str, Any]) -> str:
    return " | " if row["roofline_share"] is None else f"{row['roofline_share']:.2f} | {row['bound']}"


if __name__ == "__main__":
    sys.exit(main())
