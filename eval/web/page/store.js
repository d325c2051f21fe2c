// What the page knows: the video, its targets with a row for each frame, and what the person looks at.
// Modules read `state` and change it by the functions here; who listens to a kind of change is called.

export const VERDICTS = ["found", "uncertain", "distractor", "lost"];
export const VERDICT_COLORS = ["#3cdc5a", "#fad228", "#ff8214", "#eb3232"];
export const KINDS = ["", "key", "tracked", "blended", "interpolated", "imported", "absent"]; // "": nothing is known

export const state = {
  video: null, // {id, name, frames, width, height, fps}
  revision: 0,
  undo: null, // what it would undo, in words
  redo: null,
  order: [], // ids of targets
  targets: new Map(), // id -> {name, color, tracker, keys, absent, rows}
  hidden: new Set(), // ids that are not drawn
  selected: null, // id
  drawing: false, // whether the next box is a new target
  draft: null, // {target, frame, box, revision}: a box that is drawn and not yet in the document
  frame: 0,
  range: null, // [first, last]
  run: null,
};

const heard = new Map();

// Kinds: video, document, rows ({target, first, last}), selection, draft, frame, range, run.
export function on(kinds, call) {
  for (const kind of kinds.split(" ")) heard.set(kind, [...(heard.get(kind) || []), call]);
}

export function tell(kind, detail) {
  for (const call of heard.get(kind) || []) call(detail);
}

const emptyRows = (frames) => ({
  box: new Float32Array(4 * frames),
  confidence: new Float32Array(frames).fill(NaN),
  score: new Float32Array(frames).fill(NaN), // the tracker's own
  verdict: new Uint8Array(frames),
  kind: new Uint8Array(frames),
});

// {box, confidence, verdict, kind} of a target in a frame, null where nothing is known; box is null where it is absent.
export function rowOf(id, frame) {
  const rows = state.targets.get(id)?.rows;
  const kind = rows && KINDS[rows.kind[frame]];
  if (!kind) return null;
  const box = kind === "absent" ? null : [...rows.box.subarray(4 * frame, 4 * frame + 4)];
  return { box, confidence: rows.confidence[frame], verdict: rows.verdict[frame], kind };
}

// The same, with the box that is being drawn in its place.
export function shownRow(id, frame) {
  const { draft } = state;
  if (draft && draft.target === id && draft.frame === frame) {
    return { box: draft.box, confidence: NaN, verdict: 0, kind: "key" };
  }
  return rowOf(id, frame);
}

function setRows({ target, first, rows: given }) {
  const rows = state.targets.get(target)?.rows;
  if (!rows) return;
  given.forEach((row, offset) => {
    const at = first + offset;
    if (at >= rows.kind.length) return;
    rows.kind[at] = row ? Math.max(KINDS.indexOf(row[6]), 0) : 0;
    rows.verdict[at] = row?.[5] ?? 0;
    rows.confidence[at] = row?.[4] ?? NaN;
    rows.score[at] = row?.[7] ?? NaN;
    if (row && row[0] !== null) rows.box.set(row.slice(0, 4), 4 * at);
  });
  tell("rows", { target, first, last: first + given.length - 1 });
}

function merge(change) {
  for (const [key, target] of Object.entries(change.targets)) {
    const id = Number(key);
    const rows = state.targets.get(id)?.rows || emptyRows(state.video.frames);
    if (target) state.targets.set(id, { ...target, rows });
    else state.targets.delete(id);
  }
  const { revision, undo, redo, order } = change;
  Object.assign(state, { revision, undo, redo, order });
  change.rows.forEach(setRows);
  if (!state.targets.has(state.selected)) state.selected = null;
  if (state.draft?.revision && state.draft.revision <= revision) state.draft = null;
  tell("document", Object.keys(change.targets).map(Number));
  if (Object.keys(change.targets).length) tell("selection");
}

// A video as the server describes it; where it is the one that is open, frame and selection stay.
export function open(video) {
  const same = state.video?.id === video.id;
  const { document, run, ...facts } = video;
  Object.assign(state, { video: facts, run, targets: new Map(), draft: null });
  if (!same) Object.assign(state, { selected: null, range: null, drawing: false, frame: 0, hidden: new Set() });
  state.frame = Math.min(state.frame, facts.frames - 1);
  if (!same) tell("video");
  merge(document);
  tell("run");
  tell("frame");
}

// Takes an event `changed`; false where one before it was missed, and the video has to be loaded anew.
export function change(event) {
  if (event.revision < state.revision) return true; // from before the video was loaded
  if (event.revision > state.revision + 1) return false;
  merge(event);
  return true;
}

export function select(id) {
  const known = state.targets.has(id) ? id : null;
  if (known === state.selected && !state.drawing) return;
  Object.assign(state, { selected: known, drawing: false });
  tell("selection");
}

export function setDrawing(drawing) {
  state.drawing = drawing;
  tell("selection");
}

export function setDraft(draft) {
  state.draft = draft;
  tell("draft");
}

export function setFrame(frame) {
  const at = Math.min(Math.max(Math.round(frame), 0), state.video.frames - 1);
  if (at === state.frame) return;
  state.frame = at;
  tell("frame");
}

export function setRange(range) {
  state.range = range;
  tell("range");
}

export function setRun(run) {
  state.run = run;
  tell("run");
}

export const isRunning = () => ["waiting", "compiling", "tracking"].includes(state.run?.state);

export function toggleHidden(id) {
  if (!state.hidden.delete(id)) state.hidden.add(id);
  tell("selection");
}
