// The line of a run: what it does, how far it is, when it ends.

import { find, say } from "./dom.js";
import { setFollow, motion } from "./player.js";
import { isRunning, on, state } from "./store.js";

const bar = find("#run-bar");
const text = find("#run-text");
let began = null; // {state, time} of what the run does at present

function duration(seconds) {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const DIRECTIONS = { 1: "forward", "-1": "backward", 0: "between key frames" };

function names() {
  const known = state.run.targets.map((id) => state.targets.get(id)?.name).filter(Boolean);
  return known.length > 3 ? `${known.length} targets` : known.join(", ");
}

function refresh() {
  const { run } = state;
  find("#run").hidden = !isRunning();
  if (!isRunning()) return;
  const elapsed = duration((performance.now() - began.time) / 1000);
  if (run.state === "tracking") {
    const rest = run.fps > 0 ? `, ${duration((run.total - run.done) / run.fps)} left` : "";
    const speed = run.fps > 0 ? `, ${run.fps.toFixed(1)} frames/s` : "";
    text.textContent = `${names()} ${DIRECTIONS[run.direction]}: ${run.done} of ${run.total} frames${speed}${rest}`;
  } else {
    const what = run.message || (run.state === "compiling" ? "compiling" : "waiting");
    text.textContent = `${what[0].toUpperCase()}${what.slice(1)}, ${elapsed}`;
  }
}

on("run", () => {
  const { run } = state;
  if (run?.state !== began?.state) {
    began = run && { state: run.state, time: performance.now() };
    if (run?.state === "compiling") say(run.message || "Compiling.");
    if (run?.state === "tracking") say(`Tracking ${names()}.`);
    if (run?.state === "done") say(`Tracked ${run.done} frames.`);
    if (run?.state === "stopped") say("Tracking stopped.");
    if (run?.state === "failed") say("Tracking failed.");
  }
  if (run?.state === "tracking") {
    bar.max = Math.max(run.total, 1);
    bar.value = run.done;
  } else bar.removeAttribute("value");
  refresh();
});
on("motion", () => {
  find("#follow").checked = motion.follow;
});
find("#follow").onchange = (event) => setFollow(event.target.checked);
setInterval(() => isRunning() && state.run.state !== "tracking" && refresh(), 500);
