"""Track one or several targets through a video, an image folder or a camera; without arguments, a demo.

    python -m eval.track
    python -m eval.track --video clip.mp4 --box 120,80,40,60 --box 300,90,30,70 --out tracked.webm

The same command again replaces its files; any other file that is in the way is kept, and named before the tracking.
The demo draws a synthetic clip, tracks it with the tracker whose weights come with the package, and writes an
annotated video, the boxes and a plot into demo/. Exit status 0; 1 after an error, which one line names; 130 after
Ctrl-C and 143 after SIGTERM, with everything up to then written.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jax
import numpy as np

import trackers
from eval import command, settings
from eval.command import INTERRUPTED, prepare_process, whole_number
from eval.files import ResultError, keep_apart, write_atomically
from eval.online import check_box
from eval.plots import plot_track
from eval.running.passes import Compiled
from eval.running.progress import progress_bar
from eval.scoring import metrics
from eval.scoring.formats import TRACK_COLUMNS
from eval.sources import synthetic, video
from eval.sources.ahead import read_ahead
from eval.sources.sequences import IMAGE_SUFFIXES
from eval.sources.video import VERDICT_NAMES, Source, VideoError
from eval.sources.video_writer import VideoWriter
from trackers import rules
from trackers.base import FOUND, Params, Tracker, many
from trackers.images import xywh_to_box

DEFAULT_TRACKER = "dimp_tiny"  # its weights come with the package
DEMO = "synthetic clip"
# Folders of images whose own name says nothing of the video: the folder around them is meant.
IMAGE_FOLDERS = frozenset("color frame frames image images img imgs jpeg jpg png rgb".split())


class Tracked(NamedTuple):
    """N targets in one frame; in the first, the boxes given and no score."""

    boxes: np.ndarray  # [N, 4] float64 x, y, w, h, 0-based
    scores: np.ndarray  # [N] float64, nan in the first frame
    confidence: np.ndarray  # [N] float64 in 0..1
    verdicts: np.ndarray  # [N] int, codes of trackers.base
    seconds: float  # for all targets: initialization in the first frame, tracking in the others


@dataclass
class Run:
    """What came of a video, up to its end or to where it was stopped."""

    first: int = 0  # index in the video of the frame the boxes were given on
    tracked: list[Tracked] = field(default_factory=list)
    compile_seconds: float = 0.0
    interrupted: bool = False
    problem: str | None = None  # why it ended before the end of the video


def follow(
    run: Run,
    tracker: Tracker,
    params: Params,
    source: Source,
    boxes: np.ndarray | None,
    *,
    seed: int = 0,
    out: Path | None = None,
    window: bool = False,
    truth: list[synthetic.Example] | None = None,
) -> None:
    """Tracks `boxes` `[N, 4]`, given on frame `run.first`, to the end; None: they are drawn with the mouse.

    `run` grows frame by frame, so it is of use however this ends: a source that proves damaged and Ctrl-C
    end it with a note in `run`. Where `out` is given, a video with the boxes (and `truth`) appears there, whose
    frames have the times of the source's.
    ValueError for a box that is empty or outside; VideoError where frame `run.first` is missing, a box
    stops being finite or the disk is full.
    """
    images = _from_frame(source, run.first)
    first = next(images)
    boxes = video.select_boxes(first) if boxes is None else boxes
    compiled = Compiled.of(many(tracker, len(boxes)))
    readable = _until_damage(itertools.chain([first], images), run)
    total = source.count - run.first if source.count else None
    with contextlib.ExitStack() as stack:
        tracking = track_frames(compiled, params, readable, boxes, seed=seed)
        stack.enter_context(contextlib.closing(tracking))
        writer = stack.enter_context(VideoWriter(out, source.fps)) if out else None
        progress = progress_bar(total, "frame", desc="compiling")
        stack.enter_context(progress)
        try:
            for image, tracked in tracking:
                if not np.isfinite(tracked.boxes).all():
                    raise VideoError(f"frame {run.first + len(run.tracked)}: the tracker's box is not finite")
                run.tracked.append(tracked)
                run.compile_seconds = compiled.init.compile_seconds + compiled.track.compile_seconds
                if len(run.tracked) == 2:  # both functions are compiled: the time left counts from here
                    progress.set_description("tracking", refresh=False)
                    progress.unpause()
                progress.update()
                if not (writer or window):
                    continue
                drawn = _annotated(image, tracked, truth[len(run.tracked) - 1] if truth else None)
                if writer:
                    index = run.first + len(run.tracked) - 1
                    writer.write(drawn, source.times[index] if source.times else None)
                if window and video.show(drawn):
                    break
        except KeyboardInterrupt:
            run.interrupted = True


def track_frames(
    compiled: Compiled, params: Params, images: Iterable[np.ndarray], boxes: np.ndarray, *, seed: int = 0
) -> Iterator[tuple[np.ndarray, Tracked]]:
    """(image, Tracked) for each image, all targets in one compiled call; `compiled` is of `many(tracker, N)`.

    `boxes` `[N, 4]` x, y, w, h lie on the first image (ValueError if one does not). Another thread decodes
    ahead; an image whose size calls for another canvas costs a compilation.
    """
    params = jax.device_put(params)
    keys = jax.random.split(jax.random.key(seed), len(boxes))
    targets = None
    for image, frame in read_ahead((image, trackers.frame(image)) for image in images):
        if targets is None:
            boxes = np.stack([check_box(box, *image.shape[:2]) for box in boxes])
            args = params, keys, *jax.device_put((frame, xywh_to_box(boxes)))
            init = compiled.init.prepare(*args)
            start = perf_counter()
            targets = jax.block_until_ready(init(*args))
            given = np.ones(len(boxes))
            yield image, Tracked(boxes, given * np.nan, given, np.full(len(boxes), FOUND), perf_counter() - start)
            continue
        track = compiled.track.prepare(params, targets, frame)
        start = perf_counter()
        targets, estimates = track(params, targets, jax.device_put(frame))
        box, *rest = jax.device_get((estimates.box, estimates.score, estimates.confidence, estimates.verdict))
        seconds = perf_counter() - start
        score, confidence, verdict = (np.asarray(value, np.float64) for value in rest)
        yield image, Tracked(trackers.xywh(box), score, confidence, verdict.astype(int), seconds)


def _from_frame(source: Source, start: int) -> Iterator[np.ndarray]:
    """The images from frame `start` on; VideoError if there is none."""
    images = itertools.islice(source.frames, start, None)
    first = next(images, None)
    if first is None:
        raise VideoError(f"{source.name}: has no frame {start}; choose a smaller --start")
    return itertools.chain([first], images)


def _until_damage(images: Iterable[np.ndarray], run: Run) -> Iterator[np.ndarray]:
    try:
        yield from images
    except VideoError as error:
        run.problem = str(error)


def _annotated(image: np.ndarray, tracked: Tracked, truth: synthetic.Example | None) -> np.ndarray:
    if truth is not None and truth.visibility > 0:
        image = video.draw_boxes(image, truth.box)
    labels = [
        f"{number} {VERDICT_NAMES[int(verdict)]} {confidence:.2f}"
        for number, (verdict, confidence) in enumerate(zip(tracked.verdicts, tracked.confidence), 1)
    ]
    return video.draw_boxes(image, tracked.boxes, verdicts=tracked.verdicts, labels=labels)


def boxes_csv(run: Run) -> str:
    """One line a frame and target (from 1): `TRACK_COLUMNS`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(TRACK_COLUMNS)
    for index, tracked in enumerate(run.tracked, run.first):
        rows = zip(tracked.boxes, tracked.scores, tracked.confidence, tracked.verdicts)
        for target, (box, score, confidence, verdict) in enumerate(rows, 1):
            numbers = [f"{value:.4f}" for value in box]
            shown = f"{score:.6g}" if np.isfinite(score) else ""
            verdict = VERDICT_NAMES[int(verdict)]
            table.writerow([index, target, *numbers, shown, f"{confidence:.4f}", verdict])
    return text.getvalue()


def boxes_json(run: Run, made_from: dict[str, Any]) -> str:
    """The same as JSON, a list of values a target, with `made_from` and the speed."""
    targets = []
    for target in range(len(run.tracked[0].boxes)):
        targets.append(
            {
                "boxes": [tracked.boxes[target].round(4).tolist() for tracked in run.tracked],
                "scores": [_number(tracked.scores[target]) for tracked in run.tracked],
                "confidence": [_number(tracked.confidence[target]) for tracked in run.tracked],
                "verdicts": [VERDICT_NAMES[int(tracked.verdicts[target])] for tracked in run.tracked],
            }
        )
    whole = {
        **made_from,
        "first_frame": run.first,
        "frames": len(run.tracked),
        "ended_early": "interrupted" if run.interrupted else run.problem,
        "speed": speed(run),
        "versions": settings.versions(),
        "targets": targets,
    }
    return json.dumps(whole, allow_nan=False) + "\n"


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return round(float(value), 6) if np.isfinite(value) else None


def speed(run: Run) -> dict[str, float]:
    """Time of tracking all targets in a frame, without decoding, drawing or compilation, and of the start."""
    seconds = np.array([tracked.seconds for tracked in run.tracked])
    start = round(1e3 * float(seconds[0]), 3)
    measured = {"compile_s": round(run.compile_seconds, 3), "initialization_ms": start}
    if len(seconds) > 1:
        mean = float(seconds[1:].mean())
        measured |= {"ms_per_frame": round(1e3 * mean, 3), "fps": round(1 / mean, 2)}
    return measured


def demo_clip(seed: int) -> tuple[Source, np.ndarray, list[synthetic.Example]]:
    """A synthetic clip: source, first box `[1, 4]`, and a list that grows by the truth of each frame read."""
    config = synthetic.ClipConfig()
    scene, truth = synthetic.make_scene(config, seed), []

    def frames():
        for index in range(config.num_frames):
            example = synthetic.render(scene, index)
            truth.append(example._replace(image=None))
            yield example.image

    source = Source(f"{DEMO} {seed}", frames(), video.DEFAULT_FPS, config.num_frames)
    return source, synthetic.render(scene, 0).box[None], truth


def compare(run: Run, truth: list[synthetic.Example], title: str, plot: Path) -> float:
    """Mean IoU over the frames after the first in which the target is seen, nan if none; and a plot of it."""
    truth = truth[: len(run.tracked)]
    predicted = np.array([tracked.boxes[0] for tracked in run.tracked])
    overlap = metrics.overlaps(predicted, np.array([example.box for example in truth]))
    visibility = np.array([example.visibility for example in truth])
    confidence = np.array([tracked.confidence[0] for tracked in run.tracked])
    counted = overlap[1:][visibility[1:] > 0]
    mean = float(counted.mean()) if len(counted) else float("nan")
    seen = np.where(visibility > 0, overlap, np.nan)
    plot_track(plot, seen, confidence, visibility, f"{title}: mean IoU {mean:.3f}")
    return mean


class Outputs(NamedTuple):
    """Where results go."""

    video: Path | None
    csv: Path
    json: Path
    plot: Path | None = None


def outputs(arguments: argparse.Namespace) -> Outputs:
    if arguments.video is None and arguments.out is None:
        folder = arguments.out_dir
        return Outputs(*(folder / name for name in ("video.webm", "boxes.csv", "boxes.json", "plot.png")))
    if arguments.out is None:
        base = arguments.out_dir / f"{_name_of(arguments.video)}_boxes"
    else:
        base = arguments.out.with_suffix("")
    table, stored, plot = (base.with_name(f"{base.name}.{kind}") for kind in ("csv", "json", "png"))
    return Outputs(arguments.out, table, stored, None if arguments.video else plot)


def _is_camera(video: str) -> bool:
    return video.isdecimal() and not Path(video).exists()


def _name_of(source: str) -> str:
    """What the results of a video, a folder of images, a camera or an address are called."""
    if _is_camera(source):
        return f"camera{source}"
    if video.is_address(source):
        parts = urlsplit(source)
        return Path(parts.path).stem or parts.hostname or "video"
    path = Path(source).resolve()
    if not path.is_dir():
        return path.stem
    return next((folder.name for folder in (path, *path.parents) if folder.name.lower() not in IMAGE_FOLDERS), "")


def check_outputs(files: Outputs, video: Path | None, name: str) -> None:
    """ResultError where one of `files` is `video` or a picture in it, or is there and not from a run on `name`."""
    ours = _written_before(files.json, name)
    for file in filter(None, files):
        keep_apart([file], [video])
        if video and file.suffix.lower() in IMAGE_SUFFIXES and file.resolve().parent == video.resolve():
            raise ResultError(f"{file}: would be one more image of the video {video}; choose another --out")
        if file.exists() and file.name not in ours:
            fix = "move it away or choose another --out or --out_dir"
            raise ResultError(f"{file}: is there already, and not from tracking {name}; {fix}")


def _written_before(path: Path, name: str) -> list[str]:
    """The files of the run whose JSON is `path`; none where it is not of a run on `name` (one demo is as any other)."""
    try:
        stored = json.loads(path.read_text())
        same = stored["video"] == name or (name.startswith(DEMO) and stored["video"].startswith(DEMO))
        return list(stored["files"]) if same else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def report(run: Run, files: Outputs, made_from: dict[str, Any], truth: list[synthetic.Example] | None):
    """Writes the boxes (and the plot where the truth is known) and prints the speed."""
    write_atomically(files.csv, boxes_csv(run))
    write_atomically(files.json, boxes_json(run, made_from))
    measured, count = speed(run), len(run.tracked[0].boxes)
    print(f"compiled in {measured['compile_s']:.1f} s (not counted below; the next run reuses most of it)")
    if len(run.tracked) > 1:
        targets = f"{count} target{'s' * (count > 1)}"
        rate = f"{measured['fps']:.1f} fps ({measured['ms_per_frame']:.1f} ms a frame)"
        print(f"tracked {targets} through {len(run.tracked) - 1} frames at {rate}")
        if truth:
            mean = compare(run, truth, f"{made_from['tracker']}, {made_from['video']}", files.plot)
            print(f"mean IoU {mean:.3f} over the frames in which the target is seen, the first not counted")
    note = " (white in the video: the true box)" if truth else ""
    print(f"wrote {', '.join(str(file) for file in files if file and file.exists())}{note}")


def _conclude(run: Run) -> int:
    if run.problem:
        return command.fail(run.problem)
    if run.interrupted:
        done = f" after {len(run.tracked)} frames; they are written" if run.tracked else "; nothing was tracked yet"
        print(f"interrupted{done}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _rate(source: Source) -> float:
    """Frames/s by the times of the frames that were read, or as the source states it."""
    return round((len(source.times) - 1) / source.times[-1], 3) if len(source.times) > 1 else source.fps


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = command.make_parser(
        "eval.track",
        "Track targets through a video, an image folder or a camera. Without --video: a demo.",
        "python -m eval.track --video clip.mp4 --box 120,80,40,60 --out tracked.webm",
    )
    add = parser.add_argument
    add("--tracker", default=DEFAULT_TRACKER, help="name, or MODULE:ATTRIBUTE of your own (default: %(default)s)")
    command.add_tracker_changes(parser)
    add("--video", metavar="FILE|DIR|CAMERA|URL", help="a video, a folder of images, a camera's number, an address")
    add("--box", type=_box, action="append", metavar="X,Y,W,H", help="a target, 0-based pixels; repeatable")
    add("--start", type=whole_number(0), default=0, metavar="N", help="frame the boxes are given on (default: 0)")
    add("--out", type=Path, metavar="FILE", help="annotated .mp4, .webm or .webp (short); boxes beside it")
    add("--out_dir", type=Path, help="folder of the boxes where --out is absent (default: ., demo: demo)")
    add("--show", action="store_true", help="a window; without --box, draw the boxes in it with the mouse")
    add("--seed", type=whole_number(0), default=0, help="of the tracker, and of the demo's clip (default: 0)")
    arguments = parser.parse_args(argv)
    if arguments.video is None and (arguments.box or arguments.start):
        parser.error("--box and --start belong to --video")
    if arguments.video is not None and not arguments.box and not arguments.show:
        parser.error("give the target with --box x,y,w,h, or --show to draw it")
    if arguments.out_dir is None:
        arguments.out_dir = Path("." if arguments.video is not None else "demo")
    return arguments


def _box(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,w,h (where x is negative write --box=x,y,w,h)")
    return values


@command.reports(ValueError, OSError, interrupted="nothing more was written")
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    prepare_process()
    entry = trackers.get(arguments.tracker)
    config = rules.configure(entry.config, arguments.set)
    params = trackers.load_params(arguments.tracker, arguments.weights)
    if arguments.video is None:
        source, boxes, truth = demo_clip(arguments.seed)
        print(f"demo: {source.name}, {source.count} frames, tracked by {arguments.tracker}")
    else:
        source, truth = video.open_source(arguments.video), None
        boxes = np.array(arguments.box) if arguments.box else None
    files, run = outputs(arguments), Run(arguments.start)
    live = arguments.video is None or _is_camera(arguments.video) or video.is_address(arguments.video)
    on_disk = None if live else Path(arguments.video)
    name = str(on_disk.resolve()) if on_disk else source.name
    check_outputs(files, on_disk, name)
    made_from = {
        "tracker": arguments.tracker,
        "config": settings.plain(config),
        "seed": arguments.seed,
        "weights": settings.params_hash(params),
        "video": name,
        "files": [file.name for file in files if file],
    }
    options = dict(seed=arguments.seed, out=files.video, window=arguments.show, truth=truth)
    try:
        follow(run, entry.make(config), params, source, boxes, **options)
    except VideoError as error:
        if not run.tracked:
            raise
        run.problem = str(error)
    if run.tracked:
        report(run, files, {**made_from, "video_fps": _rate(source)}, truth)
    return _conclude(run)


if __name__ == "__main__":
    sys.exit(main())
