// Keys, and the buttons of the same commands with their tooltips.

import { COMMANDS, FAMILIES, selectNumber } from "./commands.js";
import { element, find, oncePerFrame } from "./dom.js";
import { on, state } from "./store.js";

const STEPS = { Left: [-1, 0], Right: [1, 0], Up: [0, -1], Down: [0, 1] };
const SHOWN = { ArrowLeft: "Left", ArrowRight: "Right", Delete: "Del", Escape: "Esc", "-": "−" };

const byKey = new Map();
for (const command of COMMANDS.values()) for (const key of command.keys) byKey.set(key, command);

// "Ctrl+Shift+Z"; Shift is not said of signs, which need it on some keyboards only.
function nameOf({ key, ctrlKey, metaKey, altKey, shiftKey }) {
  const name = key === " " ? "Space" : key.length === 1 ? key.toUpperCase() : key;
  const sign = name.length === 1 && !/[A-Z]/.test(name);
  return `${ctrlKey || metaKey ? "Ctrl+" : ""}${altKey ? "Alt+" : ""}${shiftKey && !sign ? "Shift+" : ""}${name}`;
}

// Whether an element wants a key for itself: text to be typed, a menu's arrows, a button's Space.
function takes(focused, name) {
  if (focused.matches("input:not([type=checkbox]), textarea")) return true;
  if (focused.matches("select")) return !/^(Ctrl|Escape)/.test(name);
  if (focused.matches("button, summary, a, input")) return ["Space", "Enter"].includes(name);
  return false;
}

function pressed(event) {
  const name = nameOf(event);
  if (event.isComposing || find("dialog[open]") || takes(event.target, name)) return;
  if (name.endsWith("Tab") && event.target.id !== "picture") return;
  const family = FAMILIES.find(({ prefix }) => name.startsWith(prefix));
  const command = byKey.get(name);
  if (/^[1-9]$/.test(name)) selectNumber(Number(name));
  else if (family && state.video) family.run(...STEPS[name.slice(family.prefix.length)]);
  else if (!command || !command.enabled() || command.run() === false) return;
  event.preventDefault();
}

const shownKey = (key) => key.split("+").map((part) => SHOWN[part] || part).join("+") || "+";

function refresh() {
  for (const button of document.querySelectorAll("[data-command]")) {
    const command = COMMANDS.get(button.dataset.command);
    button.disabled = !command.enabled();
    const what = { undo: state.undo, redo: state.redo }[button.dataset.command];
    const said = what ? `${command.label}: ${what}` : command.label;
    button.title = command.keys.length ? `${said} (${shownKey(command.keys[0])})` : said;
    if (!button.textContent.trim() || what) button.setAttribute("aria-label", said);
  }
}

function fillHelp() {
  const groups = new Map();
  const put = (group, keys, label) => {
    if (!groups.has(group)) groups.set(group, element("dl", {}));
    const names = keys.flatMap((key, index) => [index ? " or " : "", element("kbd", {}, shownKey(key))]);
    groups.get(group).append(element("dt", {}, ...names), element("dd", {}, label));
  };
  for (const { group, keys, label } of COMMANDS.values()) if (keys.length) put(group, keys, label);
  for (const { group, shown, label } of FAMILIES) put(group, [shown], label);
  put("Targets", ["1 to 9"], "Select a target by its place in the list");
  for (const [group, list] of groups) {
    find("#keys").append(element("section", {}, element("h3", {}, group), list));
  }
}

export function start() {
  document.addEventListener("keydown", pressed);
  for (const button of document.querySelectorAll("[data-command]")) {
    button.addEventListener("click", (event) => {
      COMMANDS.get(button.dataset.command).run();
      if (event.detail) button.blur(); // after a click with the mouse, Space plays again
    });
  }
  fillHelp();
  on("document selection range run video", oncePerFrame(refresh));
  refresh();
}
