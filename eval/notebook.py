"""What every notebook needs: a process to work in, clips with known boxes, and the browser's mouse and camera.

Boxes are drawn in a widget (anywidget: Jupyter, Colab, VS Code), which the extra `notebook` brings.
"""

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from eval.command import prepare_process
from eval.online import check_box
from eval.scoring import metrics
from eval.sources import synthetic
from eval.sources.clips import Clip, drawn_clip, read_clip
from eval.sources.video import VideoError
from trackers.base import Frame
from trackers.images import frame

SHORT = "NOTEBOOK_SMOKE"  # environment variable: run the short form of a notebook, which tests it

DRAWER = Path(__file__).with_name("box_drawer.js")
WEBCAM = """
(async () => {
  const stream = await navigator.mediaDevices.getUserMedia({video: true});
  const video = document.createElement("video"), note = document.createElement("p");
  document.body.append(video, note);
  video.srcObject = stream;
  await video.play();
  const canvas = document.createElement("canvas"), frames = [];
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
  for (let left = 3; left > 0; left--) { note.textContent = "Recording in " + left; await wait(1000); }
  for (let index = 0; index < COUNT; index++) {
    note.textContent = "Recording, frame " + (index + 1) + " of COUNT";
    canvas.getContext("2d").drawImage(video, 0, 0);
    frames.push(canvas.toDataURL("image/jpeg", 0.9).split(",")[1]);
    await wait(INTERVAL);
  }
  stream.getTracks().forEach(track => track.stop());
  video.remove();
  note.textContent = COUNT + " frames";
  return JSON.stringify(frames);
})()
"""


def start() -> bool:
    """Prepares the process as the commands do; True if the notebook is to run in its short form."""
    prepare_process()
    return SHORT in os.environ


def clip(sequence: Path | str, count: int, *, seed: int) -> Clip:
    """The first `count` frames of a folder with `img/` and `groundtruth_rect.txt`; of a drawn clip where it is "".

    SequenceError, one line, for a folder that cannot be read.
    """
    path = Path(sequence)
    return read_clip(path.parent, path.name, count) if sequence else drawn_clip(count, seed, hidden=False)


def frames(images: Iterable[np.ndarray]) -> Frame:
    """T images of one size `[H, W, 3]` uint8 RGB -> one Frame `[T, ...]`, for `trackers.run`."""
    return Frame(*(np.stack(leaves) for leaves in zip(*map(frame, images))))


def overlap(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[T]` IoU of x, y, w, h boxes `[T, 4]`; nan where the true box is not known."""
    return metrics.overlaps(boxes, truth)


def draw_sequences(folder: Path | str, count: int, length: int) -> Path:
    """Draws `count` clips of `length` frames into `folder`, in the layout `folder` of `eval.run`; returns it.

    Everything that makes a clip hard is switched on; a frame without the target has the box nan,nan,nan,nan.
    """
    folder = Path(folder)
    config = synthetic.ClipConfig(num_frames=length, **synthetic.HARD)
    for seed in range(count):
        images, truth = folder / f"clip{seed}" / "img", []
        images.mkdir(parents=True, exist_ok=True)
        for index, example in enumerate(synthetic.clip(config, seed)):
            cv2.imwrite(str(images / f"{index + 1:04}.jpg"), example.image[..., ::-1])
            truth.append(example.box if example.visibility > 0 else [np.nan] * 4)
        np.savetxt(images.parent / "groundtruth_rect.txt", truth, "%.3f", ",")
    return folder


def box_drawer(image: np.ndarray, boxes: np.ndarray | Iterable = ()) -> Any:
    """A widget that shows `[H, W, 3]` uint8 RGB to draw boxes on; `boxes` `[N, 4]` x, y, w, h are there already.

    In the last line of a cell it appears under it; `drawn_boxes` in a later cell gives what was drawn.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("drawing in a notebook needs anywidget: pip install 'jaxtrack[notebook]'") from error

    class BoxDrawer(anywidget.AnyWidget):
        _esm = DRAWER
        picture = traitlets.Unicode().tag(sync=True)  # the image as an address
        boxes = traitlets.List().tag(sync=True)
        size: tuple[int, int]  # height, width

    data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
    address = f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"
    drawer = BoxDrawer(picture=address, boxes=np.asarray(list(boxes), float).reshape(-1, 4).tolist())
    drawer.size = image.shape[:2]
    return drawer


def drawn_boxes(drawer: Any) -> np.ndarray:
    """`[N, 4]` x, y, w, h (0-based pixels) in a `box_drawer`; ValueError, one line, where there is none."""
    if not drawer.boxes:
        raise ValueError("no box was drawn; draw one in the picture above, and run this cell again")
    return np.stack([check_box(box, *drawer.size) for box in drawer.boxes])


def record_webcam(folder: Path | str, *, count: int = 75, fps: float = 15.0) -> Path:
    """`count` frames of the reader's camera as JPEG files in `folder`, for `video.open_source`; Colab only.

    An earlier recording is replaced. VideoError where the folder holds anything else, and elsewhere than on Colab:
    there `--video 0` of eval.track opens a camera of this machine.
    """
    colab = _colab()
    if colab is None:
        raise VideoError("the browser's camera is for Colab; elsewhere run python -m eval.track --video 0 --show")
    script = WEBCAM.replace("COUNT", str(int(count))).replace("INTERVAL", str(1000 / fps))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = sorted(folder.glob("webcam_*.jpg"))
    if len(earlier) < len(list(folder.iterdir())):
        raise VideoError(f"{folder}: holds other files, which would belong to the video; give an empty folder")
    frames = json.loads(colab.eval_js(script, timeout_sec=60 + count / fps))
    for old in earlier:
        old.unlink()
    for index, encoded in enumerate(frames):
        (folder / f"webcam_{index:04}.jpg").write_bytes(base64.b64decode(encoded))
    return folder


def _colab():
    """`google.colab.output`; None elsewhere."""
    try:
        from google.colab import output
    except ImportError:
        return None
    return output
