"""What synthetic clips are drawn with: sprites of a few families, things that hide them, and backgrounds."""

from typing import NamedTuple

import cv2
import numpy as np

SPRITE = 192  # side of the canvas a sprite is drawn on, before it is reduced to the size it is seen at


class Sprite(NamedTuple):
    """A drawn thing: color, coverage, and the outline its box is measured on."""

    layer: np.ndarray  # [h, w, 4] float32, RGB 0..255 times coverage, then coverage 0..1
    outline: np.ndarray  # [K, 2] float32 (x, y) corners of the covered pixels, from the layer's center


def draw_target(rng: np.random.Generator, family: str, hue: float, size: float) -> Sprite:
    """One of FAMILIES in paint around `hue` (0..180), the square root of its extent's area `size` pixels."""
    return _finish(rng, *_DRAW[family](rng, _palette(rng, hue)), size)


def draw_occluder(rng: np.random.Generator, width: float) -> Sprite:
    """A tree trunk or a traffic sign, `width` pixels wide."""
    pen = _Pen()
    if rng.uniform() < 0.6:
        bark = np.array([96, 74, 52], np.uint8) + rng.integers(0, 30, 3).astype(np.uint8)
        pen.polygon(bark, (0.44, 0), (0.56, 0), (0.58, 1), (0.42, 1))
        for y in rng.uniform(0, 1, 9):
            pen.bar(bark // 2, rng.uniform(0.44, 0.52), y, 0.03, 0.12)
    else:
        paint = _palette(rng, rng.uniform(0, 180))
        pen.bar(paint[4] + 40, 0.48, 0.3, 0.05, 0.7)
        pen.bar(paint[3], 0.38, 0.0, 0.25, 0.35)
        pen.bar(paint[0], 0.395, 0.025, 0.22, 0.3)
        pen.bar(paint[3], 0.41, rng.uniform(0.08, 0.2), 0.19, 0.06)
    drawn_width = np.ptp(np.flatnonzero(pen.mask.max(0))) + 1
    drawn_height = np.ptp(np.flatnonzero(pen.mask.max(1))) + 1
    return _finish(rng, pen.color, pen.mask, width * float(np.sqrt(drawn_height / drawn_width)))


def _finish(rng: np.random.Generator, color: np.ndarray, mask: np.ndarray, size: float) -> Sprite:
    """Light, dirt and dark edges on a flat drawing, reduced so that sqrt(extent area) is `size` pixels."""
    texture = 0.78 + 0.44 * _fractal(rng, SPRITE, SPRITE, 5, 0.75)
    light = np.linspace(1.15, 0.8, SPRITE, dtype=np.float32)[:, None]
    rim = np.clip(cv2.GaussianBlur(mask, (0, 0), 4).astype(np.float32) / 255 * 2 - 1, 0, 1) * 0.45 + 0.55
    shaded = np.clip(color.astype(np.float32) * (texture * light * rim)[..., None], 0, 255)
    rows, columns = np.flatnonzero(mask.max(1)), np.flatnonzero(mask.max(0))
    y1, y2, x1, x2 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    coverage = mask[y1:y2, x1:x2].astype(np.float32) / 255
    layer = np.concatenate([shaded[y1:y2, x1:x2] * coverage[..., None], coverage[..., None]], axis=-1)
    reduction = min(size / np.sqrt(coverage.size), 1.0)
    width, height = (max(round(float(side * reduction)), 2) for side in (x2 - x1, y2 - y1))
    small = np.pad(cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA), [(1, 1), (1, 1), (0, 0)])
    outline = _outline(coverage) * np.array([width / (x2 - x1), height / (y2 - y1)], np.float32)
    return Sprite(small, outline)


def _outline(coverage: np.ndarray) -> np.ndarray:
    """`[K, 2]` (x, y): corners of the pixels on the border of `coverage > 1/2`, from the array's center."""
    covered = (coverage > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(covered, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pixels = np.concatenate(contours).reshape(-1, 1, 2).astype(np.float32)
    corners = pixels + np.array([[[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]], np.float32)
    middle = (np.array(coverage.shape[::-1], np.float32) - 1) / 2
    return corners.reshape(-1, 2) - middle


def _palette(rng: np.random.Generator, hue: float) -> np.ndarray:
    """`[6, 3]` RGB: two of the family's hue, a contrast, a light, a dark and a skin tone."""
    hsv = np.array(
        [
            [hue, rng.uniform(150, 230), rng.uniform(130, 230)],
            [hue + rng.normal(0, 8), rng.uniform(100, 180), rng.uniform(70, 130)],
            [hue + rng.uniform(60, 120), rng.uniform(120, 220), rng.uniform(140, 230)],
            [hue, rng.uniform(0, 40), rng.uniform(200, 250)],
            [hue, rng.uniform(20, 80), rng.uniform(25, 60)],
            [rng.uniform(8, 16), rng.uniform(70, 150), rng.uniform(90, 230)],
        ]
    )
    hsv[:, 0] %= 180
    return cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]


class _Pen:
    """A color canvas and its coverage, drawn on together; coordinates are shares of the side."""

    def __init__(self):
        self.color = np.zeros((SPRITE, SPRITE, 3), np.uint8)
        self.mask = np.zeros((SPRITE, SPRITE), np.uint8)

    def polygon(self, color, *points):
        vertices = np.rint(np.array(points) * SPRITE * 16).astype(np.int32)
        cv2.fillPoly(self.color, [vertices], color.tolist(), lineType=cv2.LINE_8, shift=4)
        cv2.fillPoly(self.mask, [vertices], 255, lineType=cv2.LINE_8, shift=4)

    def ellipse(self, color, x, y, a, b, angle=0.0):
        args = ((int(x * SPRITE), int(y * SPRITE)), (int(a * SPRITE), int(b * SPRITE)), angle, 0, 360)
        cv2.ellipse(self.color, *args, color.tolist(), -1)
        cv2.ellipse(self.mask, *args, 255, -1)

    def bar(self, color, x, y, w, h):
        self.polygon(color, (x, y), (x + w, y), (x + w, y + h), (x, y + h))

    def limb(self, color, x1, y1, x2, y2, thickness):
        ends = [(int(x1 * SPRITE), int(y1 * SPRITE)), (int(x2 * SPRITE), int(y2 * SPRITE))]
        cv2.line(self.color, *ends, color.tolist(), int(thickness * SPRITE), cv2.LINE_8)
        cv2.line(self.mask, *ends, 255, int(thickness * SPRITE), cv2.LINE_8)


def _draw_car(rng: np.random.Generator, colors: np.ndarray):
    paint, trim, contrast, light, dark, _ = colors
    pen, roof, nose = _Pen(), rng.uniform(0.26, 0.36), rng.uniform(0.5, 0.56)
    front, back = rng.uniform(0.66, 0.76), rng.uniform(0.1, 0.24)
    pen.polygon(paint, (0.02, 0.5), (0.98, nose), (0.98, 0.74), (0.02, 0.74))
    pen.polygon(paint, (back, 0.52), (back + 0.08, roof), (front - 0.12, roof), (front + 0.06, 0.53))
    glass = np.array([60, 80, 95], np.uint8) + rng.integers(0, 40, 3).astype(np.uint8)
    middle = (back + front) / 2
    top, left, right = roof + 0.04, middle - 0.02, middle + 0.02
    pen.polygon(glass, (back + 0.05, 0.5), (back + 0.1, top), (left, top), (left, 0.5))
    pen.polygon(glass, (right, 0.5), (right, top), (front - 0.13, top), (front + 0.01, 0.5))
    pen.bar(trim, 0.02, rng.uniform(0.6, 0.66), 0.96, rng.uniform(0.03, 0.06))
    if rng.uniform() < 0.6:
        pen.bar(contrast, back + 0.02, 0.54, front - back - 0.1, 0.06)
    pen.bar(light, 0.92, nose + 0.03, 0.06, 0.06)
    pen.bar(np.array([190, 30, 30], np.uint8), 0.02, 0.55, 0.04, 0.07)
    for x in (rng.uniform(0.18, 0.24), rng.uniform(0.76, 0.82)):
        pen.ellipse(dark, x, 0.74, 0.105, 0.105)
        pen.ellipse(light // 2 + 40, x, 0.74, 0.055, 0.055)
    return pen.color, pen.mask


def _draw_walker(rng: np.random.Generator, colors: np.ndarray):
    shirt, trousers, contrast, light, dark, skin = colors
    pen, stride, swing = _Pen(), rng.uniform(0.05, 0.12), rng.uniform(0.04, 0.12)
    pen.limb(trousers, 0.5, 0.55, 0.5 - stride, 0.93, 0.09)
    pen.limb(trousers // 2 + 30, 0.5, 0.55, 0.5 + stride, 0.93, 0.09)
    pen.bar(dark, 0.45 - stride, 0.94, 0.13, 0.045)
    pen.bar(dark, 0.45 + stride, 0.94, 0.13, 0.045)
    pen.limb(skin, 0.5, 0.3, 0.5 + swing + 0.04, 0.56, 0.05)
    pen.polygon(shirt, (0.4, 0.24), (0.6, 0.24), (0.61, 0.58), (0.39, 0.58))
    if rng.uniform() < 0.7:
        for k in range(int(rng.integers(1, 4))):
            pen.bar((contrast, light)[k % 2], 0.4, 0.3 + 0.08 * k, 0.2, 0.035)
    pen.limb(shirt, 0.42, 0.28, 0.42 - swing, 0.44, 0.065)
    pen.limb(skin, 0.42 - swing, 0.45, 0.42 - 0.6 * swing, 0.58, 0.05)
    if rng.uniform() < 0.5:
        pen.ellipse(contrast, 0.36, 0.38, 0.055, 0.11)
    pen.ellipse(skin, 0.5, 0.15, 0.065, 0.085)
    pen.ellipse(dark, 0.485, 0.105, 0.075, 0.06)
    return pen.color, pen.mask


def _draw_animal(rng: np.random.Generator, colors: np.ndarray):
    _, _, contrast, light, dark, fur = colors
    pen, legs = _Pen(), rng.uniform(0.78, 0.9)
    for x in (0.24, 0.34, 0.66, 0.76):
        pen.limb(fur // 2 + 20, x, 0.55, x + rng.uniform(-0.05, 0.05), legs, 0.055)
    pen.limb(fur, 0.18, 0.42, rng.uniform(0.02, 0.1), rng.uniform(0.2, 0.5), 0.04)
    pen.ellipse(fur, 0.48, 0.48, 0.33, rng.uniform(0.13, 0.18))
    pen.limb(fur, 0.75, 0.42, 0.84, 0.27, 0.13)
    pen.ellipse(fur, 0.86, 0.25, 0.11, 0.075, 15)
    pen.polygon(fur // 2, (0.79, 0.2), (0.81, 0.08), (0.86, 0.18))
    for _ in range(int(rng.integers(4, 9))):
        spot = (light, dark, fur // 2)[int(rng.integers(3))]
        x, y = rng.uniform(0.25, 0.72), rng.uniform(0.42, 0.54)
        pen.ellipse(spot, x, y, rng.uniform(0.02, 0.07), rng.uniform(0.02, 0.05), rng.uniform(0, 180))
    pen.bar(contrast, 0.745, 0.33, 0.09, 0.035)
    pen.ellipse(dark, 0.88, 0.23, 0.014, 0.014)
    return pen.color, pen.mask


# Strokes from corner to corner (x, y) of a grid: OpenCV's own letters differ between its releases, and with them the
# clip of a seed would.
_LETTERS = {
    "E": ("20 00 02 22", "01 21"),
    "F": ("20 00 02", "01 21"),
    "H": ("00 02", "20 22", "01 21"),
    "K": ("00 02", "20 01 22"),
    "L": ("00 02 22",),
    "N": ("02 00 22 20",),
    "T": ("00 20", "10 12"),
    "X": ("00 22", "20 02"),
    "Y": ("00 11 20", "11 12"),
    "Z": ("00 20 02 22",),
}


def _draw_package(rng: np.random.Generator, colors: np.ndarray):
    """A star-convex thing of random outline and pattern: what has no name must be tracked as well."""
    pen, angles = _Pen(), np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves = [rng.normal(0, 0.05 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(1, 6)]
    radius = np.clip(0.36 + np.sum(waves, axis=0), 0.15, 0.48)
    outline = 0.5 + np.stack([np.cos(angles), rng.uniform(0.6, 1) * np.sin(angles)], 1) * radius[:, None]
    pen.polygon(colors[0], *outline)
    mask = pen.mask.copy()
    kind = int(rng.integers(3))
    for k in range(int(rng.integers(3, 7))):
        color = colors[1 + k % 4]
        if kind == 0:
            pen.limb(color, rng.uniform(0, 1), 0, rng.uniform(0, 1), 1, rng.uniform(0.03, 0.09))
        elif kind == 1:
            x, y, side = *rng.uniform(0.2, 0.7, 2), rng.uniform(0.08, 0.2)
            pen.bar(color, x, y, side, side)
        else:
            pen.ellipse(color, *rng.uniform(0.2, 0.8, 2), *rng.uniform(0.04, 0.14, 2), rng.uniform(0, 180))
    for stroke in _LETTERS["EFHKLNTXYZ"[int(rng.integers(10))]]:
        corners = [(66 + 26 * int(x), 65 + 30 * int(y)) for x, y in stroke.split()]
        cv2.polylines(pen.color, [np.array(corners, np.int32)], False, colors[3].tolist(), 16)
    return pen.color, mask


_DRAW = {"car": _draw_car, "walker": _draw_walker, "animal": _draw_animal, "package": _draw_package}
FAMILIES = tuple(_DRAW)


def _fractal(rng, height: int, width: int, octaves: int, persistence: float) -> np.ndarray:
    """`[height, width]` float32 in [0, 1]: noise at several scales."""
    total = np.zeros((height, width), np.float32)
    side = max(height, width)
    for octave in range(octaves):
        cells = 2 ** (octave + 2)
        shape = max(height * cells // side, 2), max(width * cells // side, 2)
        layer = rng.random(shape, np.float32) - 0.5
        # Cubic where the cells are large enough for their edges to show.
        method = cv2.INTER_CUBIC if octave < 3 else cv2.INTER_LINEAR
        total += persistence**octave * cv2.resize(layer, (width, height), interpolation=method)
    return cv2.normalize(total, None, 0, 1, cv2.NORM_MINMAX)


def _colorize(noise: np.ndarray, *colors) -> np.ndarray:
    """Noise in [0, 1] to RGB along a row of colors."""
    stops = np.linspace(0, 255, len(colors))
    channels = np.array(colors, float).T
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in channels], axis=1)
    return table.astype(np.uint8)[(noise * 255).astype(np.uint8)]


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """`[height, width, 3]` uint8: a street, a meadow or the ground from above."""
    draw = (_street, _meadow, _aerial)[int(rng.integers(3))]
    image = draw(rng, height, width).astype(np.float32)
    image *= (0.86 + 0.28 * _fractal(rng, height, width, 7, 0.85))[..., None]
    tint = rng.uniform(0.85, 1.1, 3).astype(np.float32)
    return cv2.GaussianBlur(np.clip(image * tint, 0, 255).astype(np.uint8), (3, 3), 0.6)


def _sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return _colorize(_fractal(rng, height, width, 4, 0.5), (120, 160, 205), (170, 195, 220), (235, 238, 240))


def _tree(rng: np.random.Generator, image: np.ndarray, x: int, foot: int, size: int) -> None:
    cv2.rectangle(image, (x - size // 12, foot - size // 2), (x + size // 12, foot), (72, 56, 40), -1)
    leaf = np.array([40, 80, 34]) + rng.integers(-12, 30, 3)
    for shade in (0.6, 0.8, 1.0, 1.2):
        for _ in range(9):
            dx, dy = rng.normal(0, 0.22, 2) * size
            center = (int(x + dx - 4 * shade), int(foot - 0.75 * size + dy - 6 * shade))
            radius = max(int(size * rng.uniform(0.06, 0.16)), 1)
            cv2.circle(image, center, radius, (leaf * shade).tolist(), -1)


def _street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    image = _sky(rng, height, width)
    pavement, road = int(height * rng.uniform(0.5, 0.62)), int(height * rng.uniform(0.66, 0.75))
    x = -int(rng.integers(40))
    while x < width:
        span, top = int(rng.integers(60, 130)), int(height * rng.uniform(0.02, 0.25))
        wall = rng.integers(95, 190) + rng.integers(-22, 22, 3)
        cv2.rectangle(image, (x, top), (x + span, pavement), wall.tolist(), -1)
        step_x, step_y = int(rng.integers(16, 28)), int(rng.integers(20, 32))
        for wy in range(top + 8, pavement - step_y // 2, step_y):
            for wx in range(x + 6, x + span - step_x // 2, step_x):
                glass = (np.array([50, 62, 76]) + int(rng.integers(0, 70))).tolist()
                corner = (wx + int(step_x * 0.55), wy + int(step_y * 0.6))
                cv2.rectangle(image, (wx, wy), corner, glass, -1)
                cv2.rectangle(image, (wx, wy), corner, (wall * 0.7).tolist(), 1)
        x += span + int(rng.integers(0, 14))
    stone = _fractal(rng, height - pavement, width, 7, 0.9)
    image[pavement:road] = _colorize(stone[: road - pavement], (120, 116, 110), (175, 170, 162))
    image[road:] = _colorize(stone[road - pavement :], (62, 63, 66), (104, 104, 106))
    cv2.line(image, (0, road), (width, road), (190, 188, 180), 3)
    middle = (road + height) // 2
    for dash in range(-20, width, 60):
        cv2.line(image, (dash, middle), (dash + 32, middle), (215, 212, 200), 4)
    for _ in range(width // 110):
        _tree(rng, image, int(rng.integers(width)), int(rng.integers(pavement, road)), int(height * 0.3))
    return image


def _meadow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    image = _sky(rng, height, width)
    horizon = int(height * rng.uniform(0.2, 0.4))
    for depth in range(3):
        ridge = horizon - (2 - depth) * 12 - 28 * _fractal(rng, 2, width, 4, 0.5)[0]
        shape = np.concatenate([np.stack([np.arange(width), ridge], 1), [[width, height], [0, height]]])
        color = np.array([[118, 138, 150], [96, 124, 112], [78, 112, 66]])[depth] + rng.integers(-8, 8, 3)
        cv2.fillPoly(image, [shape.astype(np.int32)], color.tolist())
    greens, grass = rng.integers(-14, 14, 3), _fractal(rng, height - horizon, width, 8, 0.95)
    image[horizon:] = _colorize(grass, (48, 78, 30) + greens, (104, 132, 52) + greens, (168, 164, 88))
    bend = 0.5 * width + 0.2 * width * _fractal(rng, 2, height, 3, 0.5)[0] * rng.choice([-1, 1])
    for y in range(horizon, height):
        half = 4 + 30 * (y - horizon) / (height - horizon)
        cv2.line(image, (int(bend[y] - half), y), (int(bend[y] + half), y), (158, 138, 104), 1)
    for foot in np.sort(rng.integers(horizon, height, width // 45)):
        size = int(24 + 70 * (foot - horizon) / (height - horizon))
        _tree(rng, image, int(rng.integers(width)), int(foot), size)
    return image


def _aerial(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    image = _colorize(_fractal(rng, height, width, 8, 0.85), (70, 92, 48), (120, 128, 72), (158, 146, 104))
    for _ in range(width * height // 14000):
        x, y = rng.integers(0, (width, height))
        corners = cv2.boxPoints(((float(x), float(y)), tuple(rng.uniform(40, 130, 2)), rng.uniform(0, 90)))
        soil = np.array([[92, 116, 50], [150, 138, 84], [176, 162, 92], [110, 92, 66]])[int(rng.integers(4))]
        cv2.fillPoly(image, [corners.astype(np.int32)], (soil + rng.integers(-16, 16, 3)).tolist())
        for k in np.linspace(0.1, 0.9, 8):
            ends = corners[0] + k * (corners[1] - corners[0]), corners[3] + k * (corners[2] - corners[3])
            cv2.line(image, *(tuple(map(int, end)) for end in ends), (soil * 0.85).tolist(), 1)
    for _ in range(3):
        ends = [(-5, int(rng.integers(height))), (width + 5, int(rng.integers(height)))]
        if rng.uniform() < 0.4:
            ends = [(int(rng.integers(width)), -5), (int(rng.integers(width)), height + 5)]
        cv2.line(image, *ends, (128, 126, 122), 18, cv2.LINE_AA)
        cv2.line(image, *ends, (222, 220, 208), 1, cv2.LINE_AA)
    for _ in range(width * height // 5200):
        x, y, (w, h) = int(rng.integers(width)), int(rng.integers(height)), rng.integers(9, 24, 2)
        roof = np.array([[150, 82, 62], [120, 116, 116], [176, 150, 120]])[int(rng.integers(3))]
        roof = roof + rng.integers(-20, 20, 3)
        cv2.rectangle(image, (x + 4, y + 4), (x + int(w) + 4, y + int(h) + 4), (48, 52, 40), -1)
        cv2.rectangle(image, (x, y), (x + int(w), y + int(h)), roof.tolist(), -1)
        cv2.rectangle(image, (x, y), (x + int(w), y + int(h) // 2), (roof * 0.8).tolist(), -1)
    return image
