"""The TensorBoard log of a run, written by the calling thread.

tensorboardX's SummaryWriter has a thread for it, which a full disk ends, and then waits for that thread for ever.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


def open_log(folder: Path, step: int) -> EventsWriter:
    """A new file of events, to be closed; TensorBoard forgets what older ones say of the steps after `step`."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(folder / "events"))
    _write(writer, step + 1, session_log=SessionLog(status=SessionLog.START))
    return writer


def add_scalars(writer: EventsWriter, step: int, values: dict[str, Any]) -> None:
    """values: numbers, or lists of numbers, which become name/0, name/1 .. OSError with the name of the file."""
    flat = {}
    for name, value in values.items():
        flat |= {f"{name}/{i}": one for i, one in enumerate(value)} if isinstance(value, list) else {name: value}
    scalars = [summary.scalar(name, value).value[0] for name, value in flat.items()]
    _write(writer, step, summary=Summary(value=scalars))


def add_image(writer: EventsWriter, step: int, name: str, image: np.ndarray) -> None:
    """image: `[H, W, 3]` uint8 RGB. OSError as of `add_scalars`."""
    _write(writer, step, summary=summary.image(name, image, dataformats="HWC"))


def _write(writer: EventsWriter, step: int, **content: Any) -> None:
    try:
        writer.write_event(Event(step=step, wall_time=time.time(), **content))
        writer.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, writer._file_name) from error
