"""What every notebook needs: a process to work in, clips with known boxes, and the browser's mouse, screen and camera.

Boxes are drawn and tracked videos are watched in widgets (anywidget: Jupyter, Colab, VS Code), which the extra
`notebook` brings.
"""

import base64
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from eval.command import prepare_process
from eval.online import check_box
from eval.scoring import metrics
from eval.sources import synthetic
from eval.sources.clips import Clip, drawn_clip, read_clip
from eval.sources.pictures import jpeg
from eval.sources.seeking import Seekable
from eval.sources.video import DEFAULT_FPS, VERDICT_COLORS, VERDICT_NAMES, VideoError, target_color
from eval.targets import Run
from trackers.base import Frame
from trackers.images import frame

SHORT = "NOTEBOOK_SMOKE"  # environment variable: run the short form of a notebook, which tests it

SHARED, STYLE, DRAWER, VIEWER = map(
    Path(__file__).with_name, ("widgets.js", "widgets.css", "box_drawer.js", "viewer.js")
)
MOST_ASKED = 16  # frames that a message of the viewer may ask for
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
    anywidget, traitlets = _widget_libraries()

    class BoxDrawer(anywidget.AnyWidget):
        _esm, _css = _module(DRAWER), STYLE
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


def viewer(
    source: Path | str | Seekable | Sequence[np.ndarray] | Callable[[int], np.ndarray],
    run: Run,
    *,
    fps: float | None = None,
    width: int = 960,
) -> Any:
    """A widget that shows a tracked video frame by frame, with the boxes, and the confidence of each target over time.

    `source` is what was tracked: a video file, a folder of images, the images `[H, W, 3]` uint8 RGB, or a function from
    a frame's number to its image. Frames come as the page asks for them, at most `width` pixels wide, so that a long
    video is there at once; while a cell runs, none comes. `fps` is that of the source where it states one. VideoError
    where there is nothing to read, ValueError where the run has more frames.
    """
    anywidget, traitlets = _widget_libraries()

    class Viewer(anywidget.AnyWidget):
        _esm, _css = _module(VIEWER), STYLE
        count = traitlets.Int().tag(sync=True)  # of frames
        fps = traitlets.Float().tag(sync=True)
        targets = traitlets.List().tag(sync=True)  # name and color of each
        verdicts = traitlets.List().tag(sync=True)  # the same, by their codes
        rows = traitlets.Bytes().tag(sync=True)  # float32 [target, frame, (x, y, w, h, confidence, verdict)]

    source = Seekable(source) if isinstance(source, str | Path) else source
    image = source.image if isinstance(source, Seekable) else source if callable(source) else source.__getitem__
    last = max(run.first, run.first + run.step * (len(run.tracked) - 1))
    count = last + 1 if callable(source) else len(source)
    if not run.tracked or last >= count:
        had = f"frames up to {last}, the video {count}" if run.tracked else "no frame"
        raise ValueError(f"the run has {had}; give the video that was tracked")
    rows, codes = _rows(run, count), range(max(VERDICT_NAMES) + 1)
    names = run.names or [str(number) for number in range(1, len(rows) + 1)]
    shown = Viewer(
        count=count,
        fps=float(fps or getattr(source, "fps", DEFAULT_FPS)),
        targets=[{"name": name, "color": _css_color(target_color(slot))} for slot, name in enumerate(names)],
        verdicts=[{"name": VERDICT_NAMES[code], "color": _css_color(VERDICT_COLORS[code])} for code in codes],
        rows=rows.tobytes(),
    )

    def hear(_, content, __):
        if isinstance(source, Seekable) and "left" in content:  # the page: what is kept for it goes
            source.close()
        for number in content.get("frames", ())[:MOST_ASKED]:
            shown.send(*_answer(image, number, count, width))

    shown.on_msg(hear)
    return shown


def _rows(run: Run, count: int) -> np.ndarray:
    """`[N, count, 6]` little-endian float32 x, y, w, h, confidence, verdict; nan where a target is not tracked."""
    rows = np.full((len(run.tracked[0].boxes), count, 6), np.nan, "<f4")
    for at, tracked in enumerate(run.tracked):
        known = np.isfinite(tracked.boxes).all(1)
        values = np.column_stack([tracked.boxes, tracked.confidence, tracked.verdicts])
        rows[known, run.first + run.step * at] = values[known]
    return rows


def _answer(
    image: Callable[[int], np.ndarray], number: int, count: int, width: int
) -> tuple[dict[str, Any], list[bytes]]:
    """The message for the page, and its buffers: the frame, or why there is none."""
    if not isinstance(number, int) or not 0 <= number < count:
        return {"frame": number, "problem": f"there is no frame {number}; the last one is {count - 1}"}, []
    try:
        pixels = image(number)
        return {"frame": number, "size": pixels.shape[1::-1]}, [jpeg(pixels, width)]
    except Exception as error:  # also of a caller's function: nobody sees what a message's handler raises
        return {"frame": number, "problem": f"{error}"}, []


def _widget_libraries() -> tuple[Any, Any]:
    """anywidget and traitlets."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("widgets in a notebook need anywidget: pip install 'jaxtrack[notebook]'") from error
    return anywidget, traitlets


def _module(own: Path) -> str:
    """The module of a widget, as the page loads it: one text."""
    return f"{SHARED.read_text()}\n{own.read_text()}"


def _css_color(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


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
