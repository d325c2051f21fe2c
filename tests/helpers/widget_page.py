"""A notebook's widget in a real browser, without a notebook around it: the page has its module, Python its messages."""

import base64
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.browsers import CHROMIUM, QUIET

# The model of a widget, as the module sees it. `asked` is what it sent; `ask` has the widget's own answers.
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>widget</title><style>STYLE</style>
<style>body { font-family: sans-serif; BODY }</style><div id="here"></div>
<script type="application/json" id="values">VALUES</script>
<script type="module">
import widget from "./widget.js";
const values = JSON.parse(document.querySelector("#values").textContent), heard = {};
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
for (const name of BYTES) values[name] = bytes(values[name]);
const tell = (event, ...what) => (heard[event] || []).forEach((call) => call(...what));
window.asked = [];
window.model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; tell(`change:${name}`); },
  save_changes: () => { window.saved = (window.saved || 0) + 1; },
  on: (event, call) => (heard[event] ||= []).push(call),
  off: (event, call) => heard[event].splice(heard[event].indexOf(call), 1),
  async send(content) {
    window.asked.push(content);
    for (const [answer, buffers] of await window.ask(content)) tell("msg:custom", answer, buffers.map(bytes));
  },
};
window.leave = widget.render({ model: window.model, el: document.querySelector("#here") });
</script>
"""


@contextmanager
def widget_page(widget, picture: str, *, body: str = "", **options):
    """The page of an anywidget, to be used and looked at; `options` are those of Playwright's browser.new_page.

    Afterwards, $SCREENSHOTS/`picture`.png shows it, and no error may have occurred in it.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    values = {name: value for name, value in widget.get_state().items() if not name.startswith("_")}
    packed = [name for name, value in values.items() if isinstance(value, bytes)]
    values |= {name: base64.b64encode(values[name]).decode() for name in packed}
    values.pop("layout", None)
    page_text = PAGE.replace("BODY", body).replace("STYLE", widget._css).replace("BYTES", json.dumps(packed))
    files = {
        "widget.js": (widget._esm, "text/javascript"),
        "index.html": (page_text.replace("VALUES", json.dumps(values)), "text/html"),
    }

    def ask(content):
        sent = []
        widget.send = lambda *message: sent.append(message)
        widget._handle_custom_msg(content, [])
        return [(answer, [base64.b64encode(one).decode() for one in buffers]) for answer, buffers in sent]

    def serve(route):
        text, kind = files[Path(route.request.url).name]
        route.fulfill(body=text, content_type=kind)

    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(**{"viewport": {"width": 640, "height": 400}, **options})
        page.route("http://widget.test/*", serve)
        page.expose_function("ask", ask)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("http://widget.test/index.html")
        yield page
        assert not problems
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{picture}.png")
        browser.close()
