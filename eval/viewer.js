// The viewer of notebooks: a tracked video frame by frame, and below it how sure the tracker was.
// The model holds `count` frames, `fps`, `targets` and `verdicts` ([{name, color}, ...]) and `rows`: float32
// [target, frame, 6] of x, y, w, h, confidence, verdict, nan where there is none. Pictures are asked for by messages,
// {frames: [number, ...]}, and come one by one: {frame, size: [width, height]} with a JPEG, or {frame, problem}.

const AHEAD = 12; // frames that are asked for before they are due, playing
const NEAR = 2; // and at rest
const KEPT = 48; // pictures in memory
const PICTURES = 30; // a second: playing faster leaves frames out
const LATE = 250; // milliseconds that pictures may be behind before the clock waits for them
const PATIENCE = 400; // milliseconds without a picture that need no explanation
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const TALLEST = 520; // of the picture, CSS pixels
const INSET = 8; // of curves and slider, CSS pixels: half the slider's thumb
const FIELDS = 6;
const HELP = "Tracked video. Space plays and pauses, arrow keys step, with Shift by ten, Home and End go to the ends.";
const ICONS = {
  play: "M2 0 L13 7 L2 14 Z",
  pause: "M2 0 H5 V14 H2 Z M9 0 H12 V14 H9 Z",
  back: "M9 0 V14 L0 7 Z M11 0 H13 V14 H11 Z",
  on: "M5 0 V14 L14 7 Z M1 0 H3 V14 H1 Z",
};

// What was tracked: of a target in a frame {box, confidence, verdict, color}, or null.
function readRows(model) {
  const [count, targets, verdicts] = ["count", "targets", "verdicts"].map((name) => model.get(name));
  const data = model.get("rows");
  const values = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
  return (target, frame) => {
    const at = (target * count + frame) * FIELDS;
    const [x, y, w, h, confidence, code] = values.subarray(at, at + FIELDS);
    if (Number.isNaN(x)) return null;
    const verdict = verdicts[code];
    return { box: [x, y, w, h], confidence, verdict, color: targets.length > 1 ? targets[target].color : verdict.color };
  };
}

// The pictures that have come, and those that are asked for; `arrived` is called for each that comes.
function loader(model, arrived) {
  const kept = new Map(); // number -> {bitmap, size} or {problem}; what was asked for last at the end
  const asked = new Set();

  async function hear({ frame, size, problem }, buffers) {
    if (!asked.has(frame)) return; // another view of the model did
    const picture = { size, problem };
    try {
      if (!problem) picture.bitmap = await createImageBitmap(new Blob([buffers[0]], { type: "image/jpeg" }));
    } catch (error) {
      picture.problem = `frame ${frame}: ${error.message}`;
    }
    asked.delete(frame);
    kept.set(frame, picture);
    for (const [number, old] of kept) {
      if (kept.size <= KEPT) break;
      old.bitmap?.close();
      kept.delete(number);
    }
    arrived();
  }

  model.on("msg:custom", hear);
  return {
    has: (frame) => kept.has(frame),
    get(frame) {
      const picture = kept.get(frame);
      if (picture) {
        kept.delete(frame);
        kept.set(frame, picture);
      }
      return picture;
    },
    // Asks for the first of these frames; so few are on the way at once that the last wish is soon met.
    want(frames) {
      const missing = frames.filter((frame) => !kept.has(frame) && !asked.has(frame));
      const more = missing.slice(0, Math.max(frames.length - asked.size, 0));
      if (!more.length) return;
      more.forEach((frame) => asked.add(frame));
      model.send({ frames: more });
    },
    close() {
      model.off("msg:custom", hear);
      for (const { bitmap } of kept.values()) bitmap?.close();
      model.send({ left: true });
    },
  };
}

// A canvas of as many pixels as the screen has there, to be drawn on in CSS pixels; it is empty then.
function penOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

function drawPicture(canvas, room, { bitmap, size }, shown) {
  const scale = Math.min(room / size[0], TALLEST / size[1], 2);
  const [width, height] = size.map((side) => Math.round(side * scale));
  const pen = penOf(canvas, width, height);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  for (const { box, name, confidence, verdict, color } of shown) {
    const [x, y, w, h] = box.map((value) => value * scale);
    const isLost = verdict.name === "lost";
    for (const [style, thick, dashes] of [["rgba(0, 0, 0, 0.55)", 4.5, []], [color, isLost ? 1.5 : 2.25, isLost ? [6, 4] : []]]) {
      pen.strokeStyle = style;
      pen.lineWidth = thick;
      pen.setLineDash(dashes);
      pen.strokeRect(x, y, w, h);
    }
    const label = `${name}  ${verdict.name} ${confidence.toFixed(2)}`;
    const wide = pen.measureText(label).width + 10;
    const left = within(x - 1, 0, Math.max(width - wide, 0));
    const top = within(y >= 22 ? y - 21 : y + h + 3, 0, height - 18);
    pen.fillStyle = "rgba(10, 13, 16, 0.78)";
    pen.fillRect(left, top, wide, 18);
    pen.fillStyle = color;
    pen.fillText(label, left + 5, top + 9.5);
  }
}

// A curve for each target; one alone has the colors of its verdicts, of several a dot marks what is not "found".
function drawCurves(canvas, count, targets, row) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const pen = penOf(canvas, width, height);
  const top = 18;
  const xOf = (frame) => INSET + ((width - 2 * INSET) * frame) / Math.max(count - 1, 1);
  const yOf = (confidence) => height - 7 - (height - 7 - top) * within(confidence, 0, 1);
  pen.fillStyle = "rgba(195, 204, 214, 0.22)";
  for (const level of [0, 0.5, 1]) pen.fillRect(INSET, Math.round(yOf(level)), width - 2 * INSET, 1);
  pen.lineWidth = 1.75;
  pen.lineJoin = pen.lineCap = "round";
  targets.forEach((_, target) => {
    let before = null; // {x, y, color} of the frame before
    for (let frame = 0; frame < count; frame++) {
      const known = row(target, frame);
      const here = known && { x: xOf(frame), y: yOf(known.confidence), color: known.color };
      if (before && here?.color !== before.color) pen.stroke();
      if (here && here.color !== before?.color) {
        pen.strokeStyle = here.color;
        pen.beginPath();
        pen.moveTo(before?.x ?? here.x, before?.y ?? here.y);
      }
      if (here) pen.lineTo(here.x, here.y);
      before = here;
    }
    if (before) pen.stroke();
  });
  if (targets.length < 2) return;
  targets.forEach((_, target) => {
    for (let frame = 0; frame < count; frame++) {
      const known = row(target, frame);
      if (!known || known.verdict.name === "found") continue;
      pen.fillStyle = known.verdict.color;
      pen.fillRect(xOf(frame) - 1.75, yOf(known.confidence) - 1.75, 3.5, 3.5);
    }
  });
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(svg.namespaceURI, "path"));
  svg.firstChild.setAttribute("d", ICONS[name]);
  return svg;
}

function render({ model, el }) {
  const [count, fps, targets] = ["count", "fps", "targets"].map((name) => model.get(name));
  const row = readRows(model);
  const end = count - 1;
  let frame = 0; // the one that is looked at
  let shown = null; // the one whose picture is drawn
  let direction = 1;
  let playing = false;
  let clock = null; // {time, frame}: where playing began
  let stride = 1; // frames from one picture to the next, playing
  let waiting = null; // the timer of an explanation

  const canvas = element("canvas", { role: "img" });
  const note = element("p", { class: "note", hidden: "" });
  const stage = element("div", { class: "stage" }, canvas, note);
  const slider = element("input", { type: "range", min: 0, max: end, step: 1, value: 0, "aria-label": "Frame" });
  const curves = element("canvas", { role: "img", "aria-label": "Confidence of each target over time. A click goes to its frame." });
  const playhead = element("div", { class: "playhead" });
  const curve = element("div", { class: "curve" }, curves, element("span", {}, "confidence, 0 to 1"), playhead);
  const playButton = button("", toggle);
  const speed = element("select", { "aria-label": "Speed" }, ...SPEEDS.map((one) => element("option", { value: one }, `${one}×`)));
  const where = element("span", { class: "fill" });
  const said = element("span", { class: "unseen", "aria-live": "polite" });
  const list = element("ul", { "aria-label": "Targets" });
  const lines = targets.map(({ name }) => {
    const parts = [element("i"), element("strong", {}, name), element("span")];
    list.append(element("li", {}, ...parts));
    return parts;
  });
  const buttons = [
    button(icon("back"), () => seek(frame - 1), { "aria-label": "One frame back", title: "One frame back (←; with Shift ten)" }),
    playButton,
    button(icon("on"), () => seek(frame + 1), { "aria-label": "One frame on", title: "One frame on (→; with Shift ten)" }),
  ];
  const root = panel(stage, curve, slider, element("div", { class: "row" }, ...buttons, where, speed), list, said);
  speed.value = 1;

  const loaded = loader(model, () => {
    show();
    ask();
  });

  // The frame that is looked at, and those that are due next.
  function ask() {
    const steps = Array.from({ length: 1 + (playing ? AHEAD : NEAR) }, (_, at) => frame + direction * stride * at);
    loaded.want(steps.filter((at) => at >= 0 && at <= end));
  }

  const tracked = (at) => targets.flatMap(({ name }, target) => ({ name, ...row(target, at) })).filter(({ box }) => box);
  const describe = (at) =>
    tracked(at).map(({ name, verdict, confidence }) => `${name} ${verdict.name} ${confidence.toFixed(2)}`).join(", ") || "no target";

  // Draws the frame if its picture is there. Boxes are only ever seen on their own picture.
  function show() {
    const picture = loaded.get(frame);
    if (!picture) {
      waiting ??= setTimeout(() => explain("waiting for this frame; while a cell runs, none comes"), PATIENCE);
      return;
    }
    clearTimeout(waiting);
    waiting = null;
    explain(picture.problem || "");
    if (!picture.bitmap || shown === frame) return;
    shown = frame;
    drawPicture(canvas, stage.clientWidth, picture, tracked(frame));
  }

  function explain(text) {
    note.textContent = text;
    note.hidden = !text;
  }

  function go(next) {
    frame = next;
    slider.value = frame;
    playhead.style.left = `calc(${INSET}px + (100% - ${2 * INSET}px) * ${frame / Math.max(end, 1)})`;
    where.textContent = `frame ${frame} of ${end} · ${(frame / fps).toFixed(2)}\u00a0s`;
    slider.setAttribute("aria-valuetext", `frame ${frame} of ${end}`);
    lines.forEach(([swatch, , text], target) => {
      const known = row(target, frame);
      swatch.style.background = known?.color ?? (targets.length > 1 ? targets[target].color : "transparent");
      text.textContent = known ? `${known.verdict.name} ${known.confidence.toFixed(2)}` : "not tracked here";
    });
    if (!playing) {
      canvas.setAttribute("aria-label", `Frame ${frame}: ${describe(frame)}`);
      said.textContent = `Frame ${frame}: ${describe(frame)}`;
    }
    show();
    ask();
  }

  function setPlaying(on) {
    playing = on;
    playButton.replaceChildren(icon(on ? "pause" : "play"));
    playButton.setAttribute("aria-label", on ? "Pause" : "Play");
    playButton.title = on ? "Pause (Space)" : "Play (Space)";
    stride = on ? Math.max(1, Math.ceil((fps * speed.value) / PICTURES - 0.05)) : 1;
    clock = { time: performance.now(), frame };
  }

  // A person goes to a frame.
  function seek(next) {
    if (playing) setPlaying(false);
    next = within(next, 0, end);
    direction = Math.sign(next - frame) || direction;
    go(next);
  }

  function toggle() {
    setPlaying(!playing);
    if (!playing) return go(frame);
    direction = 1;
    if (frame === end) go(0);
    setPlaying(true); // the clock starts at this frame
    ask();
    requestAnimationFrame(tick);
  }

  // Goes to the last frame that is due and there. Where pictures come late, the clock waits for them.
  function tick() {
    if (!playing || !root.isConnected) return;
    const now = performance.now();
    const rate = (fps * speed.value) / 1000;
    const steps = Math.floor((Math.max(now - clock.time, 0) * rate) / stride);
    const due = Math.min(clock.frame + steps * stride, end - ((end - clock.frame) % stride));
    let next = due;
    while (next > frame && !loaded.has(next)) next -= stride;
    if (next > frame) go(next);
    if (frame + stride > end) {
      setPlaying(false);
      return go(end);
    }
    if (due - frame > Math.max(LATE * rate, stride)) clock = { time: now, frame };
    requestAnimationFrame(tick);
  }

  canvas.onclick = toggle;
  slider.oninput = () => seek(Number(slider.value));
  speed.onchange = () => playing && setPlaying(true);
  const toPointer = (event) => {
    const part = (place(event, curve)[0] * curve.clientWidth - INSET) / (curve.clientWidth - 2 * INSET);
    seek(Math.round(within(part, 0, 1) * end));
  };
  curve.onpointerdown = (event) => {
    curve.setPointerCapture(event.pointerId);
    toPointer(event);
  };
  curve.onpointermove = (event) => event.buttons && toPointer(event);
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", HELP);
  root.onkeydown = (event) => {
    if (event.target === speed || event.ctrlKey || event.altKey || event.metaKey) return;
    const step = event.shiftKey ? 10 : 1;
    if (event.key === " " && event.target.tagName === "BUTTON") return event.stopPropagation(); // presses it
    if (event.key === " ") toggle();
    else if (event.key === "ArrowLeft") seek(frame - step);
    else if (event.key === "ArrowRight") seek(frame + step);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(end);
    else return;
    take(event);
  };

  const resized = new ResizeObserver(() => {
    drawCurves(curves, count, targets, row);
    shown = null;
    show();
  });
  el.append(root);
  resized.observe(root);
  setPlaying(false);
  go(0);
  return () => {
    playing = false;
    clearTimeout(waiting);
    resized.disconnect();
    loaded.close();
  };
}

export default { render };
