"""The numbers of a report: finding results, scoring them by a rule, one row a tracker."""

import configparser
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval import command
from eval.files import ResultError, read_json
from eval.scoring import formats, got10k, longterm, metrics, names, ope, statistics
from eval.scoring.vot_multistart import GRACE, THRESHOLD
from eval.sources.layouts import shortened
from eval.sources.sequences import Sequence, SequenceError, image_size, read_image

SHOWN = ("auc", "op50", "op75", "precision20", "norm_precision")


class Track(NamedTuple):
    """One run of a tracker on a sequence of T frames, for the drill-down."""

    boxes: np.ndarray  # [T, 4] x, y, w, h
    overlap: np.ndarray  # [T] IoU, nan where the target is absent
    confidence: np.ndarray | None  # [T]


@dataclass(eq=False)
class Entry:
    """A row of the report: a tracker, over all its seeds and repetitions."""

    name: str
    made_from: dict[str, Any] = field(default_factory=dict)  # run.json of the first seed
    # sequence -> score -> mean over runs; of several seeds, the sequences that all of them have
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)  # score -> mean and deviation over seeds
    curves: ope.Curves | None = None
    tracks: dict[str, Track] = field(default_factory=dict)
    losses: dict[str, list[int]] = field(default_factory=dict)  # sequence -> first frame of each loss
    rules: dict[str, dict[str, float]] = field(default_factory=dict)  # rule -> score -> mean over sequences
    fps: float | None = None
    milliseconds: float | None = None  # median of a frame
    calibration: statistics.Calibration | None = None
    others: dict[str, float] = field(default_factory=dict)  # measures of other protocols, of the first seed
    seeds: int = 1

    def mean(self, score: str) -> float | None:
        return self.spread[score][0] if score in self.spread else None


class Source(NamedTuple):
    """One folder or file of results."""

    name: str | None  # as the user calls it
    path: Path
    made_from: dict[str, Any]  # run.json, empty without one
    origin: int = 0  # what x and y count from


def find_sources(arguments: list[str]) -> list[Source]:
    """[NAME=]PATH to sources: a folder without results stands for the folders in it. What exists is a path."""
    sources = []
    for text in arguments:
        name, root = command.named_path(text)
        if not root.exists():
            raise ResultError(f"{root}: no such file or folder; give what eval.run wrote, or NAME=FOLDER")
        inside = sorted(path.parent for path in root.glob("*/run.json")) if root.is_dir() else []
        places = inside if inside and not (root / "run.json").exists() else [root]
        found = [Source(name or None, place, _made_from(place / "run.json")) for place in places]
        known = {(source.name, source.path.resolve()) for source in sources}  # what is given twice is taken once
        sources += [source for source in found if (source.name, source.path.resolve()) not in known]
    return sources


def _made_from(path: Path) -> dict[str, Any]:
    """What run.json says, empty without one; ResultError where the parts that a report uses are of another type."""
    content = read_json(path)
    for name, kind in (("tracker", str), ("dataset", str), ("config", dict)):
        if not isinstance(content.get(name, kind()), kind):
            raise ResultError(f"{path}: its {name!r} is not as eval.run writes it; restore the file")
    return content


def group_sources(sources: list[Source]) -> dict[str, list[Source]]:
    """Name of a row -> its sources: those of one tracker, config and weights that differ in the seed alone.

    ResultError for two of one row with one seed: they are one run twice, and no spread over seeds.
    """
    groups: dict[str, tuple[str, list[Source]]] = {}
    for source in sources:
        settings = {key: value for key, value in source.made_from.items() if key != "seed"}
        same = json.dumps(settings, sort_keys=True) if settings else str(source.path)
        place = source.path.name if source.path.is_dir() else source.path.stem
        name = base = source.name or source.made_from.get("tracker") or place
        if name in groups and groups[name][0] != same:
            name = base = f"{name} ({place if place != name else source.path.resolve().parent.name})"
        for number in range(2, len(sources) + 2):
            if name not in groups or groups[name][0] == same:
                break
            name = f"{base} #{number}"
        members = groups.setdefault(name, (same, []))[1]
        for other in members:
            if "seed" in source.made_from and other.made_from.get("seed") == source.made_from["seed"]:
                seed = source.made_from["seed"]
                raise ResultError(
                    f"{source.path}: the same tracker, config and seed {seed} as {other.path}; give one, or NAME=FOLDER"
                )
        members.append(source)
    return {name: members for name, (_, members) in groups.items()}


def build_entry(
    name: str,
    sources: list[Source],
    sequences: dict[str, Sequence],
    rule: str,
    problems: list[str],
    known: Iterable[str] = (),
) -> Entry:
    """The row of one tracker, scored on `sequences` by the toolkit `rule`; what cannot be scored goes to `problems`.

    known: names of sequences that are not scored, but of which results may be there.
    """
    entry, first = Entry(name, sources[0].made_from, seeds=len(sources)), {}
    of_seeds, curves, times, confidences = [], {}, {}, []
    for number, source in enumerate(sources):
        faulty: list[ResultError] = []
        found = formats.read_results(source.path, origin=source.origin, problems=faulty, allow_nan=True)
        matched, unknown, doubtful = names.match(found, dict.fromkeys([*sequences, *known]))
        problems += [str(problem) for problem in faulty] + [f"{source.path}: {line}" for line in doubtful]
        if unknown:
            problems.append(f"{source.path}: no sequence is called {shortened(unknown)}; rename them or take them away")
        scored = {}
        for sequence in sequences.values():
            runs = found[matched[sequence.name]] if sequence.name in matched else ()
            try:
                scores = [_score(rule, source, sequence, formats.boxes_of(run)) for run in runs]
            except ValueError as error:
                problems.append(f"{source.path}: {sequence.name}: {error}")
                continue
            if not scores:
                continue
            scored[sequence.name] = _means([score for score, _ in scores])
            curves.setdefault(sequence.name, []).extend(curve for _, curve in scores)
            timed = [run.seconds[1:] for run in runs if run.seconds is not None]
            if timed:
                times.setdefault(sequence.name, []).extend(timed)
            if not number:
                first[sequence.name] = runs
            confidences += [_judged_confidence(run, sequence) for run in runs if run.confidence is not None]
        of_seeds.append(scored)
    entry.scores, entry.spread = _over_seeds(of_seeds)
    if not entry.scores:
        return entry
    first = {key: first[key] for key in entry.scores}
    entry.tracks = {key: _track(runs[0], sequences[key]) for key, runs in first.items()}
    entry.losses = {key: loss_starts(track.overlap) for key, track in entry.tracks.items()}
    entry.curves = ope.mean_curves(curve for key in entry.scores for curve in curves[key])
    entry.fps, entry.milliseconds = _speed(name, times, problems)
    if confidences:
        confidence, right = (np.concatenate(values) for values in zip(*confidences))
        if len(confidence) and ((confidence >= 0) & (confidence <= 1)).all():
            entry.calibration = statistics.calibration(confidence, right)
    entry.others = got10k_scores(first, sequences) | longterm_scores(first, sequences)
    entry.others |= oxuva_scores(first, sequences, present_above(sources[0].made_from.get("config", {})))
    entry.rules = side_by_side(entry, sequences, sources[0].made_from.get("dataset", "folder"))
    return entry


def _over_seeds(
    seeds: list[dict[str, dict[str, float]]],
) -> tuple[dict[str, dict[str, float]], dict[str, tuple[float, float]]]:
    """Scores by sequence of each seed -> (their means by sequence, mean and deviation of the means over sequences).

    Of the sequences that all seeds have: means over others cannot be compared.
    """
    common = [key for key in seeds[0] if all(key in scored for scored in seeds)]
    means = [_means([scored[key] for key in common]) for scored in seeds]
    return {key: _means([scored[key] for scored in seeds]) for key in common}, statistics.over_seeds(means)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Score -> its mean over the rows that have it."""
    known = dict.fromkeys(score for row in rows for score in row)
    return {score: float(np.mean([row[score] for row in rows if score in row])) for score in known}


def _speed(name: str, times: dict[str, list[np.ndarray]], problems: list[str]) -> tuple[float | None, float | None]:
    """(frames a second, median milliseconds) of the seconds of tracked frames by sequence; None where none can be told.

    A sequence whose numbers cannot be times (all zero, below zero, nan or blank) does not count; `problems` says so.
    """
    used, faulty = [], []
    for sequence, runs in times.items():
        seconds = np.concatenate(runs)
        if len(seconds) and not (np.isfinite(seconds).all() and (seconds >= 0).all() and seconds.sum() > 0):
            faulty.append(sequence)
        else:
            used.append(seconds)
    if faulty:
        problems.append(f"{name}: the times of {shortened(faulty)} are no seconds, and left out of its speed")
    seconds = np.concatenate([*used, np.empty(0)])
    if times and not len(seconds):
        problems.append(f"{name}: no speed, since there is no time of a tracked frame")
    if not len(seconds):
        return None, None
    return len(seconds) / float(seconds.sum()), float(np.median(seconds) * 1e3)


def _score(rule: str, source: Source, sequence: Sequence, boxes: np.ndarray) -> tuple[dict[str, float], ope.Curves]:
    if not sequence.scored:
        raise ValueError("the benchmark withholds the boxes; send the results to its server (eval.formats)")
    chosen = ope.rule(rule, source.made_from.get("dataset", "folder"))
    arguments = chosen, boxes, sequence.boxes, sequence.visible
    return ope.score(*arguments), ope.curves(ope.judge(*arguments))


def _track(run: formats.ResultRun, sequence: Sequence) -> Track:
    boxes, count = formats.boxes_of(run), len(sequence.frames)
    boxes = np.concatenate([boxes[:count], np.full((max(count - len(boxes), 0), 4), np.nan)])
    overlap = np.where(sequence.visible, np.nan_to_num(metrics.overlaps(boxes, sequence.boxes)), np.nan)
    overlap[0] = 1.0
    return Track(boxes, overlap, run.confidence)


def _judged_confidence(run: formats.ResultRun, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of frames 2 on that are annotated, and whether the box was right (IoU > 0.5); without the target none
    is.
    """
    overlap = _track(run, sequence).overlap
    count = min(len(run.confidence), len(overlap))
    known = slice(None) if sequence.annotated is None else sequence.annotated[1:count]
    return run.confidence[1:count][known], np.nan_to_num(overlap[1:count][known]) > 0.5


def loss_starts(overlap: np.ndarray) -> list[int]:
    """First frames of the losses: at least GRACE visible frames in a row with an IoU of at most THRESHOLD (VOT)."""
    starts, first, length = [], 0, 0
    for index in np.flatnonzero(~np.isnan(overlap)).tolist():
        low = overlap[index] <= THRESHOLD
        first, length = (first if length else index, length + 1) if low else (0, 0)
        if length == GRACE:
            starts.append(first)
    return starts


def side_by_side(entry: Entry, sequences: dict[str, Sequence], dataset: str) -> dict[str, dict[str, float]]:
    """Rule -> mean scores of the same boxes, for every toolkit that scores the dataset and accepts them all."""
    table = {}
    for toolkit in ope.TOOLKITS:
        try:
            rule = ope.rule(toolkit, dataset)
            rows = [
                ope.score(rule, track.boxes, sequences[name].boxes, sequences[name].visible)
                for name, track in entry.tracks.items()
            ]
        except ValueError:
            continue  # no rule for this dataset, or one that refuses these boxes: no column of the table
        table[toolkit] = {key: float(np.mean([row[key] for row in rows])) for key in ope.SCORES}
    return table


def got10k_scores(runs: formats.Results, sequences: dict[str, Sequence]) -> dict[str, float]:
    """AO, SR50, SR75 where the sequences have covers (GOT-10k), and their class means where they name their classes.

    Nothing where a sequence does not have a box for each frame.
    """
    covered = {name: sequences[name] for name in runs if sequences[name].cover is not None}
    overlaps, classes = {}, {}
    for name, sequence in covered.items():
        try:
            height, width = read_image(sequence.frames[0]).shape[:2]
            predicted = [formats.boxes_of(run) for run in runs[name]]
            overlaps[name] = got10k.frame_overlaps(predicted, sequence.boxes, sequence.cover, (width, height))
            classes[name] = _object_class(sequence.frames[0].parent / "meta_info.ini")
        except (ValueError, SequenceError):
            return {}
    if not overlaps:
        return {}
    scores = got10k.overall(overlaps)
    return scores | got10k.class_balanced(overlaps, classes) if all(classes.values()) else scores


def _object_class(path: Path) -> str:
    """The class that GOT-10k's meta_info.ini of a sequence names, "" without one."""
    parser = configparser.ConfigParser()
    try:
        parser.read(path)
        return parser.get("METAINFO", "object_class", fallback="").strip()
    except configparser.Error as error:
        raise SequenceError(f"{path}: not readable ({error}); restore the file") from error


def longterm_scores(runs: formats.Results, sequences: dict[str, Sequence]) -> dict[str, float]:
    """VOT-LT's best F with its precision and recall, where targets are absent at times and the tracker reports a
    confidence.

    Overlaps are IoU of boxes, not of drawn regions.
    """
    absent = any(not sequences[name].visible.all() for name in runs)
    sparse = any(sequences[name].annotated is not None for name in runs)
    if not absent or sparse or any(runs[name][0].confidence is None for name in runs):
        return {}
    parts = []
    for name, (run, *_) in runs.items():
        count = min(len(run.confidence), len(sequences[name].frames))
        overlap = np.nan_to_num(_track(run, sequences[name]).overlap)
        parts.append(longterm.Confident(overlap[:count], run.confidence[:count], sequences[name].visible[:count]))
    best = longterm.precision_recall(parts).best
    return {f"lt_{score}": best[score] for score in ("precision", "recall", "f")}


def oxuva_scores(runs: formats.Results, sequences: dict[str, Sequence], threshold: float) -> dict[str, float]:
    """TPR, TNR and their geometric means on OxUvA, over the annotated frames but the first of all sequences together.

    The target is reported where the confidence is at least `threshold`; boxes are cut at the image's edges, as the
    annotation is. Nothing on other data sets, or where a frame has no box or no confidence.
    """
    parts = []
    for name, (run, *_) in runs.items():
        sequence = sequences[name]
        rows = np.flatnonzero(sequence.annotated)[1:] if sequence.annotated is not None else []
        if sequence.annotated is None or run.confidence is None:
            return {}
        if not len(run.regions) == len(run.confidence) == len(sequence.frames):
            return {}
        boxes = formats.boxes_of(run)[rows]
        low = np.clip(boxes[:, :2], 0, image_size(sequence))
        high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, image_size(sequence))
        overlap = np.nan_to_num(metrics.overlaps(np.concatenate([low, high - low], 1), sequence.boxes[rows]))
        parts.append((overlap, run.confidence[rows] >= threshold, sequence.visible[rows]))
    scores = longterm.oxuva(*map(np.concatenate, zip(*parts))) if parts else {}
    return {f"oxuva_{name}": value for name, value in scores.items()}


def present_above(config: dict[str, Any]) -> float:
    """The confidence below which a tracker of this project says that the target is lost; 0 for one that never does."""
    for part, name in (("localization", "not_found_threshold"), ("lost", "enter")):
        if isinstance(config.get(part), dict) and _is_number(config[part].get(name)):
            return float(config[part][name])
    inner = [present_above(config[part]) for part in ("rpn", "host") if isinstance(config.get(part), dict)]
    return max(inner, default=0.0)


def entries_of_scores(path: Path) -> list[Entry]:
    """Rows of a .json of scores: name -> {"sequences": {sequence: auc}}, as far as they have that form."""
    entries = []
    for name, content in read_json(path).items():
        if not (isinstance(content, dict) and isinstance(content.get("sequences"), dict)):
            continue
        values = content["sequences"]
        if not values or not all(isinstance(value, int | float) and np.isfinite(value) for value in values.values()):
            raise ResultError(f"{path}: {name}: a score is not a number, or there is none; correct the file")
        scores = {key: {"auc": float(value)} for key, value in values.items()}
        mean = float(np.mean(list(values.values())))
        entries.append(Entry(name, {"scores from": path.name}, scores, {"auc": (mean, float("nan"))}))
    if not entries:
        raise ResultError(f'{path}: no scores; the form is {{"name": {{"sequences": {{"sequence": auc}}}}}}')
    return entries


def entry_of_summary(name: str, sources: list[Source]) -> Entry:
    """The row of one tracker from its summary.json alone."""
    summaries = [read_json(source.path / "summary.json") for source in sources]
    if not all(summaries):
        raise ResultError(f"{sources[0].path}: no summary.json; give --data-dir, so that the boxes can be scored")
    try:
        seeds = [{key: _known(row) for key, row in summary["sequences"].items()} for summary in summaries]
        fps, milliseconds = summaries[0]["mean"].get("fps"), summaries[0].get("speed", {}).get("ms_median")
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ResultError(f"{sources[0].path / 'summary.json'}: not a summary of one pass ({error!r:.200})") from error
    entry = Entry(name, sources[0].made_from, *_over_seeds(seeds), seeds=len(sources))
    fps, milliseconds = (value if _is_number(value) and value > 0 else None for value in (fps, milliseconds))
    return replace(entry, fps=fps, milliseconds=milliseconds)


def _known(row: dict[str, Any]) -> dict[str, float]:
    return {score: float(row[score]) for score in SHOWN if _is_number(row.get(score))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
