"""JSON in the style of YouTube-VIS: an annotation for each target, with a box or null for every frame of the video.

Boxes are x, y, w, h from the corner of the image. Each target is a category, which has its name; `score` is its mean
confidence, and `confidences`, which is ours, that of each frame.
"""

import json
from typing import Any

import numpy as np

from eval.annotations import entries
from eval.annotations.tracks import Row, Track, Video, image_name, make_tracks, seen


def render(video: Video) -> str:
    size = dict(zip(("width", "height"), video.size or ()))
    length = 1 + max((int(track.frames[-1]) for track in video.tracks), default=-1)
    annotations = []
    for track in video.tracks:
        boxes: list[Any] = [None] * length
        areas, confidences = boxes.copy(), boxes.copy()
        for frame, box, confidence, there in zip(track.frames, track.boxes.round(4), track.confidence, seen(track)):
            if there:
                boxes[frame], areas[frame] = box.tolist(), round(float(box[2] * box[3]), 4)
                confidences[frame] = round(float(confidence), 4) if np.isfinite(confidence) else None
        said = [value for value in confidences if value is not None]
        ids = {"id": track.id, "video_id": 1, "category_id": track.id, "iscrowd": 0}
        lists = {"bboxes": boxes, "areas": areas} | ({"confidences": confidences} if said else {})
        annotations.append({**ids, **size, **lists, **({"score": round(float(np.mean(said)), 4)} if said else {})})
    files = [image_name(video, frame) for frame in range(length)]
    whole = {
        "videos": [{"id": 1, "name": video.name, **size, "length": length, "file_names": files}],
        "annotations": annotations,
        "categories": [{"id": track.id, "name": track.name} for track in video.tracks],
    }
    return json.dumps(whole, allow_nan=False) + "\n"


def recognized(whole: dict[str, Any]) -> bool:
    """Not COCO, whose annotations have one box each."""
    annotations = whole.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    return "images" not in whole and ("videos" in whole or (isinstance(first, dict) and "bboxes" in first))


def read(text: str, name: str) -> list[Video]:
    """The videos that have targets; ValueError names the place in the file."""
    whole = entries.load(text)
    videos = {entries.whole_number(entry, at, "id"): (at, entry) for at, entry in entries.listed(whole, "videos")}
    labels = entries.labels(whole)
    found: dict[int, dict[int, tuple[str, list[Row]]]] = {}
    for place, annotation in entries.listed(whole, "annotations"):
        video = entries.whole_number(annotation, place, "video_id")
        if video not in videos:
            raise ValueError(f"{place}: there is no video {video}")
        identity, boxes = entries.whole_number(annotation, place, "id"), annotation.get("bboxes")
        said = annotation.get("confidences") or [None] * len(boxes or ())
        if not isinstance(boxes, list) or not isinstance(said, list) or len(said) != len(boxes):
            raise ValueError(f"{place}: bboxes must be a list of boxes and null (and confidences as many numbers)")
        tracks = found.setdefault(video, {})
        if identity in tracks:
            raise ValueError(f"{place}: the id {identity} is there twice")
        rows = [
            Row(frame, entries.box(box, f"{place}.bboxes[{frame}]"), entries.number(confidence, place))
            for frame, (box, confidence) in enumerate(zip(boxes, said))
            if box is not None
        ]
        tracks[identity] = labels.get(annotation.get("category_id"), ""), rows
    return [_video(*videos[video], make_tracks(tracks), name) for video, tracks in found.items()]


def _video(place: str, entry: dict[str, Any], tracks: list[Track], name: str) -> Video:
    """YouTube-VIS names its videos by the folders of their images alone."""
    files = entry.get("file_names")
    files = tuple(map(str, files)) if isinstance(files, list) else ()
    folder = files[0].rpartition("/")[0] if files else ""
    return Video(str(entry.get("name") or folder or name), tracks, entries.size(entry, place), files)
