"""The picture of the annotator in the README: `python -m tests.helpers.annotator_picture .figures/annotator.webp`.

A drawn clip, tracked with `dimp_tiny`, and what the tracker saw in one frame. Needs the extras `web` and `browser`, and
Chromium.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from eval.benchmark.annotator import serving
from eval.command import prepare_process
from eval.sources.synthetic import ClipConfig, clip
from eval.sources.video_writer import VideoWriter
from tests.helpers.browsers import CHROMIUM, QUIET

FRAME = 54  # the target is about to pass behind a trunk; a look-alike is in sight
QUALITY = 80


def main(out: Path) -> None:
    prepare_process()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        place, box = Path(folder) / "clip.mp4", None
        with VideoWriter(place) as writer:
            for example in clip(ClipConfig(height=360, width=480), seed=2):
                box = example.box if box is None else box
                writer.write(example.image)
        with serving(place, "dimp_tiny") as server:
            server.post("actions", action="box", target=None, frame=0, box=box.tolist(), name="car")
            server.rate()
            browser = browsers.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            identity = server.video.rpartition("/")[2]
            page.goto(f"{server.base}#video={identity}&frame={FRAME}&target=1")
            page.wait_for_selector(f"#picture[data-frame='{FRAME}']")
            page.keyboard.press("g")
            page.wait_for_selector("#crop:visible")
            page.wait_for_timeout(500)
            picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            browser.close()
    out.write_bytes(cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
