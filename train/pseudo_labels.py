"""Boxes for videos without any: what moves is tracked forward and back, and kept where both passes agree.

    python -m train.pseudo_labels --source CLIPS --weights r18.safetensors --out FOLDER

CLIPS holds folders NAME/img of images. FOLDER becomes a source of the layout `folder`: NAME_1, NAME_2 ... with img/ and
groundtruth_rect.txt, nan where the passes do not agree or the tracker says that the target is lost. A pass back that
does not come to the box from which the pass forward began proves that one of them went astray: then nothing is kept.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from eval import command, settings
from eval.command import prepare_process
from eval.files import ResultError, read_json, write_atomically
from eval.online import check_box
from eval.running import stored
from eval.running.progress import ProgressBar
from eval.scoring.metrics import overlaps
from eval.sources.sequences import SequenceError, list_images, read_image
from eval.targets import Programs, numbered, track_frames
from trackers import rules
from trackers.base import LOST, Params
from trackers.rules import COUNT, FRACTION, NOT_NEGATIVE, SettingError
from trackers.weights import files
from train import parsers
from train.moving_regions import APART, find_moving, overlapping

SUMMARY = "pseudo_labels.json"  # in the folder: what it was made from, and what came of each clip


@dataclass(frozen=True)
class Config:
    """What is looked for, and what is kept."""

    per_clip: Annotated[int, COUNT] = 4  # targets that are tried
    segment: Annotated[int, COUNT] = 24  # frames that a target is followed at most
    agree: Annotated[float, FRACTION] = 0.7  # IoU above which two passes agree
    least: Annotated[int, COUNT] = 5  # frames in a row in which they must
    seed: Annotated[int, NOT_NEGATIVE] = 0


def label_clip(
    programs: Programs, params: Params, paths: Sequence[Path], config: Config
) -> list[tuple[int, np.ndarray]]:
    """The targets of a clip that were tried: (first frame, `[T, 4]` x, y, w, h of it and the frames after, or nan).

    What moves is looked for near the clip's begin and again after every quarter of a segment, where it is tried unless
    it is followed already. SequenceError for an image that cannot be read, or of another size.
    """
    tried: list[tuple[int, np.ndarray]] = []
    for first in range(APART, len(paths) - max(APART, config.least - 1), max(config.segment // 4, 1)):
        images = [read_image(paths[first + step]) for step in (-APART, 0, APART)]
        if len({image.shape for image in images}) > 1:
            raise SequenceError(f"{paths[first]}: its neighbors have another size; give images of one size")
        known = [boxes[first - start] for start, boxes in tried if first - start < len(boxes)]
        for region in find_moving(*images, config.per_clip):
            if len(tried) < config.per_clip and not overlapping(region.box, known):
                segment = paths[first : first + config.segment]
                tried.append((first, agreed(programs, params, segment, region.box, config)))
    return tried


def agreed(programs: Programs, params: Params, paths: Sequence[Path], box: np.ndarray, config: Config) -> np.ndarray:
    """`[T, 4]` x, y, w, h in T images: the mean of a pass forward from `box` and one back from where that one ended.

    nan in frames where the passes do not agree; in all of them where they do not in the first, or in too few in a row.
    """
    nothing = np.full((len(paths), 4), np.nan)
    forward = _follow(programs, params, paths, box, config.seed)
    last = int(np.flatnonzero(np.isfinite(forward[:, 0])).max())
    backward = nothing.copy()
    backward[last::-1] = _follow(programs, params, paths[last::-1], forward[last], config.seed)
    same = overlaps(forward, backward) > config.agree
    if not same[0] or longest_run(same) < config.least:
        return nothing
    return np.where(same[:, None], (forward + backward) / 2, np.nan)


def longest_run(flags: np.ndarray) -> int:
    """How many of the flags `[T]` in a row are set, at most."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]])))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def _follow(programs: Programs, params: Params, paths: Sequence[Path], box: np.ndarray, seed: int) -> np.ndarray:
    """`[T, 4]` x, y, w, h of one pass, the first of which is `box`; nan where the target is lost, or none is left."""
    boxes = []
    images = (read_image(path) for path in paths)
    with closing(track_frames(programs, params, images, numbered([box]), seed=seed)) as tracking:
        for image, one, _ in tracking:
            seen = one.verdicts[0] != LOST and _can_start(one.boxes[0], image)
            boxes.append(one.boxes[0] if seen else np.full(4, np.nan))
    return np.array(boxes)


def _can_start(box: np.ndarray, image: np.ndarray) -> bool:
    """Whether a pass back may start on a box: finite, of a pixel or more, not outside of the image."""
    try:
        check_box(box, *image.shape[:2])
    except ValueError:
        return False
    return True


def write_sequence(folder: Path, paths: Sequence[Path], boxes: np.ndarray) -> None:
    """A sequence of the layout `folder`, whole or not at all, in place of one of that name; up to its last box.

    Images are hard links where the file system has them, else copies, numbered from 1. OSError.
    """
    count = int(np.flatnonzero(np.isfinite(boxes[:, 0])).max()) + 1
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "img").mkdir(parents=True)
    for number, path in enumerate(paths[:count], 1):
        image = part / "img" / f"{number:08}{path.suffix}"
        try:
            os.link(path, image)
        except OSError:
            shutil.copyfile(path, image)
    np.savetxt(part / "groundtruth_rect.txt", boxes[:count], fmt="%.3f", delimiter=",")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def find_clips(source: Path) -> dict[str, list[Path]]:
    """Name -> images in order, of every folder NAME/img; SequenceError where there is none."""
    found = sorted(path.parent for path in source.glob("*/img") if path.is_dir() and path.parent.name[0] != ".")
    if not found:
        raise SequenceError(f"{source}: no folder NAME/img; give the folder of the clips, with images in each img/")
    return {folder.name: list_images(folder / "img") for folder in found}


def open_summary(out: Path, made_from: dict[str, Any]) -> dict[str, Any]:
    """The summary of `out`, begun where the folder is new or empty; ResultError where it holds anything else."""
    stored = read_json(out / SUMMARY)
    if not stored and out.is_dir() and any(out.iterdir()):
        raise ResultError(f"{out}: holds files, but no {SUMMARY}; choose another --out")
    others = [name for name, value in made_from.items() if stored and stored.get(name) != value]
    if others:
        raise ResultError(f"{out}: made from other settings ({', '.join(others)}); choose another --out")
    return stored or {**made_from, "versions": settings.versions(), "clips": {}}


def label_clips(
    programs: Programs, params: Params, clips: dict[str, list[Path]], out: Path, summary: dict
) -> list[str]:
    """Labels the clips that `summary`, which is written after each, does not list; a line for each that cannot be."""
    config, problems = Config(**summary["labels"]), []
    todo = {name: paths for name, paths in clips.items() if name not in summary["clips"]}
    with ProgressBar(len(todo), "clip") as progress:
        for name, paths in todo.items():
            try:
                tried = label_clip(programs, params, paths, config)
            except SequenceError as error:
                problems.append(f"{name}: {error}")
                continue
            targets = []
            for first, boxes in tried:
                kept = int(np.isfinite(boxes[:, 0]).sum())
                target = f"{name}_{len(targets) + 1}"
                if kept:
                    write_sequence(out / target, paths[first:], boxes)
                    targets.append({"name": target, "first": first, "followed": len(boxes), "kept": kept})
            summary["clips"][name] = {"frames": len(paths), "tried": len(tried), "targets": targets}
            write_atomically(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
            progress.update()
    return problems


def counts(summary: dict[str, Any]) -> str:
    """One line."""
    clips = summary["clips"].values()
    targets = [target for clip in clips for target in clip["targets"]]
    tried, frames = sum(clip["tried"] for clip in clips), sum(target["followed"] for target in targets)
    kept, used = sum(target["kept"] for target in targets), sum(bool(clip["targets"]) for clip in clips)
    return (
        f"{len(targets)} of {tried} targets survive, in {used} of {len(clips)} clips; "
        f"boxes in {kept} of the {frames} frames that these were followed in"
    )


@command.reports(
    *(SequenceError, ResultError, SettingError, OSError),
    interrupted="finished clips are kept, the same command does the others",
)
def main(argv: list[str] | None = None) -> int:
    """The command."""
    arguments = parsers.pseudo_labels().parse_args(argv)
    prepare_process()
    config = Config(**{name: getattr(arguments, name) for name in asdict(Config())})
    rules.validate(config)
    clips = find_clips(arguments.source)
    entry, params = command.load_tracker(arguments.tracker, arguments.weights)
    tracker_config = rules.configure(entry.config, arguments.set)
    made_from = {
        "tracker": arguments.tracker,
        "config": settings.plain(tracker_config),
        "weights": settings.params_hash(params),
        "weights_sha256": files.sha256(arguments.weights) if arguments.weights else None,
        "labels": asdict(config),
    }
    summary = open_summary(arguments.out, made_from)
    write_atomically(arguments.out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    programs = Programs.of(entry.make(tracker_config), 1, stored.made_of(entry, tracker_config))
    problems = label_clips(programs, jax.device_put(params), clips, arguments.out, summary)
    print(f"{arguments.out}: {counts(summary)}")
    return command.print_skipped(problems)


if __name__ == "__main__":
    sys.exit(main())
