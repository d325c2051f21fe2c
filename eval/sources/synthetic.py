"""Procedural tracking clips: a textured target among look-alikes in a moving scene, with exact boxes.

A clip is a `Scene` (everything drawn once: background, sprites, trajectories) and `render(scene, t)`, which
draws any one frame, in any order; nothing but the scene is held in memory. The same configuration and seed
give the same clip, pixel for pixel, on one version of OpenCV: 4 and 5 sample warped images at places that differ by up
to 1/32 of a pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import cv2
import numpy as np

from eval.sources.artwork import FAMILIES, Sprite, draw_background, draw_occluder, draw_target
from trackers.rules import COUNT, NOT_NEGATIVE, POSITIVE, PROBABILITY

GRAIN_SLIDE = 48  # the sensor noise of a clip is one larger picture, looked at through a jumping window


@dataclass(frozen=True)
class ClipConfig:
    """What happens in a clip. Lengths are image pixels, times are frames."""

    height: Annotated[int, COUNT] = 240
    width: Annotated[int, COUNT] = 320
    num_frames: Annotated[int, COUNT] = 120
    target_size: Annotated[tuple[float, float], POSITIVE] = (34.0, 60.0)  # range of sqrt(box area), before scale change
    speed: Annotated[float, NOT_NEGATIVE] = 2.0  # of target and distractors, per frame
    # >= 1; the target's size stays within [1 / scale_change, scale_change]
    scale_change: Annotated[float, POSITIVE] = 1.4
    distractors: Annotated[int, NOT_NEGATIVE] = 1  # others of the target's family; they pass behind the target
    occluders: Annotated[int, NOT_NEGATIVE] = 1  # things of the scene that the target passes behind
    camera_pan: Annotated[float, NOT_NEGATIVE] = 0.8  # speed of the background
    # Amplitude of two travelling bends, as a share of the target's side
    deformation: Annotated[float, NOT_NEGATIVE] = 0.0
    rotation: Annotated[float, NOT_NEGATIVE] = 0.0  # largest in-plane angle, degrees
    illumination: Annotated[float, NOT_NEGATIVE] = 0.0  # largest relative change of brightness
    motion_blur: Annotated[float, PROBABILITY] = 0.0  # share of the frame interval during which the shutter is open
    camera_shake: Annotated[float, NOT_NEGATIVE] = 0.0  # standard deviation of a jitter of the whole picture
    exit_reentry: bool = False  # the target leaves the picture once and comes back
    noise: Annotated[float, NOT_NEGATIVE] = 2.0  # standard deviation of the sensor noise, gray levels

    def __post_init__(self):
        shape = (self.num_frames, self.height, self.width)
        if min(self.height, self.width) < 16 or self.num_frames < 1:
            raise ValueError(f"a clip needs at least one frame and sides of at least 16, got {shape}")
        if not 2 <= self.target_size[0] <= self.target_size[1]:
            raise ValueError(f"target_size is a range (smallest >= 2, largest), got {self.target_size}")
        if self.scale_change < 1:
            raise ValueError(f"scale_change is a ratio >= 1, got {self.scale_change}")


HARD = dict(
    deformation=0.06, rotation=20.0, illumination=0.3, motion_blur=0.6, camera_shake=1.0, exit_reentry=True
)  # every option on: `ClipConfig(**HARD)`


class Example(NamedTuple):
    """One frame of a clip."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    box: np.ndarray  # [4] float64 x, y, w, h (0-based), the extent of the whole target, hidden parts included
    visibility: float  # share of the target's area that is inside the picture and not occluded, in [0, 1]


class Track(NamedTuple):
    """Pose of one sprite over time, relative to the picture before camera shake."""

    center: np.ndarray  # [T, 2] (x, y)
    scale: np.ndarray  # [T] image pixels per sprite pixel
    angle: np.ndarray  # [T] radians
    bend: np.ndarray  # [T] phase of the deformation, radians
    amplitude: float  # of the deformation, sprite pixels


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything of a clip that does not change from frame to frame, and the trajectories."""

    config: ClipConfig
    background: np.ndarray  # [Hb, Wb, 3] uint8
    camera: np.ndarray  # [T, 2] (x, y) of the picture's corner in the background
    shake: np.ndarray  # [T, 2]
    gain: np.ndarray  # [T] brightness
    grain: np.ndarray  # [H + GRAIN_SLIDE, W + GRAIN_SLIDE, 3] int8 sensor noise; a frame uses a window of it
    grain_corner: np.ndarray  # [T, 2] int
    target: tuple[Sprite, Track]
    distractors: tuple[tuple[Sprite, Track], ...]
    occluders: tuple[tuple[Sprite, Track], ...]


def clip(config: ClipConfig, seed: int) -> Iterator[Example]:
    """The frames of one clip, one at a time."""
    scene = make_scene(config, seed)
    for t in range(config.num_frames):
        yield render(scene, t)


def make_scene(config: ClipConfig, seed: int) -> Scene:
    """Draws the parts of a clip: `render` may then be called for any frame in any order."""
    rng = np.random.default_rng(seed)
    length = config.num_frames
    size = rng.uniform(*config.target_size)
    family, style = str(rng.choice(FAMILIES)), int(rng.integers(2**31))
    hue = rng.uniform(0, 180)
    camera = _camera_path(rng, config)
    target = _actor(rng, config, family, style, hue, size, _target_path(rng, config, size))
    others = []
    for _ in range(config.distractors):
        path = _distractor_path(rng, config, target[1].center, size)
        look = style + int(rng.integers(1, 2**31)), hue + rng.normal(0, 12)
        others.append(_actor(rng, config, family, *look, size * rng.uniform(0.8, 1.2), path))
    extent = np.ceil(camera.max(0) + _margin(config)).astype(int) + (config.width, config.height)
    return Scene(
        config=config,
        background=draw_background(rng, int(extent[1]), int(extent[0])),
        camera=camera,
        shake=rng.normal(0, 1, (length, 2)) * config.camera_shake,
        gain=1 + config.illumination * _smooth_noise(rng, length, 40),
        grain=_grain(rng, config),
        grain_corner=rng.integers(0, GRAIN_SLIDE, (length, 2)),
        target=target,
        distractors=tuple(others),
        occluders=tuple(_occluder(rng, config, target, camera) for _ in range(config.occluders)),
    )


def render(scene: Scene, t: int) -> Example:
    """Draws frame `t`, in `[0, num_frames)`, of a scene."""
    config = scene.config
    corner = scene.camera[t] - scene.shake[t]
    image = _window(scene.background, corner, config.height, config.width)
    for sprite, track in scene.distractors:
        _paste(image, *_project(sprite, track, t, scene.shake[t], config))
    layer, origin = _project(*scene.target, t, scene.shake[t], config)
    _paste(image, layer, origin)
    area = float(layer[..., 3].sum())
    seen = _crop_to_image(layer, origin, image)[..., 3].copy()
    seen_at = np.maximum(origin, 0)
    for sprite, track in scene.occluders:
        cover, cover_origin = _project(sprite, track, t, scene.shake[t], config)
        _paste(image, cover, cover_origin)
        _uncover(seen, seen_at, cover, cover_origin)
    image *= np.float32(scene.gain[t])
    y, x = scene.grain_corner[t]
    image += scene.grain[y : y + config.height, x : x + config.width]
    box = _box(*scene.target, t) + np.array([*scene.shake[t], 0, 0])
    visibility = float(np.clip(seen.sum() / max(area, 1e-6), 0, 1))
    return Example(cv2.convertScaleAbs(np.clip(image, 0, 255)), box, visibility)


def _project(sprite: Sprite, track: Track, t: int, shake: np.ndarray, config: ClipConfig):
    """The sprite as seen in frame `t`: a layer `[h, w, 4]` and the image pixel (x, y) of its first pixel."""
    box = _box(sprite, track, t)
    before, after = track.center[max(t - 1, 0)], track.center[min(t + 1, len(track.center) - 1)]
    streak = (after - before) / 2 * config.motion_blur
    reach = np.abs(streak) / 2 + 2
    low = np.floor(box[:2] + shake - reach).astype(int)
    high = np.ceil(box[:2] + box[2:] + shake + reach).astype(int) + 1
    x = np.arange(low[0], high[0], dtype=np.float32)[None, :] - np.float32(track.center[t, 0] + shake[0])
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None] - np.float32(track.center[t, 1] + shake[1])
    cos, sin = (np.float32(f(track.angle[t]) / track.scale[t]) for f in (np.cos, np.sin))
    u, v = cos * x + sin * y, cos * y - sin * x
    height, width = sprite.layer.shape[:2]
    if track.amplitude > 0:
        v = v - _bend(u, track, t, width)
        u = u - _bend(v, track, t, height)
    layer = cv2.remap(
        sprite.layer,
        u + np.float32((width - 1) / 2),
        v + np.float32((height - 1) / 2),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if np.linalg.norm(streak) > 1:
        layer = cv2.filter2D(layer, -1, _line_kernel(streak), borderType=cv2.BORDER_CONSTANT)
    return layer, low


def _bend(along: np.ndarray, track: Track, t: int, side: int) -> np.ndarray:
    """Displacement across an axis as a wave along it; a shear, so it is inverted by subtracting it."""
    return np.float32(track.amplitude) * np.sin(np.float32(4.0 / side) * along + np.float32(track.bend[t]))


def _box(sprite: Sprite, track: Track, t: int) -> np.ndarray:
    """The exact extent of the outline in frame `t` before shake: x, y, w, h, pixel i covering i +- 1/2."""
    u, v = sprite.outline[:, 0], sprite.outline[:, 1]
    height, width = sprite.layer.shape[:2]
    if track.amplitude > 0:
        u = u + _bend(v, track, t, height)
        v = v + _bend(u, track, t, width)
    cos, sin = np.cos(track.angle[t]) * track.scale[t], np.sin(track.angle[t]) * track.scale[t]
    points = np.stack([cos * u - sin * v, sin * u + cos * v], axis=1)
    low, high = points.min(0) + track.center[t], points.max(0) + track.center[t]
    return np.concatenate([low + 0.5, high - low])


def _line_kernel(streak: np.ndarray) -> np.ndarray:
    half = int(np.ceil(np.abs(streak).max() / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, 4 * half + 3)[:, None] * streak
    cells = np.rint(steps).astype(int) + half
    np.add.at(kernel, (cells[:, 1], cells[:, 0]), 1)
    return kernel / kernel.sum()


def _crop_to_image(layer: np.ndarray, origin: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The part of a layer that lies inside the image (possibly empty)."""
    x, y = origin
    height, width = image.shape[:2]
    return layer[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]


def _paste(image: np.ndarray, layer: np.ndarray, origin: np.ndarray) -> None:
    """Lays a layer over the float image, in place."""
    part = _crop_to_image(layer, origin, image)
    x, y = np.maximum(origin, 0)
    region = image[y : y + part.shape[0], x : x + part.shape[1]]
    if region.size:
        region *= 1 - part[..., 3:]
        region += part[..., :3]


def _uncover(seen: np.ndarray, seen_at: np.ndarray, cover: np.ndarray, cover_origin: np.ndarray) -> None:
    """Removes what a layer hides from `seen`, the target's coverage from pixel `seen_at` on, in place."""
    low = np.maximum(seen_at, cover_origin)
    high = np.minimum(seen_at + seen.shape[::-1], cover_origin + cover.shape[1::-1])
    if (high > low).all():
        (x1, y1), (x2, y2) = low - seen_at, high - seen_at
        (u1, v1), (u2, v2) = low - cover_origin, high - cover_origin
        seen[y1:y2, x1:x2] *= np.maximum(1 - cover[v1:v2, u1:u2, 3], 0)


def _window(background: np.ndarray, corner: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[height, width, 3]` float32 of the background from pixel `corner` (x, y) on, bilinear."""
    center = corner + (np.array([width, height]) - 1) / 2
    return cv2.getRectSubPix(background, (width, height), center.tolist(), patchType=cv2.CV_32F)


def _grain(rng: np.random.Generator, config: ClipConfig) -> np.ndarray:
    shape = (config.height + GRAIN_SLIDE, config.width + GRAIN_SLIDE, 3)
    grain = np.empty(shape, np.int8)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(grain, (0, 0, 0), (config.noise,) * 3)
    return grain


# Trajectories.


def _smooth(values: np.ndarray, length: int) -> np.ndarray:
    """A Hann-weighted running mean of `[T, ...]`, ends repeated."""
    window = np.hanning(2 * length + 3)[1:-1]
    padded = np.pad(values, [(length, length)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    flat = padded.reshape(len(padded), -1).T
    rows = [np.convolve(row, window / window.sum(), mode="valid") for row in flat]
    return np.stack(rows, axis=1).reshape(values.shape)


def _smooth_noise(rng: np.random.Generator, length: int, period: float) -> np.ndarray:
    """`[T]` in [-1, 1], changing over about `period` frames."""
    knots = rng.uniform(-1, 1, int(length / period) + 3)
    times = np.arange(length) / period + rng.uniform()
    return _smooth(np.interp(times, np.arange(len(knots)), knots), int(period / 4))


def _walk(rng, length: int, speed: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`[T, 2]`: from waypoint to waypoint of a rectangle at a constant speed, corners rounded."""
    points, times = [rng.uniform(low, high)], [0.0]
    while times[-1] < length:
        candidates = rng.uniform(low, high, (3, 2))
        distances = np.linalg.norm(candidates - points[-1], axis=1)
        best = int(distances.argmax())
        points.append(candidates[best])
        times.append(times[-1] + max(distances[best] / max(speed, 1e-3), 12.0))
    frames = np.arange(length)
    path = np.stack([np.interp(frames, times, [p[axis] for p in points]) for axis in range(2)], axis=1)
    return _smooth(path, 8)


def _target_path(rng: np.random.Generator, config: ClipConfig, size: float) -> np.ndarray:
    length, shape = config.num_frames, np.array([config.width, config.height], float)
    margin = np.minimum(0.7 * size * config.scale_change, shape / 2 - 1)
    path = _walk(rng, length, config.speed, margin, shape - margin)
    if not config.exit_reentry:
        return path
    middle, far = path[length // 2], 1.2 * size * config.scale_change
    x, y = middle
    doors = np.array([[-far, y], [shape[0] + far, y], [x, -far], [x, shape[1] + far]])
    distances = np.linalg.norm(doors - middle, axis=1)
    nearest = int(distances.argmin())
    stay, leave = 0.1 * length, np.clip(distances[nearest] / max(2 * config.speed, 1), 2, 0.3 * length)
    away = np.clip((stay / 2 + leave - np.abs(np.arange(length) - length / 2)) / leave, 0, 1)
    away = _smooth(away, max(length // 40, 1))[:, None]
    return (1 - away) * path + away * doors[nearest]


def _distractor_path(rng, config: ClipConfig, target: np.ndarray, size: float) -> np.ndarray:
    """A walk of its own that meets the target once: side by side, never on top of it for long."""
    length, shape = config.num_frames, np.array([config.width, config.height], float)
    own = _walk(rng, length, config.speed, shape * 0.08, shape * 0.92)
    meeting = rng.uniform(0.15, 0.85) * length
    near = np.exp(-(((np.arange(length) - meeting) / (0.12 * length + 1)) ** 2))[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    beside = target + 1.1 * size * np.array([np.cos(angle), np.sin(angle)])
    return (1 - near) * own + near * beside


def _camera_path(rng: np.random.Generator, config: ClipConfig) -> np.ndarray:
    """`[T, 2]` (x, y): the background slides by at most a picture's width and a third of its height."""
    span = np.array([config.width, config.height / 3])
    path = _walk(rng, config.num_frames, config.camera_pan, np.zeros(2), span)
    return path - path.min(0) + _margin(config)


def _margin(config: ClipConfig) -> float:
    """Background around what the camera's path shows, for shake."""
    return 4 * config.camera_shake + 2


# Sprites.


def _actor(rng, config: ClipConfig, family: str, style: int, hue: float, size: float, path: np.ndarray):
    """A sprite of the family in one style, and its track along a path."""
    look = np.random.default_rng(style)
    sprite = draw_target(look, family, hue, size * 1.1)
    length = config.num_frames
    extent = np.ptp(sprite.outline, axis=0)
    scale = size / np.sqrt(np.prod(extent)) * config.scale_change ** _smooth_noise(rng, length, 35)
    angle = np.deg2rad(config.rotation) * _smooth_noise(rng, length, 30)
    bend = np.cumsum(rng.uniform(0.15, 0.3) + 0.05 * _smooth_noise(rng, length, 20))
    amplitude = config.deformation * float(np.sqrt(np.prod(extent)))
    return sprite, Track(path, scale, angle, bend, amplitude)


def _occluder(rng, config: ClipConfig, target: tuple[Sprite, Track], camera: np.ndarray):
    """An obstacle on the target's path, wide enough to cover about half of the target.

    Where the path allows, it is clear of the target in the first frame.
    """
    track, length = target[1], config.num_frames
    world = track.center + camera
    times = (rng.uniform(0.2, 0.9, 6) * length).astype(int)
    from_start = np.abs(world[times] - world[0]).max(1)
    clear = np.flatnonzero(from_start > 1.5 * np.ptp(target[0].outline, axis=0).max() * track.scale[0])
    t = times[clear[0] if len(clear) else from_start.argmax()]
    extent = np.ptp(target[0].outline, axis=0) * track.scale[t]
    sprite = draw_occluder(rng, extent[0] * rng.uniform(0.4, 0.75))
    place = world[t] + rng.normal(0, 0.1, 2) * extent
    still = np.zeros(length)
    return sprite, Track(place - camera, np.ones(length), still, still, 0.0)
