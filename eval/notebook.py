"""What every notebook needs: a process to work in, clips with known boxes, and the browser's mouse and camera.

On Colab the boxes that are drawn come back by themselves; any other Jupyter shows the same picture and asks for the
line that appears under it. IPython is no dependency: a notebook that calls this has it.
"""

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

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

# Boxes lie on the pixels of the image, however large the browser shows it.
DRAWER = """
<canvas id="ID" style="max-width: 100%; cursor: crosshair; touch-action: none"></canvas><br>
<button id="ID-undo">Undo</button> <button id="ID-done">Done</button> <code id="ID-text">Draw a box.</code>
<script>
window.ID = new Promise(resolve => {
  const element = name => document.getElementById("ID" + name), canvas = element(""), pen = canvas.getContext("2d");
  const picture = new Image(), boxes = [];
  let start = null, last = null;
  const place = event => {
    const shown = canvas.getBoundingClientRect();
    const along = (at, from, size, pixels) => Math.min(Math.max((at - from) / size, 0), 1) * pixels;
    return [along(event.clientX, shown.left, shown.width, canvas.width),
            along(event.clientY, shown.top, shown.height, canvas.height)];
  };
  const between = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])];
  const text = () => boxes.map(box => box.map(value => value.toFixed(1)).join(",")).join("; ");
  const draw = () => {
    pen.drawImage(picture, 0, 0);
    pen.lineWidth = Math.max(2, canvas.width / 250);
    pen.font = "bold " + Math.max(14, canvas.width / 30) + "px sans-serif";
    pen.strokeStyle = pen.fillStyle = "#3cdc5a";
    boxes.concat(start && last ? [between(start, last)] : []).forEach((box, index) => {
      pen.strokeRect(...box);
      pen.fillText(index + 1, box[0] + 3, box[1] - 4);
    });
    element("-text").textContent = text() || "Draw a box.";
  };
  picture.onload = () => { canvas.width = picture.width; canvas.height = picture.height; draw(); };
  picture.src = "IMAGE";
  canvas.onpointerdown = event => { start = last = place(event); canvas.setPointerCapture(event.pointerId); };
  canvas.onpointermove = event => { if (start) { last = place(event); draw(); } };
  canvas.onpointerup = event => {
    if (!start) return;
    const box = between(start, place(event));
    if (box[2] > 2 && box[3] > 2) boxes.push(box);
    start = last = null;
    draw();
  };
  element("-undo").onclick = () => { boxes.pop(); draw(); };
  element("-done").onclick = () => { if (boxes.length) resolve(text()); };
});
</script>
"""

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


def draw_boxes(image: np.ndarray, *, ask: Callable[[str], str] = input) -> np.ndarray:
    """`[N, 4]` x, y, w, h (0-based pixels) that the reader draws on `[H, W, 3]` uint8 RGB in the browser.

    ask: how the line with the boxes is asked for where the browser cannot send it. ValueError, one line, for a line
    that is no list of boxes, and for a box that is empty or outside.
    """
    name = f"boxes_{secrets.token_hex(4)}"
    _show_html(drawer(image, name))
    colab = _colab()
    if colab is not None:
        return parse_boxes(colab.eval_js(f"window.{name}"), image)
    return parse_boxes(ask("Draw, then paste the line under the picture here: "), image)


def drawer(image: np.ndarray, name: str) -> str:
    """The page with the image to draw on; the promise `window[name]` gives the line that `parse_boxes` reads."""
    data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
    return DRAWER.replace("ID", name).replace("IMAGE", f"data:image/png;base64,{_base64(data.tobytes())}")


def parse_boxes(text: str, image: np.ndarray) -> np.ndarray:
    """`x,y,w,h; x,y,w,h; ...` -> `[N, 4]`; see `draw_boxes` for errors."""
    parts = [part.split(",") for part in text.split(";") if part.strip()]
    if not parts:
        raise ValueError("no box was drawn; run the cell again")
    try:
        boxes = [[float(value) for value in part] for part in parts]
    except ValueError:
        raise ValueError(f"{text[:60]!r}: must be x,y,w,h; x,y,w,h; ... in pixels") from None
    return np.stack([check_box(box, *image.shape[:2]) for box in boxes])


def record_webcam(folder: Path | str, *, count: int = 75, fps: float = 15.0) -> Path:
    """`count` frames of the reader's camera as JPEG files in `folder`, for `video.open_source`; Colab only.

    VideoError elsewhere: there `--video 0` of eval.track opens a camera of this machine.
    """
    colab = _colab()
    if colab is None:
        raise VideoError("the browser's camera is for Colab; elsewhere run python -m eval.track --video 0 --show")
    script = WEBCAM.replace("COUNT", str(int(count))).replace("INTERVAL", str(1000 / fps))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    for index, encoded in enumerate(json.loads(colab.eval_js(script, timeout_sec=60 + count / fps))):
        (folder / f"{index:04}.jpg").write_bytes(base64.b64decode(encoded))
    return folder


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _show_html(page: str) -> None:
    from IPython import display

    display.display(display.HTML(page))


def _colab():
    """`google.colab.output`; None elsewhere."""
    try:
        from google.colab import output
    except ImportError:
        return None
    return output
