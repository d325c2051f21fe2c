// The timeline: a lane for each target with its key frames, verdicts, absence, confidence and score; playhead and range.
// Lanes are drawn by columns of pixels, and only those columns whose frames changed.

import { darkness, element, find, oncePerFrame, sized, style } from "./dom.js";
import { seek } from "./player.js";
import { KINDS, on, select, setRange, state, VERDICT_COLORS } from "./store.js";

const LANE = 36; // height in CSS pixels, as in style.css
const MARKS = 11; // of it, from the top: key frames
const BAND = 5; // of it, from the bottom: verdicts
const NEAR = 7; // pixels around a key frame that a click means it
const TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
const [ABSENT, INTERPOLATED, IMPORTED] = ["absent", "interpolated", "imported"].map((kind) => KINDS.indexOf(kind));

const ruler = find("#ruler");
const lanes = find("#lanes");
const names = find("#lane-names");
const marks = find("#marks");
const span = { first: 0, count: 1 }; // the frames that are shown
const dirty = new Map(); // id -> [first, last] frame to draw again
let drag = null; // {from} frame of a range, or "seek"

const width = () => lanes.clientWidth;
const xOf = (frame) => ((frame - span.first) / span.count) * width();
const frameAt = (event) => {
  const x = event.clientX - ruler.getBoundingClientRect().left;
  const at = Math.floor(span.first + (x / width()) * span.count);
  return Math.min(Math.max(at, 0), state.video.frames - 1);
};

function spoil(id, first = 0, last = state.video.frames - 1) {
  const [from, to] = dirty.get(id) || [first, last];
  dirty.set(id, [Math.min(from, first), Math.max(to, last)]);
  drawLanes();
}

function spoilAll() {
  if (!state.video) return;
  for (const id of state.order) spoil(id);
  drawLanes();
  drawRuler();
  drawMarks();
}

const drawLanes = oncePerFrame(() => {
  if (!state.video) return;
  const pen = lanes.getContext("2d");
  const colors = { key: style("text"), lane: style("lane"), edge: style("panel"), hatch: style("hatch") };
  for (const [id, [first, last]] of dirty) {
    const place = state.order.indexOf(id);
    if (place >= 0) drawLane(pen, id, place, first, last, colors);
  }
  dirty.clear();
});

// The columns of a lane that frames first to last cover, and as many beside them as a mark is wide.
function drawLane(pen, id, place, first, last, colors) {
  const ratio = lanes.width / Math.max(width(), 1);
  const columns = lanes.width;
  const perColumn = span.count / columns;
  const margin = Math.ceil(6 * ratio);
  const from = Math.max(0, Math.floor((first - span.first) / perColumn) - margin);
  const to = Math.min(columns, Math.ceil((last + 1 - span.first) / perColumn) + margin);
  if (to <= from) return;
  const { rows, keys, absent } = state.targets.get(id);
  pen.setTransform(1, 0, 0, ratio, 0, 0); // columns across, CSS pixels down
  pen.save();
  pen.beginPath();
  pen.rect(from, place * LANE, to - from, LANE);
  pen.clip();
  const top = place * LANE;
  const bottom = top + LANE - 2;
  pen.fillStyle = colors.edge;
  pen.fillRect(from, top, to - from, LANE);
  pen.fillStyle = colors.lane;
  pen.fillRect(from, top + MARKS, to - from, LANE - MARKS - 2);
  const tall = LANE - MARKS - BAND - 4;
  for (let column = from; column < to; column++) {
    const known = summary(rows, span.first + column * perColumn, span.first + (column + 1) * perColumn);
    if (!known) continue;
    const color = VERDICT_COLORS[known.verdict];
    pen.fillStyle = color;
    pen.globalAlpha = known.guessed ? 0.45 : 1;
    pen.fillRect(column, bottom - BAND, 1, BAND);
    if (known.score !== Infinity) {
      const height = tall * Math.min(Math.max(known.score, 0), 1);
      pen.fillStyle = colors.key;
      pen.fillRect(column, bottom - BAND - 1 - height, 1, 1);
      pen.fillStyle = color;
    }
    if (known.confidence === Infinity) continue;
    const height = Math.max(tall * Math.min(known.confidence, 1), 1);
    pen.globalAlpha = 0.28;
    pen.fillRect(column, bottom - BAND - 1 - height, 1, height);
    pen.globalAlpha = 1;
    pen.fillRect(column, bottom - BAND - 1 - height, 1, 1.5);
  }
  pen.globalAlpha = 1;
  for (const [start, end] of absent) {
    const [left, right] = [(start - span.first) / perColumn, (end + 1 - span.first) / perColumn];
    if (right < from || left > to) continue;
    hatch(pen, left, top + MARKS, Math.max(right - left, 1), bottom, ratio, colors.hatch);
  }
  pen.fillStyle = colors.key;
  for (const key of keys) {
    const x = (key + 0.5 - span.first) / perColumn;
    if (x < from - margin || x > to + margin) continue;
    pen.beginPath();
    pen.moveTo(x - 4.5 * ratio, top + 5.5);
    pen.lineTo(x, top + 1);
    pen.lineTo(x + 4.5 * ratio, top + 5.5);
    pen.lineTo(x, top + 10);
    pen.fill();
  }
  pen.restore();
}

// The worst verdict, the least confidence and score of the frames of a column; null where nothing is known.
function summary(rows, start, end) {
  let [verdict, confidence, score, known, guessed] = [0, Infinity, Infinity, false, true];
  const last = Math.min(Math.max(Math.floor(start) + 1, Math.ceil(end)), rows.kind.length);
  for (let frame = Math.floor(start); frame < last; frame++) {
    const kind = rows.kind[frame];
    if (!kind || kind === ABSENT) continue;
    known = true;
    guessed &&= kind === INTERPOLATED || kind === IMPORTED;
    verdict = Math.max(verdict, rows.verdict[frame]);
    if (rows.confidence[frame] < confidence) confidence = rows.confidence[frame];
    if (rows.score[frame] < score) score = rows.score[frame];
  }
  return known ? { verdict, confidence, score, guessed } : null;
}

function hatch(pen, left, top, wide, bottom, ratio, color) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, wide, bottom - top);
  pen.clip();
  pen.strokeStyle = color;
  pen.lineWidth = 1.5;
  const tall = (bottom - top) * ratio;
  const step = 7 * ratio;
  pen.beginPath();
  for (let x = Math.floor((left - tall) / step) * step; x < left + wide; x += step) {
    pen.moveTo(x, bottom);
    pen.lineTo(x + tall, top);
  }
  pen.stroke();
  pen.restore();
}

const drawRuler = oncePerFrame(() => {
  if (!state.video) return;
  const pen = ruler.getContext("2d");
  const ratio = ruler.width / Math.max(ruler.clientWidth, 1);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, ruler.clientWidth, ruler.clientHeight);
  const step = TICKS.find((one) => (one / span.count) * width() >= 64) || TICKS.at(-1);
  pen.fillStyle = pen.strokeStyle = style("dim");
  pen.font = "11px system-ui, sans-serif";
  const bottom = ruler.clientHeight;
  pen.beginPath();
  for (let frame = Math.ceil(span.first / step) * step; frame < span.first + span.count; frame += step) {
    const x = Math.round(xOf(frame + 0.5)) + 0.5;
    pen.moveTo(x, bottom - 6);
    pen.lineTo(x, bottom);
    pen.fillText(frame, x + 3, bottom - 7);
  }
  pen.stroke();
});

// Playhead and range lie over the lanes, so that they move without drawing.
const drawMarks = oncePerFrame(() => {
  if (!state.video) return;
  const head = find("#playhead");
  head.style.transform = `translateX(${xOf(state.frame + 0.5)}px)`;
  head.hidden = state.frame < span.first || state.frame >= span.first + span.count;
  const bar = find("#range");
  bar.hidden = !state.range;
  if (state.range) {
    const [left, right] = [Math.max(xOf(state.range[0]), 0), Math.min(xOf(state.range[1] + 1), width())];
    bar.style.transform = `translateX(${left}px)`;
    bar.style.width = `${Math.max(right - left, 0)}px`;
  }
  ruler.setAttribute("aria-valuemax", state.video.frames - 1);
  ruler.setAttribute("aria-valuenow", state.frame);
  const range = state.range ? `, range ${state.range[0]} to ${state.range[1]}` : "";
  ruler.setAttribute("aria-valuetext", `frame ${state.frame} of ${state.video.frames}${range}`);
});

function nameLanes() {
  const made = state.order.map((id) => {
    const target = state.targets.get(id);
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = target.color;
    const name = element("span", {}, target.name);
    const button = element("button", { type: "button", tabIndex: -1, title: target.name }, swatch, name);
    button.onclick = () => select(id);
    button.classList.toggle("selected", id === state.selected);
    return button;
  });
  names.replaceChildren(...made);
  lanes.style.height = `${Math.max(state.order.length, 1) * LANE}px`;
  describe();
}

function describe() {
  const texts = state.order.map((id) => {
    const { name, keys, absent, rows } = state.targets.get(id);
    const known = rows.kind.reduce((sum, kind) => sum + (kind > 0), 0);
    const gone = absent.length ? `, absent ${absent.map(([a, b]) => `${a} to ${b}`).join(", ")}` : "";
    return `${name}: ${keys.length} key frames, ${known} frames known${gone}`;
  });
  lanes.setAttribute("aria-label", texts.join("; ") || "No targets");
}

// Shows frames first to first + count; the playhead stays in sight while it moves.
function setSpan(first, count) {
  const all = state.video.frames;
  span.count = Math.min(Math.max(count, Math.min(all, 20)), all);
  span.first = Math.min(Math.max(Math.round(first), 0), all - span.count);
  spoilAll();
}

function zoom(factor, middle = state.frame) {
  const count = Math.round(span.count * factor);
  setSpan(middle - ((middle - span.first) / span.count) * count, count);
}

// The key frame under the pointer, with its target.
function keyUnder(event) {
  const corner = lanes.getBoundingClientRect();
  const place = Math.floor((event.clientY - corner.top) / LANE);
  const id = state.order[place];
  if (id === undefined || event.target !== lanes) return null;
  const x = event.clientX - corner.left;
  const near = state.targets.get(id).keys.map((key) => ({ key, far: Math.abs(xOf(key + 0.5) - x) }));
  const best = near.sort((a, b) => a.far - b.far)[0];
  return { id, key: best && best.far <= NEAR ? best.key : null };
}

function down(event) {
  if (!state.video || event.button !== 0) return;
  event.currentTarget.setPointerCapture(event.pointerId);
  const frame = frameAt(event);
  if (event.shiftKey) {
    drag = { from: frame };
    return setRange([frame, frame]);
  }
  const under = keyUnder(event);
  if (under) select(under.id);
  drag = "seek";
  seek(under?.key ?? frame);
}

function move(event) {
  if (!drag) return;
  const frame = frameAt(event);
  if (drag === "seek") {
    if (Math.abs(event.movementX) > 0 && frame !== state.frame) seek(frame);
  } else setRange([Math.min(drag.from, frame), Math.max(drag.from, frame)]);
}

function wheel(event) {
  if (!state.video || !(event.ctrlKey || event.shiftKey || event.deltaX)) return; // else the list of lanes scrolls
  event.preventDefault();
  const ahead = event.deltaX || event.deltaY;
  if (event.ctrlKey) zoom(Math.exp(event.deltaY * 0.004), frameAt(event));
  else setSpan(span.first + Math.sign(ahead) * Math.max(1, (Math.abs(ahead) / width()) * span.count), span.count);
}

for (const canvas of [ruler, lanes]) {
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drag = null));
  canvas.addEventListener("wheel", wheel, { passive: false });
  sized(canvas, spoilAll);
}
find("#time-in").onclick = () => zoom(0.5);
find("#time-out").onclick = () => zoom(2);
ruler.setAttribute("aria-valuemin", 0);

on("video", () => setSpan(0, state.video.frames));
on("document", (ids) => {
  nameLanes();
  for (const id of ids) if (state.targets.has(id)) spoil(id);
  if (ids.some((id) => !state.targets.has(id))) spoilAll(); // lanes below moved up
  lanes.getContext("2d").clearRect(0, 0, state.order.length ? 0 : lanes.width, lanes.height);
});
on("rows", ({ target, first, last }) => spoil(target, first, last));
on("selection", nameLanes);
on("frame", () => {
  const { frame } = state;
  if (frame < span.first || frame >= span.first + span.count) setSpan(frame - span.count / 2, span.count);
  drawMarks();
});
on("range", drawMarks);
darkness.addEventListener("change", spoilAll);
