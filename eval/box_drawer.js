// The box drawer of notebooks: an image, boxes drawn on it with the mouse, a finger or the keys, and their numbers.
// The model holds `picture` (address of the image) and `boxes` ([[x, y, w, h], ...] in pixels of the image).

const COLOR = "#3cdc5a";
const SMALLEST = 2; // pixels of a side; less is a click

const between = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])];

function button(label, action) {
  const made = document.createElement("button");
  made.textContent = label;
  made.type = "button";
  made.onclick = action;
  return made;
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const text = document.createElement("code");
  const picture = new Image();
  let start = null;
  let last = null;

  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The first frame: drag to draw a box; arrow keys move the last one, Backspace removes it");
  canvas.style.cssText = "max-width: 100%; cursor: crosshair; touch-action: none; display: block";
  text.setAttribute("aria-live", "polite");
  text.style.marginLeft = "0.5em";

  const boxes = () => model.get("boxes");
  const keep = (changed) => {
    model.set("boxes", changed);
    model.save_changes();
  };
  const undo = () => keep(boxes().slice(0, -1));

  function draw() {
    if (!picture.complete || !picture.width) return;
    canvas.width = picture.width;
    canvas.height = picture.height;
    pen.drawImage(picture, 0, 0);
    pen.lineWidth = Math.max(2, canvas.width / 250);
    pen.font = `bold ${Math.max(14, canvas.width / 30)}px sans-serif`;
    pen.strokeStyle = pen.fillStyle = COLOR;
    const shown = start && last ? [...boxes(), between(start, last)] : boxes();
    shown.forEach((box, index) => {
      pen.strokeRect(...box);
      pen.fillText(index + 1, box[0] + 3, box[1] - 4);
    });
    text.textContent = boxes().map((box) => box.map((value) => value.toFixed(1)).join(",")).join("; ") || "Draw a box.";
  }

  function place(event) {
    const shown = canvas.getBoundingClientRect();
    const along = (at, from, size, pixels) => Math.min(Math.max((at - from) / size, 0), 1) * pixels;
    return [
      along(event.clientX, shown.left, shown.width, canvas.width),
      along(event.clientY, shown.top, shown.height, canvas.height),
    ];
  }

  canvas.onpointerdown = (event) => {
    start = last = place(event);
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    if (!start) return;
    last = place(event);
    draw();
  };
  canvas.onpointerup = (event) => {
    if (!start) return;
    const box = between(start, place(event));
    start = last = null;
    if (box[2] > SMALLEST && box[3] > SMALLEST) keep([...boxes(), box]);
    else draw();
  };
  canvas.onpointercancel = () => {
    start = last = null;
    draw();
  };
  canvas.onkeydown = (event) => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const all = boxes();
    if (!all.length) return;
    if (event.key === "Backspace" || event.key === "Delete") undo();
    else if (moves[event.key]) {
      const [x, y, w, h] = all.at(-1);
      const [right, down] = moves[event.key];
      const within = (at, most) => Math.min(Math.max(at, 0), most);
      keep([...all.slice(0, -1), [within(x + right, canvas.width - w), within(y + down, canvas.height - h), w, h]]);
    } else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook would take them for commands
  };

  picture.onload = draw;
  picture.src = model.get("picture");
  model.on("change:boxes", draw);
  el.append(canvas, button("Undo", undo), button("Clear", () => keep([])), text);
  return () => model.off("change:boxes", draw);
}

export default { render };
