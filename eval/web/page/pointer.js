// Mouse and fingers on the picture: draw, move and resize boxes, select, zoom and pan.

import { changeBox, newBox } from "./annotate.js";
import { between, contains, grip, moved, resized, SMALLEST } from "./boxes.js";
import { find } from "./dom.js";
import { seek } from "./player.js";
import { boxesShown, shownFrame, view, viewChanged } from "./stage.js";
import { select, setDraft, state } from "./store.js";

const CLICK = 4; // screen pixels that a click may move
const REACH = { mouse: 9, pen: 12, touch: 22 }; // screen pixels around a handle
const CURSORS = { "-1,-1": "nwse", "1,1": "nwse", "1,-1": "nesw", "-1,1": "nesw", "0,-1": "ns", "0,1": "ns" };

const canvas = find("#picture");
const fingers = new Map(); // pointerId -> [x, y] on the canvas
let drag = null; // {kind: "draw" | "move" | "resize" | "pan", from, ...}

const place = (event) => {
  const corner = canvas.getBoundingClientRect();
  return [event.clientX - corner.left, event.clientY - corner.top];
};
const size = () => [state.video.width, state.video.height];
const within = (point) => point.map((at, axis) => Math.min(Math.max(at, 0), size()[axis]));

const reach = (event) => (REACH[event.pointerType] || REACH.mouse) / view.scale();

function selectedBox() {
  return boxesShown().find(({ id }) => id === state.selected)?.row.box;
}

function whatIsHeld(event, point) {
  const box = selectedBox();
  if (!box || state.drawing || event.shiftKey) return null;
  return grip(box, point, reach(event));
}

canvas.addEventListener("pointerdown", (event) => {
  if (!state.video) return;
  canvas.setPointerCapture(event.pointerId);
  const at = place(event);
  fingers.set(event.pointerId, at);
  seek(shownFrame()); // neither playing nor a run that is followed takes the picture away
  if (fingers.size > 1) return cancelDrag();
  const point = view.toImage(at);
  const frame = shownFrame();
  if (event.button === 1) drag = { kind: "pan" };
  else if (event.button === 0) {
    const held = whatIsHeld(event, point);
    const kind = held === null ? "draw" : held === "inside" ? "move" : "resize";
    drag = { kind, frame, at, held, box: selectedBox(), from: within(point), moving: false };
  }
  if (event.button === 1) event.preventDefault();
});

canvas.addEventListener("pointermove", (event) => {
  if (!state.video) return;
  const at = place(event);
  const before = fingers.get(event.pointerId);
  if (!before) return hover(event, view.toImage(at));
  if (fingers.size === 2) return pinch(event.pointerId, before, at);
  fingers.set(event.pointerId, at);
  if (!drag) return;
  if (drag.kind === "pan") {
    view.pan(at[0] - before[0], at[1] - before[1]);
    return viewChanged();
  }
  drag.moving ||= Math.hypot(at[0] - drag.at[0], at[1] - drag.at[1]) > CLICK;
  if (drag.moving) setDraft(dragged(view.toImage(at)));
});

// The box that a drag makes of a point of the image.
function dragged(point) {
  const { kind, frame, from, box, held } = drag;
  const target = kind === "draw" && state.drawing ? null : state.selected;
  if (kind === "draw") return { target, frame, box: between(from, within(point)) };
  if (kind === "resize") return { target, frame, box: resized(box, held, point, size()) };
  const start = view.toImage(drag.at);
  return { target, frame, box: moved(box, point[0] - start[0], point[1] - start[1], size()) };
}

canvas.addEventListener("pointerup", (event) => {
  fingers.delete(event.pointerId);
  if (!drag) return;
  const { kind, moving, frame } = drag;
  const draft = moving && kind !== "pan" ? dragged(view.toImage(place(event))) : null;
  drag = null;
  if (kind === "pan") return;
  if (!draft) return pick(view.toImage(place(event)));
  if (draft.box[2] < SMALLEST || draft.box[3] < SMALLEST) return setDraft(null);
  if (draft.target === null) newBox(frame, draft.box);
  else changeBox(draft.target, frame, draft.box);
});

canvas.addEventListener("pointercancel", (event) => {
  fingers.delete(event.pointerId);
  cancelDrag();
});

// Gives up what is being dragged; whether there was something.
export function cancelDrag() {
  const had = drag !== null;
  if (had) setDraft(null);
  drag = null;
  return had;
}

// Selects the smallest box under a point, of two as small the next one.
function pick(point) {
  const area = ({ row }) => row.box[2] * row.box[3];
  const hit = boxesShown().filter(({ row }) => contains(row.box, point)).sort((a, b) => area(a) - area(b));
  const ids = hit.map(({ id }) => id);
  select(ids[(ids.indexOf(state.selected) + 1) % ids.length] ?? null);
}

function pinch(id, before, at) {
  const [other] = [...fingers].filter(([key]) => key !== id).map(([, value]) => value);
  const distance = (point) => Math.max(Math.hypot(point[0] - other[0], point[1] - other[1]), 1);
  view.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  view.zoomAt(distance(at) / distance(before), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
  fingers.set(id, at);
  viewChanged();
}

function hover(event, point) {
  const held = whatIsHeld(event, point);
  const cursor = held === "inside" ? "move" : held ? `${CURSORS[String(held)] || "ew"}-resize` : "crosshair";
  canvas.style.cursor = cursor;
}

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    if (event.shiftKey) view.pan(-event.deltaX || -event.deltaY, 0);
    else view.zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), place(event));
    viewChanged();
  },
  { passive: false },
);
canvas.addEventListener("auxclick", (event) => event.preventDefault());
