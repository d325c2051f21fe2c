// The box drawer of notebooks: an image, boxes drawn on it with the mouse, a finger or the keys, and their numbers.
// The model holds `picture` (address of the image) and `boxes` ([[x, y, w, h], ...] in pixels of the image).

const COLOR = "#3cdc5a";
const SMALLEST = 2; // pixels of a side; less is a click
const REACH = 10; // pixels of the screen around a corner that take hold of it
const HELP =
  "The first frame. Drag to draw a box, inside a box to move it, at a corner to change it, with Shift to draw over one. " +
  "Arrow keys move the box that was touched last, Backspace removes it.";

const between = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])];
const isBox = ([, , w, h]) => w > SMALLEST && h > SMALLEST;

// The box moved, not over the border of the image.
function moved([x, y, w, h], right, down, { width, height }) {
  return [within(x + right, 0, width - w), within(y + down, 0, height - h), w, h];
}

// What a pointer at a point takes hold of: {index, far: the corner across} or {index, from: the point}; null: nothing.
function holdAt(boxes, [px, py], reach) {
  for (let index = boxes.length - 1; index >= 0; index--) {
    const [x, y, w, h] = boxes[index];
    const [nearX, nearY] = [Math.min(reach, w / 3), Math.min(reach, h / 3)];
    for (const [cx, cy, far] of [[x, y, [x + w, y + h]], [x + w, y, [x, y + h]], [x, y + h, [x + w, y]], [x + w, y + h, [x, y]]])
      if (Math.abs(px - cx) <= nearX && Math.abs(py - cy) <= nearY) return { index, far };
    if (px > x && px < x + w && py > y && py < y + h) return { index, from: [px, py] };
  }
  return null;
}

function render({ model, el }) {
  const canvas = element("canvas", { class: "drawn", tabindex: 0, role: "img", "aria-label": HELP });
  const pen = canvas.getContext("2d");
  const text = element("code", { class: "fill", "aria-live": "polite" });
  const picture = new Image();
  let chosen = -1; // the box that was touched last
  let drag = null; // {index, box}: the box that changes, and what it is now; {from} or {far}: by what it is held

  const boxes = () => model.get("boxes");
  const keep = (changed) => {
    model.set("boxes", changed);
    model.save_changes();
  };
  const last = () => (chosen >= 0 && chosen < boxes().length ? chosen : boxes().length - 1);
  const replaced = (index, box) => boxes().map((one, at) => (at === index ? box : one));
  const remove = () => {
    const index = last();
    chosen = -1;
    keep(boxes().filter((_, at) => at !== index));
  };

  function draw() {
    if (!picture.complete || !picture.width) return;
    canvas.width = picture.width;
    canvas.height = picture.height;
    pen.drawImage(picture, 0, 0);
    const thick = Math.max(2, canvas.width / 250);
    pen.lineWidth = thick;
    pen.font = `bold ${Math.max(14, canvas.width / 30)}px sans-serif`;
    pen.strokeStyle = pen.fillStyle = COLOR;
    const shown = !drag ? boxes() : drag.index < boxes().length ? replaced(drag.index, drag.box) : [...boxes(), drag.box];
    shown.forEach((box, index) => {
      const [x, y, w, h] = box;
      pen.strokeRect(...box);
      pen.fillText(index + 1, x + 3, y - 4 - thick);
      if (index !== (drag ? drag.index : last())) return;
      for (const [cx, cy] of [[x, y], [x + w, y], [x, y + h], [x + w, y + h]])
        pen.fillRect(cx - 1.5 * thick, cy - 1.5 * thick, 3 * thick, 3 * thick);
    });
    text.textContent = boxes().map((box) => box.map((value) => value.toFixed(1)).join(",")).join("; ") || "Draw a box.";
  }

  const pointOf = (event) => {
    const [right, down] = place(event, canvas);
    return [right * canvas.width, down * canvas.height];
  };
  const holdOf = (event) => {
    const reach = (REACH * canvas.width) / canvas.getBoundingClientRect().width;
    return event.shiftKey ? null : holdAt(boxes(), pointOf(event), reach);
  };

  function change(event) {
    const [px, py] = pointOf(event);
    const { far, from, index } = drag;
    drag.box = far ? between(far, [px, py]) : moved(boxes()[index], px - from[0], py - from[1], canvas);
  }

  canvas.onpointerdown = (event) => {
    drag = holdOf(event) || { index: boxes().length, far: pointOf(event) };
    drag.start = pointOf(event);
    change(event);
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    if (drag) {
      change(event);
      draw();
      return;
    }
    const hold = holdOf(event);
    canvas.style.cursor = !hold ? "crosshair" : hold.far ? "pointer" : "move";
  };
  canvas.onpointerup = (event) => {
    if (!drag) return;
    change(event);
    const { index, box, start } = drag;
    const [, , right, down] = between(start, pointOf(event));
    const isClick = Math.max(right, down) <= SMALLEST;
    drag = null;
    if (index < boxes().length) chosen = index;
    if (isClick || !isBox(box)) return draw();
    chosen = index;
    keep(index < boxes().length ? replaced(index, box) : [...boxes(), box]);
  };
  canvas.onpointercancel = () => {
    drag = null;
    draw();
  };
  canvas.onkeydown = (event) => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (!boxes().length) return;
    if (event.key === "Backspace" || event.key === "Delete") remove();
    else if (moves[event.key]) keep(replaced(last(), moved(boxes()[last()], ...moves[event.key], canvas)));
    else return;
    take(event);
  };

  picture.onload = draw;
  picture.src = model.get("picture");
  model.on("change:boxes", draw);
  const buttons = element("div", { class: "row" }, button("Remove", remove), button("Clear", () => keep([])), text);
  el.append(panel(canvas, buttons));
  return () => model.off("change:boxes", draw);
}

export default { render };
