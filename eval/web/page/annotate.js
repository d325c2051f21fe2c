// What a person does to the annotation, as requests; the change itself comes back as an event.

import { address, postJson } from "./api.js";
import { moved, resized, rounded } from "./boxes.js";
import { complain, debounced, find, say } from "./dom.js";
import { seek, setFollow } from "./player.js";
import { isRunning, on, rowOf, select, setDraft, setDrawing, shownRow, state } from "./store.js";

const STOPS = 10000; // milliseconds that a run may take to stop

let newTracker = null; // of the next new target

export const setNewTracker = (name) => {
  newTracker = name;
};

const post = (rest, value) => postJson(address(state.video.id, rest), value);

// Sends an action; its answer, or null after a problem, which is said.
async function act(action, fields = {}) {
  sendNudged();
  try {
    return await post("/actions", { action, ...fields });
  } catch (error) {
    complain(error.message);
    return null;
  }
}

// A box that was drawn is shown until the document has it.
async function sendBox(target, frame, box) {
  const draft = { target, frame, box: rounded(box) };
  setDraft(draft);
  const fields = target === null && newTracker ? { tracker: newTracker } : {};
  const answer = await act("box", { target, frame, box: draft.box, ...fields });
  const pending = answer && answer.revision > state.revision;
  if (state.draft === draft) setDraft(pending ? { ...draft, revision: answer.revision } : null);
  return answer;
}

export async function newBox(frame, box) {
  setDrawing(false);
  const answer = await sendBox(null, frame, box);
  if (answer) whenKnown(answer.target, () => select(answer.target));
}

function whenKnown(id, call) {
  if (state.targets.has(id)) call();
  else waiting.push({ id, call });
}

const waiting = [];
on("document", () => {
  for (const one of waiting.splice(0)) whenKnown(one.id, one.call);
});

export async function changeBox(target, frame, box) {
  const answer = await sendBox(target, frame, box);
  if (!answer || !find("#track-on").checked) return;
  if (isRunning()) await stopped();
  track(1, [target], frame);
}

// Arrow keys: the box follows at once, and one action is sent when they rest.
let nudged = null; // a draft that is not sent yet
const sendLater = debounced(sendNudged, 250);

function sendNudged() {
  const draft = nudged;
  nudged = null;
  if (draft) changeBox(draft.target, draft.frame, draft.box);
}

function nudge(change) {
  const { selected, frame, video } = state;
  seek(frame); // playing or a run that is followed would go on
  const row = selected === null ? null : shownRow(selected, frame);
  if (!row?.box) return say("The selected target has no box in this frame.");
  if (nudged && (nudged.target !== selected || nudged.frame !== frame)) sendNudged();
  nudged = { target: selected, frame, box: change(row.box, [video.width, video.height]) };
  setDraft(nudged);
  sendLater();
}

export const moveBox = (dx, dy) => nudge((box, size) => moved(box, dx, dy, size));

export const growBox = (dx, dy) =>
  nudge((box, size) => resized(box, [1, 1], [box[0] + box[2] + dx, box[1] + box[3] + dy], size));

// A box in the middle of what is seen, of a quarter of its sides: for those who draw without a mouse.
export function boxInMiddle([x, y], [width, height]) {
  const { selected, drawing, frame } = state;
  seek(frame);
  const box = [x - width / 8, y - height / 8, width / 4, height / 4];
  if (selected === null || drawing) newBox(frame, box);
  else changeBox(selected, frame, box);
}

// The range that was chosen, or the present frame.
const span = () => state.range || [state.frame, state.frame];

function onSelected(action, fields) {
  if (state.selected === null) return say("Select a target first.");
  return act(action, { target: state.selected, ...fields });
}

const onSpan = (action) => {
  const [first, last] = span();
  return onSelected(action, { first, last });
};

export const markAbsent = () => onSpan("absent");
export const forget = () => onSpan("delete");
export const interpolate = () => onSelected("interpolate", { frame: state.frame });
export const remove = (target) => act("remove", { target });
export const rename = (target, name) => act("rename", { target, name });
export const setTracker = (target, tracker) => act("tracker", { target, tracker });

async function back(action, verb, what) {
  if (what && (await act(action))) say(`${verb} ${what}`);
}

export const undo = () => back("undo", "Undone:", state.undo);
export const redo = () => back("redo", "Done again:", state.redo);

// The targets that are tracked from a frame: the selected one, or all that are shown and have a box there.
export function tracked(frame = state.frame) {
  const all = find("#scope").value === "all" || (state.selected === null && state.order.length > 1);
  const ids = all ? state.order.filter((id) => !state.hidden.has(id)) : [state.selected ?? state.order[0]];
  return ids.filter((id) => state.targets.has(id) && (rowOf(id, frame)?.box || !all));
}

export async function track(direction, targets = tracked(), frame = state.frame) {
  if (!targets.length) return say("No target has a box in this frame.");
  sendNudged();
  setFollow(true);
  try {
    await post("/track", { targets, frame, direction });
  } catch (error) {
    complain(error.message);
  }
}

export async function stop() {
  try {
    await post("/stop");
  } catch (error) {
    complain(error.message);
  }
}

async function stopped() {
  await stop();
  const until = performance.now() + STOPS;
  while (isRunning() && performance.now() < until) await new Promise((done) => setTimeout(done, 30));
}
