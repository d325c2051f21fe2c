"""Prepared data sets on disk: one record per frame in array_record files, and the sequence table beside them.

DIR/<name>/<split>/1.0.0/ is a TFDS data set (`tfds.builder_from_directory` reads it) whose only feature is the
encoded image; `table.npz` in it holds the boxes. Nothing here needs TensorFlow.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from filelock import FileLock, Timeout

from eval.sources.sequences import SequenceError, read_image

VERSION = "1.0.0"
TABLE = "table.npz"
SHARD_BYTES = 512 << 20
PNG = b"\x89PNG\r\n\x1a\n"
SIGNATURES = b"\xff\xd8\xff", PNG


class DatasetError(ValueError):
    """A data set cannot be prepared or read; the message is one line with the folder and what to do.

    `faults` has one line for each fault of the source where there may be several.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()):
        super().__init__(message)
        self.faults = tuple(faults)


class SequenceTable(NamedTuple):
    """Everything a sampler needs of S sequences with F frames in all; numpy on the host."""

    names: tuple[str, ...]  # [S]
    starts: np.ndarray  # [S] int64, index of each sequence's first frame
    lengths: np.ndarray  # [S] int64
    boxes: np.ndarray  # [F, 4] float32 x, y, w, h (0-based pixels); nan where there is none
    visible: np.ndarray  # [F] bool: a sampler may use this frame: not absent, and a box with positive sides

    def still(self, sequence: int) -> tuple[str, str] | None:
        """(image, class) of a target in a still image, as its name says; None of a video."""
        parts = self.names[sequence].rsplit(":", 2)
        return (parts[0], parts[2]) if self.lengths[sequence] == 1 and len(parts) == 3 else None


class TrackingDataset(NamedTuple):
    """A prepared data set."""

    name: str
    frames: Any  # random access: frames[i] -> {"image": bytes of a JPEG or PNG file}; len == F; can be pickled
    table: SequenceTable


class Target(NamedTuple):
    """One target in T frames."""

    name: str
    boxes: np.ndarray  # [T, 4] x, y, w, h (0-based pixels)
    visible: np.ndarray  # [T] bool


class Clip(NamedTuple):
    """T images, and any number of targets annotated in all of them."""

    frames: Sequence[Path | bytes]  # T image files or encoded images
    targets: tuple[Target, ...]
    unusable: tuple[str, ...] = ()  # a line for each box of the source that is not used, see `boxes.fault_of`
    upright: bool = False  # boxes are of the images as viewers show them, turned as their EXIF says


ClipLoader = Callable[[], Clip]


@dataclass(frozen=True, eq=False)
class Frames:
    """The images of a data set by frame; `records` maps a frame to its image where several targets share one."""

    folder: Path
    source: Any  # source[i] -> {"image": bytes}
    records: np.ndarray | None  # [F] int64

    def __len__(self) -> int:
        return len(self.source if self.records is None else self.records)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        index = index.__index__()
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        try:
            return self.source[index if self.records is None else int(self.records[index])]
        except (OSError, RuntimeError, ValueError) as error:  # records carry check sums
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(
                f"{self.folder}: frame {index} is damaged ({reason}); delete the folder and prepare it again"
            ) from error


def load(name: str, data_dir: Path | str, split: str = "train") -> TrackingDataset:
    """The prepared data set `name` of `data_dir`; DatasetError if it is not there, or damaged."""
    folder = folder_of(name, data_dir, split)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: not prepared; run python -m train.datasets {name} --data-dir {data_dir} --split {split}"
        )
    with _damage_of(folder):
        table, records, _ = _read_table(folder / TABLE)
        builder = tfds.builder_from_directory(folder)
        split_info = builder.info.splits[split]
        for path, length in zip(split_info.filepaths, split_info.shard_lengths):
            # Opening reads the footer at the file's end, so a file that was cut short is found here.
            reader = array_record_module.ArrayRecordReader(str(path))
            if reader.num_records() != length:
                raise ValueError(f"{path.name} has {reader.num_records()} records, not {length}")
            reader.close()
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        highest = len(table.visible) if records is None else records.max() + 1
        if highest != len(source):
            raise ValueError(f"{TABLE} tells of {highest} images, the records of {len(source)}")
    return TrackingDataset(name, Frames(folder, source, records), table)


def folder_of(name: str, data_dir: Path | str, split: str) -> Path:
    return Path(data_dir) / name / split / VERSION


def made_from(folder: Path) -> dict:
    """What a prepared data set was built from; DatasetError if its table is damaged."""
    with _damage_of(folder):
        return _read_table(folder / TABLE)[2]


def write(
    name: str,
    data_dir: Path | str,
    split: str,
    clips: Iterable[Clip],
    *,
    origin: dict,
    on_frame: Callable[[], None] = lambda: None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the clips as a data set, in place of one of that name: it appears at the end, whole, or not at all.

    An interrupted run leaves no data set; the next one starts again, and removes what a killed one left.
    `origin` is kept as JSON (see `made_from`); `on_frame` is called after each image.
    """
    config = tfds.core.BuilderConfig(name=split, version=VERSION)

    class Builder(_Builder, skip_registration=True):
        BUILDER_CONFIGS = (config,)

        def _generate_splits(self, dl_manager, download_config):
            return [_write_shards(self, clips, origin, on_frame, shard_bytes)]

    Builder.name = name
    with _only_writer(folder_of(name, data_dir, split)), tempfile.TemporaryDirectory() as nothing:
        shutil.rmtree(folder_of(name, data_dir, split), ignore_errors=True)
        builder = Builder(data_dir=data_dir, config=config, file_format="array_record")
        builder.download_and_prepare(download_dir=nothing)  # otherwise TFDS makes a folder of downloads in data_dir


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS's part: metadata, and the incomplete folder that is renamed at the end.

    The records are written by us: TFDS's own writer shuffles, for which it needs TensorFlow and holds a whole
    bucket in memory as soon as a data set is larger than 1 GB. Here, order is kept and memory is one clip.
    """

    VERSION = tfds.core.Version(VERSION)

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
        return self.dataset_info_from_configs(
            features=features, description=f"Frames for training trackers; boxes in {TABLE}.", disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        """TFDS wants it to exist; `_generate_splits`, which `write` gives it, takes its place."""
        return {}

    def _generate_examples(self):
        """As above."""
        return iter(())

    def _log_download_bytes(self):
        """Nothing is downloaded, so nothing is said about it."""

    def _log_download_done(self):
        """As above."""


def _write_shards(builder, clips, origin, on_frame, shard_bytes) -> tfds.core.SplitInfo:
    split = builder.builder_config.name
    template = tfds.core.ShardedFileTemplate(
        data_dir=builder.data_path,
        dataset_name=builder.name,
        split=split,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",  # their number is not known before the end
    )
    targets, records = [], []
    shard, shard_size, shard_lengths, total_size = None, 0, [], 0
    try:
        for clip in clips:
            first = sum(shard_lengths)
            for target in clip.targets:
                targets.append(target._replace(boxes=np.asarray(target.boxes, np.float32)))
                records.append(np.arange(first, first + len(clip.frames)))
            for frame in clip.frames if clip.targets else ():
                image = io.BytesIO(encoded(frame, upright=clip.upright))
                record = builder.info.features.serialize_example({"image": image})
                if shard is None or shard_size + len(record) > shard_bytes:
                    if shard is not None:
                        shard.close()
                    path = template.sharded_filepath(shard_index=len(shard_lengths), num_shards=None)
                    # One record a group for random access; images are compressed already.
                    shard = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
                    shard_size = 0
                    shard_lengths.append(0)
                shard.write(record)
                shard_lengths[-1] += 1
                shard_size += len(record)
                total_size += len(record)
                on_frame()
    except BaseException:
        if shard is not None:
            with suppress(RuntimeError):  # of a full disk: it must not hide what happened first
                shard.close()
        raise
    if shard is None:
        raise DatasetError(f"{builder.name}: nothing to write; the source has no annotated image")
    shard.close()
    _write_table(Path(builder.data_path) / TABLE, targets, np.concatenate(records), origin)
    return tfds.core.SplitInfo(
        name=split, shard_lengths=shard_lengths, num_bytes=total_size, filename_template=template
    )


def encoded(frame: Path | bytes, *, upright: bool = False) -> bytes:
    """An image of 8 bits, turned as its EXIF says where `upright`. SequenceError if the frame is no image.

    The bytes of a JPEG or PNG file as they are; as PNG those of another kind, of 16 bits, or to be turned.
    """
    try:
        data = frame if isinstance(frame, bytes) else frame.read_bytes()
    except OSError as error:
        raise SequenceError(f"{frame}: {error.strerror or error}; restore the file") from error
    deep = data.startswith(PNG) and data[24:25] == b"\x10"
    if data.startswith(SIGNATURES) and not deep and not upright:
        return data
    if isinstance(frame, bytes):
        raise SequenceError("a frame given as bytes is neither JPEG nor PNG of 8 bits; encode it")
    return cv2.imencode(".png", read_image(frame, upright=upright)[..., ::-1])[1].tobytes()


def _write_table(path: Path, targets: list[Target], records: np.ndarray, origin: dict) -> None:
    boxes = np.concatenate([target.boxes for target in targets])
    lengths = np.array([len(target.boxes) for target in targets], np.int64)
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)
    boxes[~sound] = np.nan
    arrays = {
        "names": np.array("\n".join(target.name for target in targets)),
        "starts": np.cumsum(lengths) - lengths,
        "lengths": lengths,
        "boxes": boxes,
        "visible": np.concatenate([target.visible for target in targets]).astype(bool) & sound,
        "origin": np.array(json.dumps(origin)),
    }
    if not np.array_equal(records, np.arange(len(records))):
        arrays["records"] = records
    np.savez(path, **arrays)


def _read_table(path: Path) -> tuple[SequenceTable, np.ndarray | None, dict]:
    """(table, record of each frame where frames share images, origin); ValueError if the parts do not agree."""
    with np.load(path, allow_pickle=False) as arrays:
        fields = {key: arrays[key] for key in arrays.files}  # npz checks the sums of all it reads
    names = tuple(str(fields["names"]).split("\n"))
    table = SequenceTable(names, *(fields[key] for key in SequenceTable._fields[1:]))
    ends = table.starts + table.lengths
    total = len(table.visible)
    if (
        not len(names) == len(table.starts) == len(table.lengths)
        or table.boxes.shape != (total, 4)
        or (total, 0) != (ends[-1], table.starts[0])
        or not np.array_equal(table.starts[1:], ends[:-1])
    ):
        raise ValueError(f"the parts of {path.name} do not agree")
    return table, fields.get("records"), json.loads(str(fields["origin"]))


@contextmanager
def _damage_of(folder: Path) -> Iterator[None]:
    """Turns whatever goes wrong in reading a prepared data set into a DatasetError."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # of numpy, zipfile, protobuf, TFDS and array_record
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DatasetError(f"{folder}: damaged ({reason}); delete the folder and prepare it again") from error


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """One process at a time prepares a data set, so what others left unfinished can be removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / "lock", blocking=False)  # the system lets go of it when the process ends
    try:
        lock.acquire()
    except Timeout as error:
        raise DatasetError(f"{folder}: another process is preparing it; wait for that one") from error
    try:
        for left in folder.parent.glob("incomplete.*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
