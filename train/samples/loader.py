"""From numbers of samples to batches, in threads or worker processes: what frames, pairs and clips are loaded by.

A sample is made on the host: images are decoded and cropped around the target, and only small uint8 crops are sent.
Boxes are x, y, w, h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import cv2
import grain
import numpy as np
from absl import flags

from trackers.rules import COUNT, FACTOR, NOT_NEGATIVE, POSITIVE, PROBABILITY
from train.samples import samplers

if TYPE_CHECKING:
    from train.datasets import TrackingDataset

Load = Callable[..., dict[str, np.ndarray]]  # (data sets, mixture, config, number of the sample) -> sample


@dataclass(frozen=True)
class PartConfig:
    """Parts of labelled objects as targets, of photographs only: in a video a part does not move as its whole does.

    People draw boxes around faces and wheels, too; few classes of whole objects teach an IoU-Net those objects.
    """

    probability: Annotated[float, PROBABILITY] = 0.0  # of a photograph's sample
    sides: Annotated[tuple[float, float], FACTOR] = (0.25, 0.8)  # range of the part's sides, of the object's
    # Pixels of the photograph; the whole object where the part would be smaller
    min_side: Annotated[float, POSITIVE] = 12.0


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What is loaded, and by how many."""

    sampling: samplers.FrameSampling
    batch_size: Annotated[int, COUNT]  # samples of a batch, all processes together
    parts: PartConfig = PartConfig()
    seed: Annotated[int, NOT_NEGATIVE] = 0
    workers: Annotated[int, NOT_NEGATIVE] = 0  # worker processes; 0: threads of this one
    threads: Annotated[int, COUNT] = 1  # batches that each process (or this one) makes at the same time
    buffer: Annotated[int, COUNT] = 2  # finished batches that each process (or this one) keeps ready


class FrameError(ValueError):
    """A frame cannot be read; the message is one line with the data set, the record and the sequence."""


def batches(
    load: Load,
    datasets: Sequence[TrackingDataset],
    probabilities: Sequence[float],
    config: LoaderConfig,
    num_batches: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """An iterator over batches 0 .. num_batches - 1, with `get_state`, `set_state` and `close`.

    load: makes a sample, such as `frames.load_sample`, `pairs.load_pair` or `clips.load_clip`; config: of its own type.
    A batch is the dict that it returns with B = batch_size / process_count samples on axis 1: `sample_ids` `[B]`,
    `train_images` `[F, B, size, size, 3]` and so on. An epoch is just a number of batches.
    With workers, a script must start under `if __name__ == "__main__"`: it is imported by them. ValueError if the data
    sets cannot be sampled (`samplers.mix`) or B is no whole number.
    """
    if config.batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(
            f"a batch of {config.batch_size} cannot be divided: process {process_index} of {process_count} processes"
        )
    mixture = samplers.mix(datasets, probabilities, config.sampling)
    make = partial(load, datasets, mixture, config)
    return BatchIterator(make, config, (process_index, process_count), num_batches)


class BatchIterator(grain.DatasetIterator):
    """Batches from number `get_state()["next_batch"]` on; made by `batches`.

    Batch n holds samples n * batch_size and on, and process p of P its p-th part of them. So the state is one number:
    it fits any count of workers and processes, and its JSON is what `grain.checkpoint.CheckpointHandler` stores.
    """

    def __init__(self, load: Callable, config: LoaderConfig, process: tuple[int, int], num_batches: int):
        super().__init__()
        self._make = partial(_pipeline, load, config, process, num_batches)
        self._copies = config.workers > 0
        self._num_batches = num_batches
        self._next_batch = 0
        self._running = None

    def __next__(self) -> dict[str, np.ndarray]:
        self.start_prefetch()
        batch = next(self._running)
        self._next_batch += 1
        # Workers send shared memory, which must not outlive them: Python would complain of every batch held to its end.
        return {name: np.array(value) for name, value in batch.items()} if self._copies else batch

    def start_prefetch(self) -> None:
        """Starts workers and threads, if they are not running yet."""
        if self._running is None:
            self._running = iter(self._make(self._next_batch))

    def get_state(self) -> dict[str, int]:
        return {"next_batch": self._next_batch}

    def set_state(self, state: dict[str, int]) -> None:
        self.close()
        self._next_batch = int(state["next_batch"])
        if not 0 <= self._next_batch <= self._num_batches:
            raise ValueError(f"next_batch={self._next_batch}: must be in 0..{self._num_batches}")

    def close(self) -> None:
        """Stops workers and threads; the next batch starts them again."""
        if self._running is not None:
            self._running.close()
        self._running = None


def _pipeline(load: Callable, config: LoaderConfig, process: tuple[int, int], num_batches: int, start: int):
    """Grain's data set of the batches from `start` on. A worker makes whole batches, so their number changes none."""
    index, count = process
    share = config.batch_size // count

    def sample_number(position: int) -> int:
        batch, offset = divmod(position, share)
        return (start + batch) * config.batch_size + index * share + offset

    samples = grain.MapDataset.range(max(num_batches - start, 0) * share).map(
        lambda position: load(sample_number(position))
    )
    read = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=max(config.buffer, config.threads))
    whole = samples.batch(share, drop_remainder=True, batch_fn=_stack).to_iter_dataset(read)
    if not config.workers:
        return whole
    if not flags.FLAGS.is_parsed():  # Grain asks flags of absl for its workers, also in programs without absl
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=config.buffer)
    return whole.mp_prefetch(options, _start_worker)


def _stack(samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Samples side by side on axis 1, after the frames; numbers on axis 0."""
    return {
        name: np.stack([sample[name] for sample in samples], axis=min(1, np.ndim(samples[0][name])))
        for name in samples[0]
    }


def _start_worker(index: int, count: int) -> None:
    """Processes share the cores already: OpenCV's own threads would only get in each other's way."""
    del index, count
    cv2.setNumThreads(0)


def read_image(dataset: TrackingDataset, sequence: int, record: int) -> np.ndarray:
    """`[H, W, 3]` uint8 BGR. FrameError if it cannot be read or decoded."""
    where = f"data set {dataset.name!r}, record {record} (sequence {dataset.table.names[sequence]!r}, frame "
    where += f"{record - int(dataset.table.starts[sequence])})"
    try:
        data = dataset.frames[record]["image"]
    except Exception as error:  # whatever the storage raises, the frame must be named
        raise FrameError(f"{where}: cannot be read: {_one_line(error)}") from error
    try:
        image = decode(data)
    except cv2.error as error:
        raise FrameError(f"{where}: cannot be decoded: {_one_line(error)}") from error
    if image is None:
        raise FrameError(f"{where}: not an image, or cut short ({len(data)} bytes)")
    return image


def decode(image: bytes) -> np.ndarray | None:
    """`[H, W, 3]` uint8 BGR, or None if the bytes are no image. Turning the small crops to RGB is cheaper.

    Gray is repeated, alpha dropped. The orientation of EXIF is ignored: `train.datasets` has turned what is to be
    turned, and made 16 bits 8.
    """
    data = np.frombuffer(image, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())}"


def random_part(rng: np.random.Generator, box: np.ndarray, config: PartConfig) -> np.ndarray:
    """A box inside of `box` `[4]`, or `box` itself: `[4]` float64."""
    box = np.asarray(box, np.float64)
    chosen = rng.random() < config.probability
    size = box[2:] * rng.uniform(*config.sides, 2)
    corner = box[:2] + (box[2:] - size) * rng.random(2)
    return np.concatenate([corner, size]) if chosen and size.min() >= config.min_side else box
