"""Track one or several targets through a video, an image folder or a camera; without arguments, a demo.

    python -m eval.track
    python -m eval.track --video clip.mp4 --box 120,80,40,60 --box 300,90,30,70 --out tracked.webm

The same command again replaces its files; any other file that is in the way is kept, and named before the tracking.
The demo draws a synthetic clip, tracks it with the tracker whose weights come with the package, and writes an
annotated video, the boxes and a plot into demo/. Exit status 0; 1 after an error, which one line names; 130 after
Ctrl-C and 143 after SIGTERM, with everything up to then written.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

import trackers
from eval import annotations, command, parsers, settings
from eval.annotations import table
from eval.command import INTERRUPTED, prepare_process
from eval.files import ResultError, keep_apart, write_atomically
from eval.plots import plot_track
from eval.running import stored
from eval.scoring import metrics
from eval.sources import synthetic, video
from eval.sources.backwards import open_backwards
from eval.sources.sequences import IMAGE_SUFFIXES, list_images
from eval.sources.video import Source, VideoError
from eval.targets import Run, Target, annotated, follow, merged, numbered, starts_of
from trackers import rules

DEMO = "synthetic clip"
# Folders of images whose own name says nothing of the video: the folder around them is meant.
IMAGE_FOLDERS = frozenset("color frame frames image images img imgs jpeg jpg png rgb".split())


def boxes_csv(run: Run) -> str:
    """One line a frame and target: the columns of `eval.annotations.table`."""
    return table.csv_text(annotated(run))


def boxes_json(run: Run, made_from: dict[str, Any]) -> str:
    """The same as JSON, a list of values a target, with `made_from` and the speed."""
    last = run.first + run.step * (len(run.tracked) - 1)
    header = {
        **made_from,
        "first_frame": min(run.first, last),
        "frames": len(run.tracked),
        "backwards": run.step < 0,
        "image_size": run.size,
        "ended_early": "interrupted" if run.interrupted else run.problem,
        "speed": speed(run),
        "versions": settings.versions(),
    }
    return table.json_text(annotated(run), header)


def _image_names(video: Path) -> list[str]:
    """Of the frames, where the video is a folder of images."""
    return [path.name for path in list_images(video)] if video.is_dir() else []


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
    recording: Path | None = None
    others: Mapping[str, Path] = MappingProxyType({})  # format of --to -> file

    def all(self) -> list[Path]:
        return [path for path in (*self[:5], *self.others.values()) if path]


def outputs(arguments: argparse.Namespace) -> Outputs:
    if arguments.video is None and arguments.out is None:
        folder = arguments.out_dir
        named = (folder / name for name in ("video.webm", "boxes.csv", "boxes.json", "plot.png"))
        return Outputs(*named, arguments.rerun, _others(folder / "boxes", arguments.to))
    if arguments.out is None:
        base = arguments.out_dir / f"{_name_of(arguments.video)}_boxes"
    else:
        base = arguments.out.with_suffix("")
    table, stored, plot = (base.with_name(f"{base.name}.{kind}") for kind in ("csv", "json", "png"))
    plot = None if arguments.video else plot
    return Outputs(arguments.out, table, stored, plot, arguments.rerun, _others(base, arguments.to))


def _others(base: Path, names: list[str]) -> dict[str, Path]:
    return {name: base.with_name(f"{base.name}.{name}{annotations.FORMATS[name].suffix}") for name in names}


def _is_camera(video: str) -> bool:
    return video.isdecimal() and not Path(video).exists()


def is_live(source: str) -> bool:
    """A camera or an address: not a file that can be read again."""
    return _is_camera(source) or video.is_address(source)


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


def check_outputs(files: Outputs, video: Path | None, name: str, read: Sequence[Path] = ()) -> None:
    """ResultError where one of `files` is `video`, in it, or one of `read`, or is there and not of a run on `name`."""
    ours = _written_before(files.json, name)
    keep_apart(files.all(), [video, *read])
    for file in files.all():
        if video and file.suffix.lower() in IMAGE_SUFFIXES and file.resolve().parent == video.resolve():
            raise ResultError(f"{file}: would be one more image of the video {video}; choose another --out")
        if file.exists() and file.name not in ours:
            fix = "move it away or choose another --out or --out-dir"
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
    for name, file in files.others.items():
        shown = annotated(run, _name_of(made_from["video"]), _image_names(Path(made_from["video"])))
        write_atomically(file, annotations.FORMATS[name].render(shown))
    measured, count = speed(run), len(run.names)
    print(f"compilation: {measured['compile_s']:.1f} s, not counted below")
    if len(run.tracked) > 1:
        targets = f"{count} target{'s' * (count > 1)}"
        rate = f"{measured['fps']:.1f} fps ({measured['ms_per_frame']:.1f} ms a frame)"
        print(f"tracked {targets} through {len(run.tracked) - 1} frames at {rate}")
        if truth:
            mean = compare(run, truth, f"{made_from['tracker']}, {made_from['video']}", files.plot)
            print(f"mean IoU {mean:.3f} over the frames in which the target is seen, the first not counted")
    note = " (white in the video: the true box)" if truth else ""
    print(f"wrote {', '.join(str(file) for file in files.all() if file.exists())}{note}")


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
    return parsers.track().parse_args(argv)


def chosen_targets(arguments: argparse.Namespace) -> list[Target] | None:
    """The targets of --box, numbered, and of --target; None where they are to be drawn. ValueError as of `merged`."""
    named = [Target(name, {arguments.start if at is None else at: box}) for name, box, at in arguments.target]
    for path in arguments.boxes:
        named += starts_of(path, _name_of(arguments.video), reverse=arguments.reverse)
    return merged([*numbered(arguments.box or [], arguments.start), *named]) or None


def open_video(arguments: argparse.Namespace, targets: list[Target] | None) -> tuple[Source, Run]:
    """The frames in the order in which they are tracked, and what will grow by them.

    VideoError, and ValueError for what cannot be read backwards.
    """
    starts = [frame for target in targets or () for frame in target.starts] or [arguments.start]
    if not arguments.reverse:
        return video.open_source(arguments.video), Run(min(starts))
    if is_live(arguments.video):
        raise ValueError(f"--reverse: {_name_of(arguments.video)} cannot be read backwards; record it to a file first")
    if max(starts) == 0:
        raise ValueError("--reverse: before frame 0 there is nothing to track; give NAME=x,y,w,h@N or --start N")
    return open_backwards(arguments.video, max(starts)), Run(max(starts), step=-1)


@command.reports(ValueError, OSError, interrupted="nothing more was written")
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    prepare_process()
    entry = trackers.get(arguments.tracker)
    config = rules.configure(entry.config, arguments.set)
    params = trackers.load_params(arguments.tracker, arguments.weights)
    if arguments.video is None:
        source, boxes, truth = demo_clip(arguments.seed)
        targets, run = numbered(boxes), Run()
        print(f"demo: {source.name}, {source.count} frames, tracked by {arguments.tracker}")
    else:
        targets, truth = chosen_targets(arguments), None
        source, run = open_video(arguments, targets)
    files = outputs(arguments)
    on_disk = None if arguments.video is None or is_live(arguments.video) else Path(arguments.video)
    name = str(on_disk.resolve()) if on_disk else source.name
    check_outputs(files, on_disk, name, arguments.boxes)
    made_from = {
        "tracker": arguments.tracker,
        "config": settings.plain(config),
        "seed": arguments.seed,
        "weights": settings.params_hash(params),
        "video": name,
        "files": [file.name for file in files.all()],
    }
    options = dict(seed=arguments.seed, out=files.video, window=arguments.show, truth=truth, recording=files.recording)
    options["again"] = lambda: video.open_source(arguments.video)
    options["made_of"] = stored.made_of(entry, config)
    try:
        follow(run, entry.make(config), params, source, targets, **options)
    except VideoError as error:
        if not run.tracked:
            raise
        run.problem = str(error)
    if run.tracked:
        report(run, files, {**made_from, "video_fps": _rate(source)}, truth)
    return _conclude(run)


if __name__ == "__main__":
    sys.exit(main())
