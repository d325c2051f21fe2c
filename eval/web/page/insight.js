// The panel "Inside the tracker": what the selected target's tracker saw in the present frame.

import { address, getJson } from "./api.js";
import { complain, darkness, debounced, element, find, style } from "./dom.js";
import { fetchFrame } from "./frames.js";
import { on, rowOf, state } from "./store.js";

const RESTS = 150; // milliseconds that frame and target stay before anything is asked for
const TABLE = [
  [0, 0, 4],
  [40, 11, 84],
  [101, 21, 110],
  [159, 42, 99],
  [212, 72, 66],
  [245, 125, 21],
  [250, 193, 39],
  [252, 255, 164],
];

const panel = find("#insight");
const crop = find("#crop");
let asked = null; // AbortController of what is on its way
let seen = null; // {insight, frame}: what is drawn
let picture = null;

// A color for 0 to 1, from dark to light (the map "inferno").
function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (TABLE.length - 1);
  const index = Math.min(Math.floor(at), TABLE.length - 2);
  return TABLE[index].map((low, part) => Math.round(low + (TABLE[index + 1][part] - low) * (at - index)));
}

export function toggleInsight() {
  panel.hidden = !panel.hidden;
  find("[data-command=insight]").setAttribute("aria-pressed", !panel.hidden);
  document.body.classList.toggle("inside", !panel.hidden);
  if (!panel.hidden) {
    load();
    if (!matchMedia("(min-width: 900px)").matches) panel.scrollIntoView({ block: "nearest" });
  }
}

async function load() {
  asked?.abort();
  if (panel.hidden || !state.video) return;
  if (state.selected === null) return show(null, "Select a target to see what its tracker saw.");
  asked = new AbortController();
  const { signal } = asked;
  const { selected, frame, video } = state;
  try {
    const insight = await getJson(address(video.id, `/insight/${selected}/${frame}`), { signal });
    const bitmap = insight.search ? await fetchFrame(video.id, frame, 0, signal) : null;
    if (signal.aborted) return bitmap?.close();
    picture?.close();
    picture = bitmap;
    show({ insight, frame });
  } catch (error) {
    if (error.name === "AbortError") return;
    show(null, "Track through this frame to see inside.");
    if (error.status !== 404) complain(error.message);
  }
}

function show(found, sentence = "") {
  seen = found;
  find("#insight-none").textContent = sentence;
  find("#insight-none").hidden = Boolean(found);
  find("#insight-known").hidden = !found;
  if (!found) return;
  fillNumbers(found.insight);
  fillMemory(found.insight.memory || []);
  drawCrop();
}

function fillNumbers({ score, confidence, verdict, box, score_map: map, proposals }) {
  const number = (value, digits) => (value === null || value === undefined ? null : value.toFixed(digits));
  const most = Math.max(...(proposals || []).map((one) => one[4]));
  const rows = [
    ["Verdict", verdict],
    ["Confidence", number(confidence, 3)],
    ["Score", number(score, 3)],
    ["Box", box && box.map((value) => value.toFixed(1)).join(", ")],
    ["Score map", map && `${map[0].length} x ${map.length}`],
    ["Best proposal", proposals?.length && `IoU ${number(most, 2)} of ${proposals.length}`],
  ].filter(([, value]) => value);
  const line = ([name, value]) => [element("dt", {}, name), element("dd", {}, value)];
  find("#numbers").replaceChildren(...rows.flatMap(line));
}

function fillMemory(memory) {
  find("#memory-title").hidden = !memory.length;
  const most = Math.max(...memory.map(({ weight }) => weight), 1e-9);
  find("#memory").replaceChildren(
    ...memory.map(({ frame, weight, thumbnail }) => {
      const text = `frame ${frame}, weight ${weight.toFixed(3)}`;
      const bar = element("i", { class: "bar" });
      bar.style.width = `${(100 * weight) / most}%`;
      const image = element("img", { src: thumbnail, alt: text });
      return element("li", { title: text }, image, bar, element("small", {}, String(frame)));
    }),
  );
}

// The search region cut from the frame, gray where it leaves the image; over it the score map and the proposals.
function drawCrop() {
  const { search, score_map: map, map: covered, proposals, box } = seen.insight;
  find("#crop").hidden = find(".legend").hidden = !search;
  if (!search) return;
  const [sx, sy, sw, sh] = search;
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(Math.min(crop.parentElement.clientWidth, 420, 0.38 * window.innerHeight), 120);
  crop.style.width = `${width}px`;
  crop.style.height = `${(width * sh) / sw}px`;
  crop.width = Math.round(width * ratio);
  crop.height = Math.round((width * ratio * sh) / sw);
  const scale = crop.width / sw;
  const place = ([x, y, w, h]) => [(x - sx) * scale, (y - sy) * scale, w * scale, h * scale];
  const pen = crop.getContext("2d");
  pen.fillStyle = style("beyond");
  pen.fillRect(0, 0, crop.width, crop.height);
  const shrink = [picture.width / state.video.width, picture.height / state.video.height];
  const [left, top] = [Math.max(sx, 0), Math.max(sy, 0)];
  const [right, bottom] = [Math.min(sx + sw, state.video.width), Math.min(sy + sh, state.video.height)];
  if (right > left && bottom > top) {
    const source = [left * shrink[0], top * shrink[1], (right - left) * shrink[0], (bottom - top) * shrink[1]];
    const border = place([left, top, right - left, bottom - top]);
    pen.drawImage(picture, ...source, ...border);
    const leaves = sx < 0 || sy < 0 || sx + sw > state.video.width || sy + sh > state.video.height;
    pen.strokeStyle = "rgba(255, 255, 255, 0.6)";
    pen.setLineDash([4 * ratio, 4 * ratio]);
    if (leaves) pen.strokeRect(...border);
    pen.setLineDash([]);
  }
  if (map && find("#show-map").checked) drawMap(pen, map, place(covered || search));
  drawLegend(map);
  pen.lineWidth = ratio;
  const thin = find("#show-proposals").checked ? proposals || [] : [];
  for (const one of [...thin].sort((a, b) => a[4] - b[4])) {
    pen.strokeStyle = `rgba(120, 220, 255, ${0.12 + 0.75 * Math.min(Math.max(one[4], 0), 1)})`;
    pen.strokeRect(...place(one));
  }
  if (box) {
    pen.lineWidth = 2 * ratio;
    pen.strokeStyle = "#fff";
    pen.strokeRect(...place(box));
  }
}

// Over the place that the map covers: half a cell beyond the region for some trackers, the middle of it for others.
function drawMap(pen, map, [left, top, width, height]) {
  const [rows, columns] = [map.length, map[0].length];
  const values = map.flat();
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const small = new OffscreenCanvas(columns, rows);
  const data = new ImageData(columns, rows);
  values.forEach((value, index) => {
    const share = (value - low) / range;
    data.data.set([...heat(share), 40 + 175 * share], 4 * index);
  });
  small.getContext("2d").putImageData(data, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, left, top, width, height);
  const peak = values.indexOf(low + range);
  if (peak < 0) return;
  const x = left + ((peak % columns) + 0.5) * (width / columns);
  const y = top + (Math.floor(peak / columns) + 0.5) * (height / rows);
  const arm = crop.width / 40;
  pen.strokeStyle = "#fff";
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(x - arm, y);
  pen.lineTo(x + arm, y);
  pen.moveTo(x, y - arm);
  pen.lineTo(x, y + arm);
  pen.stroke();
}

function drawLegend(map) {
  const scale = find("#map-scale");
  const shown = Boolean(map) && find("#show-map").checked;
  for (const id of ["#map-low", "#map-scale", "#map-high"]) find(id).hidden = !shown;
  if (!shown) return;
  const pen = scale.getContext("2d");
  for (let x = 0; x < scale.width; x++) {
    pen.fillStyle = `rgb(${heat(x / (scale.width - 1))})`;
    pen.fillRect(x, 0, 1, 1);
  }
  find("#map-low").textContent = Math.min(...map.flat()).toFixed(2);
  find("#map-high").textContent = Math.max(...map.flat()).toFixed(2);
}

const later = debounced(load, RESTS);
on("frame selection video", () => {
  asked?.abort();
  later();
});
on("rows", ({ target, first, last }) => {
  if (target === state.selected && first <= state.frame && state.frame <= last && rowOf(target, state.frame)) later();
});
for (const id of ["#show-map", "#show-proposals"]) find(id).addEventListener("change", () => seen && drawCrop());
darkness.addEventListener("change", () => seen && drawCrop());
window.addEventListener("resize", debounced(() => seen && drawCrop(), RESTS));
