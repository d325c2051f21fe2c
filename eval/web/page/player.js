// Which frame is looked at: steps, playing by the clock, and following a run.

import { calm } from "./dom.js";
import { isRunning, on, setFrame, state, tell } from "./store.js";

const PICTURES = 60; // a second; faster playing leaves frames out
const LATE = 0.25; // seconds that pictures may be behind before playing slows down

// direction and stride: how frames follow each other; playing: 1, -1 or 0; follow: whether a run's frames are shown.
export const motion = { direction: 1, stride: 1, playing: 0, speed: 1, follow: true };

let has = () => true; // whether a frame is there to be shown
let clock = null; // {time, frame}: where playing began

export function usePictures(known) {
  has = known;
}

function setMotion(change) {
  Object.assign(motion, change);
  tell("motion");
}

// A person goes to a frame: what follows a run or plays stops.
export function seek(frame, direction = Math.sign(frame - state.frame) || motion.direction) {
  setMotion({ playing: 0, stride: 1, direction, follow: isRunning() ? false : motion.follow });
  setFrame(frame);
}

export const step = (count) => seek(state.frame + count, Math.sign(count));

export function pause() {
  if (motion.playing) setMotion({ playing: 0, stride: 1 });
}

export function play(direction = 1) {
  if (motion.playing) return pause();
  const end = direction > 0 ? state.video.frames - 1 : 0;
  if (state.frame === end) setFrame(direction > 0 ? 0 : state.video.frames - 1);
  setMotion({ playing: direction, direction, follow: isRunning() ? false : motion.follow });
  restart();
  requestAnimationFrame(tick);
}

function restart() {
  clock = { time: performance.now(), frame: state.frame };
  motion.stride = Math.max(1, Math.ceil((state.video.fps * motion.speed) / PICTURES - 0.05));
}

export function setSpeed(speed) {
  setMotion({ speed });
  if (motion.playing) restart();
}

// Goes to the last frame that is due and there. Where pictures come late, the clock waits for them.
function tick() {
  if (!motion.playing) return;
  const { playing, speed, stride } = motion;
  const rate = state.video.fps * speed;
  const due = Math.floor((((performance.now() - clock.time) / 1000) * rate) / stride) * stride;
  const last = playing > 0 ? state.video.frames - 1 - clock.frame : clock.frame;
  const shown = Math.abs(state.frame - clock.frame);
  let next = Math.min(due, last);
  while (next > shown && !has(clock.frame + playing * next)) next -= next % stride || stride;
  if (next > shown) setFrame(clock.frame + playing * next);
  if (Math.abs(state.frame - clock.frame) >= last) return pause();
  if (due - Math.max(next, shown) > Math.max(LATE * rate, stride)) restart();
  requestAnimationFrame(tick);
}

let followed = 0; // when a run's frame was shown last
let tracking = false;
on("run", () => {
  const { run } = state;
  const ended = tracking && ["done", "stopped"].includes(run?.state);
  tracking = run?.state === "tracking";
  if (!motion.follow || motion.playing || !(tracking || ended)) return;
  const now = performance.now();
  if (tracking && now - followed < (calm.matches ? 500 : 100)) return;
  followed = now;
  motion.direction = run.direction < 0 ? -1 : 1;
  setFrame(run.frame);
});

export const setFollow = (follow) => setMotion({ follow });
