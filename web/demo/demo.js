// The page at /: shows each message as a toast and in a list, and what the connection is doing. Everything that comes
// from outside enters the document as textContent.

import { channelFault, connect, isPattern } from "../client/herald.js";
import { arrange } from "./toasts.js";

// The page is for looking, not for keeping: older messages are in the log, GET /v1/log.
const MAX_ENTRIES = 200;
const MAX_TOASTS = 3;
// Of 64 KiB of data nobody reads more in a list.
const MAX_TEXT = 5000;

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

// Where this Herald is: behind a proxy it may be a folder.
const home = new URL("../", import.meta.url);

const query = new URLSearchParams(location.search);

/** @type {any} ?transport=websocket or sse forces one; else the client finds out which gets through. */
const transport = ["websocket", "sse"].find((name) => name === query.get("transport"));

/** @type {import("../client/herald.js").Herald} */
let herald;

// Connection

/** The token in use, which was accepted; and one that is tried. @type {string | undefined} */
let token;
/** @type {string | undefined} */
let tried;

/**
 * @param {string[]} channels
 * @param {string} [since] the place to go on from
 */
function start(channels, since) {
  herald?.close();
  following.clear();
  herald = connect(new URL("ws", home), { channels, storage: storage(), transport, token: tried ?? token, since });
  herald.on("state", (change) => recover(change) || showState(change));
  herald.on("welcome", () => {
    if (tried !== undefined) [token, tried] = [tried, undefined];
  });
  herald.on("welcome", (frame) => {
    for (const name of frame.channels) following.add(name);
    showTransport();
    showChannels();
  });
  herald.on("subscribed", (frame) => {
    following.add(frame.channel);
    showChannels();
  });
  herald.on("unsubscribed", (frame) => {
    following.delete(frame.channel);
    if (frame.reason) showFault(`${frame.channel}: the new token does not cover it.`);
    showChannels();
  });
  herald.on("error", ({ code, detail, channel }) => {
    if (code === "forbidden") refused = channel;
    // The others explain why the connection ended, and stand beside the state.
    if (["forbidden", "bad-channel", "bad-since", "bad-token", "limit"].includes(code)) {
      showFault(about(channel, detail || code));
    }
    showChannels();
  });
  herald.on("message", (message) => {
    if (document.hidden) document.title = `(${++unread}) Herald`;
    show({ message });
  });
  herald.on("gap", (gap) => show({ gap }));
  showState({ state: herald.state, attempt: 0 });
  showChannels();
}

/**
 * A token that is refused, or a channel that may not be followed, ends a connection for good. The page goes on with the
 * token that it had, and without the channel.
 *
 * @param {import("../client/types.js").StateChange} change
 * @returns {boolean} whether another connection is on its way
 */
function recover({ state, code, reason, detail = reason }) {
  if (state !== "closed") return false;
  const left = herald.channels;
  if (code === 4500 || code === 4002) {
    showTokenFault(code === 4002 ? "The token has expired." : `The token was refused: ${detail}`);
    if (tried === undefined && token === undefined) return false;
    if (tried === undefined) token = undefined;
    tried = undefined;
  } else if (code === 1008 && refused !== undefined && left.includes(refused)) {
    if (tried !== undefined) [token, tried] = [tried, undefined]; // the token is good, and does not cover it
    left.splice(left.indexOf(refused), 1);
    showFault(about(refused, detail));
  } else {
    return false;
  }
  queueMicrotask(() => start(left.length > 0 ? left : ["broadcast"], herald.id));
  return true;
}

/** The channel that the gateway refused before it ended the connection. @type {string | undefined} */
let refused;

/** Goes on after a reload where the page was; where storage is forbidden, with what comes from now on. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
}

/** @param {import("../client/types.js").StateChange} change */
function showState({ state, attempt, delay = 0, code, reason, detail }) {
  // While it comes back one word stays: a screen reader need not hear of every attempt.
  const shown = state === "connecting" && attempt > 0 ? "waiting" : state;
  const words = { connecting: "Connecting…", open: "Connected", waiting: "Disconnected", closed: "Disconnected" };
  const next = state === "connecting" ? "trying again…" : `trying again in ${Math.ceil(delay / 1000)} s`;
  const details = {
    connecting: "",
    open: "",
    waiting: [detail, next].filter(Boolean).join("; "),
    closed: code === 4501 ? ["Closed by an operator", detail].filter(Boolean).join(": ") : detail ?? reason ?? "",
  };
  $("connection").dataset.state = shown;
  if ($("state").textContent !== words[shown]) $("state").textContent = words[shown];
  $("state-detail").textContent = details[shown];
  $("reconnect").hidden = state !== "waiting" && state !== "closed";
  showTransport();
  if (state !== "open") following.clear();
  showChannels();
}

function showTransport() {
  const names = { websocket: "WebSocket", sse: "Server-Sent Events" };
  $("transport").textContent = herald.transport ? names[herald.transport] : "";
}

$("reconnect").addEventListener("click", () => {
  herald.open();
  $("log-title").focus(); // the button goes away under the finger
});

$("authenticate").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  showFault("");
  showTokenFault("");
  tried = $("token").value.trim();
  if (tried === "") tried = undefined;
  else start(herald.channels, herald.id);
  $("token").value = "";
});

// Channels

/** What the gateway has confirmed on this connection; herald.channels is what we want. */
const following = new Set();

function showChannels() {
  const list = $("chips");
  const wanted = new Set(herald.channels);
  for (const chip of [...list.children]) {
    if (!wanted.delete(chip.dataset.channel)) chip.remove();
  }
  for (const name of wanted) {
    const chip = $("chip-template").content.cloneNode(true).firstElementChild;
    chip.dataset.channel = name;
    chip.querySelector(".code").textContent = name;
    chip.querySelector("button").setAttribute("aria-label", `Stop following ${name}`);
    list.append(chip);
  }
  for (const chip of list.children) chip.toggleAttribute("data-pending", !following.has(chip.dataset.channel));
  $("none").hidden = list.children.length > 0;
  const named = herald.channels.map((name) => ["channel", name]);
  if (named.length === 1 && named[0][1] === "broadcast") named.pop();
  if (transport) named.push(["transport", transport]);
  history.replaceState(null, "", named.length > 0 ? `?${new URLSearchParams(named)}` : location.pathname); // for the next reload
  showSnippet();
}

$("chips").addEventListener("click", (/** @type {any} */ event) => {
  const chip = event.target.closest("button")?.parentElement;
  if (!chip) return;
  const next = chip.nextElementSibling ?? chip.previousElementSibling;
  herald.unsubscribe(chip.dataset.channel);
  showChannels();
  (next?.querySelector("button") ?? $("channel")).focus();
});

$("follow").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  const name = $("channel").value.trim();
  const fault = channelFault(name);
  showFault(fault);
  if (fault) {
    $("channel").setAttribute("aria-invalid", "true");
    $("channel").focus();
    return;
  }
  herald.subscribe(name);
  $("channel").value = "";
  showChannels();
});

$("channel").addEventListener("input", () => showFault(""));
$("token").addEventListener("input", () => showTokenFault(""));

/** @param {string} text */
function showTokenFault(text) {
  $("token-fault").textContent = text;
}

/**
 * A sentence with the channel's name in front, where it does not say it by itself.
 *
 * @param {string | undefined} channel
 * @param {string | undefined} sentence
 */
function about(channel, sentence = "") {
  return channel === undefined || sentence.includes(JSON.stringify(channel)) ? sentence : `${channel}: ${sentence}`;
}

/** @param {string} [text] */
function showFault(text = "") {
  $("channel-fault").textContent = text;
  $("channel").removeAttribute("aria-invalid");
}

// Messages

/** @typedef {{message: import("../client/types.js").Message} | {gap: import("../client/types.js").Gap}} Item */

/** @type {Item[]} what came since the last frame was painted */
let arrived = [];
let total = 0;
let unread = 0;

/**
 * Lets a burst of messages cost one layout. A hidden tab paints nothing, so what waits is bounded like the list.
 *
 * @param {Item} item
 */
function show(item) {
  if ("message" in item) total++;
  if (arrived.length === 0) requestAnimationFrame(paint);
  arrived.push(item);
  if (arrived.length > MAX_ENTRIES) arrived.shift();
}

function paint() {
  const items = arrived;
  arrived = [];
  const log = $("log");
  log.prepend(...items.map(entry).reverse());
  while (log.children.length > MAX_ENTRIES) log.lastElementChild.remove();

  const toasts = $("toasts");
  for (const item of items.slice(-MAX_TOASTS)) {
    if ("message" in item) toasts.append(fill("toast-template", item.message));
  }
  while (toasts.children.length > MAX_TOASTS) dismiss(toasts.firstElementChild);
  arrange(toasts, dismiss);
  showCount();
}

function showCount() {
  $("count").textContent = total === 0 ? "none yet" : total === 1 ? "one" : total.toLocaleString();
  $("empty").hidden = $("log").children.length > 0;
  $("clear").hidden = $("log").children.length === 0;
}

/** @param {Item} item */
function entry(item) {
  if ("message" in item) return fill("entry-template", item.message);
  const { reason, channel } = item.gap;
  const why = {
    expired: "they are no longer kept",
    limit: "there were more than one connection is sent",
    epoch: "the stream was made anew",
  }[reason] ?? reason;
  const note = document.createElement("li");
  note.className = "note";
  note.textContent = `Messages${channel ? ` of ${channel}` : ""} are missing here: ${why}.`;
  return note;
}

/**
 * @param {string} template
 * @param {import("../client/types.js").Message} message
 */
function fill(template, message) {
  const item = $(template).content.cloneNode(true).firstElementChild;
  const { text, json } = words(message.data);
  item.querySelector(".channel").textContent = message.channel;
  item.querySelector(".event").textContent = message.event === "message" ? "" : message.event;
  item.querySelector(".sender").textContent = message.sender && `from ${message.sender}`;
  const data = item.querySelector(".data");
  data.textContent = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  data.classList.toggle("code", json);
  const time = item.querySelector("time");
  const sent = new Date(message.time);
  time.dateTime = message.time;
  time.title = sent.toLocaleString();
  time.textContent = sent.toLocaleTimeString();
  return item;
}

/**
 * A string is what it says, and so is {"message": "…"}; anything else is JSON, on one line while that is short.
 *
 * @param {any} data
 * @returns {{text: string, json: boolean}}
 */
function words(data) {
  const only = data && typeof data === "object" && Object.keys(data).length === 1 ? data.message : undefined;
  for (const text of [data, only]) {
    if (typeof text === "string" && text !== "") return { text, json: false };
  }
  return { text: pretty(data), json: true };
}

/**
 * JSON with line breaks only where a value is too long for a line.
 *
 * @param {any} value
 * @param {string} indent
 * @returns {string}
 */
function pretty(value, indent = "") {
  const line = JSON.stringify(value, null, 1).replace(/\n\s*/g, " ");
  if (typeof value !== "object" || value === null || indent.length + line.length <= 48) return line;
  const inner = `${indent}  `;
  const [open, close, members] = Array.isArray(value)
    ? ["[", "]", value.map((v) => inner + pretty(v, inner))]
    : ["{", "}", Object.entries(value).map(([key, v]) => `${inner}${JSON.stringify(key)}: ${pretty(v, inner)}`)];
  return `${open}\n${members.join(",\n")}\n${indent}${close}`;
}

$("clear").addEventListener("click", () => {
  $("log").replaceChildren();
  total = 0;
  showCount();
  $("log-title").focus();
});

// Toasts

/** @param {Element | null} toast */
function dismiss(toast) {
  if (!toast) return;
  const next = toast.nextElementSibling ?? toast.previousElementSibling;
  const focused = toast.contains(document.activeElement);
  toast.remove();
  if (focused) (next?.querySelector("button") ?? $("log-title")).focus();
}

$("toasts").addEventListener("click", (/** @type {any} */ event) => {
  if (event.target.closest(".dismiss")) dismiss(event.target.closest(".toast"));
});

$("toasts").addEventListener("animationend", (/** @type {any} */ event) => {
  if (event.animationName === "life") dismiss(event.target.closest(".toast"));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const focused = document.activeElement?.closest(".toast");
  dismiss(focused ?? $("toasts").lastElementChild);
});

function showVisibility() {
  document.documentElement.classList.toggle("away", document.hidden);
  if (document.hidden) return;
  unread = 0;
  document.title = "Herald";
}
document.addEventListener("visibilitychange", showVisibility);

// Sending

const sendURL = () => new URL(`v1/channels/${encodeURIComponent($("send-channel").value.trim())}`, home);

function showCurl() {
  $("curl").textContent = `curl -H "X-API-KEY: YOUR_KEY" -d "Hello" "${sendURL()}"`;
}
$("send-channel").addEventListener("input", showCurl);

$("send").addEventListener("submit", async (/** @type {any} */ event) => {
  event.preventDefault();
  const channel = $("send-channel").value.trim();
  const data = $("send-data").value;
  const key = $("send-key").value.trim();
  const fault = channelFault(channel) ??
    (isPattern(channel) ? "A message goes to one channel; wildcards are for following." : undefined) ??
    (data === "" ? "Write a message first." : undefined) ??
    (key === "" ? "Sending needs an API key." : undefined);
  if (fault) {
    showSent({ title: fault });
    return;
  }
  const button = event.submitter ?? $("send").querySelector("button");
  button.disabled = true;
  try {
    const response = await fetch(sendURL(), {
      method: "POST",
      headers: { "X-API-KEY": key, "Content-Type": isJSON(data) ? "application/json" : "text/plain; charset=utf-8" },
      body: data,
    });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) showSent({ id: answer.id, status: answer.status });
    else showSent({ ...answer, title: answer.title ?? `The server answered ${response.status}.` });
  } catch (err) {
    showSent({ title: "The server could not be reached.", detail: String(err) });
  }
  button.disabled = false;
});

$("send-data").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("send").requestSubmit();
});

/** @param {string} text */
function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {{id?: string, status?: string, title?: string, detail?: string, pointer?: string, request?: string}} answer a
 *   result, or a problem document (RFC 9457)
 */
function showSent({ id, status, title, detail, pointer, request }) {
  const line = (/** @type {string} */ tag, /** @type {string} */ text) => Object.assign(document.createElement(tag), { textContent: text });
  const box = $("sent");
  box.classList.toggle("failed", title !== undefined);
  if (title === undefined) {
    box.replaceChildren(line("p", status === "stored" ? `Stored as ${id}` : `${status} ${id ?? ""}`));
    return;
  }
  box.replaceChildren(line("b", title));
  if (detail) box.append(line("p", detail));
  const where = [pointer && `at ${pointer}`, request && `request ${request}`].filter(Boolean).join(", ");
  if (where) box.append(Object.assign(line("p", where), { className: "hint" }));
}

/** What a page of one's own needs to follow the same channels. */
function showSnippet() {
  const socket = new URL("ws", home);
  socket.protocol = socket.protocol.replace("http", "ws");
  $("snippet").textContent = [
    '<script type="module">',
    `import { connect } from "${new URL("client/herald.js", home)}";`,
    `const herald = connect("${socket}", {`,
    `  channels: ${JSON.stringify(herald.channels).replaceAll(",", ", ").replaceAll("<", "\\u003c")},`,
    "});",
    'herald.on("message", (m) => {',
    "  console.log(m.channel, m.data);",
    "});",
    "</script>",
  ].join("\n");
}

for (const button of /** @type {any} */ (document.querySelectorAll(".copy"))) {
  button.addEventListener("click", async () => {
    const text = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch { // only secure pages may write to the clipboard; a selection anybody may make
      getSelection()?.selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
}

const asked = query.getAll("channel");
const wrong = asked.filter(channelFault);
start([...new Set(asked.length > wrong.length ? asked.filter((name) => !channelFault(name)) : ["broadcast"])]);
if (wrong.length > 0) showFault(`${wrong[0]}: ${channelFault(wrong[0])}`);
showVisibility();
showCurl();
