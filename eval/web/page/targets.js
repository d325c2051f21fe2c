// The list of targets: color, name, verdict in the present frame, visibility, removal, and the menu of trackers.

import { getJson } from "./api.js";
import { remove, rename, setNewTracker, setTracker } from "./annotate.js";
import { element, find, icon, oncePerFrame } from "./dom.js";
import { on, rowOf, select, state, toggleHidden, VERDICTS } from "./store.js";

const list = find("#targets");
const menu = find("#tracker");
const lines = new Map(); // id -> elements of its line
let fresh = null; // the tracker of the next new target
let editing = null; // id whose name is being changed

function makeLine(id) {
  const swatch = element("i", { class: "swatch" });
  const name = element("span", { class: "name" });
  const verdict = element("span", { class: "verdict" });
  const choose = element("button", { type: "button", class: "choose" }, swatch, name, verdict);
  const edit = element("button", { type: "button", class: "square" }, icon("pen"));
  const eye = element("button", { type: "button", class: "square" }, icon("eye"));
  const gone = element("button", { type: "button", class: "square" }, icon("cross"));
  choose.onclick = (event) => {
    select(id);
    if (event.detail) choose.blur();
  };
  choose.ondblclick = () => editName(id);
  edit.onclick = () => editName(id);
  eye.onclick = () => toggleHidden(id);
  gone.onclick = () => remove(id);
  const line = element("li", {}, choose, edit, eye, gone);
  return { line, swatch, name, verdict, choose, edit, eye, gone };
}

function editName(id) {
  const { name, choose, line } = lines.get(id);
  const before = name.textContent;
  const input = element("input", { value: before, maxLength: 100, "aria-label": `New name of ${before}` });
  editing = id;
  choose.hidden = true;
  line.prepend(input);
  input.select();
  const done = (keep) => {
    if (editing !== id) return;
    editing = null;
    const wanted = input.value.trim();
    input.remove();
    choose.hidden = false;
    choose.focus();
    if (keep && wanted && wanted !== before) rename(id, wanted);
  };
  input.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      done(event.key === "Enter");
    }
  };
  input.onblur = () => done(true);
}

export const renameSelected = () => editName(state.selected);

function refresh() {
  for (const [id, { line }] of lines) {
    if (state.targets.has(id)) continue;
    line.remove();
    lines.delete(id);
  }
  state.order.forEach((id, place) => {
    if (!lines.has(id)) lines.set(id, makeLine(id));
    const { line, swatch, name, choose, edit, eye, gone } = lines.get(id);
    if (list.children[place] !== line) list.insertBefore(line, list.children[place] || null);
    const target = state.targets.get(id);
    swatch.style.background = target.color;
    name.textContent = target.name;
    choose.title = `${target.name}, ${target.tracker}`;
    choose.setAttribute("aria-pressed", id === state.selected);
    line.classList.toggle("selected", id === state.selected);
    const hidden = state.hidden.has(id);
    line.classList.toggle("off", hidden);
    eye.firstChild.firstChild.setAttribute("href", hidden ? "#icon-hidden" : "#icon-eye");
    eye.setAttribute("aria-pressed", hidden);
    for (const [button, verb] of [[edit, "Rename"], [eye, "Hide"], [gone, "Remove"]]) {
      button.title = `${verb} ${target.name}`;
      button.setAttribute("aria-label", button.title);
    }
  });
  find("#no-targets").hidden = state.order.length > 0;
  find("[data-command=new]").setAttribute("aria-pressed", state.drawing);
  const target = state.drawing ? null : state.targets.get(state.selected);
  find("#tracker-label").textContent = target ? `Tracker of ${target.name}` : "Tracker of new targets";
  menu.value = target ? target.tracker : fresh;
  verdicts();
}

// What is known of each target in the present frame.
function verdicts() {
  for (const [id, { verdict }] of lines) {
    const row = rowOf(id, state.frame);
    const sure = row && !Number.isNaN(row.confidence) && row.box && row.kind !== "key";
    verdict.textContent = !row ? "" : sure ? `${VERDICTS[row.verdict]} ${row.confidence.toFixed(2)}` : row.kind;
    verdict.dataset.verdict = sure ? VERDICTS[row.verdict] : "";
  }
}

function describe({ name, paper, auc, fps }) {
  const numbers = [auc !== null && `AUC ${auc.toFixed(3)}`, fps !== null && `${Math.round(fps)} frames/s`];
  return [`${name} (${paper})`, ...numbers.filter(Boolean)].join(", ");
}

export async function start() {
  const trackers = await getJson("/api/trackers");
  menu.replaceChildren(...trackers.map((one) => element("option", { value: one.name }, describe(one))));
  fresh = (trackers.find((one) => one.default) || trackers[0])?.name;
  setNewTracker(fresh);
  menu.onchange = () => {
    if (state.selected !== null && !state.drawing) return setTracker(state.selected, menu.value);
    fresh = menu.value;
    setNewTracker(fresh);
  };
  refresh();
}

on("document selection", oncePerFrame(refresh));
on("frame rows", oncePerFrame(verdicts));
