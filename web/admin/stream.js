// Server-Sent Events read by fetch: an EventSource hides the status of a refusal, and its problem.

import { send } from "./api.js";

/**
 * Calls back for each event until the stream ends.
 *
 * @param {string} path below api/
 * @param {Record<string, any>} query
 * @param {(event: string, data: string) => void} hear
 * @param {AbortSignal} stop
 * @param {() => void} [opened]
 */
export async function listen(path, query, hear, stop, opened) {
  const response = await send("GET", path, { query, signal: stop, background: true });
  opened?.();
  const read = reader(hear);
  const body = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await body.read();
    if (done) return;
    read(value);
  }
}

/**
 * Takes the stream's text in pieces (HTML Standard, section 9.2.6, Interpreting an event stream).
 *
 * @param {(event: string, data: string) => void} hear
 * @returns {(piece: string) => void}
 */
export function reader(hear) {
  let rest = "";
  let event = "";
  /** @type {string[]} */
  let data = [];
  return (piece) => {
    // A carriage return at the end may be the first half of a line's end.
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) hear(event || "message", data.join("\n"));
        event = "";
        data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") event = value;
      if (field === "data") data.push(value);
    }
  };
}
