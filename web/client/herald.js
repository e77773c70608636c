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
 * The contract is proto/PROTOCOL.md; names in this file are the ones it uses.
 *
 * Over Server-Sent Events the client cannot speak, so what it follows stands in the URL, and a change of it, or a new
 * token, is another stream in place of the one there is, from the newest id on. Nothing is missed or doubled by that; but:
 * a change costs one or two requests, during which messages wait; what does not fit into a URL (100 names, 4 KiB) is
 * refused with the error `limit` until a WebSocket gets through; a newer token that no longer covers a channel ends the
 * connection instead of the subscription; and over HTTP/1.1 each stream is one of the six connections that a browser opens
 * to a host.
 */

import { Choice } from "./choice.js";
import { MAX_FRAME, MAX_URL, backoff, batches, channelFault, comesBack, covers, expiry, isNewer, oldest } from "./protocol.js";
import { eventStream, webSocket } from "./transport.js";

export { backoff, channelFault, comesBack, isNewer, isPattern } from "./protocol.js";

/**
 * @typedef {object} Message
 * @property {string} [id] the place in the stream; missing on ephemeral messages
 * @property {string} channel
 * @property {string} event
 * @property {any} data
 * @property {string} sender
 * @property {string} time RFC 3339, UTC
 */

/**
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 * `open` means welcomed by the gateway. `waiting` is the pause before the next attempt. `closed` is final until open()
 * is called: either close() was called, or the gateway said that coming back is no use.
 */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} attempt how many attempts have failed since the connection was last steady
 * @property {number} [delay] milliseconds until the next attempt, when waiting
 * @property {number} [code] close code, when waiting or closed; 1006 where none arrived
 * @property {string} [reason] the close code's name
 * @property {string} [detail] what the gateway's error frame said about it
 */

/** @typedef {{type: "welcome", connection: string, heartbeat: number, channels: string[], resumed: boolean, id: string}} Welcome */
/** @typedef {{type: "subscribed", channel: string, resumed: boolean, id: string}} Subscribed */
/** @typedef {{type: "unsubscribed", channel: string, reason?: string}} Unsubscribed */
/** @typedef {{type: "authenticated", subject: string, expires: string}} Authenticated */
/** @typedef {{type: "gap", reason: "expired" | "epoch" | "limit", since: string, id: string, channel?: string}} Gap */
/**
 * @typedef {{code: string, detail: string, channel?: string}} Fault
 * An error frame, or one of the client's own: `bad-frame` (what came is not JSON), `no-token` (the token function
 * failed), `no-connection` (the platform refuses to connect to that URL at all).
 */

/**
 * @typedef {object} Events
 * @property {Message} message
 * @property {StateChange} state
 * @property {Welcome} welcome each time the connection is open
 * @property {Welcome} resumed the connection is open, and everything missed follows
 * @property {Gap} gap something was missed for good
 * @property {Subscribed} subscribed
 * @property {Unsubscribed} unsubscribed
 * @property {Authenticated} authenticated
 * @property {Fault} error
 */

/**
 * @typedef {object} Options
 * @property {string[]} [channels] channels and patterns to follow, beside those in the URL; none at all: `broadcast`
 * @property {string | (() => string | undefined | Promise<string | undefined>)} [token] a JWT. A function is asked at
 *   every connect and shortly before the token expires; with a plain string an expired token ends the connection.
 * @property {string} [since] an id, `all` or `last`: where to begin as long as no id is known
 * @property {Pick<Storage, "getItem" | "setItem" | "removeItem">} [storage] keeps the newest id across page loads, and
 *   then wins over `since`. sessionStorage, not localStorage: tabs with different channels must not share an id.
 * @property {"auto" | "websocket" | "sse"} [transport] `auto`, the default: WebSocket, and where two attempts in a row got
 *   no answer, Server-Sent Events in turn with it, until one is welcomed. It stays with the events that got through,
 *   also on the next page if there is `storage`, and looks every few minutes whether a WebSocket does by now.
 * @property {new (url: string) => WebSocket} [WebSocket] the class to use where there is no global one (Node before 22);
 *   without any there are only Server-Sent Events
 */

// A connection that lasted this long was steady: the next failure starts again at FIRST_DELAY. Without this a gateway
// that welcomes and then hangs up would be called twice a second for ever.
const STEADY = 10_000;
// From the first call of the token function to the welcome frame.
const CONNECT_TIMEOUT = 15_000;
// How long a WebSocket may take to open as long as none ever did here: a firewall that swallows it says nothing.
const OPEN_TIMEOUT = 5000;
// How long a pong may take, at most; the heartbeat where that is shorter.
const PONG_TIMEOUT = 10_000;
// A token is renewed after four fifths of the time that it has left, so a failed renewal is tried again before it
// expires; but not more often than this, whatever the two clocks think.
const MIN_REFRESH = 10_000;
// By how much a clock here may be slow when it comes to whether a token has expired.
const MAX_SKEW = 60_000;
// What the gateway says when it says nothing.
const HEARTBEAT = 25;
const MAX_TIMEOUT = 2 ** 31 - 1; // setTimeout fires at once beyond that

// Codes of error frames that refuse one subscription and leave the connection open.
const REFUSALS = new Set(["forbidden", "bad-channel", "bad-since", "limit"]);

/**
 * One subscription set on one Herald, whatever happens to the connection below. See connect().
 */
export class Herald {
  #base;
  /** @type {Options} */
  #options;
  #choice;
  #storageKey;
  /** @type {Map<keyof Events, Set<(detail: any) => void>>} */
  #handlers = new Map();
  /**
   * What is followed. The value is the `since` that the gateway still owes us an answer to: it outlives connections,
   * until `subscribed` came. Channels without one are covered by the connection's own `since`.
   * @type {Map<string, string | undefined>}
   */
  #wanted = new Map();
  /** @type {string | undefined} */
  #id;
  /**
   * Names subscribed to over Server-Sent Events. A stream of their own finds out first whether the gateway lets us
   * follow them, which else would end all, and where they begin.
   * @type {Set<string>}
   */
  #untried = new Set();
  /** Whether several of them were refused together, so that each is to be tried alone. */
  #oneByOne = false;
  /** Counts the changes of what is followed over Server-Sent Events, see Connection. */
  #version = 0;
  /** @type {State} */
  #state = "closed";
  #attempt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} the next attempt, while waiting */
  #timer;
  /**
   * Everything that belongs to one connection and dies with it. Whoever comes back from waiting (a token, a timer, a
   * socket event) compares it with the one it set out for.
   * @type {Connection | undefined}
   */
  #conn;

  /**
   * @param {string | URL} url of the gateway's /ws: relative to the page, or http, https, ws or wss. Query parameters
   *   stay; `channel` counts as one of the channels. Its neighbour /sse is where Server-Sent Events are.
   * @param {Options} [options]
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
    for (const name of ["channel", "since", "token"]) this.#base.searchParams.delete(name);
    this.#storageKey = `herald ${this.#base.href}`;
    this.#id = this.#restore();
    this.#choice = new Choice(this.#options, this.#storageKey);
    this.subscribe(named.length > 0 ? named : ["broadcast"]);
    this.#begin();
  }

  get state() { return this.#state; }

  /**
   * What the connection uses; undefined unless the state is `open`.
   * @returns {import("./choice.js").Kind | undefined}
   */
  get transport() { return this.#state === "open" ? this.#conn?.kind : undefined; }

  /** The newest id seen: what the next connection resumes from. */
  get id() { return this.#id; }

  /** The channels and patterns that are followed, or will be once there is a connection. */
  get channels() { return [...this.#wanted.keys()]; }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {(detail: Events[T]) => void} handler what it throws is reported as uncaught, and harms nobody else
   * @returns {() => void} takes the handler away again
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => this.off(type, handler);
  }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {(detail: Events[T]) => void} handler
   */
  off(type, handler) {
    this.#handlers.get(type)?.delete(handler);
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
   * What `since` asks for comes before it over WebSocket, and after it over Server-Sent Events.
   *
   * @param {string | string[]} channel channels or patterns
   * @param {{since?: string}} [options] an id, `all` or `last`: send this first. A channel that is followed already is
   *   asked for again only with `since`.
   * @throws {TypeError} if one is no valid name; then none is followed
   */
  subscribe(channel, { since } = {}) {
    const names = [channel].flat().filter((name) => since !== undefined || !this.#wanted.has(name));
    for (const name of names) {
      const fault = channelFault(name);
      if (fault) throw new TypeError(fault);
    }
    for (const name of names) this.#wanted.set(name, since);
    const conn = this.#conn;
    if (conn?.kind === "sse" || (!conn && since !== undefined)) {
      for (const name of names) this.#untried.add(name);
    }
    if (conn?.kind === "sse" && names.length > 0) this.#changed(conn);
    else if (conn?.welcomed) this.#send(conn, "subscribe", names, since);
  }

  /** @param {string | string[]} channel */
  unsubscribe(channel) {
    const names = [channel].flat().filter((name) => this.#wanted.delete(name));
    for (const name of names) this.#untried.delete(name);
    if (this.#conn?.kind === "sse") {
      if (names.length > 0) this.#changed(this.#conn);
      queueMicrotask(() => names.forEach((name) => this.#emit("unsubscribed", { type: "unsubscribed", channel: name })));
    } else if (this.#conn?.welcomed) {
      this.#send(this.#conn, "unsubscribe", names);
    }
  }

  /**
   * @returns {Promise<number>} the round trip to the gateway in milliseconds; rejected if the connection is not open,
   *   ends first, or is no WebSocket
   */
  ping() {
    const conn = this.#conn;
    if (conn?.kind === "sse") return Promise.reject(new Error("there is no ping over Server-Sent Events"));
    if (!conn?.welcomed) return Promise.reject(new Error("not connected"));
    return new Promise((resolve, reject) => {
      conn.pings.push({ sent: performance.now(), resolve, reject });
      conn.transport?.send(JSON.stringify({ type: "ping" }));
    });
  }

  #begin() {
    this.#attempt = 0;
    this.#choice.begin();
    globalThis.addEventListener?.("online", this.#nudge);
    globalThis.addEventListener?.("offline", this.#nudge);
    globalThis.document?.addEventListener("visibilitychange", this.#nudge);
    this.#dial();
  }

  /**
   * @param {string} [token] one that is known to be good; else the next is asked for
   * @param {import("./choice.js").Kind} kind
   */
  async #dial(token, kind = this.#choice.next) {
    /** @type {Connection} */
    const conn = { kind, names: [], version: this.#version, pings: [], heard: 0, heartbeat: 0 };
    this.#conn = conn;
    // One stream of events that follows another is not worth a word.
    if (this.#state !== "open" || conn.kind !== "sse") this.#become("connecting");
    conn.watchdog = setTimeout(() => this.#abandon(conn, "no answer"), CONNECT_TIMEOUT);
    try {
      conn.token = token ?? await this.#token();
    } catch (err) {
      if (conn !== this.#conn) return;
      this.#emit("error", { code: "no-token", detail: String(err) });
      this.#abandon(conn, "no token");
      return;
    }
    if (conn === this.#conn) this.#connect(conn); // else closed or abandoned meanwhile
  }

  /** @param {Connection} conn */
  #connect(conn) {
    const mine = () => conn === this.#conn;
    /** @type {import("./transport.js").Listener} */
    const listener = {
      opened: () => clearTimeout(conn.opening),
      heard: () => { conn.heard = performance.now(); },
      frame: (text) => mine() && this.#receive(conn, text),
      end: (code, reason, detail) => mine() && this.#lost(conn, code, reason, detail),
    };
    const { WebSocket } = this.#options;
    if (conn.kind === "sse" || !WebSocket) {
      conn.transport = eventStream(this.#eventsURL(conn), listener);
      return;
    }
    try {
      conn.transport = webSocket(WebSocket, this.#url(conn), listener);
    } catch (err) { // a forbidden port, ws: from an https: page, a policy: the next one would fare no better
      this.#emit("error", { code: "no-connection", detail: String(err) });
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

  /** @param {Connection} conn */
  #url(conn) {
    const url = new URL(this.#base);
    const covered = [...this.#wanted].filter(([, since]) => since === undefined).map(([name]) => name);
    if (covered.length > 0) conn.since = this.#id ?? this.#options.since;
    else covered.push(...this.channels.slice(0, 1)); // to name none would mean `broadcast`
    for (const name of batches(covered, MAX_URL)[0] ?? []) url.searchParams.append("channel", name);
    if (conn.since) url.searchParams.set("since", conn.since);
    if (conn.token) url.searchParams.set("token", conn.token);
    return url;
  }

  /**
   * What the next stream of events is to follow, and from where. One `since` serves all names of a stream, so where they
   * have come to different places it is the oldest, and #sift takes out what came before.
   *
   * @param {Connection} conn
   */
  #eventsURL(conn) {
    const base = this.#id ?? this.#options.since;
    const owed = this.channels.filter((name) => this.#wanted.get(name) !== undefined);
    const covered = this.channels.filter((name) => this.#wanted.get(name) === undefined && !this.#untried.has(name));
    const [first] = this.#untried;
    if (first !== undefined) {
      conn.trial = true;
      conn.since = this.#wanted.get(first);
      const alike = [...this.#untried].filter((name) => this.#wanted.get(name) === conn.since);
      conn.names = this.#oneByOne ? [first] : batches(alike, MAX_URL)[0];
    } else if (covered.length > 0 && (base === undefined || base === "last")) {
      conn.since = base;
      conn.names = batches(covered, MAX_URL)[0];
      conn.partial = owed.length > 0; // until there is an id to compare theirs with
    } else {
      conn.names = batches([...covered, ...owed], MAX_URL)[0] ?? [];
      conn.since = oldest(conn.names.map((name) => /** @type {string} */ (this.#wanted.get(name) ?? base)));
      conn.shared = conn.names.some((name) => owed.includes(name));
    }
    const url = new URL(this.#base);
    url.protocol = url.protocol.replace("ws", "http");
    url.pathname = url.pathname.replace(/[^/]*$/, "sse");
    for (const name of conn.names.length > 0 ? conn.names : [""]) url.searchParams.append("channel", name);
    if (conn.since) url.searchParams.set("since", conn.since);
    if (conn.token) url.searchParams.set("token", conn.token);
    return url;
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
      this.#emit("error", { code: "bad-frame", detail: String(err) });
      return;
    }
    switch (frame.type) {
      case undefined:
        if (conn.shared && frame.id !== undefined) {
          this.#sift(conn, frame);
          break;
        }
        this.#emit("message", frame);
        // After the handlers: a page that dies in one sees the message again. A trial says nothing about other channels.
        if (!conn.trial) this.#keep(frame.id);
        break;
      case "welcome":
        this.#welcome(conn, frame);
        break;
      case "subscribed":
        // Its id is not kept: it says nothing about the other channels.
        if (this.#wanted.has(frame.channel)) this.#wanted.set(frame.channel, undefined);
        this.#emit("subscribed", frame);
        break;
      case "unsubscribed":
        // With a reason it is the gateway's wish; asking again in the URL would end the next connection.
        if (frame.reason) this.#wanted.delete(frame.channel);
        this.#emit("unsubscribed", frame);
        break;
      case "gap":
        if (!conn.trial) this.#gap(conn, frame);
        break;
      case "place":
        if (conn.trial) this.#tried(conn, frame.id);
        else this.#placed(conn, frame.id);
        break;
      case "error":
        conn.error = frame;
        // A refused subscription is over. Before the welcome frame the fault is in the URL, and the close code decides.
        if (conn.welcomed && REFUSALS.has(frame.code)) this.#wanted.delete(frame.channel);
        this.#emit("error", frame);
        break;
      case "authenticated":
        this.#emit("authenticated", frame);
        break;
      case "pong": {
        const ping = conn.pings.shift();
        ping?.resolve(conn.heard - ping.sent);
        break;
      }
    }
  }

  /**
   * @param {Connection} conn
   * @param {Welcome} frame
   */
  #welcome(conn, frame) {
    conn.welcomed = conn.heard;
    conn.heartbeat = 1000 * (frame.heartbeat || HEARTBEAT);
    if (conn.kind === "sse") this.#choice.welcomed();
    if (conn.trial) {
      conn.resumed = frame.resumed;
      if (conn.since !== "last") this.#tried(conn, conn.since ?? frame.id); // else its place follows
      return;
    }
    // With since, what was missed is still on its way: a connection that ends now must ask for the same again.
    if (conn.since === undefined) this.#keep(frame.id);
    this.#watch(conn);
    this.#refreshLater(conn);
    if (conn.kind === "websocket") {
      this.#untried.clear();
      this.#reconcile(conn, frame);
    } else {
      this.#recheckLater(conn);
      this.#refuseRest(conn, frame);
    }
    if (this.#state !== "open") this.#become("open");
    this.#emit("welcome", frame);
    if (frame.resumed) this.#emit("resumed", frame);
    if (conn.version !== this.#version) this.#redial(conn);
    else if (conn.since !== "last") this.#placed(conn, this.#id);
  }

  /**
   * Makes the connection follow what is wanted: names that did not fit into the URL, or came and went while it was on
   * its way, and subscriptions that the last connection left unanswered.
   *
   * @param {Connection} conn
   * @param {Welcome} frame
   */
  #reconcile(conn, frame) {
    this.#send(conn, "unsubscribe", frame.channels.filter((name) => !this.#wanted.has(name)));
    /** @type {Map<string, string[]>} */
    const missing = new Map();
    for (const [name, owed] of this.#wanted) {
      if (owed === undefined && frame.channels.includes(name)) continue;
      const since = owed ?? conn.since ?? frame.id;
      this.#wanted.set(name, since);
      missing.set(since, [...(missing.get(since) ?? []), name]);
    }
    for (const [since, names] of missing) this.#send(conn, "subscribe", names, since);
  }

  /**
   * What is followed over Server-Sent Events changed: another stream takes over, one for all changes of this turn. One
   * that is on its way is let in first.
   *
   * @param {Connection} conn
   */
  #changed(conn) {
    this.#version++;
    if (conn.welcomed !== undefined) queueMicrotask(() => this.#redial(conn));
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

  /**
   * The gateway lets us follow the names of a trial; now they join the others.
   *
   * @param {Connection} conn
   * @param {string} place from where they are still owed everything
   */
  #tried(conn, place) {
    if (conn.version === this.#version) {
      for (const name of conn.names) {
        this.#untried.delete(name);
        this.#wanted.set(name, place);
      }
      if (this.#untried.size === 0) this.#oneByOne = false;
      for (const channel of conn.names) {
        this.#emit("subscribed", { type: "subscribed", channel, resumed: conn.resumed === true, id: place });
      }
    }
    this.#redial(conn);
  }

  /**
   * The gateway does not let us follow one of the names of a trial.
   *
   * @param {Connection} conn
   * @param {number} code
   * @param {string} [detail]
   */
  #refused(conn, code, detail = "") {
    const [channel] = conn.names;
    if (conn.names.length > 1) {
      this.#oneByOne = true;
    } else {
      this.#untried.delete(channel);
      this.#wanted.delete(channel);
      const fault = code === 1008 ? "forbidden" : conn.since === undefined ? "bad-channel" : "bad-since";
      this.#emit("error", { code: fault, detail, channel });
    }
    this.#redial(conn);
  }

  /**
   * A stream of events has come to a place. If names had to wait until there is one, now they join.
   *
   * @param {Connection} conn
   * @param {string | undefined} id
   */
  #placed(conn, id) {
    this.#keep(id);
    if (conn.partial && this.#id !== undefined) this.#redial(conn);
  }

  /**
   * Names that did not fit into the URL of a stream are owed everything from here on, over a WebSocket.
   *
   * @param {Connection} conn
   * @param {Welcome} frame
   */
  #refuseRest(conn, frame) {
    if (conn.partial) return;
    for (const [name, owed] of this.#wanted) {
      if (conn.names.includes(name) || this.#untried.has(name)) continue;
      this.#wanted.set(name, owed ?? this.#id ?? conn.since ?? frame.id);
      this.#emit("error", { code: "limit", detail: "Over Server-Sent Events no more channels fit into the URL.", channel: name });
    }
  }

  /**
   * A message of a stream whose names began at different places: hands it over unless it came before.
   *
   * @param {Connection} conn
   * @param {Message & {id: string}} message
   */
  #sift(conn, message) {
    const { id, channel } = message;
    const ahead = this.#id === undefined || isNewer(id, this.#id);
    const after = (/** @type {string | undefined} */ place) => (place === undefined ? ahead : place === "all" || isNewer(id, place));
    const names = conn.names.filter((name) => this.#wanted.has(name) && !this.#untried.has(name));
    if (names.some((name) => covers(name, channel) && after(this.#wanted.get(name)))) this.#emit("message", message);
    if (conn !== this.#conn) return; // a handler closed it
    for (const name of names) {
      const owed = this.#wanted.get(name);
      if (owed !== undefined && after(owed)) this.#wanted.set(name, ahead ? undefined : id);
    }
    this.#keep(id);
    conn.shared = names.some((name) => this.#wanted.get(name) !== undefined);
  }

  /**
   * @param {Connection} conn
   * @param {Gap} frame
   */
  #gap(conn, frame) {
    const another = this.#id?.split("-")[0] !== frame.id.split("-")[0];
    if (conn.shared && !another) {
      // The gap of those who came from further back.
      for (const name of conn.names) {
        const owed = this.#wanted.get(name);
        if (owed === undefined || this.#untried.has(name) || (owed !== "all" && !isNewer(frame.id, owed))) continue;
        this.#wanted.set(name, frame.id);
        this.#emit("gap", { ...frame, channel: name });
      }
      // The others may still be given what is missing here.
      if (isNewer(frame.id, this.#id)) this.#redial(conn);
      return;
    }
    if (conn.shared) { // another stream: whatever place they had is gone
      for (const name of conn.names) if (this.#wanted.has(name)) this.#wanted.set(name, undefined);
      conn.shared = false;
    }
    // Its id holds even if it is not newer: a stream that was restored from a backup has lost its end. A gap of one
    // channel says nothing about the others.
    if (frame.channel === undefined) this.#store(frame.id);
    this.#emit("gap", frame);
  }

  /**
   * @param {Connection} conn
   * @param {"subscribe" | "unsubscribe"} type
   * @param {string[]} names
   * @param {string} [since]
   */
  #send(conn, type, names, since) {
    for (const channels of batches(names, MAX_FRAME - 256)) { // leaves room for the other members
      const named = channels.length === 1 ? { channel: channels[0] } : { channels };
      conn.transport?.send(JSON.stringify({ type, ...named, since }));
    }
  }

  /** @param {string | undefined} id */
  #keep(id) {
    if (id !== undefined && isNewer(id, this.#id)) this.#store(id);
  }

  /** @param {string | undefined} id */
  #store(id) {
    this.#id = id;
    try {
      if (id === undefined) this.#options.storage?.removeItem(this.#storageKey);
      else this.#options.storage?.setItem(this.#storageKey, id);
    } catch {
      // Full or forbidden: then it lives as long as the page.
    }
  }

  #restore() {
    try {
      const id = this.#options.storage?.getItem(this.#storageKey);
      return id && /^[0-9a-z-]{1,64}$/.test(id) ? id : undefined;
    } catch {
      return undefined;
    }
  }

  /** @param {Connection} conn of Server-Sent Events */
  #recheckLater(conn) {
    const { WebSocket } = this.#options;
    if (!this.#choice.free || !WebSocket) return;
    conn.recheck = setTimeout(() => this.#recheck(conn, WebSocket), this.#choice.recheck);
  }

  /**
   * Looks, beside the stream, whether a WebSocket gets through by now, and goes over to it.
   *
   * @param {Connection} conn
   * @param {new (url: string) => WebSocket} WebSocket
   */
  #recheck(conn, WebSocket) {
    const url = new URL(this.#base);
    url.searchParams.set("channel", ""); // none
    if (conn.token) url.searchParams.set("token", conn.token);
    const done = (/** @type {boolean} */ works) => {
      clearTimeout(conn.recheck);
      conn.probe?.close(1000);
      conn.probe = undefined;
      if (works) {
        this.#choice.unblock();
        this.#redial(conn, conn.token, "websocket");
      } else {
        this.#choice.block();
        this.#recheckLater(conn);
      }
    };
    conn.recheck = setTimeout(() => done(false), OPEN_TIMEOUT);
    try {
      conn.probe = webSocket(WebSocket, url, {
        opened() {},
        heard() {},
        frame: () => done(true),
        end: (code) => done(code !== 1006),
      });
    } catch {
      done(false);
    }
  }

  /**
   * Notices a connection that died without a word. The gateway's own pings are invisible to a page, so after two
   * heartbeats without a frame it asks. A stream of events has a comment each heartbeat.
   *
   * @param {Connection} conn
   */
  #watch(conn) {
    clearTimeout(conn.watchdog);
    const limit = 2 * conn.heartbeat;
    const quiet = performance.now() - conn.heard;
    conn.watchdog = setTimeout(() => {
      if (performance.now() - conn.heard < limit) this.#watch(conn);
      else this.#probe(conn);
    }, limit - quiet);
  }

  /** @param {Connection} conn */
  #probe(conn) {
    clearTimeout(conn.watchdog);
    if (conn.kind === "sse") {
      this.#abandon(conn, "no heartbeat");
      return;
    }
    const asked = performance.now();
    this.ping().catch(() => {}); // who asked is told by the state
    conn.watchdog = setTimeout(() => {
      if (conn.heard >= asked) this.#watch(conn);
      else this.#abandon(conn, "no pong");
    }, Math.min(conn.heartbeat, PONG_TIMEOUT));
  }

  /** The network or the page's visibility changed: look now, not when the timer comes. */
  #nudge = (/** @type {Event} */ event) => {
    if (globalThis.document?.visibilityState === "hidden") return;
    const conn = this.#conn;
    if (conn?.welcomed !== undefined && conn.kind === "sse") {
      // It cannot be asked. A new stream costs one request, so after a change of network it is made at once.
      if (event.type === "online") this.#redial(conn);
      else if (performance.now() - conn.heard >= 2 * conn.heartbeat) this.#probe(conn);
    } else if (conn?.welcomed !== undefined) {
      this.#probe(conn);
    } else if (this.#state === "waiting" && event.type !== "offline") {
      this.#wait({}, backoff(0)); // still with jitter: a whole office comes online at once
    }
  };

  /** @param {Connection} conn */
  #refreshLater(conn) {
    if (typeof this.#options.token !== "function" || !conn.token) return;
    const expires = expiry(conn.token);
    if (expires === undefined) return;
    const delay = Math.max(MIN_REFRESH, 0.8 * (expires - Date.now()));
    conn.refresh = setTimeout(() => this.#refresh(conn), Math.min(delay, MAX_TIMEOUT));
  }

  /**
   * Brings a fresh token before the old one expires. If that fails the old one still holds; it is tried again, and at
   * last the connection ends with 4002 and the next one brings a new token.
   *
   * @param {Connection} conn
   */
  async #refresh(conn) {
    try {
      const token = await this.#token();
      if (conn !== this.#conn) return;
      if (token && token !== conn.token) {
        if (conn.kind === "sse") {
          this.#redial(conn, token);
          return;
        }
        conn.token = token;
        conn.transport?.send(JSON.stringify({ type: "auth", token }));
      }
    } catch (err) {
      if (conn !== this.#conn) return;
      this.#emit("error", { code: "no-token", detail: String(err) });
    }
    this.#refreshLater(conn);
  }

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
    if (conn.trial && (code === 1008 || code === 4502)) {
      this.#refused(conn, code, detail);
      return;
    }
    // HTTP has one status for a token that is wrong and one that is over.
    if (conn.kind === "sse" && code === 4500 && (expiry(conn.token ?? "") ?? Infinity) < Date.now() + MAX_SKEW) {
      [code, reason] = [4002, "token-expired"];
    }
    this.#forget();
    if (conn.transport && !conn.answered) this.#choice.failed(code);
    const change = { code, reason, detail };
    // 4002 asks for a new token; a fixed one will not get any newer.
    if (!comesBack(code) || (code === 4002 && typeof this.#options.token !== "function")) {
      if (code === 4502) this.#store(undefined); // perhaps it was the id
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
   * @param {Partial<StateChange>} change
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
    clearTimeout(this.#timer);
    clearTimeout(conn?.watchdog);
    clearTimeout(conn?.opening);
    clearTimeout(conn?.refresh);
    clearTimeout(conn?.recheck);
    conn?.probe?.close(1000);
    if (conn?.kind === "websocket") { // what it leaves unanswered, a stream of events has to ask for
      for (const [name, since] of this.#wanted) if (since !== undefined) this.#untried.add(name);
    }
    for (const ping of conn?.pings ?? []) ping.reject(new Error("the connection ended"));
    return conn;
  }

  /** @param {Partial<StateChange>} change */
  #closed(change) {
    globalThis.removeEventListener?.("online", this.#nudge);
    globalThis.removeEventListener?.("offline", this.#nudge);
    globalThis.document?.removeEventListener("visibilitychange", this.#nudge);
    this.#become("closed", change);
  }

  /**
   * @param {State} state
   * @param {Partial<StateChange>} [change]
   */
  #become(state, change) {
    this.#state = state;
    this.#emit("state", { ...change, state, attempt: this.#attempt });
  }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {Events[T]} detail
   */
  #emit(type, detail) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) {
      try {
        handler(detail);
      } catch (err) {
        queueMicrotask(() => { throw err; });
      }
    }
  }
}

/**
 * Opens a connection to Herald and keeps it open.
 *
 * @param {string | URL} url
 * @param {Options} [options]
 */
export function connect(url, options) {
  return new Herald(url, options);
}

/**
 * @typedef {object} Connection
 * @property {import("./choice.js").Kind} kind
 * @property {import("./transport.js").Transport} [transport] missing while the token is fetched
 * @property {string} [token]
 * @property {string} [since] what the URL asked for
 * @property {boolean} [answered] whether any frame came
 * @property {number} [welcomed] when the welcome frame came; this and `heard` in performance.now() milliseconds
 * @property {number} heard when anything came last
 * @property {number} heartbeat milliseconds
 * @property {Fault} [error] the last error frame; it explains the close code that has its name
 * @property {{sent: number, resolve: (took: number) => void, reject: (err: Error) => void}[]} pings unanswered, oldest
 *   first
 * @property {ReturnType<typeof setTimeout>} [opening] until a WebSocket is open
 * @property {ReturnType<typeof setTimeout>} [watchdog]
 * @property {ReturnType<typeof setTimeout>} [refresh]
 *
 * Of Server-Sent Events only:
 * @property {string[]} names that stand in the URL
 * @property {number} version of what is followed; if it is older, another stream is to follow
 * @property {boolean} [trial] the names are new and on trial, see #untried
 * @property {boolean} [resumed] what the welcome of a trial said
 * @property {boolean} [partial] some names have to wait until the connection knows its own place
 * @property {boolean} [shared] `since` is older than the place of some names, see #sift
 * @property {ReturnType<typeof setTimeout>} [recheck]
 * @property {import("./transport.js").Transport} [probe] a WebSocket that looks whether it gets through
 */
