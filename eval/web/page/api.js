// The server's side: requests, which fail with its one line, and its events.

const OURS = { "X-Jaxtrack": "1" };
let last = Promise.resolve();

export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(said.error || `The server answered ${answer.status}.`), { status: answer.status });
}

export const getJson = async (path, options) => (await request(path, options)).json();

const post = async (path, body) => (await request(path, { method: "POST", headers: OURS, body })).json();

export const address = (video, rest = "") => `/api/videos/${encodeURIComponent(video)}${rest}`;

// What changes the annotation goes out in the order in which it was asked for.
export function postJson(path, value = {}) {
  const sent = last.then(() =>
    request(path, {
      method: "POST",
      headers: { ...OURS, "Content-Type": "application/json" },
      body: JSON.stringify(value),
    }).then((answer) => answer.json()),
  );
  last = sent.catch(() => {});
  return sent;
}

export const importFile = (video, file) => post(address(video, `/import?name=${encodeURIComponent(file.name)}`), file);

// Uploads a video; `progress` is called with the share that is sent. XMLHttpRequest, as fetch does not tell it.
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", `/api/videos?name=${encodeURIComponent(file.name)}`);
    sending.setRequestHeader("X-Jaxtrack", OURS["X-Jaxtrack"]);
    sending.responseType = "json";
    sending.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    sending.onload = () => {
      if (sending.status < 300) resolve(sending.response);
      else reject(new Error(sending.response?.error || `The server answered ${sending.status}.`));
    };
    sending.onerror = () => reject(new Error("The server does not answer."));
    sending.send(file);
  });
}

const AGAIN = 1500; // milliseconds after which a closed stream is opened again

// Server-sent events: `heard(event)` for each, `connected()` at every start, `lost()` where the stream breaks.
export function listen({ heard, connected, lost }) {
  const open = () => {
    const stream = new EventSource("/api/events");
    stream.onopen = connected;
    stream.onmessage = (message) => heard(JSON.parse(message.data));
    stream.onerror = () => {
      lost();
      if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      stream.close();
      setTimeout(open, AGAIN);
    };
  };
  open();
}
