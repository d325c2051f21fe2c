// All that can be done: one table for the buttons, the keys and the help.

import * as annotate from "./annotate.js";
import { find } from "./dom.js";
import { toggleInsight } from "./insight.js";
import { motion, pause, play, seek, step } from "./player.js";
import { cancelDrag } from "./pointer.js";
import { view, viewChanged } from "./stage.js";
import { isRunning, select, setDraft, setDrawing, setRange, state } from "./store.js";
import { renameSelected } from "./targets.js";

const zoom = (factor) => {
  view.zoomAt(factor);
  viewChanged();
};
const fit = () => {
  view.fit();
  viewChanged();
};
const pan = (dx, dy) => {
  view.pan(dx * 40, dy * 40);
  viewChanged();
};

function rangeFrom(side) {
  const { frame, range } = state;
  const [first, last] = range || [frame, frame];
  setRange(side === "in" ? [frame, Math.max(last, frame)] : [Math.min(first, frame), frame]);
}

function escape() {
  if (cancelDrag()) return;
  if (isRunning()) annotate.stop();
  else if (state.drawing) setDrawing(false);
  else if (motion.playing) pause();
  else if (state.range) setRange(null);
  else {
    setDraft(null);
    select(null);
  }
}

function toKey(direction) {
  const { frame, selected, order } = state;
  const keys = (selected === null ? order : [selected]).flatMap((id) => state.targets.get(id).keys);
  const beyond = keys.filter((key) => (key - frame) * direction > 0);
  if (beyond.length) seek(direction > 0 ? Math.min(...beyond) : Math.max(...beyond));
}

// The next target in the list; false after the last one, where the key is left to the browser.
function nextTarget(direction) {
  const at = state.order.indexOf(state.selected);
  const next = state.order[at < 0 && direction < 0 ? state.order.length - 1 : at + direction];
  if (next === undefined) return false;
  select(next);
  return true;
}

function drawInMiddle() {
  const shown = [state.video.width, state.video.height].map((side) => Math.min(side, side / view.zoom()));
  annotate.boxInMiddle(view.center(), shown);
}

export function openHelp() {
  const help = find("#help");
  if (help.open) help.close();
  else help.showModal();
}

const loaded = () => state.video !== null;
const chosen = () => loaded() && state.selected !== null;
const idle = () => loaded() && state.order.length > 0;

// group, name, label, keys (the first is shown on the button), what it does, when it can be done (else with a video)
const TABLE = [
  ["Video", "play", "Play or pause", ["Space"], () => play(1)],
  ["Video", "play-back", "Play backward", ["Shift+Space"], () => play(-1)],
  ["Video", "back", "One frame back", ["ArrowLeft"], () => step(-1)],
  ["Video", "forward", "One frame forward", ["ArrowRight"], () => step(1)],
  ["Video", "back10", "Ten frames back", ["Shift+ArrowLeft"], () => step(-10)],
  ["Video", "forward10", "Ten frames forward", ["Shift+ArrowRight"], () => step(10)],
  ["Video", "start", "First frame", ["Home"], () => seek(0)],
  ["Video", "end", "Last frame", ["End"], () => seek(state.video.frames - 1)],
  ["Video", "key-back", "Previous key frame", ["PageUp"], () => toKey(-1)],
  ["Video", "key-forward", "Next key frame", ["PageDown"], () => toKey(1)],
  ["Tracking", "track", "Track forward", ["T"], () => annotate.track(1), idle],
  ["Tracking", "track-back", "Track backward", ["Shift+T"], () => annotate.track(-1), idle],
  ["Tracking", "track-both", "Track between the key frames, from both", ["B"], () => annotate.track(0), idle],
  ["Tracking", "stop", "Stop tracking, or cancel", ["Escape"], escape],
  ["Tracking", "insight", "Inside the tracker", ["G"], toggleInsight],
  ["Boxes", "new", "New target: the next box", ["N"], () => setDrawing(!state.drawing)],
  ["Boxes", "draw", "Box in the middle", ["D"], drawInMiddle],
  ["Boxes", "interpolate", "Straight line between the key frames around", [], annotate.interpolate, chosen],
  ["Boxes", "range-in", "Range begins here", ["I"], () => rangeFrom("in")],
  ["Boxes", "range-out", "Range ends here", ["O"], () => rangeFrom("out")],
  ["Boxes", "range-clear", "No range", [], () => setRange(null), () => state.range !== null],
  ["Boxes", "absent", "Not visible in the range, or in this frame", ["A"], annotate.markAbsent, chosen],
  ["Boxes", "delete", "Delete in the range, or in this frame", ["Delete", "Backspace"], annotate.forget, chosen],
  ["Boxes", "undo", "Undo", ["Ctrl+Z"], annotate.undo, () => Boolean(state.undo)],
  ["Boxes", "redo", "Redo", ["Ctrl+Shift+Z", "Ctrl+Y"], annotate.redo, () => Boolean(state.redo)],
  ["Targets", "next-target", "Next target (on the picture)", ["Tab"], () => nextTarget(1)],
  ["Targets", "last-target", "Target before (on the picture)", ["Shift+Tab"], () => nextTarget(-1)],
  ["Targets", "rename", "Rename", ["F2"], renameSelected, chosen],
  ["Targets", "remove", "Remove the target", ["Shift+Delete"], () => annotate.remove(state.selected), chosen],
  ["View", "zoom-in", "Zoom in", ["+", "="], () => zoom(1.25)],
  ["View", "zoom-out", "Zoom out", ["-"], () => zoom(0.8)],
  ["View", "fit", "Fit", ["0"], fit],
  ["View", "help", "These keys", ["?"], openHelp, () => true],
];

export const COMMANDS = new Map(
  TABLE.map(([group, name, label, keys, run, enabled = loaded]) => [name, { group, label, keys, run, enabled }]),
);

// Keys that come in fours and nines, with their line in the help.
export const FAMILIES = [
  { group: "Boxes", shown: "Alt+Arrows", label: "Move the box by a pixel", prefix: "Alt+Arrow", run: annotate.moveBox },
  { group: "Boxes", shown: "Alt+Shift+Arrows", label: "Resize it", prefix: "Alt+Shift+Arrow", run: annotate.growBox },
  { group: "View", shown: "Ctrl+Arrows", label: "Move the view", prefix: "Ctrl+Arrow", run: (dx, dy) => pan(-dx, -dy) },
];
export const selectNumber = (number) => select(state.order[number - 1] ?? state.selected);
