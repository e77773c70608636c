/**
 * Herald's client: receives messages over WebSocket, or as Server-Sent Events where no WebSocket gets through, comes back
 * by itself when the connection is lost, and goes on where it was. ES modules without dependencies, for browsers and for
 * Node 20 or newer.
 *
 *     import { connect } from "/client/herald.js";
 *     const herald = connect("/ws", { channels: ["orders.*"] });
 *     herald.on("message", (m) => console.log(m.channel, m.data));
 *
 * What it promises: while the object lives, every message of its channels is handed to the `message` handlers once, in
 * stream order, across lost connections. Where the gateway no longer has what was missed, a `gap` event says so. The
 * one thing that may come twice is the replay of a `subscribe` with `since`, if the connection broke in its middle.
 *
 * Changes of what is followed that are made in one turn go out together, and not more often than the gateway lets in: a
 * loop of subscribe() calls needs no care.
 *
 * Over Server-Sent Events the client cannot speak, so what it follows stands in the URL, and a change of it, or a new
 * token, is another stream in place of the one there is, from the newest id on. Nothing is missed or doubled by that; but:
 * a change costs a request, during which messages wait; what does not fit into a URL (100 names, 4 KiB) is refused with
 * the error `limit` until a WebSocket gets through; a newer token that no longer covers a channel ends the connection
 * instead of the subscription; and over HTTP/1.1 each stream is one of the six connections that a browser opens to a host.
 *
 * The shapes are in types.js, the contract is proto/PROTOCOL.md.
 */

import { Choice } from "./choice.js";
import { Emitter } from "./emitter.js";
import { follow } from "./follow.js";
import { Following } from "./following.js";
import { onNudge } from "./nudge.js";
import { Pings } from "./pings.js";
import { Place } from "./place.js";
import { backoff, channelFault, comesBack, expiry, isToken } from "./protocol.js";
import { eventStream, webSocket } from "./transport.js";
import { OPEN_TIMEOUT, probe, recheck, renew, watch } from "./watch.js";

export { backoff, channelFault, comesBack, isNewer, isPattern } from "./protocol.js";

/** @typedef {import("./types.js").Connection} Connection */

// A connection that lasted this long was steady: the next failure starts again at FIRST_DELAY. Without this a gateway
// that welcomes and then hangs up would be called twice a second for ever.
const STEADY = 10_000;
// From the first call of the token function to the welcome frame.
const CONNECT_TIMEOUT = 15_000;
// By how much a clock here may be slow when it comes to whether a token has expired.
const MAX_SKEW = 60_000;
// What the gateway says when it says nothing.
const HEARTBEAT = 25;
// Codes of error frames that refuse one subscription and leave the connection open.
const REFUSALS = new Set(["forbidden", "bad-channel", "bad-since", "limit"]);

/**
 * One subscription set on one Herald, whatever happens to the connection below. See connect().
 */
export class Herald {
  #base;
  /** @type {import("./types.js").Options} */
  #options;
  #choice;
  #place;
  #events = new Emitter();
  #following = new Following();
  /** Names whose subscription was reported since the state is `open`. @type {Set<string>} */
  #confirmed = new Set();
  /** Whether what has changed is looked at after this turn. */
  #changing = false;
  /** @type {import("./types.js").State} */
  #state = "closed";
  #attempt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} the next attempt, while waiting */
  #timer;
  /** Ends what #nudge is told by. */
  #asleep = () => {};
  /**
   * Whoever comes back from waiting (a token, a timer, a socket event) compares it with the one it set out for.
   * @type {Connection | undefined}
   */
  #conn;
  /** @type {import("./watch.js").Silence} */
  #silence = {
    ask: () => { this.ping().catch(() => {}); }, // who asked is told by the state
    dead: (conn, reason) => this.#abandon(conn, reason),
  };

  /**
   * @param {string | URL} url of the gateway's /ws: relative to the page, or http, https, ws or wss. Query parameters
   *   stay; `channel` counts as one of the channels. Its neighbour /sse is where Server-Sent Events are.
   * @param {import("./types.js").Options} [options]
   */
  constructor(url, options = {}) {
    this.#options = { WebSocket: globalThis.WebSocket, ...options };
    if (!this.#options.WebSocket && this.#options.transport === "websocket") {
      throw new TypeError("there is no WebSocket here; give a class in options.WebSocket");
    }
    this.#base = new URL(url, globalThis.location?.href);
    this.#base.protocol = this.#base.protocol.replace("http", "ws");
    this.#base.hash = "";
    const named = [...this.#base.searchParams.getAll("channel"), ...(options.channels ?? [])];
    for (const name of ["channel", "since", "lastEventId", "token"]) this.#base.searchParams.delete(name);
    const key = `herald ${this.#base.href}`;
    this.#place = new Place(options.storage, key);
    this.#choice = new Choice(this.#options, key);
    for (const name of named.length > 0 ? named : ["broadcast"]) {
      refuse(channelFault(name));
      this.#following.add(name);
    }
    this.#begin();
  }

  get state() { return this.#state; }

  /**
   * What the connection uses; undefined unless the state is `open`.
   * @returns {import("./choice.js").Kind | undefined}
   */
  get transport() { return this.#state === "open" ? this.#conn?.kind : undefined; }

  /** The newest id seen: what the next connection resumes from. */
  get id() { return this.#place.id; }

  /** The channels and patterns that are followed, or will be once there is a connection. */
  get channels() { return this.#following.names; }

  /**
   * @template {keyof import("./types.js").Events} T
   * @param {T} type
   * @param {(detail: import("./types.js").Events[T]) => void} handler what it throws is reported as uncaught, and harms
   *   nobody else
   * @returns {() => void} takes the handler away again
   */
  on(type, handler) {
    this.#events.on(type, handler);
    return () => this.off(type, handler);
  }

  /**
   * @template {keyof import("./types.js").Events} T
   * @param {T} type
   * @param {(detail: import("./types.js").Events[T]) => void} handler
   */
  off(type, handler) {
    this.#events.off(type, handler);
  }

  /** Connects now: again after `closed`, or without waiting for the end of `waiting`. Else it does nothing. */
  open() {
    if (this.#state === "closed") {
      this.#choice.unblock();
      this.#begin();
    } else if (this.#state === "waiting") {
      clearTimeout(this.#timer);
      this.#dial();
    }
  }

  /** Says goodbye and stays away. */
  close() {
    if (this.#state === "closed") return;
    const conn = this.#forget();
    conn?.transport?.close(1000);
    this.#closed({ code: 1000, reason: "normal" });
  }

  /**
   * Follows more channels, now and after each reconnect. The answer is a `subscribed` event for each, or an `error`.
   *
   * @param {string | string[]} channel channels or patterns
   * @param {{since?: string}} [options] an id, `all` or `last`: send this first. A channel that is followed already is
   *   asked for again only with `since`.
   * @throws {TypeError} if one is no valid name; then none is followed
   */
  subscribe(channel, { since } = {}) {
    const names = [channel].flat().filter((name) => since !== undefined || !this.#following.has(name));
    for (const name of names) refuse(channelFault(name));
    // Where the client has been before, nothing is missed until the subscription is there.
    const owed = since ?? (this.#conn?.welcomed !== undefined ? "" : this.#place.id);
    for (const name of names) {
      this.#following.add(name, owed);
      this.#confirmed.delete(name);
    }
    this.#change();
  }

  /** @param {string | string[]} channel */
  unsubscribe(channel) {
    const names = [channel].flat().filter((name) => this.#following.delete(name));
    for (const name of names) this.#confirmed.delete(name);
    this.#change();
    if (this.#conn?.kind !== "sse") return; // the gateway answers
    queueMicrotask(() => names.forEach((name) => this.#events.emit("unsubscribed", { type: "unsubscribed", channel: name })));
  }

  /**
   * State and stream without a race: loads what is there now, and hands over each later message after it. The place in the
   * stream is taken before the load, so nothing falls between; a message that the loaded state has already may follow it.
   * After a `gap` it is loaded again. While the load runs, messages wait; if it fails it is tried again.
   *
   * @template T
   * @param {string} channel a channel or pattern
   * @param {object} handlers
   * @param {(id: string | undefined) => T | Promise<T>} handlers.load is called with the id that was taken
   * @param {(state: T) => void} [handlers.state] what was loaded, the first time and after each gap
   * @param {(message: import("./types.js").Message) => void} [handlers.message] what came since, after `state`
   * @returns {() => void} ends it, and the subscription if it began here
   */
  follow(channel, handlers) {
    return follow(this, this.#events, channel, handlers, this.#confirmed.has(channel));
  }

  /**
   * @returns {Promise<number>} the round trip to the gateway in milliseconds; rejected if the connection is not open,
   *   ends first, or is no WebSocket
   */
  ping() {
    const conn = this.#conn;
    if (conn?.kind === "sse") return Promise.reject(new Error("there is no ping over Server-Sent Events"));
    if (!conn?.welcomed) return Promise.reject(new Error("not connected"));
    return conn.pings.ask(() => conn.transport?.send(JSON.stringify({ type: "ping" })));
  }

  // Connecting

  #begin() {
    this.#attempt = 0;
    this.#choice.begin();
    this.#asleep = onNudge((event) => this.#nudge(event));
    this.#dial();
  }

  /**
   * @param {string} [token] one that is known to be good; else the next is asked for
   * @param {import("./choice.js").Kind} kind
   */
  async #dial(token, kind = this.#choice.next) {
    /** @type {Connection} */
    const conn = {
      kind, names: new Set(), unfit: new Set(), unconfirmed: new Set(), pings: new Pings(), heard: 0, heartbeat: 0, frames: 0, second: 0,
    };
    this.#conn = conn;
    // One stream of events that follows another is not worth a word.
    if (this.#state !== "open" || conn.kind !== "sse") this.#become("connecting");
    conn.watchdog = setTimeout(() => this.#abandon(conn, "no answer"), CONNECT_TIMEOUT);
    try {
      conn.token = token ?? await this.#token();
    } catch (err) {
      if (conn !== this.#conn) return;
      this.#events.emit("error", { code: "no-token", detail: String(err) });
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
    this.#following.ask(conn, url, this.#place.id ?? this.#options.since);
    if (conn.kind === "sse" || !WebSocket) {
      url.protocol = url.protocol.replace("ws", "http");
      url.pathname = url.pathname.replace(/[^/]*$/, "sse");
      conn.transport = eventStream(url, conn.token, listener);
      return;
    }
    try {
      conn.transport = webSocket(WebSocket, url, conn.token, listener);
    } catch (err) { // a forbidden port, ws: from an https: page, a policy: the next one would fare no better
      this.#events.emit("error", { code: "no-connection", detail: String(err) });
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

  // Receiving

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
      this.#events.emit("error", { code: "bad-frame", detail: String(err) });
      return;
    }
    switch (frame.type) {
      case undefined:
        this.#events.emit("message", frame);
        // After the handlers: a page that dies in one sees the message again.
        if (frame.id !== undefined && this.#following.behind(frame.channel)) conn.ahead = frame.id;
        else this.#place.keep(frame.id);
        break;
      case "welcome":
        this.#welcome(conn, frame);
        break;
      case "subscribed":
        this.#subscribed(conn, frame);
        break;
      case "unsubscribed":
        // With a reason it is the gateway's wish; asking again in the URL would end the next connection.
        if (frame.reason) {
          this.#following.delete(frame.channel);
          this.#confirmed.delete(frame.channel);
          conn.names.delete(frame.channel);
        }
        this.#events.emit("unsubscribed", frame);
        break;
      case "gap":
        // Its id holds even if it is not newer: a stream that was restored from a backup has lost its end. A gap of one
        // channel says nothing about the others.
        if (frame.channel === undefined) this.#place.set(frame.id);
        else this.#following.skipped(frame.channel, frame.id);
        this.#events.emit("gap", frame);
        break;
      case "position": // everything up to there was sent
        this.#place.keep(frame.id);
        break;
      case "error":
        conn.error = frame;
        // A refused subscription is over. Before the welcome frame the fault is in the URL, and the close code decides.
        if (conn.welcomed && REFUSALS.has(frame.code)) this.#following.refused(conn, frame.channel);
        this.#events.emit("error", frame);
        break;
      case "authenticated":
        this.#events.emit("authenticated", frame);
        break;
      case "pong":
        conn.pings.answered(conn.heard);
        break;
    }
  }

  /**
   * @param {Connection} conn
   * @param {import("./types.js").Welcome} frame
   */
  #welcome(conn, frame) {
    conn.welcomed = conn.heard;
    conn.heartbeat = 1000 * (frame.heartbeat || HEARTBEAT);
    conn.since ??= frame.id;
    // With another since, what was missed is still on its way: a connection that ends now must ask for the same again.
    if (conn.since === frame.id) this.#place.keep(frame.id);
    if (conn.since === "last") {
      this.#place.keep(frame.id);
      this.#following.oweNewest(conn);
    }
    watch(conn, this.#silence);
    const { token, WebSocket } = this.#options;
    if (typeof token === "function") {
      renew(conn, token, (fresh) => this.#refresh(conn, fresh), (err) => this.#events.emit("error", { code: "no-token", detail: String(err) }));
    }
    if (conn.kind === "sse") {
      this.#choice.welcomed();
      if (this.#choice.free && WebSocket) {
        const url = new URL(this.#base);
        url.searchParams.set("channel", ""); // none
        recheck(conn, WebSocket, url, this.#choice, () => this.#redial(conn, conn.token, "websocket"));
      }
      for (const channel of this.#following.postpone(conn, conn.since)) {
        this.#events.emit("error", { code: "limit", detail: "Over Server-Sent Events no more channels fit into the URL.", channel });
      }
    }
    if (this.#state !== "open") this.#become("open");
    this.#events.emit("welcome", frame);
    if (frame.resumed) this.#events.emit("resumed", frame);
    this.#adapt(conn);
  }

  /**
   * @param {Connection} conn
   * @param {import("./types.js").Subscribed} frame
   */
  #subscribed(conn, frame) {
    const { channel, id } = frame;
    if (conn.unconfirmed.delete(channel)) {
      // The channels of the URL have come to this place together.
      this.#place.keep(id);
      if (conn.since === "last") this.#following.answered(channel);
      if (this.#confirmed.has(channel)) return; // one stream of events that follows another
    } else {
      this.#following.answered(channel);
      this.#place.keep(conn.ahead); // what overtook others is with them by now
    }
    this.#confirmed.add(channel);
    this.#events.emit("subscribed", frame);
  }

  // Changing what is followed

  /** Once for all changes of this turn. */
  #change() {
    if (this.#changing) return;
    this.#changing = true;
    queueMicrotask(() => {
      this.#changing = false;
      if (this.#conn) this.#adapt(this.#conn);
    });
  }

  /**
   * Makes a connection follow what is wanted: names that did not fit into the URL, or that came and went since.
   *
   * @param {Connection} conn
   */
  #adapt(conn) {
    if (conn !== this.#conn || conn.welcomed === undefined || conn.pace) return; // welcome and pace call again
    const done = this.#following.bring(conn, (frame) => conn.transport?.send(JSON.stringify(frame)));
    if (!done && conn.kind === "sse") {
      this.#redial(conn);
    } else if (!done) {
      conn.pace = setTimeout(() => {
        conn.pace = undefined;
        this.#adapt(conn);
      }, conn.second + 1000 - performance.now());
    }
  }

  /**
   * Puts another connection in the place of one that works.
   *
   * @param {Connection} conn
   * @param {string} [token]
   * @param {import("./choice.js").Kind} [kind]
   */
  #redial(conn, token = conn.token, kind = conn.kind) {
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
      if (event.type === "online") this.#redial(conn);
      else if (performance.now() - conn.heard >= 2 * conn.heartbeat) probe(conn, this.#silence);
    } else if (conn?.welcomed !== undefined) {
      probe(conn, this.#silence);
    } else if (this.#state === "waiting" && event.type !== "offline") {
      this.#wait({}, backoff(0)); // still with jitter: a whole office comes online at once
    }
  }

  /**
   * Uses a fresh token. If it does not come, the connection ends with 4002 at last, and the next one brings it.
   *
   * @param {Connection} conn
   * @param {string} token
   */
  #refresh(conn, token) {
    if (conn.kind === "sse") {
      this.#redial(conn, token);
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
    this.#following.lost(conn, this.#place.id);
    if (conn.transport && !conn.answered) this.#choice.failed(code);
    const change = { code, reason, detail };
    // 4002 asks for a new token; a fixed one will not get any newer.
    if (!comesBack(code) || (code === 4002 && typeof this.#options.token !== "function")) {
      if (code === 4502) this.#place.set(undefined); // perhaps it was the id
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

  /** Takes the connection away and stops everything that waits for it. */
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
    if (state !== "open") this.#confirmed.clear();
    this.#state = state;
    this.#events.emit("state", { ...change, state, attempt: this.#attempt });
  }
}

/**
 * @param {string | undefined} fault
 * @throws {TypeError} if there is one
 */
function refuse(fault) {
  if (fault) throw new TypeError(fault);
}

/**
 * Opens a connection to Herald and keeps it open.
 *
 * @param {string | URL} url
 * @param {import("./types.js").Options} [options]
 */
export function connect(url, options) {
  return new Herald(url, options);
}
