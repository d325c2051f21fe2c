"""Result files of the toolkits: one tolerant reader, a writer for each format, and the archives of the servers."""

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval import annotations
from eval.annotations import table
from eval.annotations.tracks import Row, Video, make_tracks
from eval.files import ResultError, keep_apart, write_atomically
from eval.sources.layouts import LAYOUTS
from eval.sources.sequences import polygon_to_box

_SEPARATOR = re.compile(r"\s*[,;\s]\s*")
_REPETITION = re.compile(r"(.+)_(\d{3}|\d{8})")
_TIME, _CONFIDENCE = ("_time",), ("_confidence", "_object_presence_scores")
_MOST_CODE = 3  # numbers in a line of times, confidences or codes; a box has more


class ResultRun(NamedTuple):
    """What a result file says of T frames."""

    regions: list[int | np.ndarray]  # T: x, y, w, h; corners x1, y1, ...; or a code of VOT (0, 1, 2)
    seconds: np.ndarray | None = None  # [T], where a file of times lies beside
    confidence: np.ndarray | None = None  # [T], where a file of confidences lies beside
    label: str = ""  # "001": repetition, "00000049": anchor frame of VOT's multi-start, of which the file's name tells


Results = dict[str, tuple[ResultRun, ...]]  # sequence -> its repetitions


def boxes_of(run: ResultRun) -> np.ndarray:
    """`[T, 4]` x, y, w, h: the enclosing box of a polygon, nan where there is a code."""
    boxes = np.full((len(run.regions), 4), np.nan)
    for row, region in zip(boxes, run.regions):
        if not isinstance(region, int):
            row[:] = region if len(region) == 4 else _enclosing(region)
    return boxes


def _enclosing(corners: np.ndarray) -> np.ndarray:
    if len(corners) == 8:
        return polygon_to_box(corners)
    points = corners.reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0) - points.min(0)])


def read_results(
    path: Path | str, *, origin: int = 0, allow_nan: bool = False, problems: list[ResultError] | None = None
) -> Results:
    """All sequences found at `path`: a folder (searched through), a .zip, or one file, in the order of their names.

    Fields may be separated by comma, tab, semicolon or blanks; a line holds a box, a polygon or a code of VOT. Known
    layouts: <name>.txt; <name>/<name>_001.txt (repetitions); both with <name>_time, _confidence or
    _object_presence_scores, .value or .txt, beside, or in times/. So are MOTChallenge's text and eval.track's .csv, and
    given by name the other formats of `eval.annotations`: NAME_boxes.csv is NAME, or NAME-1, NAME-2 ... of several
    targets. `origin` (1 for MATLAB's OTB) is subtracted from x and y, not in those formats, which say what they count
    from. ResultError, one line with file and line number, for whatever
    is not a result (appended to `problems` and left out where a list is given): nan (unless `allow_nan`), infinite or
    missing numbers, masks, a beside file of another length; also where there is nothing.
    """
    path = Path(path)
    texts = _texts(path, problems)
    results: dict[str, list[ResultRun]] = {}
    one_file = path.is_file() and path.suffix != ".zip"
    names = [name for name in texts if (name == str(path) if one_file else _is_boxes(name, texts[name]))]
    for name in sorted(names):
        try:
            found = _read_file(texts, name, origin, allow_nan)
        except ResultError as error:
            if problems is None:
                raise
            problems.append(error)
            continue
        for sequence, run in found.items():
            runs = results.setdefault(sequence, [])
            if any(other.label == run.label for other in runs):
                raise ResultError(
                    f"{path}: two results of {sequence}, one is {name}; give the folder of one tracker and experiment"
                )
            runs.append(run)
    if not results and not problems:
        raise ResultError(f"{path}: no results; give a folder, archive or file with lines x,y,w,h")
    return {name: tuple(runs) for name, runs in results.items()}


def _texts(path: Path, problems: list[ResultError] | None) -> dict[str, str]:
    """File name (with its folders) -> text, of every file at `path` that may hold results."""
    try:
        contents = _contents(path)
    except ResultError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds for damaged archives
        raise ResultError(f"{path}: cannot be read ({error}); give a folder, a .zip or a text file") from error
    texts = {}
    for name, content in contents.items():
        try:
            texts[name] = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if name.endswith(".csv"):
                continue  # somebody's table
            problem = ResultError(
                f"{name}: not text ({error.reason} at byte {error.start}); restore it or take it away"
            )
            if problems is None:
                raise problem from error
            problems.append(problem)
    return texts


def _contents(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            inside = {item: Path(item) for item in archive.namelist()}
            return {str(path / file): archive.read(item) for item, file in inside.items() if _may_hold_results(file)}
    read = {str(file): file.read_bytes() for file in files_at(path)}
    binary = next((file for file in path.rglob("*.bin")), None)
    if binary is not None and not read:
        raise ResultError(
            f"{binary}: VOT's binary results are not read; store them as text (vot-toolkit: results_binary)"
        )
    return read


def files_at(path: Path) -> list[Path]:
    """The files that `read_results` looks into: of a folder, of one file what lies beside it, or an archive itself."""
    if path.is_dir():
        return [file for file in path.rglob("*") if _may_hold_results(file.relative_to(path)) and file.is_file()]
    places = map(Path, _places(str(path), _sequence_of(str(path))[0], _TIME + _CONFIDENCE))
    return [file for file in (path, *places) if file.is_file()]


def _may_hold_results(file: Path) -> bool:
    """By its name; what systems hide, and Finder's __MACOSX in archives, does not."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in file.parts)
    return file.suffix in (".txt", ".value", ".csv") and not hidden


def _is_boxes(name: str, text: str) -> bool:
    """Whether a file holds boxes, not the times or confidences that belong to another.

    The boxes of a sequence `lap_time` have the name of the times of a sequence `lap`: the first line decides.
    """
    path = Path(name)
    if path.suffix != ".txt":
        return path.suffix == ".csv" and text.startswith(table.HEADER)
    kind = next((kind for kind in _TIME + _CONFIDENCE if path.stem.endswith(kind)), None)
    if kind is None:
        return True
    if path.parent.name in ("times", path.stem.removesuffix(kind)):  # a column for each repetition: any number of them
        return False
    return len(_SEPARATOR.split(text.partition("\n")[0].strip())) > _MOST_CODE


def _read_file(texts: dict[str, str], name: str, origin: int, allow_nan: bool) -> dict[str, ResultRun]:
    if annotations.is_annotation(name, texts[name]):
        return _read_annotation(texts[name], name)
    sequence, label = _sequence_of(name)
    regions = _parse_regions(texts[name], name, origin, allow_nan)
    times, confidences = (_beside(texts, name, sequence, label, kinds, len(regions)) for kinds in (_TIME, _CONFIDENCE))
    return {sequence: ResultRun(regions, times, confidences, label)}


def read_videos(path: Path | str, *, origin: int = 0) -> list[Video]:
    """What `read_results` reads as targets with frames: those of one video together, each sequence as one target.

    Codes of VOT and lost targets of formats without boxes for them are frames without the target. ResultError as of
    `read_results`, and for several repetitions of a sequence.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".json", ".xml", ".csv"):
        return annotations.read(path)
    texts = _texts(path, None)
    one_file = path.is_file() and path.suffix != ".zip"
    names = [name for name in texts if (name == str(path) if one_file else _is_boxes(name, texts[name]))]
    videos: list[Video] = []
    for name in sorted(names):
        if annotations.is_annotation(name, texts[name]):
            videos += annotations.parse(name, texts[name])
        else:
            videos += [_as_video(*item) for item in _read_file(texts, name, origin, False).items()]
    called = [video.name for video in videos]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice:
        raise ResultError(f"{path}: two results of {twice}; give the folder of one tracker and one repetition")
    if not videos:
        raise ResultError(f"{path}: no results; give a folder, archive or file of a known format")
    return videos


def _as_video(sequence: str, run: ResultRun) -> Video:
    confidence = np.full(len(run.regions), np.nan) if run.confidence is None else run.confidence
    rows = [Row(t, box, sure) for t, (box, sure) in enumerate(zip(boxes_of(run), confidence)) if np.isfinite(box).all()]
    try:
        return Video(sequence, make_tracks({1: ("", rows)}))
    except ValueError as error:
        raise ResultError(f"{sequence}: {error}; track the sequence again") from error


def _read_annotation(text: str, name: str) -> dict[str, ResultRun]:
    """The targets of a video as sequences of their own: each needs a box in every frame."""
    runs = {}
    videos = annotations.parse(name, text)
    for video in videos:
        stem = Path(name).stem.removesuffix("_boxes") if len(videos) == 1 else annotations.file_name(video)
        for track in video.tracks:
            missing = sorted(set(range(track.frames[-1] + 1)) - set(track.frames.tolist()))[:1]
            if missing:
                what = f"starts at frame {track.frames[0]}" if track.frames[0] else f"has no box in frame {missing[0]}"
                which = f"target {track.name} {what}" if len(video.tracks) > 1 else what
                raise ResultError(f"{name}: {which}, results have a box for every frame; track from frame 0")
            sequence = stem if len(video.tracks) == 1 else f"{stem}-{track.name}".replace("/", "_")
            sure = track.confidence if np.isfinite(track.confidence).all() else None
            runs[sequence] = ResultRun(list(track.boxes), None, sure)
    return runs


def _sequence_of(name: str) -> tuple[str, str]:
    """(sequence, repetition or anchor) of a file: folder <name> with <name>_001.txt, or <name>.txt by itself."""
    path = Path(name)
    match = _REPETITION.fullmatch(path.stem)
    if match and path.parent.name == match[1]:
        return match[1], match[2]
    return path.stem, ""


def _parse_regions(text: str, name: str, origin: int, allow_nan: bool) -> list[int | np.ndarray]:
    regions: list[int | np.ndarray] = []
    for number, line in enumerate(text.rstrip().splitlines(), 1):
        regions.append(_parse_region(line.strip(), f"{name}:{number}", origin, allow_nan))
    if not regions:
        raise ResultError(f"{name}: empty; track the sequence again")
    return regions


def _parse_region(line: str, place: str, origin: int, allow_nan: bool) -> int | np.ndarray:
    if line[:1] in "mM" and line:
        raise ResultError(f"{place}: a mask of VOT; only boxes and polygons are read")
    try:
        numbers = np.array([float(field) for field in _SEPARATOR.split(line)])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) == 1 and numbers[0] in (0, 1, 2):
        return int(numbers[0])
    if not (len(numbers) == 4 or (len(numbers) >= 6 and len(numbers) % 2 == 0)):
        raise ResultError(
            f"{place}: expected 4 numbers, a polygon or a code 0, 1, 2, found {line[:60]!r}; write it again"
        )
    if np.isinf(numbers).any() or (np.isnan(numbers).any() and not allow_nan):
        raise ResultError(f"{place}: {line[:60]!r} is not a finite box; only true boxes may be nan")
    if len(numbers) == 4:
        numbers[:2] -= origin
        return numbers
    return numbers - origin


def _places(name: str, sequence: str, kinds: tuple[str, ...]) -> Iterator[str]:
    """Where the file of `kinds` that belongs to the result file `name` may lie, the likeliest first."""
    folder, stem = Path(name).parent, Path(name).stem
    for kind in kinds:
        for place in (folder / f"{stem}{kind}", folder / f"{sequence}{kind}", folder / "times" / f"{sequence}{kind}"):
            yield from (f"{place}.value", f"{place}.txt")


def _beside(texts, name: str, sequence: str, label: str, kinds, count: int) -> np.ndarray | None:
    """`[count]` numbers of the file of `kinds` that belongs to the result file `name`; None without one."""
    for place in _places(name, sequence, kinds):
        if place in texts and not _is_boxes(place, texts[place]):
            table = _parse_table(texts[place], place, count)
            # got10k: a column for each repetition.
            column = int(label) - 1 if len(label) == 3 and table.shape[1] > 1 else 0
            if len(table) != count or column >= table.shape[1]:
                raise ResultError(f"{place}: {len(table)} lines for {count} frames; track the sequence again")
            return table[:, column]
    return None


def _parse_table(text: str, name: str, count: int) -> np.ndarray:
    """`[lines, columns]`; a blank line is nan, but at the end of more than `count` lines."""
    rows: list[list[float]] = []
    lines = text.splitlines()
    while len(lines) > count and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            rows.append([float(field) for field in _SEPARATOR.split(line.strip())] if line.strip() else [np.nan])
        except ValueError as error:
            raise ResultError(f"{name}:{number}: not numbers: {line.strip()[:60]!r}; write it again") from error
        if len(rows[-1]) != len(rows[0]):
            raise ResultError(f"{name}:{number}: {len(rows[-1])} numbers, {len(rows[0])} in the lines before")
    return np.array(rows) if rows else np.empty((0, 1))


class Format(NamedTuple):
    """How a toolkit stores a run: where, and with which digits."""

    path: Callable[[str, int], str]  # (sequence, repetition from 1) -> file, within the results of one tracker
    number: Callable[[float], str]
    separator: str = ","
    time_path: Callable[[str], str] | None = None  # a column for each repetition
    confidence_path: Callable[[str, int], str] | None = None
    codes: bool = False  # VOT's codes and polygons may be written
    benchmark: str = ""  # the layout whose files the toolkit compares with; none: whatever the run was on
    note: str = ""


def _flat(name: str, _: int) -> str:
    return f"{name}.txt"


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


FORMATS: dict[str, Format] = {
    "otb": Format(_flat, _fixed(4), benchmark="otb"),
    "lasot": Format(_flat, _fixed(4), benchmark="lasot"),
    "pysot": Format(_flat, lambda value: str(float(value)), time_path=lambda name: f"{name}_time.txt"),
    "pytracking": Format(
        _flat,
        lambda value: str(int(value)),
        "\t",
        time_path=lambda name: f"{name}_time.txt",
        confidence_path=lambda name, _: f"{name}_object_presence_scores.txt",
        note="whole pixels, cut off: up to 1 px less in each number",
    ),
    "got10k": Format(
        lambda name, run: f"{name}/{name}_{run:03}.txt",
        _fixed(3),
        time_path=lambda name: f"{name}/{name}_time.txt",
        benchmark="got10k",
    ),
    "got10k-ope": Format(_flat, _fixed(3), time_path=lambda name: f"times/{name}_time.txt"),
    "trackingnet": Format(_flat, _fixed(2), benchmark="trackingnet"),
    "vot": Format(
        lambda name, run: f"baseline/{name}/{name}_{run:03}.txt",
        _fixed(4),
        time_path=lambda name: f"baseline/{name}/{name}_time.txt",
        codes=True,
        benchmark="vot",
    ),
    "vot-lt": Format(
        lambda name, run: f"longterm/{name}/{name}_{run:03}.txt",
        _fixed(4),
        time_path=lambda name: f"longterm/{name}/{name}_time.txt",
        confidence_path=lambda name, run: f"longterm/{name}/{name}_{run:03}_confidence.value",
        codes=True,
        benchmark="vot",
    ),
    "jaxtrack": Format(
        _flat,
        _fixed(6),
        time_path=lambda name: f"{name}_time.value",  # .value: no sequence's boxes have that name
        confidence_path=lambda name, _: f"{name}_confidence.value",
        benchmark="folder",
    ),
}
SERVERS = ("trackingnet", "got10k")  # formats that a server takes as one .zip


def origin_of(name: str, dataset: str | None) -> int:
    """What x and y count from in the format `name`: what they do in the files that its toolkit compares them with.

    dataset: the layout that the results are of; None, or another name: not known, they stay as they are.
    """
    benchmark = FORMATS[name].benchmark or dataset
    return LAYOUTS[benchmark].origin if benchmark in LAYOUTS else 0


def render(results: Mapping[str, Sequence[ResultRun]], name: str, *, origin: int = 0) -> dict[str, str]:
    """File -> text of `results` in the format `name` (a key of FORMATS); `origin` is added to x and y.

    ResultError where the format has no place for something: an unknown format, several repetitions of a sequence in one
    file's place, two sequences of which a file has the same name, codes of VOT, polygons, boxes that are not finite.
    """
    if name not in FORMATS:
        raise ResultError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    form, texts = FORMATS[name], {}

    def add(file: str, text: str) -> None:
        if file in texts:
            fix = "rename one or choose jaxtrack or got10k"
            raise ResultError(f"{sequence}: its {file} is another sequence's as well in the {name} format; {fix}")
        texts[file] = text

    for sequence, runs in results.items():
        if len(runs) > 1 and form.path(sequence, 1) == form.path(sequence, 2):
            raise ResultError(f"{sequence}: {len(runs)} repetitions, the {name} format holds one; choose got10k or vot")
        for number, run in enumerate(runs, 1):
            lines = [_line(region, form, origin, f"{sequence}, frame {t}") for t, region in enumerate(run.regions, 1)]
            add(form.path(sequence, number), "".join(f"{line}\n" for line in lines))
            if form.confidence_path and run.confidence is not None:
                add(form.confidence_path(sequence, number), "".join(f"{value:.6f}\n" for value in run.confidence))
        times = [run.seconds for run in runs if run.seconds is not None]
        if form.time_path and len(times) == len(runs):
            rows = zip(*times, strict=True)
            add(form.time_path(sequence), "".join(",".join(f"{v:.8f}" for v in row) + "\n" for row in rows))
    return texts


def _line(region: int | np.ndarray, form: Format, origin: int, place: str) -> str:
    if isinstance(region, int) or len(region) != 4:
        if not form.codes:
            raise ResultError(f"{place}: a code of VOT or a polygon, which this format does not hold; choose vot")
        if isinstance(region, int):
            return str(region)
    if not np.isfinite(region).all():
        raise ResultError(f"{place}: the box is not finite; track the sequence again")
    shift = np.zeros(len(region))
    shift[: 2 if len(region) == 4 else None] = origin
    return form.separator.join(form.number(value) for value in region + shift)


def write_results(
    folder: Path | str,
    results: Mapping[str, Sequence[ResultRun]],
    name: str,
    *,
    origin: int = 0,
    inputs: Iterable[Path] = (),
) -> None:
    """The files of `render` under `folder`, each whole or not at all; ResultError where one would replace an input."""
    texts = {Path(folder) / file: text for file, text in render(results, name, origin=origin).items()}
    keep_apart(texts, inputs)
    for file, text in texts.items():
        write_atomically(file, text)


def pack_results(path: Path | str, results: Mapping[str, Sequence[ResultRun]], name: str, *, origin: int = 0) -> None:
    """What the server of `name` (one of SERVERS) takes, as one .zip, whole or not at all.

    TrackingNet: <name>.txt with two digits. GOT-10k: <name>/<name>_001.txt and _time.txt, for which every run must have
    its times. ResultError as of `render`, and for a missing time.
    """
    if name not in SERVERS:
        raise ResultError(f"{name}: no server takes it as one archive; choose one of {', '.join(SERVERS)}")
    untimed = [sequence for sequence, runs in results.items() if any(run.seconds is None for run in runs)]
    if name == "got10k" and untimed:
        raise ResultError(f"{untimed[0]}: no times beside the boxes, and GOT-10k's server wants them; track it again")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in sorted(render(results, name, origin=origin).items()):
            # A fixed date: the same results give the same archive.
            archive.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    write_atomically(Path(path), buffer.getvalue())
