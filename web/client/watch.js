/**
 * What keeps a connection alive, or finds out that it is not: silence is noticed, tokens are renewed, and beside a stream
 * of events it is looked whether a WebSocket gets through. Timers stand in the connection, and end with it.
 */

import { expiry } from "./protocol.js";
import { webSocket } from "./transport.js";

/** @typedef {import("./types.js").Connection} Connection */

// How long a pong may take, at most; the heartbeat where that is shorter.
const PONG_TIMEOUT = 10_000;
// A token is renewed after four fifths of the time that it has left, so a failed renewal is tried again before it
// expires; but not more often than this, whatever the two clocks think.
const MIN_REFRESH = 10_000;
const MAX_TIMEOUT = 2 ** 31 - 1; // setTimeout fires at once beyond that
// How long a WebSocket may take to open as long as none ever did here: a firewall that swallows it says nothing.
export const OPEN_TIMEOUT = 5000;

/**
 * @typedef {object} Silence
 * @property {() => void} ask sends a ping
 * @property {(conn: Connection, reason: string) => void} dead
 */

/**
 * Notices a connection that died without a word. The gateway's own pings are invisible to a page, so after two
 * heartbeats without a frame it asks. A stream of events has a comment each heartbeat.
 *
 * @param {Connection} conn
 * @param {Silence} silence
 */
export function watch(conn, silence) {
  clearTimeout(conn.watchdog);
  const limit = 2 * conn.heartbeat;
  const quiet = performance.now() - conn.heard;
  conn.watchdog = setTimeout(() => {
    if (performance.now() - conn.heard < limit) watch(conn, silence);
    else probe(conn, silence);
  }, limit - quiet);
}

/**
 * Asks a connection whether it is there. A stream of events cannot be asked.
 *
 * @param {Connection} conn
 * @param {Silence} silence
 */
export function probe(conn, silence) {
  clearTimeout(conn.watchdog);
  if (conn.kind === "sse") {
    silence.dead(conn, "no heartbeat");
    return;
  }
  const asked = performance.now();
  silence.ask();
  conn.watchdog = setTimeout(() => {
    if (conn.heard >= asked) watch(conn, silence);
    else silence.dead(conn, "no pong");
  }, Math.min(conn.heartbeat, PONG_TIMEOUT));
}

/**
 * Asks for a fresh token before the old one expires. If that fails the old one still holds, and it is asked again.
 *
 * @param {Connection} conn
 * @param {() => string | undefined | Promise<string | undefined>} ask
 * @param {(token: string) => void} use
 * @param {(err: unknown) => void} failed
 */
export function renew(conn, ask, use, failed) {
  const expires = conn.token === undefined ? undefined : expiry(conn.token);
  if (expires === undefined) return;
  const delay = Math.max(MIN_REFRESH, 0.8 * (expires - Date.now()));
  conn.refresh = setTimeout(async () => {
    try {
      const token = await ask();
      if (conn.ended) return;
      if (token && token !== conn.token) use(token);
    } catch (err) {
      if (conn.ended) return;
      failed(err);
    }
    if (!conn.ended) renew(conn, ask, use, failed);
  }, Math.min(delay, MAX_TIMEOUT));
}

/**
 * Looks, beside a stream of events, whether a WebSocket gets through by now; again and again until one does.
 *
 * @param {Connection} conn
 * @param {new (url: string, protocols?: string[]) => WebSocket} WebSocket
 * @param {URL} url of /ws
 * @param {import("./choice.js").Choice} choice says when
 * @param {() => void} works
 */
export function recheck(conn, WebSocket, url, choice, works) {
  const done = (/** @type {boolean} */ yes) => {
    clearTimeout(conn.recheck);
    conn.probe?.close(1000);
    conn.probe = undefined;
    if (yes) {
      choice.unblock();
      works();
    } else {
      choice.block();
      recheck(conn, WebSocket, url, choice, works);
    }
  };
  conn.recheck = setTimeout(() => {
    conn.recheck = setTimeout(() => done(false), OPEN_TIMEOUT);
    try {
      conn.probe = webSocket(WebSocket, url, conn.token, {
        opened() {},
        heard() {},
        frame: () => done(true),
        end: (code) => done(code !== 1006),
      });
    } catch {
      done(false);
    }
  }, choice.recheck);
}
