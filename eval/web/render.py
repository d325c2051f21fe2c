"""The annotated video of a page."""

from collections.abc import Callable
from pathlib import Path

from eval.sources.video import VERDICT_NAMES, draw_boxes, target_color
from eval.sources.video_writer import VideoWriter
from eval.web import document
from eval.web.session import Session


def render(session: Session, path: Path, tell: Callable[[int], bool]) -> None:
    """Writes the video with the boxes as they now are; ends early where `tell(frames done)` says so.

    One target has the color of its verdicts, of several each its own. VideoError as of the reader and the writer.
    """
    content, frames = session.document, session.frames.again()
    count = len(frames)
    found = [(target, document.rows(target, 0, count - 1)) for target in content.targets]
    try:
        with VideoWriter(path, frames.fps) as writer:
            for at, image in enumerate(frames.images(0)):
                here = [(target, rows[at]) for target, rows in found if rows[at] is not None and rows[at].box]
                labels = [f"{target.name} {_said(row)}" for target, row in here]
                looks = {"labels": labels, "verdicts": [row.verdict for _, row in here]}
                if len(found) > 1:
                    looks["colors"] = [target_color(target.id - 1) for target, _ in here]
                drawn = draw_boxes(image, [row.box for _, row in here], **looks)
                writer.write(drawn, frames.times[at])
                if tell(at + 1):
                    writer.discard()
                    return
    finally:
        frames.close()


def _said(row: document.Shown) -> str:
    return "" if row.kind == document.KEY else f"{VERDICT_NAMES[row.verdict]} {row.confidence:.2f}"
