"""Data sets for training: `prepare` writes one from a benchmark's folder, `load` reads it.

    python -m train.datasets got10k --source GOT-10k --data-dir prepared      # or prepare("got10k", ...)
    dataset = load("got10k", "prepared")
    dataset.frames[i]["image"]         # bytes of a JPEG or PNG file, by random access; decode with OpenCV
    dataset.table.boxes[i]             # x, y, w, h of that frame; .starts and .lengths of its sequence

Needs tensorflow-datasets and array_record, but not TensorFlow.
"""

import dataclasses
import json
from pathlib import Path

from tqdm.auto import tqdm

from eval.sources.sequences import SequenceError
from train.datasets import alike, faults, layouts, records
from train.datasets.layouts import LAYOUTS, SYNTHETIC, SyntheticConfig
from train.datasets.records import ClipLoader, DatasetError, Frames, SequenceTable, TrackingDataset, load

__all__ = [
    "LAYOUTS",
    "SYNTHETIC",
    "DatasetError",
    "Frames",
    "SequenceTable",
    "SyntheticConfig",
    "TrackingDataset",
    "load",
    "prepare",
]


def prepare(
    name: str,
    source_dir: Path | str | None,
    data_dir: Path | str,
    split: str = "train",
    *,
    chosen: list[str] | None = None,
    unlike: Path | str | None = None,
    synthetic: SyntheticConfig = SyntheticConfig(),
    problems: list[str] | None = None,
    notes: list[str] | None = None,
    decode: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> TrackingDataset:
    """Builds the data set `name` (a key of LAYOUTS, or SYNTHETIC, which takes no source) and loads it.

    The source is looked through first: DatasetError with all its `faults`, or where a list `problems` is given
    they are appended to it and the sequences that have one are left out; `decode` reads every image then
    (always for `folder`). A box without area, not finite or outside of its image is no fault: it is not visible, and
    an image without any other is not written; where a list `notes` is given, a line that counts them is appended.
    `chosen`: names of sequences, or their 0-based places in the source's order (lists
    of both kinds exist for GOT-10k). `unlike`: a folder of images, of a test set for one; a sequence, or photograph,
    with a frame that is like one of them (`alike`) is left out, with a line in `notes`.
    The data set appears whole or not at all; one that is there is loaded,
    or built again with `overwrite`.
    """
    _check_names(name, split)
    folder = records.folder_of(name, data_dir, split)
    origin = {"name": name, "split": split, "chosen": chosen}
    if name == SYNTHETIC:
        origin["synthetic"] = dataclasses.asdict(synthetic)
        if unlike is not None:
            raise DatasetError(f"{name} is drawn, so no frame of it is like another's; leave out --unlike")
    if unlike is not None:
        origin["unlike"] = {"images": str(unlike), "bits": alike.MOST}
    origin = json.loads(json.dumps(origin))
    if folder.is_dir() and not overwrite:
        if records.made_from(folder) != origin:
            raise DatasetError(f"{folder}: prepared already with other settings; overwrite it or name another data_dir")
        return load(name, data_dir, split)
    ours = not folder.is_dir() or any((folder / one).is_file() for one in (records.TABLE, "dataset_info.json"))
    if not ours or (source_dir and Path(source_dir).resolve().is_relative_to(folder.resolve())):
        raise DatasetError(f"{folder}: holds what no preparation wrote, or the source itself; name another data_dir")
    loaders = _find(name, source_dir, split, synthetic)
    if chosen is not None:
        loaders = _choose(loaders, chosen, str(source_dir or name))
    total = synthetic.num_clips * synthetic.clip.num_frames
    if name != SYNTHETIC:
        loaders, total, unusable = _sound(name, loaders, Path(source_dir), split, problems, decode, progress)
        if unusable.boxes and not total:
            raise DatasetError(f"{source_dir}: no box can be used: {unusable}")
        if unusable.boxes and notes is not None:
            notes.append(f"not used: {unusable}")
        if unlike is not None:
            loaders, total = _unlike(name, loaders, Path(unlike), [] if notes is None else notes, progress)
    with tqdm(total=total, desc=f"{name}: writing", unit=" images", disable=not progress) as bar:
        try:
            clips = (loader() for loader in loaders.values())
            records.write(name, data_dir, split, clips, origin=origin, on_frame=bar.update)
        except SequenceError as error:
            raise DatasetError(f"{error}; nothing was prepared", [str(error)]) from error
        except (OSError, RuntimeError) as error:  # RuntimeError: the writer of records, whose disk is full
            raise DatasetError(
                f"{folder}: cannot be written ({error}); make room there and prepare it again"
            ) from error
    return load(name, data_dir, split)


def _check_names(name: str, split: str) -> None:
    if name not in LAYOUTS and name != SYNTHETIC:
        raise DatasetError(f"unknown data set {name!r}; choose one of {', '.join([*LAYOUTS, SYNTHETIC])}")
    if not (split.isidentifier() and split.islower()) or split == "all":
        raise DatasetError(f"split {split!r}: give a name of small letters, digits and _, and not 'all'")


def _find(name: str, source_dir, split: str, synthetic: SyntheticConfig) -> dict[str, ClipLoader]:
    if name == SYNTHETIC:
        return layouts.find_synthetic(synthetic, split)
    layout = LAYOUTS[name]
    if source_dir is None or not Path(source_dir).is_dir():
        missing = f"{source_dir or '--source'}: no such folder"
        raise DatasetError(f"{missing}; give the folder of {name} as source: {layout.files}")
    try:
        loaders = layout.find(Path(source_dir), split)
    except (SequenceError, OSError) as error:
        raise DatasetError(str(error)) from error
    if not loaders:
        raise DatasetError(f"{source_dir}: nothing found; the {name} layout is {layout.files}")
    return loaders


def _choose(loaders: dict[str, ClipLoader], chosen: list[str], source: str) -> dict[str, ClipLoader]:
    order = list(loaders)
    names = [
        order[int(name)] if name not in loaders and name.isdecimal() and int(name) < len(order) else name
        for name in chosen
    ]
    unknown = [name for name in names if name not in loaders]
    if unknown or not names:
        raise DatasetError(f"{source}: no sequence {', '.join(unknown[:5]) or 'chosen'}; there are {len(order)}")
    return {name: loaders[name] for name in names}


def _sound(
    name: str, loaders: dict[str, ClipLoader], source: Path, split: str, problems: list | None, decode, progress
) -> tuple[dict[str, ClipLoader], int, faults.Unusable]:
    """The loaders without a fault, the number of their images, and their boxes that are not used.

    DatasetError where faults are not left out.
    """
    found: list[str] = []
    sound, total, unusable = {}, 0, faults.Unusable()
    for key, loader in tqdm(loaders.items(), f"{name}: looking", unit=" sequences", disable=not progress):
        wrong, clip = faults.faults_of_clip(loader, decode and name != "folder")
        if name == "folder":
            wrong = faults.faults_of_folder(layouts.folder_named(source, split, key)) or wrong
        found += wrong
        if not wrong:
            sound[key], total = loader, total + (len(clip.frames) if clip.targets else 0)
            unusable.count(clip)
    if found and (problems is None or not sound):
        more = f" (and {len(found) - 1} more faults)" if len(found) > 1 else ""
        raise DatasetError(f"{found[0]}{more}", found)
    if found:
        problems.extend(found)
    return sound, total, unusable


def _unlike(
    name: str, loaders: dict[str, ClipLoader], folder: Path, notes: list[str], progress: bool
) -> tuple[dict[str, ClipLoader], int]:
    """The loaders of clips without a frame like an image below `folder`, and the number of their images."""
    kept, total = {}, 0
    try:
        paths = tqdm(alike.images_below(folder), f"{folder}: looking", unit=" images", disable=not progress)
        unseen = alike.hashes(paths)
        for key, loader in tqdm(loaders.items(), f"{name}: comparing", unit=" sequences", disable=not progress):
            clip = loader()
            frames = clip.frames if clip.targets else ()
            pair = alike.nearest(alike.hashes(frames, upright=clip.upright), unseen)
            if pair is None:
                kept[key], total = loader, total + len(frames)
            else:
                notes.append(f"left out: {key}: {pair.image} is like {pair.other} ({pair.distance} bits differ)")
    except SequenceError as error:
        raise DatasetError(f"{error}; nothing was prepared", [str(error)]) from error
    if not total:
        raise DatasetError(f"{folder}: every sequence of the source has a frame like one there; give another source")
    return kept, total
