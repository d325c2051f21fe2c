"""A recording of a run for the viewer of Rerun: images, boxes, confidence over time, score maps."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from eval.files import hidden_beside, publish
from eval.sources.video import VideoError

SUFFIX = ".rrd"
QUALITY = 90  # of the JPEG images in it


class RerunWriter:
    """Writes one .rrd file, which has its name once the `with` block ends, complete; after an exception there is none.

    VideoError for another suffix, without rerun-sdk, and where the file cannot be written.
    """

    def __init__(self, path: Path):
        if path.suffix.lower() != SUFFIX:
            raise VideoError(f"{path}: a recording of Rerun is written as {SUFFIX}; rename the output")
        try:
            import rerun
        except ImportError as error:
            raise VideoError(f"{path}: --rerun needs a package: pip install 'jaxtrack[rerun]'") from error
        self.path, self._rerun = path, rerun
        try:
            self._temporary = hidden_beside(path)
        except OSError as error:
            raise VideoError(f"{path}: {error.strerror or error}; choose another --rerun") from error
        self._stream = rerun.RecordingStream("jaxtrack")
        self._stream.save(str(self._temporary))

    def write(
        self,
        frame: int,
        seconds: float,
        image: np.ndarray,
        names: Sequence[str],
        boxes: np.ndarray,
        confidence: np.ndarray,
        verdicts: Sequence[str],
        colors: Sequence[tuple[int, int, int]],
        score_maps: np.ndarray | None = None,
    ) -> None:
        """One frame: `[H, W, 3]` uint8 RGB, and N targets; a row of `boxes` that is not finite is left out."""
        rerun, stream = self._rerun, self._stream
        stream.set_time("frame", sequence=frame)
        stream.set_time("time", duration=seconds)
        quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)[1].tobytes()
        stream.log("video", rerun.EncodedImage(contents=encoded, media_type="image/jpeg"))
        there = [slot for slot in range(len(names)) if np.isfinite(boxes[slot]).all()]
        stream.log(
            "video/boxes",
            rerun.Boxes2D(
                mins=boxes[there, :2],
                sizes=boxes[there, 2:],
                labels=[f"{names[slot]} {verdicts[slot]}" for slot in there],
                colors=[colors[slot] for slot in there],
            ),
        )
        for slot in there:
            part = rerun.escape_entity_path_part(names[slot])
            stream.log(f"confidence/{part}", rerun.Scalars(float(confidence[slot])))
            if score_maps is not None:
                stream.log(f"score_map/{part}", rerun.Tensor(np.asarray(score_maps[slot], np.float32)))

    def __enter__(self) -> "RerunWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._stream.flush()
            self._stream.disconnect()
            if kind is None:
                publish(self._temporary, self.path)
        except (OSError, RuntimeError) as problem:
            raise VideoError(f"{self.path}: cannot be written ({problem}); free space or write elsewhere") from problem
        finally:
            self._temporary.unlink(missing_ok=True)
