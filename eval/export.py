"""Export a tracker to one file that runs without this package: `init` and `track` as StableHLO, weights, manifest.

    python -m eval.export --tracker dimp18 --weights dimp18.safetensors --out dimp18.stablehlo

All that is needed to run it is jax, numpy and flatbuffers: eval/README.md shows how.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import trackers
from eval import command, parsers, settings
from eval.command import prepare_process
from eval.files import ResultError, keep_apart, write_atomically
from eval.measure.timing import compile_timed, interleaved
from eval.parsers import ANY, PLATFORMS
from eval.sources.synthetic import ClipConfig, clip
from ops.boxes import from_xywh, to_xywh
from trackers import rules
from trackers.base import Frame, Params, Tracker
from trackers.images import canvas_size
from trackers.rules import SettingError

Array = jax.Array

FORMAT = "jaxtrack-stablehlo-1"
KEY_KIND = "threefry2x32"  # of the raw PRNG keys in arguments and states
CHECKED_FRAMES = 8
MEANINGS = {
    "weights": "the arrays that `weights` of the manifest names, in its order",
    "key": "raw key of JAX's threefry2x32 generator, numpy.uint32([0, seed])",
    "image": "uint8 RGB; a smaller image lies in the upper left corner",
    "extent": "true height and width of the image",
    "box": "x, y, w, h in image pixels; pixel i has its center at i, x and y are the left and upper edge pixels",
    "state": "what init and track return first, handed on unchanged",
    "score": "the tracker's own",
    "confidence": "in 0..1",
    "verdict": "0 found, 1 uncertain, 2 a distractor is near, 3 lost (the box is the last one)",
}


class Flat(NamedTuple):
    """A tracker as functions of arrays and lists of arrays."""

    init: Callable[..., list[Array]]  # (weights, key [2] uint32, image, extent, box [4]) -> state
    track: Callable[..., tuple]  # (weights, state, image, extent) -> (state, box, score, confidence, verdict)


class Exported(NamedTuple):
    """The functions and the manifest of an exported file."""

    init: Callable[..., list[Array]]  # as of `Flat`
    track: Callable[..., tuple]
    weights: list[np.ndarray]
    manifest: dict[str, Any]


def flatten(tracker: Tracker, params: Params, canvas: tuple[int, int]) -> Flat:
    """The tracker without its own types: boxes are x, y, w, h (`[4]` float32), keys raw, states lists of arrays.

    params: their structure counts, e.g. with `jax.ShapeDtypeStruct` leaves. canvas: height and width of the frames.
    """
    structure = jax.tree.structure(params)

    def start(weights, key, image, extent, box):
        key = jax.random.wrap_key_data(key, impl=KEY_KIND)
        return tracker.init(structure.unflatten(weights), key, Frame(image, extent), from_xywh(box))

    shapes = (jax.tree.leaves(params), *_inputs(canvas)["key"], *_inputs(canvas)["frame"], *_inputs(canvas)["box"])
    leaves, state_structure = jax.tree.flatten(jax.eval_shape(start, *shapes))
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]

    def to_list(state):
        return [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(jax.tree.leaves(state), is_key)]

    def init(weights, key, image, extent, box):
        return to_list(start(weights, key, image, extent, box))

    def track(weights, state, image, extent):
        state = [jax.random.wrap_key_data(leaf, impl=KEY_KIND) if key else leaf for leaf, key in zip(state, is_key)]
        state, estimate = tracker.track(
            structure.unflatten(weights), state_structure.unflatten(state), Frame(image, extent)
        )
        return to_list(state), to_xywh(estimate.box), estimate.score, estimate.confidence, estimate.verdict

    return Flat(init, track)


def over_targets(flat: Flat) -> Flat:
    """The same for targets of one video: key, box, state and all results have a leading axis."""
    return Flat(jax.vmap(flat.init, (None, 0, None, None, 0)), jax.vmap(flat.track, (None, 0, None, None)))


def _inputs(canvas: tuple[int, int], targets: tuple = ()) -> dict[str, list[jax.ShapeDtypeStruct]]:
    def shape(dtype, *sizes):
        return jax.ShapeDtypeStruct(sizes, dtype)

    return {
        "key": [shape(jnp.uint32, *targets, 2)],
        "frame": [shape(jnp.uint8, *canvas, 3), shape(jnp.int32, 2)],
        "box": [shape(jnp.float32, *targets, 4)],
    }


def export_tracker(
    tracker: Tracker,
    params: Params,
    canvas: tuple[int, int],
    *,
    targets: int | str = 1,
    platforms: tuple[str, ...] = PLATFORMS,
    about: dict[str, Any] | None = None,
) -> bytes:
    """The content of a file: an .npz archive (no pickles) of "manifest", "init", "track" and the weights.

    canvas: height and width of the frames it takes. targets: 1, without an axis of targets; a number; or "any", one
    program for any number. about: JSON-ready, for the manifest: tracker, config, versions.
    SettingError, one line, where the tracker cannot be exported so.
    """
    weights = {
        "weights/" + "/".join(str(entry.key) for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in weights.values()]
    flat, axes = flatten(tracker, params, canvas), ()
    if targets != 1:
        flat = over_targets(flat)
        axes = jax_export.symbolic_shape("n") if targets == ANY else (targets,)
    inputs = _inputs(canvas, axes)
    try:
        first = (shapes, *inputs["key"], *inputs["frame"], *inputs["box"])
        init = jax_export.export(jax.jit(flat.init), platforms=platforms)(*first)
        state = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in init.out_avals]
        track = jax_export.export(jax.jit(flat.track), platforms=platforms)(shapes, state, *inputs["frame"])
        programs = {"init": init.serialize(), "track": track.serialize()}
    except ImportError as error:
        raise SettingError(f"{error}: pip install 'jaxtrack[export]'") from error
    except (TypeError, ValueError, NotImplementedError) as error:
        wanted = "any number of targets; give a number" if targets == ANY else f"{', '.join(platforms)}"
        reason = " ".join(str(error).split())
        raise SettingError(f"this tracker cannot be exported for {wanted} ({reason:.160})") from error
    manifest = {
        "format": FORMAT,
        "canvas": [*canvas, 3],
        "targets": targets,
        "platforms": list(platforms),
        "calling_convention": init.calling_convention_version,
        "init": _signature(init, ("weights", "key", "image", "extent", "box"), ("state",)),
        "track": _signature(
            track, ("weights", "state", "image", "extent"), ("state", "box", "score", "confidence", "verdict")
        ),
        "meanings": MEANINGS,
        "weights": list(weights),
        **(about or {}),
    }
    arrays = {name: np.frombuffer(program, np.uint8) for name, program in programs.items()}
    arrays["manifest"] = np.frombuffer(json.dumps(manifest, indent=1).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays, **weights)
    return content.getvalue()


def _signature(exported: jax_export.Exported, arguments: tuple[str, ...], results: tuple[str, ...]) -> dict[str, Any]:
    """Names, shapes and dtypes of arguments and results, as text; a list of them for a list of arrays."""

    def described(names, tree, avals):
        leaves = [f"{leaf.dtype.name}[{', '.join(map(str, leaf.shape))}]" for leaf in avals]
        tree = jax.tree.unflatten(tree, leaves)
        return dict(zip(names, tree if isinstance(tree, tuple) else (tree,), strict=True))

    positional, _ = exported.in_tree.children()
    return {
        "arguments": {
            name: text
            for name, text in described(arguments, positional, exported.in_avals).items()
            if name != "weights"
        },
        "results": described(results, exported.out_tree, exported.out_avals),
    }


def load(path: Path | str) -> Exported:
    """The functions, weights and manifest of a file of `export_tracker`, every byte checked by its checksum.

    The functions are meant to be jitted. ResultError, one line that names the file, if it is damaged or not exported.
    """
    try:
        file = np.load(path)
        if not isinstance(file, np.lib.npyio.NpzFile) or "manifest" not in file:
            raise ResultError(f"{path}: not an exported tracker; make it with eval.export")
        with file:
            manifest = json.loads(bytes(file["manifest"]))
            if manifest.get("format") != FORMAT:
                found = manifest.get("format")
                raise ResultError(f"{path}: its format is {found}, not {FORMAT}; export the tracker again")
            init, track = (jax_export.deserialize(bytearray(file[name])) for name in ("init", "track"))
            weights = [file[name] for name in manifest["weights"]]
            if not all(isinstance(weight, np.ndarray) for weight in weights):
                raise ValueError("a weight is no array")
            return Exported(init.call, track.call, weights, manifest)
    except ResultError:
        raise
    except ImportError as error:
        raise ResultError(f"{path}: {error}: pip install 'jaxtrack[export]'") from error
    except FileNotFoundError as error:
        raise ResultError(f"{path}: no such file") from error
    except Exception as error:  # of NumPy, zipfile, flatbuffers and JAX, for damaged bytes
        reason = " ".join(str(error).split())
        raise ResultError(f"{path}: damaged, or not an exported tracker ({reason:.120}); export it again") from error


def compare(path: Path, tracker: Tracker, params: Params, canvas: tuple[int, int], repeats: int = 10) -> dict[str, Any]:
    """The file beside the jitted functions on a drawn clip: largest difference of a box, milliseconds, seconds.

    With an axis of targets, of as many as were exported, or of two.
    """
    exported = load(path)
    targets = exported.manifest["targets"]
    count = 2 if targets == ANY else targets
    flat = flatten(tracker, params, canvas)
    flat = flat if targets == 1 else over_targets(flat)
    frames, box = _drawn(canvas)
    key, box = np.zeros(2, np.uint32), box.astype(np.float32)
    if targets != 1:
        key, box = (np.repeat(one[None], count, 0) for one in (key, box))
    boxes, steps, compile_seconds = {}, {}, {}
    for name, one in {"jitted": flat, "exported": exported}.items():
        weights = jax.device_put(list(exported.weights) if name == "exported" else jax.tree.leaves(params))
        init, init_seconds = compile_timed(one.init, weights, key, *frames[0], box)
        state = init(weights, key, *frames[0], box)
        track, track_seconds = compile_timed(one.track, weights, state, *frames[1], donate=(1,))
        found = []
        for frame in frames[1:]:
            state, at, *_ = track(weights, state, *frame)
            found.append(np.asarray(at))
        boxes[name] = np.stack(found)
        compile_seconds[name] = init_seconds + track_seconds
        steps[name] = _stepper(track, weights, state, frames[-1])
    seconds = interleaved(steps, repeats)
    return {
        "box_difference": float(np.abs(boxes["exported"] - boxes["jitted"]).max()),
        "frames": len(frames) - 1,
        "targets": count,
        "track_ms": {name: 1e3 * float(np.median(each)) for name, each in seconds.items()},
        "compile_s": compile_seconds,
    }


def _stepper(track: Callable, weights, state, frame: Frame) -> Callable[[], Any]:
    """A call that tracks one more frame and carries the donated state."""

    def step():
        nonlocal state
        state, *estimate = track(weights, state, *frame)
        return estimate

    return step


def _drawn(canvas: tuple[int, int]) -> tuple[list[Frame], np.ndarray]:
    """Frames of a clip on the canvas, and the target's box x, y, w, h in the first."""
    sides = {"height": min(canvas[0], 240), "width": min(canvas[1], 320)}
    drawn = list(clip(ClipConfig(**sides, num_frames=CHECKED_FRAMES), seed=0))
    return [trackers.frame(example.image, canvas) for example in drawn], drawn[0].box


def describe(path: Path) -> str:
    """What is in a file, as text; ResultError as for `load`."""
    exported = load(path)
    try:
        return _description(path, exported)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(f"{path}: its manifest is damaged ({error!r:.120}); export it again") from error


def _description(path: Path, exported: Exported) -> str:
    manifest = exported.manifest
    size, of_weights = path.stat().st_size, sum(weight.nbytes for weight in exported.weights)
    lines = [
        f"{path}: {manifest.get('tracker', 'tracker')}, {size / 2**20:.1f} MiB",
        f"weights {of_weights / 2**20:.1f} MiB in {len(exported.weights)} arrays, programs "
        f"{(size - of_weights) / 2**20:.1f} MiB for {', '.join(manifest['platforms'])}",
        f"canvas {manifest['canvas'][0]}x{manifest['canvas'][1]}, targets: {manifest['targets']}",
    ]
    for name in ("init", "track"):
        for kind, values in manifest[name].items():
            for value, text in values.items():
                text = text if isinstance(text, str) else f"{len(text)} arrays"
                lines.append(f"{name} {kind[:-1]} {value}: {text}")
    return "\n".join(lines)


@command.reports(SettingError, ResultError)
def main(argv: list[str] | None = None) -> None:
    """Export a tracker, or describe a file."""
    arguments = parsers.export().parse_args(argv)
    prepare_process()
    if arguments.describe:
        print(describe(arguments.describe))
    else:
        _export(arguments)


def _export(arguments: argparse.Namespace) -> None:
    if not arguments.out:
        raise SettingError("give --out, the file to write")
    keep_apart([arguments.out], [arguments.weights])
    entry, params = command.load_tracker(arguments.tracker, arguments.weights)
    config = rules.configure(entry.config, arguments.set)
    tracker, canvas = entry.make(config), canvas_size(*arguments.size)
    about = {
        "tracker": arguments.tracker,
        "config": settings.plain(config),
        "weights_hash": settings.params_hash(params),
        "versions": settings.versions(),
    }
    content = export_tracker(
        tracker, params, canvas, targets=arguments.targets, platforms=arguments.platforms, about=about
    )
    write_atomically(arguments.out, content)
    print(describe(arguments.out))
    if arguments.benchmark:
        found = compare(arguments.out, tracker, params, canvas)
        print(f"largest difference of a box in {found['frames']} frames: {found['box_difference']:.2e} pixels")
        for name in ("jitted", "exported"):
            print(f"{name}: {found['track_ms'][name]:.1f} ms a frame, compiled in {found['compile_s'][name]:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
