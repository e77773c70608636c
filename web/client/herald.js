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

import { Emitter } from "./emitter.js";
import { follow } from "./follow.js";
import { Following } from "./following.js";
import { Line } from "./line.js";
import { Place } from "./place.js";
import { channelFault } from "./protocol.js";

export { backoff, channelFault, comesBack, isNewer, isPattern } from "./protocol.js";

/** @typedef {import("./types.js").Connection} Connection */

// Codes of error frames that refuse one subscription and leave the connection open.
const REFUSALS = new Set(["forbidden", "bad-channel", "bad-since", "limit"]);

/**
 * One subscription set on one Herald, whatever happens to the connection below. See connect().
 */
export class Herald {
  /** @type {string | undefined} where to begin as long as no id is known */
  #since;
  #place;
  #line;
  #events = new Emitter();
  #following = new Following();
  /** Names whose subscription was reported since the state is `open`, with its id. @type {Map<string, string>} */
  #confirmed = new Map();
  /** Whether what has changed is looked at after this turn. */
  #changing = false;

  /**
   * @param {string | URL} url of the gateway's /ws: relative to the page, or http, https, ws or wss. Query parameters
   *   stay; `channel` counts as one of the channels. Its neighbour /sse is where Server-Sent Events are.
   * @param {import("./types.js").Options} [options]
   */
  constructor(url, options = {}) {
    const all = { WebSocket: globalThis.WebSocket, ...options };
    if (!all.WebSocket && all.transport === "websocket") {
      throw new TypeError("there is no WebSocket here; give a class in options.WebSocket");
    }
    const base = new URL(url, globalThis.location?.href);
    base.protocol = base.protocol.replace("http", "ws");
    base.hash = "";
    const named = [...base.searchParams.getAll("channel"), ...(options.channels ?? [])];
    for (const name of ["channel", "since", "lastEventId", "token"]) base.searchParams.delete(name);
    const key = `herald ${base.href}`;
    this.#since = all.since;
    this.#place = new Place(options.storage, key);
    this.#line = new Line(base, all, key, {
      ask: (conn, to) => this.#following.ask(conn, to, this.#place.id ?? this.#since),
      frame: (conn, frame) => this.#receive(conn, frame),
      lost: (conn, code) => this.#lost(conn, code),
      state: (change) => this.#changed(change),
      error: (fault) => this.#events.emit("error", fault),
    });
    for (const name of named.length > 0 ? named : ["broadcast"]) {
      refuse(channelFault(name));
      this.#following.add(name);
    }
    this.#line.begin();
  }

  get state() { return this.#line.state; }

  /**
   * What the connection uses; undefined unless the state is `open`.
   * @returns {import("./choice.js").Kind | undefined}
   */
  get transport() { return this.state === "open" ? this.#line.conn?.kind : undefined; }

  /** The newest id seen: what the next connection resumes from. */
  get id() { return this.#place.id; }

  /** The channels and patterns that are followed, or will be once there is a connection. */
  get channels() { return this.#following.names; }

  /**
   * @template {keyof import("./types.js").Events} T
   * @param {T} type
   * @param {(detail: import("./types.js").Events[T]) => void} handler what it throws is reported as uncaught, and harms
   *   nobody else
   * @returns {() => void} removes the handler
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
  open() { this.#line.open(); }

  /** Says goodbye and stays away. */
  close() { this.#line.close(); }

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
    const from = since ?? (this.#line.conn?.welcomed !== undefined ? "" : this.#place.id);
    for (const name of names) {
      this.#following.add(name, from);
      this.#confirmed.delete(name);
    }
    this.#change();
  }

  /** @param {string | string[]} channel */
  unsubscribe(channel) {
    const names = [channel].flat().filter((name) => this.#following.delete(name));
    for (const name of names) this.#confirmed.delete(name);
    this.#change();
    if (this.#line.conn?.kind !== "sse") return; // the gateway answers
    queueMicrotask(() => names.forEach((name) => this.#events.emit("unsubscribed", { type: "unsubscribed", channel: name })));
  }

  /**
   * State and stream without a race: loads what is there now, and hands over each later message after it. The place in the
   * stream is taken before the load, so nothing falls between; a message that the loaded state has already may follow it.
   * After a `gap` it is loaded again. While the load runs, messages wait; if it fails it is tried again, and they still wait.
   *
   * @template T
   * @param {string} channel a channel or pattern
   * @param {object} handlers
   * @param {(id: string | undefined, signal: AbortSignal) => T | Promise<T>} handlers.load is called with the id that was
   *   taken; the signal is for `fetch`: it aborts a load that no longer counts, after a `gap` or at the end
   * @param {(state: T) => void} [handlers.state] what was loaded, the first time and after each gap
   * @param {(message: import("./types.js").Message) => void} [handlers.message] what came since, after `state`
   * @returns {() => void} ends it; the last of a channel ends the subscription, too, if the first began it
   */
  follow(channel, handlers) {
    return follow(this, this.#events, channel, handlers, this.#confirmed.get(channel));
  }

  /**
   * @returns {Promise<number>} the round trip to the gateway in milliseconds; rejected if the connection is not open,
   *   ends first, or is no WebSocket
   */
  ping() { return this.#line.ping(); }

  // Receiving

  /**
   * @param {Connection} conn
   * @param {any} frame
   */
  #receive(conn, frame) {
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
    }
  }

  /**
   * @param {Connection} conn
   * @param {import("./types.js").Welcome} frame
   */
  #welcome(conn, frame) {
    conn.since ??= frame.id;
    // With another since, what was missed is still on its way: a connection that ends now must ask for the same again.
    if (conn.since === frame.id) this.#place.keep(frame.id);
    if (conn.since === "last") {
      this.#place.keep(frame.id);
      this.#following.awaitNewest(conn);
    }
    this.#line.welcomed(conn, frame.heartbeat);
    if (conn.kind === "sse") {
      for (const channel of this.#following.postpone(conn, conn.since)) {
        this.#events.emit("error", { code: "limit", detail: "Over Server-Sent Events no more channels fit into the URL.", channel });
      }
    }
    this.#line.opened();
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
    this.#confirmed.set(channel, id);
    this.#events.emit("subscribed", frame);
  }

  // Changing what is followed

  /** Once for all changes of this turn. */
  #change() {
    if (this.#changing) return;
    this.#changing = true;
    queueMicrotask(() => {
      this.#changing = false;
      if (this.#line.conn) this.#adapt(this.#line.conn);
    });
  }

  /**
   * Makes a connection follow what is wanted: names that did not fit into the URL, or that came and went since.
   *
   * @param {Connection} conn
   */
  #adapt(conn) {
    if (conn !== this.#line.conn || conn.welcomed === undefined || conn.pace) return; // welcome and pace call again
    const done = this.#following.bring(conn, (frame) => conn.transport?.send(JSON.stringify(frame)));
    if (!done && conn.kind === "sse") {
      this.#line.redial(conn);
    } else if (!done) {
      conn.pace = setTimeout(() => {
        conn.pace = undefined;
        this.#adapt(conn);
      }, conn.second + 1000 - performance.now());
    }
  }

  // Changes of the line

  /**
   * @param {Connection} conn
   * @param {number} code
   */
  #lost(conn, code) {
    this.#following.lost(conn, this.#place.id);
    if (code === 4502) this.#place.set(undefined); // bad-request: perhaps it was the id
  }

  /** @param {import("./types.js").StateChange} change */
  #changed(change) {
    if (change.state !== "open") this.#confirmed.clear();
    this.#events.emit("state", change);
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
