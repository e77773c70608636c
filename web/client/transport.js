/**
 * How frames travel: over a WebSocket; or as Server-Sent Events, which get through where a proxy or firewall lets no
 * WebSocket pass, and carry nothing the other way.
 *
 * The events are read by fetch() and not by an EventSource, which hides what this client lives by: the status and the
 * problem of a refusal, and the comments that are the only sign of life of a silent stream. It also comes back by
 * itself, with a rhythm of its own. And fetch() is there in Node.
 */

/**
 * @typedef {object} Listener is told by a transport what happens, until close() is called
 * @property {() => void} opened the gateway answered; frames may follow
 * @property {() => void} heard something came, if only a sign of life
 * @property {(text: string) => void} frame
 * @property {(code: number, reason: string, detail?: string) => void} end it is over: a close code, its name, and a
 *   sentence if there is one; 1006 where the gateway said nothing
 */

/**
 * @typedef {object} Transport
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 */

/**
 * @param {new (url: string, protocols?: string[]) => WebSocket} WebSocket
 * @param {URL} url
 * @param {string | undefined} token travels as a subprotocol: a page can set no header here, and URLs are logged
 * @param {Listener} listener
 * @returns {Transport}
 */
export function webSocket(WebSocket, url, token, listener) {
  const ws = token ? new WebSocket(url.href, ["herald", `herald.token.${token}`]) : new WebSocket(url.href);
  let opened = false;
  const silence = () => {
    ws.onopen = ws.onmessage = ws.onclose = null;
    ws.onerror = () => {}; // the ws library throws where nobody listens
  };
  ws.onopen = () => {
    opened = true;
    listener.opened();
  };
  ws.onmessage = (event) => {
    listener.heard();
    listener.frame(event.data);
  };
  ws.onclose = (event) => {
    silence();
    listener.end(event.code, event.reason);
  };
  ws.onerror = () => {
    if (opened) return; // close follows, with a code
    silence(); // close need not follow: Node's own WebSocket sends none
    listener.end(1006, "");
  };
  return {
    send: (text) => ws.send(text),
    close(code) {
      silence();
      ws.close(code);
    },
  };
}

// What a problem means, as the close code that a WebSocket would have got. Any other status is the way's or the
// moment's, and not the gateway's last word.
/** @type {Record<number, [number, string]>} */
const REFUSED = { 400: [4502, "bad-request"], 401: [4500, "token-invalid"], 403: [1008, "forbidden"] };

/**
 * Reads Server-Sent Events. Each event's data is a frame; an id without data becomes the frame
 * `{"type":"position","id":…}`: everything up to there was sent.
 *
 * @param {URL} url
 * @param {string | undefined} token
 * @param {Listener} listener
 * @returns {Transport} send() throws
 */
export function eventStream(url, token, listener) {
  const abort = new AbortController();
  /** @type {Listener["end"]} */
  const end = (code, reason, detail) => {
    if (abort.signal.aborted) return;
    abort.abort();
    listener.end(code, reason, detail);
  };
  const parse = eventParser((name, data, id) => {
    if (abort.signal.aborted) return; // a chunk has several events, and the first may have ended it
    if (data === undefined) {
      listener.frame(JSON.stringify({ type: "position", id }));
    } else if (name === "close") {
      const { code, reason } = JSON.parse(data);
      end(code, reason);
    } else {
      listener.frame(data);
    }
  });
  const read = async () => {
    const headers = { Accept: "text/event-stream", ...(token && { Authorization: `Bearer ${token}` }) };
    const response = await fetch(url, { headers, cache: "no-store", signal: abort.signal });
    const type = response.headers.get("Content-Type") ?? "";
    if (response.status !== 200 || !response.body || !type.startsWith("text/event-stream")) {
      // A proxy's own 403 is a page, and no reason to stay away.
      const [code, reason] = (type.startsWith("application/problem+json") && REFUSED[response.status]) || [1006, `HTTP ${response.status}`];
      const problem = code === 1006 ? undefined : await response.json();
      end(code, reason, problem?.detail ?? problem?.title);
      return;
    }
    listener.opened();
    const reader = response.body.getReader(); // Safari cannot iterate over the body
    for (;;) {
      const { done, value } = await reader.read();
      if (done || abort.signal.aborted) break;
      listener.heard();
      parse(value);
    }
  };
  read().then(() => end(1006, ""), () => end(1006, ""));
  return {
    send: () => { throw new TypeError("Server-Sent Events carry nothing to the gateway"); },
    close: () => abort.abort(),
  };
}

/**
 * Splits an event stream into events (WHATWG HTML, section 9.2.6), wherever its chunks begin and end.
 *
 * @param {(name: string, data: string | undefined, id: string | undefined) => void} dispatch is called for each event:
 *   its name (empty: none), its data, and the id that stood beside them. An id alone comes without data.
 * @returns {(bytes: Uint8Array) => void}
 */
export function eventParser(dispatch) {
  const decoder = new TextDecoder(); // removes the byte order mark, and waits for the rest of a character
  let afterCR = false;
  let rest = "";
  let name = "";
  /** @type {string[]} */
  let data = [];
  /** @type {string | undefined} */
  let id;

  const parseLine = (/** @type {string} */ line) => {
    if (line === "") {
      if (data.length > 0) dispatch(name, data.join("\n"), id);
      else if (id !== undefined) dispatch(name, undefined, id);
      name = "";
      data = [];
      id = undefined;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") data.push(value);
    else if (field === "event") name = value;
    else if (field === "id") id = value;
  };

  return (bytes) => {
    let text = decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (afterCR && text[0] === "\n") text = text.slice(1); // it ends the line that was parsed already
    afterCR = text.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = /** @type {string} */ (lines.pop());
    for (const line of lines) parseLine(line);
  };
}
