// Starts the page: opens a video, hears the server, and keeps frame and target in the address.

import { address, getJson, listen } from "./api.js";
import { complain, debounced, find } from "./dom.js";
import * as files from "./files.js";
import * as keyboard from "./keyboard.js";
import { motion, seek, setSpeed } from "./player.js";
import "./running.js";
import { change, on, open, select, setRun, state } from "./store.js";
import * as targets from "./targets.js";
import "./timeline.js";

const FIRST = 1000; // milliseconds that the first video waits for the events

let loading = null; // id of the video that is on its way
let early = []; // events that came meanwhile

async function load(id) {
  [loading, early] = [id, []];
  const video = await getJson(address(id)).catch((error) => {
    if (loading === id) loading = null;
    throw error;
  });
  if (loading !== id) return; // another one was asked for
  loading = null;
  open(video);
  for (const event of early.splice(0)) hear(event);
}

function reload() {
  const id = loading ?? state.video?.id;
  if (id) load(id).catch((error) => complain(error.message));
}

function hear(event) {
  if (event.kind === "problem") return complain(event.message);
  if (loading !== null && event.video === loading) return early.push(event);
  if (event.video !== state.video?.id) return;
  if (event.kind === "changed" && !change(event)) reload();
  if (event.kind === "run") {
    setRun(event);
    if (event.state === "failed") complain(event.message || "Tracking failed.");
  }
  if (event.kind === "render") files.rendering(event);
}

// #video=ID&frame=120&target=2
const inAddress = () => new URLSearchParams(location.hash.slice(1));

const keepAddress = debounced(() => {
  const kept = new URLSearchParams({ video: state.video.id, frame: state.frame });
  if (state.selected !== null) kept.set("target", state.selected);
  history.replaceState(null, "", `#${kept}`);
}, 300);

function showVideo() {
  const { name, width, height, frames, fps } = state.video;
  find("#facts").textContent = `${name}, ${width} x ${height}, ${frames} frames, ${Number(fps.toFixed(2))} frames/s`;
  document.title = `${name} - jaxtrack`;
  files.point();
}

function showFrame() {
  const field = find("#frame");
  if (document.activeElement !== field) field.value = state.frame;
  const seconds = state.frame / state.video.fps;
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(2).padStart(5, "0");
  find("#clock").textContent = `of ${state.video.frames - 1}, ${minutes}:${rest}`;
}

function showHint() {
  find("#hint").hidden = !state.drawing;
  find("#hint").textContent = "Drag around the new target. Escape cancels.";
}

function startFields() {
  const field = find("#frame");
  const go = () => {
    const frame = Number.parseInt(field.value, 10);
    if (state.video && frame >= 0) seek(Math.min(frame, state.video.frames - 1));
    field.blur();
  };
  field.onblur = () => state.video && showFrame();
  field.onfocus = () => field.select();
  field.onkeydown = ({ key }) => {
    if (key === "Enter") go();
    if (key === "Escape") field.blur();
  };
  find("#speed").onchange = (event) => setSpeed(Number(event.target.value));
  // A menu or a box that was used with the mouse gives the keys back.
  let byPointer = false;
  document.addEventListener("pointerdown", () => (byPointer = true));
  document.addEventListener("keydown", () => (byPointer = false));
  document.addEventListener("change", ({ target }) => {
    if (byPointer && target.matches("select, [type=checkbox]")) target.blur();
  });
}

function showRange() {
  find("#range-text").textContent = state.range ? `${state.range[0]} to ${state.range[1]}` : "";
}

on("video", showVideo);
on("video range", showRange);
on("frame video", () => {
  showFrame();
  keepAddress();
});
on("selection", () => {
  showHint();
  if (state.video) keepAddress();
});
on("motion", () => {
  find("#play-icon").setAttribute("href", motion.playing ? "#icon-pause" : "#icon-play");
});

function startEvents(first) {
  listen({
    heard: hear,
    connected: () => {
      find("#connection").hidden = true;
      reload();
      first();
    },
    lost: () => (find("#connection").hidden = false),
  });
}

async function start() {
  keyboard.start();
  files.start(load);
  startFields();
  const heard = new Promise((connected) => startEvents(connected));
  const [videos] = await Promise.all([files.listVideos(), targets.start()]);
  await Promise.race([heard, new Promise((late) => setTimeout(late, FIRST))]); // so that no change is missed
  const wish = inAddress();
  const first = videos.find(({ id }) => id === wish.get("video")) || videos[0];
  if (!first) {
    find("#facts").textContent = "No video yet.";
  } else {
    await load(first.id);
    if (first.id === wish.get("video")) {
      seek(Number(wish.get("frame")) || 0);
      if (wish.has("target")) select(Number(wish.get("target")));
    }
  }
}

start().catch((error) => complain(error.message));
