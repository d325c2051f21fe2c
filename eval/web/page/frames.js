// Frames as bitmaps: what is wanted comes first, then what lies ahead; what is no longer wanted is not waited for.

import { address, request } from "./api.js";

const MOST = 100; // bitmaps
const MOST_PIXELS = 120e6; // of all bitmaps, which hold 4 bytes each
const AT_ONCE = 3; // requests, so that a browser's 6 connections are not all taken
export const WIDTHS = [480, 960, 1920];

// How many frames of so many pixels may be asked for at once, so that they do not push each other out.
export const room = (pixels) => Math.max(1, Math.min(MOST, Math.floor(MOST_PIXELS / pixels / 2)));

// The width to ask for where an image of `width` pixels is shown on `pixels` of them: 0 is its full size.
export const widthFor = (pixels, width) => WIDTHS.find((one) => one >= pixels * 0.9 && one < width) || 0;

export async function fetchFrame(video, frame, width, signal) {
  const query = width ? `?width=${width}` : "";
  const answer = await request(address(video, `/frames/${frame}.jpg${query}`), { signal });
  return createImageBitmap(await answer.blob());
}

// `ready(frame, first)` is called for each bitmap that comes, first: if it was the wanted one when it was asked for;
// `failed(error)` for the wanted one that does not come.
export function makeFrames({ ready, failed }) {
  const held = new Map(); // "width/frame" -> bitmap, the least recently used first
  const coming = new Map(); // "width/frame" -> {stop, first}
  let video = null;
  let wanted = [];
  let width = 0;
  let seen = null; // the bitmap that was taken last: it is on the screen
  const key = (frame, size = width) => `${size}/${frame}`;

  function drop() {
    let pixels = 0;
    for (const bitmap of held.values()) pixels += bitmap.width * bitmap.height;
    for (const [name, bitmap] of held) {
      if (held.size <= MOST && pixels <= MOST_PIXELS) return;
      if (bitmap === seen) continue;
      pixels -= bitmap.width * bitmap.height;
      held.delete(name);
      bitmap.close();
    }
  }

  async function load(frame) {
    const name = key(frame);
    const stop = new AbortController();
    const of = video;
    const first = frame === wanted[0];
    coming.set(name, { stop, first });
    try {
      const bitmap = await fetchFrame(of, frame, width, stop.signal);
      if (of !== video || held.has(name)) return bitmap.close();
      held.set(name, bitmap);
      drop();
      ready(frame, first);
    } catch (error) {
      if (error.name !== "AbortError" && frame === wanted[0]) failed(error);
      if (error.name !== "AbortError") wanted = wanted.filter((one) => one !== frame); // not again and again
    } finally {
      if (coming.get(name)?.stop === stop) coming.delete(name);
      next();
    }
  }

  function next() {
    for (const frame of wanted) {
      if (coming.size >= AT_ONCE) return;
      if (!held.has(key(frame)) && !coming.has(key(frame))) load(frame);
    }
  }

  return {
    start(id) {
      for (const { stop } of coming.values()) stop.abort();
      for (const bitmap of held.values()) bitmap.close();
      held.clear();
      coming.clear();
      [video, wanted] = [id, []];
    },

    // Asks for frames, the first before the others. While a person drags through the video the request that is under
    // way may end, so that something is shown; all others that are no longer wanted are given up.
    want(frames, size) {
      [wanted, width] = [frames, size];
      const names = new Set(frames.map((frame) => key(frame)));
      let spared = false;
      for (const [name, { stop, first }] of coming) {
        if (names.has(name)) continue;
        if (first && !spared) spared = true;
        else {
          coming.delete(name);
          stop.abort();
        }
      }
      next();
    },

    // The bitmap of a frame, of the width that was asked for or else of another; null where there is none.
    get(frame) {
      for (const size of [width, 0, ...WIDTHS]) {
        const name = key(frame, size);
        const bitmap = held.get(name);
        if (!bitmap) continue;
        held.delete(name);
        held.set(name, bitmap); // used just now
        seen = bitmap;
        return bitmap;
      }
      return null;
    },

    has: (frame) => held.has(key(frame)),
  };
}
