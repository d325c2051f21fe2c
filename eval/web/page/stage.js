// The picture: a frame, the boxes of all targets on it, and the one that is being drawn.

import { HANDLES, handleAt } from "./boxes.js";
import { complain, find, oncePerFrame, sized } from "./dom.js";
import { makeFrames, room, widthFor } from "./frames.js";
import { motion, usePictures } from "./player.js";
import { on, shownRow, state, VERDICT_COLORS, VERDICTS } from "./store.js";
import { makeView } from "./view.js";

const AHEAD = 4; // frames that are fetched before they are asked for, and while playing
const AHEAD_PLAYING = 16;
const LINES = [[], [9, 5], [10, 4, 2, 4], [2, 4]]; // by verdict
const FONT = '600 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const canvas = find("#picture");
const pen = canvas.getContext("2d");
export const view = makeView();
let shown = 0; // the frame whose picture is on the canvas
let picture = null;

const frames = makeFrames({
  // Of frames that were passed meanwhile, one that is nearer than what is shown is better than nothing.
  ready: (frame, first) => {
    const nearer = Math.abs(frame - state.frame) < Math.abs(shown - state.frame);
    if (frame === state.frame || (first && nearer && !motion.playing)) show(frame);
  },
  failed: (error) => find("#connection").hidden && complain(error.message),
});
usePictures((frame) => frames.has(frame));

// The frame that a person sees: what is drawn belongs to it, even where another one is on its way.
export const shownFrame = () => shown;

export const draw = oncePerFrame(paint);

function show(frame) {
  [picture, shown] = [frames.get(frame), frame];
  draw();
}

function want() {
  if (!state.video) return;
  const ratio = window.devicePixelRatio || 1;
  const width = widthFor(state.video.width * view.scale() * ratio, state.video.width);
  const across = width || state.video.width;
  const fits = room((across * across * state.video.height) / state.video.width);
  const count = Math.min(1 + (motion.playing ? AHEAD_PLAYING : AHEAD), fits);
  const step = motion.direction * motion.stride;
  const ahead = Array.from({ length: count }, (_, index) => state.frame + index * step);
  frames.want(ahead.filter((frame) => frame >= 0 && frame < state.video.frames), width);
  if (frames.get(state.frame)) show(state.frame);
}

export function boxesShown() {
  const rows = state.order.filter((id) => !state.hidden.has(id)).map((id) => ({ id, row: shownRow(id, shown) }));
  return rows.filter(({ row }) => row?.box);
}

function drawBox(id, row) {
  const target = state.targets.get(id);
  const selected = id === state.selected;
  const color = state.targets.size === 1 ? VERDICT_COLORS[row.verdict] : target.color;
  const [x, y] = view.toScreen(row.box);
  const [w, h] = [row.box[2] * view.scale(), row.box[3] * view.scale()];
  pen.lineWidth = (row.kind === "key" ? 3 : 1.75) + (selected ? 0.5 : 0);
  pen.setLineDash([]);
  pen.strokeStyle = "rgba(0, 0, 0, 0.55)";
  pen.strokeRect(x - 1, y - 1, w + 2, h + 2);
  pen.setLineDash(LINES[row.verdict]);
  pen.strokeStyle = color;
  pen.strokeRect(x, y, w, h);
  pen.setLineDash([]);
  if (selected) drawHandles(row.box, color, row.kind === "key");
  return { text: labelOf(target.name, row), color, x, y, h };
}

const labelOf = (name, row) => {
  if (row.kind === "key") return `${name} key frame`;
  const sure = Number.isNaN(row.confidence) ? row.kind : `${VERDICTS[row.verdict]} ${row.confidence.toFixed(2)}`;
  return `${name} ${sure}`;
};

function drawHandles(box, color, filled) {
  pen.lineWidth = 1.5;
  for (const handle of HANDLES) {
    const [x, y] = view.toScreen(handleAt(box, handle));
    pen.fillStyle = filled ? color : "#fff";
    pen.strokeStyle = filled ? "#fff" : "rgba(0, 0, 0, 0.7)";
    pen.beginPath();
    pen.rect(x - 4, y - 4, 8, 8);
    pen.fill();
    pen.stroke();
  }
}

// Text on a dark plate above the box, or within the canvas where there is no place above.
function drawLabel({ text, color, x, y, h }) {
  const width = pen.measureText(text).width + 10;
  const left = Math.min(Math.max(x - 1, 0), Math.max(canvas.clientWidth - width, 0));
  let top = y - 24;
  if (top < 0) top = Math.min(Math.max(y + h + 6, 0), canvas.clientHeight - 20);
  pen.fillStyle = "rgba(10, 13, 17, 0.78)";
  pen.beginPath();
  pen.roundRect(left, top, width, 19, 4);
  pen.fill();
  pen.fillStyle = color;
  pen.fillText(text, left + 5, top + 14);
}

function paint() {
  const ratio = canvas.width / Math.max(canvas.clientWidth, 1);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (!picture || !state.video) return;
  const [x, y] = view.toScreen([0, 0]);
  const scale = view.scale();
  pen.imageSmoothingEnabled = scale < 4;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, x, y, state.video.width * scale, state.video.height * scale);
  pen.font = FONT;
  const drawn = boxesShown().sort((a, b) => (a.id === state.selected) - (b.id === state.selected));
  const labels = drawn.map(({ id, row }) => drawBox(id, row));
  labels.forEach(drawLabel);
  const { draft } = state;
  if (draft && draft.target === null && draft.frame === shown) {
    pen.lineWidth = 2;
    pen.strokeStyle = "#fff";
    pen.setLineDash([6, 4]);
    pen.strokeRect(...view.toScreen(draft.box), draft.box[2] * scale, draft.box[3] * scale);
    pen.setLineDash([]);
  }
  describe();
}

// What a screen reader says of the picture.
function describe() {
  const texts = boxesShown().map(({ id, row }) => {
    const at = row.box.map((value) => Math.round(value)).join(", ");
    return `${labelOf(state.targets.get(id).name, row)} at ${at}`;
  });
  canvas.setAttribute("aria-label", `Frame ${shown}. ${texts.join("; ") || "No boxes"}.`);
  canvas.dataset.frame = shown;
}

export function viewChanged() {
  want();
  draw();
  find("#zoom").textContent = `${Math.round(view.zoom() * 100)}%`;
}

sized(canvas, () => {
  view.setCanvas(canvas.clientWidth, canvas.clientHeight);
  viewChanged();
  paint(); // at once: a canvas that changes its size is empty
});

on("video", () => {
  picture = null;
  frames.start(state.video.id);
  view.setImage(state.video.width, state.video.height);
  viewChanged();
});
on("frame motion", want);
on("frame document rows selection draft", draw);
