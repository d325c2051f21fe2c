// Geometry of boxes [x, y, w, h] in pixels of the image.

export const SMALLEST = 2; // pixels of a side that an image box has at least

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// The box with two points as opposite corners.
export function between([ax, ay], [bx, by]) {
  return [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
}

export const contains = ([x, y, w, h], [px, py]) => px >= x && px <= x + w && py >= y && py <= y + h;

// The box moved, within the image as far as it was: one that reaches over the border may stay there.
export function moved([x, y, w, h], dx, dy, [width, height]) {
  const within = (at, step, side, most) => clamp(at + step, Math.min(at, 0), Math.max(at, most - side));
  return [within(x, dx, w, width), within(y, dy, h, height), w, h];
}

// Handles are pairs of -1, 0, 1: which side of the box is held, left/top, none, right/bottom.
export const HANDLES = [[-1, -1], [0, -1], [1, -1], [-1, 0], [1, 0], [-1, 1], [0, 1], [1, 1]];

export const handleAt = ([x, y, w, h], [hx, hy]) => [x + (w * (hx + 1)) / 2, y + (h * (hy + 1)) / 2];

// The box with the held sides at a point; sides may pass each other.
export function resized([x, y, w, h], [hx, hy], point, [width, height]) {
  const px = clamp(point[0], Math.min(0, x), Math.max(width, x + w));
  const py = clamp(point[1], Math.min(0, y), Math.max(height, y + h));
  const [left, right] = hx < 0 ? [px, x + w] : hx > 0 ? [x, px] : [x, x + w];
  const [top, bottom] = hy < 0 ? [py, y + h] : hy > 0 ? [y, py] : [y, y + h];
  const [bx, by, bw, bh] = between([left, top], [right, bottom]);
  return [bx, by, Math.max(bw, SMALLEST), Math.max(bh, SMALLEST)];
}

// The handle under a point, "inside" or null; `reach` in pixels of the image. Of a small box the middle still moves it.
export function grip(box, point, reach) {
  const [x, y, w, h] = box;
  const part = (at, from, side) => {
    const inner = Math.min(reach, side / 4);
    if (at < from - reach || at > from + side + reach) return null;
    if (at < from + inner) return -1;
    return at > from + side - inner ? 1 : 0;
  };
  const [hx, hy] = [part(point[0], x, w), part(point[1], y, h)];
  if (hx === null || hy === null) return null;
  return hx || hy ? [hx, hy] : "inside";
}

// Rounded to a hundredth of a pixel, which is what a person can mean.
export const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);
