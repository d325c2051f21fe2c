"""How many boxes a person draws until every frame of a clip has a right one: with a tracker, and with straight lines.

    python -m eval.claims.effort --out effort.json
    python -m eval.claims.effort --tracker siamfc --clips 10 --hard --out effort.json

A simulated annotator works on drawn clips, whose boxes are known, by the actions of the page (`eval.web.document`) and
by `RULE`. A person's boxes are not as exact, and a person sees a tracker fail without looking at every frame.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from eval import command, parsers, settings
from eval.command import prepare_process
from eval.files import ResultError, keep_apart, write_atomically
from eval.running.progress import ProgressBar
from eval.scoring import metrics
from eval.sources import synthetic
from eval.sources.clips import HIDDEN
from eval.targets import Programs, Target, track_frames
from eval.web import document as web
from eval.web.document import BACKWARD, FORWARD, Document, Entry
from trackers import rules
from trackers.base import LOST, Params

RIGHT = 0.7  # IoU above which a box need not be drawn again
RULE = (
    "the true box is drawn, a key frame, where IoU is least, in the earliest of equal frames, until it is"
    " above 0.7 in every frame that counts; no box, and the box of a target said to be lost, have IoU"
    " 0; the true box holds hidden parts as well, so frames in which less than half of the target is seen are"
    " not counted and cost nothing."
    " tracker: begins with the first frame that counts; after each box it runs forward to the next key"
    " frame or the end and, where there is a key frame before, backward to that one; where both ran, they are blended."
    " lines: begins with the first and the last frame that count; between key frames boxes lie on a"
    " line. fewest: lines between the fewest key frames that do, found with all true boxes known, as no person can."
)
WAYS = ("tracker", "lines", "fewest")

Fill = Callable[[Document, int, int], Document]  # (document, target, new key frame) -> with boxes around it


class Clip(NamedTuple):
    """T frames with one target."""

    images: Sequence[np.ndarray]  # [H, W, 3] uint8 RGB
    boxes: np.ndarray  # [T, 4] x, y, w, h
    seen: np.ndarray  # [T] bool, whether the frame counts


class Cost(NamedTuple):
    """What tracking has cost so far."""

    frames: int = 0
    seconds: float = 0.0  # without decoding and compilation


def drawn(config: synthetic.ClipConfig, seed: int) -> Clip:
    """A clip in memory; ValueError where none of its frames counts.

    A frame counts where at least half of the target is seen.
    """
    examples = list(synthetic.clip(config, seed))
    seen = np.array([example.visibility >= HIDDEN for example in examples])
    if not seen.any():
        raise ValueError(f"the target of clip {seed} is half seen in no frame; choose another --seed, or more --frames")
    return Clip([example.image for example in examples], np.stack([example.box for example in examples]), seen)


def annotate(clip: Clip, starts: Sequence[int], fill: Fill) -> list[int]:
    """The key frames, ascending, that were needed: `starts`, and the worst frame until all are right."""
    document, target_id = Document(), None
    todo = list(starts)
    while todo:
        for frame in todo:
            document, target_id = web.draw(document, target_id, frame, clip.boxes[frame])
            document = fill(document, target_id, frame)
        worst = worst_frame(document.target(target_id), clip)
        todo = [] if worst is None else [worst]
    return [*document.target(target_id).keys]


def worst_frame(target: web.Target, clip: Clip) -> int | None:
    """The first of the frames with the least IoU, of those in which the target is seen; None: all are right."""
    rows = web.rows(target, 0, len(clip.seen) - 1)
    boxes = [row.box if row and row.verdict != LOST else (0, 0, 0, 0) for row in rows]
    overlap = np.where(clip.seen, metrics.overlaps(np.array(boxes), clip.boxes), 1)
    worst = int(overlap.argmin())
    return None if overlap[worst] > RIGHT else worst


def lines(document: Document, target_id: int, frame: int) -> Document:
    """With lines from the key frames around `frame` to it."""
    alone = len(document.target(target_id).keys) < 2
    return document if alone else web.interpolate(document, target_id, frame)


def fewest(clip: Clip) -> list[int]:
    """The fewest key frames between which lines are right, ascending; of several choices one."""
    seen = np.flatnonzero(clip.seen)
    parent = {int(seen[0]): None}  # of a key frame: the one before it, with as few before that as can be
    ends = [int(seen[0])]
    while ends and int(seen[-1]) not in parent:
        reached = []
        for a in ends:
            for b in map(int, seen[seen > a]):
                if b not in parent and _is_right(clip, a, b):
                    parent[b] = a
                    reached.append(b)
        ends = reached
    chosen, at = [], int(seen[-1])
    while at is not None:
        chosen.append(at)
        at = parent[at]
    return chosen[::-1]


def _is_right(clip: Clip, a: int, b: int) -> bool:
    """Whether the line between the true boxes of two frames is right in all between."""
    share = np.linspace(0, 1, b - a + 1)[:, None]
    line = (1 - share) * clip.boxes[a] + share * clip.boxes[b]
    overlap = metrics.overlaps(line, clip.boxes[a : b + 1])
    return bool((overlap > RIGHT)[clip.seen[a : b + 1]].all())


class Runs:
    """Fills with what a tracker finds, and counts what that costs."""

    def __init__(self, programs: Programs, params: Params, clip: Clip):
        self.programs, self.params, self.clip, self.cost = programs, params, clip, Cost()

    def __call__(self, document: Document, target_id: int, frame: int) -> Document:
        before, after = web.neighbors(document.target(target_id), frame)
        document = self._run(document, target_id, frame, len(self.clip.images) if after is None else after, 1)
        return document if before is None else self._run(document, target_id, frame, before, -1)

    def _run(self, document: Document, target_id: int, frame: int, stop: int, step: int) -> Document:
        """With what is found from `frame` to before `stop`."""
        places = range(frame, stop, step)
        if len(places) < 2:
            return document
        images = (self.clip.images[at] for at in places)
        start = Target("", {frame: document.target(target_id).keys[frame]})
        found, (count, seconds) = {}, self.cost
        tracking = track_frames(self.programs, self.params, images, [start], first=frame, step=step)
        for at, (_, one, _) in zip(places, tracking):
            box, sure, verdict, score = one.boxes[0], one.confidence[0], one.verdicts[0], one.scores[0]
            found[at] = Entry(tuple(box), float(sure), int(verdict), float(score))
            count, seconds = count + 1, seconds + one.seconds
        self.cost = Cost(count, seconds)
        return web.with_entries(document, target_id, FORWARD if step > 0 else BACKWARD, found)


def measure(programs: Programs, params: Params, clip: Clip) -> dict[str, Any]:
    """Key frames of a clip by all ways."""
    seen = np.flatnonzero(clip.seen)
    first, last = int(seen[0]), int(seen[-1])
    runs = Runs(programs, params, clip)
    by_tracker = annotate(clip, [first], runs)
    by_lines = annotate(clip, sorted({first, last}), lines)
    return {
        "seen_frames": len(seen),
        "tracker": {
            "key_frames": by_tracker,
            "tracked_frames": runs.cost.frames,
            "seconds": round(runs.cost.seconds, 3),
        },
        "lines": {"key_frames": by_lines},
        "fewest": {"key_frames": fewest(clip)},
    }


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    heads = ["clip", "frames that count", f"key frames: {WAYS[0]}", *WAYS[1:], "tracking: frames", "s"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in report["clips"]:
        counts = " | ".join(str(len(one[way]["key_frames"])) for way in WAYS)
        cost = f"{one['tracker']['tracked_frames']} | {one['tracker']['seconds']:.1f}"
        rows.append(f"| {one['seed']} | {one['seen_frames']} | {counts} | {cost} |")
    means = ", ".join(f"{way} {mean:.1f}" for way, mean in report["mean_key_frames"].items())
    return "\n".join([*rows, f"mean key frames: {means}"])


@command.reports(ValueError, OSError, ResultError)
def main(argv: list[str] | None = None) -> None:
    """The command."""
    arguments = parsers.claims_effort().parse_args(argv)
    prepare_process()
    keep_apart([arguments.out], [arguments.weights])
    entry, params = command.load_tracker(arguments.tracker, arguments.weights)
    config = rules.configure(entry.config, arguments.set)
    clips = synthetic.ClipConfig(num_frames=arguments.frames, **(synthetic.HARD if arguments.hard else {}))
    programs, params, found = Programs.of(entry.make(config), 1), jax.device_put(params), []
    with ProgressBar(arguments.clips, "clip") as progress:
        for seed in range(arguments.seed, arguments.seed + arguments.clips):
            found.append({"seed": seed, **measure(programs, params, drawn(clips, seed))})
            progress.update()
    report = {
        "tracker": arguments.tracker,
        "config": settings.plain(config),
        "weights": settings.params_hash(params),
        "clip": settings.plain(clips),
        "rule": RULE,
        "clips": found,
        "mean_key_frames": {way: float(np.mean([len(one[way]["key_frames"]) for one in found])) for way in WAYS},
        "compile_s": round(programs.compile_seconds(), 3),
        "versions": settings.versions(),
    }
    write_atomically(arguments.out, json.dumps(report, indent=2) + "\n")
    print(table(report))


if __name__ == "__main__":
    sys.exit(main())
