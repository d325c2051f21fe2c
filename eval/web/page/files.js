// Videos and files: the menu of videos, upload, import, export and the annotated video.

import { address, getJson, importFile, postJson, upload } from "./api.js";
import { complain, element, find, say } from "./dom.js";
import { state } from "./store.js";

const NAMES = {
  csv: "CSV",
  json: "JSON",
  mot: "MOTChallenge",
  coco: "COCO",
  "youtube-vis": "YouTube-VIS",
  cvat: "CVAT",
};
const menu = find("#file");
const videos = find("#videos");

const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;

export async function listVideos() {
  const { videos: all, uploads, limit, formats } = await getJson("/api/videos");
  videos.replaceChildren(
    ...all.map(({ id, name, annotated }) => element("option", { value: id }, annotated ? `${name} (annotated)` : name)),
  );
  videos.parentElement.hidden = all.length < 2;
  if (state.video) videos.value = state.video.id;
  find("#upload-button").hidden = !uploads;
  find("#upload-button").textContent = `Upload a video (up to ${megabytes(limit)})`;
  find("#upload-file").dataset.limit = limit;
  find("#exports").replaceChildren(
    ...formats.map((format) => {
      const link = element("a", { class: "button", "data-format": format, download: "" }, NAMES[format] || format);
      link.onclick = () => (menu.open = false);
      return link;
    }),
  );
  return all;
}

// Where the present video's downloads lie.
export function point() {
  for (const link of find("#exports").children) link.href = address(state.video.id, `/export/${link.dataset.format}`);
  find("#rendered").href = address(state.video.id, "/rendered");
  find("#render").hidden = true;
  videos.value = state.video.id;
}

// An export that fails is said here, instead of as a page of its own.
async function save(event) {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  const answer = await fetch(link.href).catch(() => null);
  if (!answer?.ok) {
    const said = await answer?.json().catch(() => null);
    return complain(said?.error || "The server does not answer.");
  }
  const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") || "");
  const url = URL.createObjectURL(await answer.blob());
  element("a", { href: url, download: named ? decodeURIComponent(named[1]) : `${state.video.name}.${link.dataset.format}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

async function takeImport(input) {
  const [file] = input.files;
  input.value = "";
  if (!file || !state.video) return;
  try {
    await importFile(state.video.id, file);
    say(`Imported ${file.name}.`);
  } catch (error) {
    complain(error.message);
  }
}

async function takeUpload(input, open) {
  const [file] = input.files;
  input.value = "";
  if (!file) return;
  if (file.size > Number(input.dataset.limit)) {
    const limit = megabytes(Number(input.dataset.limit));
    return complain(`${file.name}: ${megabytes(file.size)}, above the limit of ${limit}.`);
  }
  const progress = (share) => showRender(share, 1, `Uploading ${file.name}: ${Math.round(100 * share)}%`);
  progress(0);
  try {
    const { id } = await upload(file, progress);
    await listVideos();
    await open(id);
  } catch (error) {
    complain(error.message);
  }
  find("#render").hidden = true;
}

function showRender(done, total, text, ready = false) {
  find("#render").hidden = false;
  find("#render-bar").hidden = ready;
  find("#render-bar").max = Math.max(total, 1);
  find("#render-bar").value = done;
  find("#render-text").textContent = text;
  find("#rendered").hidden = !ready;
}

// An event `render`.
export function rendering({ state: at, done, total, message }) {
  if (at === "working") return showRender(done, total, `Annotated video: ${done} of ${total} frames`);
  if (at === "done") {
    showRender(total, total, "The annotated video is ready.", true);
    return say("The annotated video is ready.");
  }
  find("#render").hidden = true;
  complain(message || "The annotated video could not be made.");
}

export function start(open) {
  videos.onchange = () =>
    open(videos.value).catch((error) => {
      if (state.video) videos.value = state.video.id; // which is still the one that is shown
      complain(error.message);
    });
  find("#exports").addEventListener("click", save);
  find("#import-button").onclick = () => find("#import-file").click();
  find("#import-file").onchange = (event) => takeImport(event.target);
  find("#upload-button").onclick = () => find("#upload-file").click();
  find("#upload-file").onchange = (event) => takeUpload(event.target, open);
  find("#render-close").onclick = () => (find("#render").hidden = true);
  find("#render-button").onclick = () =>
    postJson(address(state.video.id, "/render")).catch((error) => complain(error.message));
  menu.addEventListener("click", (event) => {
    if (event.target.closest(".sheet button")) menu.open = false;
  });
  document.addEventListener("pointerdown", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.stopPropagation();
  });
}
