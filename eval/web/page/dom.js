// Small helpers for the elements of the page.

export const find = (selector) => document.querySelector(selector);

// An element with properties (`class`, `aria-*` and `data-*` as attributes) and children.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "class") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

// Calls of one kind within an animation frame become one.
export function oncePerFrame(call) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      call();
    });
  };
}

export function debounced(call, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
}

// What screen readers say.
export const say = (text) => {
  find("#status").textContent = text;
};

// A problem as a line that can be dismissed; the same line is shown once.
export function complain(message) {
  const place = find("#problems");
  for (const line of place.children) if (line.firstChild.textContent === message) line.remove();
  const close = element("button", { type: "button", class: "square", "aria-label": "Dismiss" }, icon("cross"));
  const line = element("p", { class: "line", role: "alert" }, element("span", {}, message), close);
  close.onclick = () => line.remove();
  place.append(line);
  while (place.children.length > 3) place.firstChild.remove();
}

// Sizes a canvas to its place on the page; `call` draws it again. Coordinates are CSS pixels.
export function sized(canvas, call) {
  const fit = () => {
    const ratio = window.devicePixelRatio || 1;
    const sides = [canvas.clientWidth, canvas.clientHeight];
    const [width, height] = sides.map((side) => Math.max(1, Math.round(side * ratio)));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    call();
  };
  new ResizeObserver(fit).observe(canvas);
  return fit;
}

// The colors of the page's style, for canvases.
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const darkness = window.matchMedia("(prefers-color-scheme: dark)");
export const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
