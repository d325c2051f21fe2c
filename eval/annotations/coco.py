"""COCO JSON of a video: an image for each frame, and an annotation with `track_id` for each target that is seen in it.

`frame_id` of an image counts from 0, ids from 1, and a box is x, y, w, h from the corner of the image, as in COCO. Each
target is a category, which has its name; `score` is the confidence.
"""

import json

import numpy as np

from eval.annotations import entries
from eval.annotations.tracks import Row, Video, image_name, make_tracks, seen


def render(video: Video) -> str:
    size = dict(zip(("width", "height"), video.size or ()))
    frames = [int(frame) for track in video.tracks for frame in track.frames]
    first = min(frames, default=0)
    images = [
        {"id": at, "video_id": 1, "frame_id": frame, "file_name": image_name(video, frame), **size}
        for at, frame in enumerate(range(first, max(frames, default=-1) + 1), 1)
    ]
    annotations = []
    for track in video.tracks:
        for frame, box, confidence, there in zip(track.frames, track.boxes.round(4), track.confidence, seen(track)):
            if there:
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": int(frame) - first + 1,
                    "category_id": track.id,
                    "track_id": track.id,
                    "bbox": box.tolist(),
                    "area": round(float(box[2] * box[3]), 4),
                    "iscrowd": 0,
                }
                score = {"score": round(float(confidence), 4)} if np.isfinite(confidence) else {}
                annotations.append(annotation | score)
    whole = {
        "videos": [{"id": 1, "name": video.name, **size}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": track.id, "name": track.name} for track in video.tracks],
    }
    return json.dumps(whole, allow_nan=False) + "\n"


def read(text: str, name: str) -> list[Video]:
    """The videos; images without `video_id` are of one. ValueError names the place in the file."""
    whole = entries.load(text)
    names = {entries.whole_number(v, at, "id"): str(v.get("name", name)) for at, v in entries.listed(whole, "videos")}
    images: dict[int, tuple[int, int]] = {}  # id -> video, frame
    counts: dict[int, int] = {}
    files: dict[int, dict[int, str]] = {}
    sizes: dict[int, tuple[int, int] | None] = {}
    for place, image in entries.listed(whole, "images"):
        video = entries.whole_number(image, place, "video_id") if "video_id" in image else 0
        counted = counts[video] = counts.get(video, -1) + 1
        frame = entries.whole_number(image, place, "frame_id") if "frame_id" in image else counted
        images[entries.whole_number(image, place, "id")] = video, frame
        sizes.setdefault(video, entries.size(image, place))
        files.setdefault(video, {})[frame] = str(image.get("file_name", ""))
    labels = entries.labels(whole)
    found: dict[int, dict[int, tuple[str, list[Row]]]] = {video: {} for video in counts}
    for place, annotation in entries.listed(whole, "annotations"):
        image = images.get(entries.whole_number(annotation, place, "image_id"))
        if image is None:
            raise ValueError(f"{place}: there is no image {annotation['image_id']}")
        identity = entries.whole_number(annotation, place, "track_id", "instance_id")
        label = labels.get(annotation.get("category_id"), "")
        score = entries.number(annotation.get("score"), place)
        row = Row(image[1], entries.box(annotation.get("bbox"), place), score)
        found[image[0]].setdefault(identity, (label, []))[1].append(row)
    return [
        Video(names.get(video, name), make_tracks(tracks), sizes[video], _from_first(files[video]))
        for video, tracks in found.items()
    ]


def _from_first(files: dict[int, str]) -> tuple[str, ...]:
    """Of frames 0, 1, ...; none where one is missing."""
    return tuple(files[frame] for frame in range(len(files))) if sorted(files) == [*range(len(files))] else ()
