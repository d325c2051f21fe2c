// What the widgets of notebooks share; eval.notebook puts it before the module of each.

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(label, action, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.onclick = action;
  return made;
}

// The element that a widget fills. JupyterLab heeds the attribute and leaves keys in there alone.
const panel = (...children) => element("div", { class: "jaxtrack", "data-lm-suppress-shortcuts": "true" }, ...children);

const within = (value, least, most) => Math.min(Math.max(value, least), most);

// Where the pointer is in an element: parts of its width and height, from 0 to 1.
function place(event, shown) {
  const { left, top, width, height } = shown.getBoundingClientRect();
  return [within((event.clientX - left) / width, 0, 1), within((event.clientY - top) / height, 0, 1)];
}

// A key was for the widget; a notebook would take it for a command.
function take(event) {
  event.preventDefault();
  event.stopPropagation();
}
