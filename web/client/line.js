/**
 * The line from a client to its gateway: one connection at a time, which is dialed, kept alive, and dialed again after a
 * pause when it is lost. A line knows transports, tokens, close codes and delays. It knows nothing of channels: what a URL
 * asks for, and what frames mean, its owner decides, the Herald.
 */

import { Choice } from "./choice.js";
import { onNudge } from "./nudge.js";
import { Pings } from "./pings.js";
import { backoff, comesBack, expiry, isToken } from "./protocol.js";
import { eventStream, webSocket } from "./transport.js";
import { OPEN_TIMEOUT, probe, recheck, renew, watch } from "./watch.js";

/** @typedef {import("./types.js").Connection} Connection */

/**
 * @typedef {object} Owner is told what happens on the line
 * @property {(conn: Connection, url: URL) => void} ask puts into the URL what the connection is to follow
 * @property {(conn: Connection, frame: any) => void} frame handles each frame but a pong
 * @property {(conn: Connection, code: number) => void} lost a connection has ended, not by close() or redial(); the state
 *   changes after that
 * @property {(change: import("./types.js").StateChange) => void} state
 * @property {(fault: import("./types.js").Fault) => void} error
 */

// A connection that lasted this long was steady: the next failure starts again at FIRST_DELAY. Without this a gateway
// that welcomes and then hangs up would be called twice a second for ever.
const STEADY = 10_000;
// From the first call of the token function to the welcome frame.
const CONNECT_TIMEOUT = 15_000;
// By how much a clock here may be slow when it comes to whether a token has expired.
const MAX_SKEW = 60_000;
// The heartbeat in seconds where the welcome frame names none.
const HEARTBEAT = 25;

export class Line {
  #base;
  /** @type {import("./types.js").Options} */
  #options;
  #choice;
  #owner;
  /** @type {import("./types.js").State} */
  #state = "closed";
  #attempt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} the next attempt, while waiting */
  #timer;
  /** Ends the calls of #nudge. */
  #asleep = () => {};
  /**
   * The connection of now. Code that has waited (for a token, a timer, a socket event) compares it with the one that it
   * waited for.
   * @type {Connection | undefined}
   */
  #conn;
  /** @type {import("./watch.js").Silence} */
  #silence = {
    ask: () => { this.ping().catch(() => {}); }, // a failure is a change of state
    dead: (conn, reason) => this.#abandon(conn, reason),
  };

  /**
   * @param {URL} base of /ws
   * @param {import("./types.js").Options} options
   * @param {string} key in the storage
   * @param {Owner} owner
   */
  constructor(base, options, key, owner) {
    this.#base = base;
    this.#options = options;
    this.#choice = new Choice(options, key);
    this.#owner = owner;
  }

  get state() { return this.#state; }

  /** The connection of now, whatever its state; undefined while waiting or closed. */
  get conn() { return this.#conn; }

  /** Dials the first time, or after the end. */
  begin() {
    this.#attempt = 0;
    this.#choice.begin();
    this.#asleep = onNudge((event) => this.#nudge(event));
    this.#dial();
  }

  /** See Herald.open. */
  open() {
    if (this.#state === "closed") {
      this.#choice.unblock();
      this.begin();
    } else if (this.#state === "waiting") {
      clearTimeout(this.#timer);
      this.#dial();
    }
  }

  /** See Herald.close. */
  close() {
    if (this.#state === "closed") return;
    const conn = this.#forget();
    conn?.transport?.close(1000);
    this.#closed({ code: 1000, reason: "normal" });
  }

  /** See Herald.ping. @returns {Promise<number>} */
  ping() {
    const conn = this.#conn;
    if (conn?.kind === "sse") return Promise.reject(new Error("there is no ping over Server-Sent Events"));
    if (!conn?.welcomed) return Promise.reject(new Error("not connected"));
    return conn.pings.ask(() => conn.transport?.send(JSON.stringify({ type: "ping" })));
  }

  // Connecting

  /**
   * @param {string} [token] one that is known to be good; without it the next is asked for
   * @param {import("./choice.js").Kind} kind
   */
  async #dial(token, kind = this.#choice.next) {
    /** @type {Connection} */
    const conn = {
      kind, names: new Set(), unfit: new Set(), unconfirmed: new Set(), pings: new Pings(), heard: 0, heartbeat: 0, frames: 0, second: 0,
    };
    this.#conn = conn;
    // One stream of events that follows another is no change of state.
    if (this.#state !== "open" || conn.kind !== "sse") this.#become("connecting");
    conn.watchdog = setTimeout(() => this.#abandon(conn, "no answer"), CONNECT_TIMEOUT);
    try {
      conn.token = token ?? await this.#token();
    } catch (err) {
      if (conn !== this.#conn) return;
      this.#owner.error({ code: "no-token", detail: String(err) });
      this.#abandon(conn, "no token");
      return;
    }
    if (conn === this.#conn) this.#connect(conn); // else closed or abandoned meanwhile
  }

  /** @param {Connection} conn */
  #connect(conn) {
    if (conn.token && !isToken(conn.token)) {
      this.#lost(conn, 4500, "token-invalid", "This is no token: a JWT has only letters, digits, and . - _");
      return;
    }
    const mine = () => conn === this.#conn;
    /** @type {import("./transport.js").Listener} */
    const listener = {
      opened: () => clearTimeout(conn.opening),
      heard: () => { conn.heard = performance.now(); },
      frame: (text) => mine() && this.#receive(conn, text),
      end: (code, reason, detail) => mine() && this.#lost(conn, code, reason, detail),
    };
    const { WebSocket } = this.#options;
    const url = new URL(this.#base);
    this.#owner.ask(conn, url);
    if (conn.kind === "sse" || !WebSocket) {
      url.protocol = url.protocol.replace("ws", "http");
      url.pathname = url.pathname.replace(/[^/]*$/, "sse");
      conn.transport = eventStream(url, conn.token, listener);
      return;
    }
    try {
      conn.transport = webSocket(WebSocket, url, conn.token, listener);
    } catch (err) { // a forbidden port, ws: from an https: page, a policy: the next one would fare no better
      this.#owner.error({ code: "no-connection", detail: String(err) });
      if (!mine()) return;
      this.#forget();
      if (!this.#choice.free) {
        this.#closed({ code: 1006, detail: String(err) });
      } else {
        this.#options.WebSocket = undefined;
        this.#dial(conn.token);
      }
      return;
    }
    if (this.#choice.free && !this.#choice.worked) {
      conn.opening = setTimeout(() => this.#abandon(conn, "no answer"), OPEN_TIMEOUT);
    }
  }

  #token() {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  /**
   * @param {Connection} conn
   * @param {string} text
   */
  #receive(conn, text) {
    conn.answered = true;
    this.#choice.answered(conn.kind);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (err) {
      this.#owner.error({ code: "bad-frame", detail: String(err) });
      return;
    }
    if (frame.type === "pong") conn.pings.answered(conn.heard);
    else this.#owner.frame(conn, frame);
  }

  /**
   * The welcome frame came: from now on the connection is watched, and its token renewed.
   *
   * @param {Connection} conn
   * @param {number | undefined} heartbeat in seconds
   */
  welcomed(conn, heartbeat) {
    conn.welcomed = conn.heard;
    conn.heartbeat = 1000 * (heartbeat || HEARTBEAT);
    watch(conn, this.#silence);
    const { token, WebSocket } = this.#options;
    if (typeof token === "function") {
      renew(conn, token, (fresh) => this.#refresh(conn, fresh), (err) => this.#owner.error({ code: "no-token", detail: String(err) }));
    }
    if (conn.kind !== "sse") return;
    this.#choice.welcomed();
    if (!this.#choice.free || !WebSocket) return;
    const url = new URL(this.#base);
    url.searchParams.set("channel", ""); // none
    recheck(conn, WebSocket, url, this.#choice, () => this.redial(conn, conn.token, "websocket"));
  }

  /** The owner has handled the welcome frame. */
  opened() {
    if (this.#state !== "open") this.#become("open");
  }

  /**
   * Puts another connection in the place of one that works. Of one that is no longer the connection of now it does nothing.
   *
   * @param {Connection} conn
   * @param {string} [token]
   * @param {import("./choice.js").Kind} [kind]
   */
  redial(conn, token = conn.token, kind = conn.kind) {
    if (conn !== this.#conn) return;
    this.#settle(conn);
    conn.transport?.close();
    this.#forget();
    this.#dial(token, kind);
  }

  // Staying

  /** The network or the page's visibility changed: look now, not when the timer comes. */
  #nudge(/** @type {Event} */ event) {
    const conn = this.#conn;
    if (conn?.welcomed !== undefined && conn.kind === "sse") {
      // It cannot be asked. A new stream costs one request, so after a change of network it is made at once.
      if (event.type === "online") this.redial(conn);
      else if (performance.now() - conn.heard >= 2 * conn.heartbeat) probe(conn, this.#silence);
    } else if (conn?.welcomed !== undefined) {
      probe(conn, this.#silence);
    } else if (this.#state === "waiting" && event.type !== "offline") {
      this.#wait({}, backoff(0)); // still with jitter: a whole office comes online at once
    }
  }

  /**
   * Uses a fresh token. If it does not arrive, the gateway closes the connection with 4002 at last, and the next one brings it.
   *
   * @param {Connection} conn
   * @param {string} token
   */
  #refresh(conn, token) {
    if (conn.kind === "sse") {
      this.redial(conn, token);
      return;
    }
    conn.token = token;
    conn.transport?.send(JSON.stringify({ type: "auth", token }));
  }

  // Ending

  /**
   * Gives up a connection that does not answer, without waiting for its close handshake.
   *
   * @param {Connection} conn
   * @param {string} reason
   */
  #abandon(conn, reason) {
    conn.transport?.close();
    this.#lost(conn, 1006, reason);
  }

  /**
   * @param {Connection} conn
   * @param {number} code
   * @param {string} reason
   * @param {string} [detail]
   */
  #lost(conn, code, reason, detail = conn.error?.code === reason ? conn.error.detail : undefined) {
    // HTTP has one status for a token that is wrong and one that is over.
    if (conn.kind === "sse" && code === 4500 && (expiry(conn.token ?? "") ?? Infinity) < Date.now() + MAX_SKEW) {
      [code, reason] = [4002, "token-expired"];
    }
    this.#forget();
    if (conn.transport && !conn.answered) this.#choice.failed(code);
    this.#owner.lost(conn, code);
    const change = { code, reason, detail };
    // 4002 asks for a new token; a fixed one will not get any newer.
    if (!comesBack(code) || (code === 4002 && typeof this.#options.token !== "function")) {
      this.#closed(change);
      return;
    }
    this.#settle(conn);
    this.#wait(change, backoff(this.#attempt++));
  }

  /** @param {Connection} conn */
  #settle(conn) {
    if (conn.welcomed !== undefined && performance.now() - conn.welcomed > STEADY) this.#attempt = 0;
  }

  /**
   * @param {Partial<import("./types.js").StateChange>} change
   * @param {number} delay
   */
  #wait(change, delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#dial(), delay);
    this.#become("waiting", { ...change, delay });
  }

  /** Ends the connection of now, and every timer that belongs to it. */
  #forget() {
    const conn = this.#conn;
    this.#conn = undefined;
    if (conn) conn.ended = true;
    for (const timer of [this.#timer, conn?.watchdog, conn?.opening, conn?.refresh, conn?.recheck, conn?.pace]) clearTimeout(timer);
    conn?.probe?.close(1000);
    conn?.pings.ended();
    return conn;
  }

  /** @param {Partial<import("./types.js").StateChange>} change */
  #closed(change) {
    this.#asleep();
    this.#become("closed", change);
  }

  /**
   * @param {import("./types.js").State} state
   * @param {Partial<import("./types.js").StateChange>} [change]
   */
  #become(state, change) {
    this.#state = state;
    this.#owner.state({ ...change, state, attempt: this.#attempt });
  }
}
