/**
 * Herald's client: receives messages over WebSocket, comes back by itself when the connection is lost, and goes on
 * where it was. One ES module without dependencies, for browsers and for Node.
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
 */

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
 * @property {new (url: string) => WebSocket} [WebSocket] the class to use where there is no global one (Node before 22)
 */

// Reconnecting: the first delay is up to half a second, the ceiling doubles up to half a minute.
const FIRST_DELAY = 500;
const MAX_DELAY = 30_000;
// A connection that lasted this long was steady: the next failure starts again at FIRST_DELAY. Without this a gateway
// that welcomes and then hangs up would be called twice a second for ever.
const STEADY = 10_000;
// From the first call of the token function to the welcome frame.
const CONNECT_TIMEOUT = 15_000;
// How long a pong may take, at most; the heartbeat where that is shorter.
const PONG_TIMEOUT = 10_000;
// A token is renewed after four fifths of the time that it has left, so a failed renewal is tried again before it
// expires; but not more often than this, whatever the two clocks think.
const MIN_REFRESH = 10_000;
// What the gateway says when it says nothing.
const HEARTBEAT = 25;
const MAX_TIMEOUT = 2 ** 31 - 1; // setTimeout fires at once beyond that

// PROTOCOL.md: 100 names in a URL or frame, 16 KiB a frame. Names in the URL are held to 4 KiB, since proxies refuse
// request lines over 8 KiB and the token wants room too; what does not fit is subscribed to by frame.
const MAX_NAMES = 100;
const MAX_FRAME = 16 << 10;
const MAX_URL = 4 << 10;

// Codes of error frames that refuse one subscription and leave the connection open.
const REFUSALS = new Set(["forbidden", "bad-channel", "bad-since", "limit"]);

/**
 * One subscription set on one Herald, whatever happens to the connection below. See connect().
 */
export class Herald {
  #base;
  #options;
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
   *   stay; `channel` counts as one of the channels.
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    this.#options = { WebSocket: globalThis.WebSocket, ...options };
    if (!this.#options.WebSocket) {
      throw new TypeError("there is no WebSocket here; give a class in options.WebSocket");
    }
    this.#base = new URL(url, globalThis.location?.href);
    this.#base.protocol = this.#base.protocol.replace("http", "ws");
    this.#base.hash = "";
    const named = [...this.#base.searchParams.getAll("channel"), ...(options.channels ?? [])];
    for (const name of ["channel", "since", "token"]) this.#base.searchParams.delete(name);
    this.#storageKey = `herald ${this.#base.href}`;
    this.#id = this.#restore();
    this.subscribe(named.length > 0 ? named : ["broadcast"]);
    this.open();
  }

  get state() { return this.#state; }

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
      this.#attempt = 0;
      globalThis.addEventListener?.("online", this.#nudge);
      globalThis.addEventListener?.("offline", this.#nudge);
      globalThis.document?.addEventListener("visibilitychange", this.#nudge);
    } else if (this.#state === "waiting") {
      clearTimeout(this.#timer);
    } else {
      return;
    }
    this.#dial();
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
    const names = [channel].flat().filter((name) => since !== undefined || !this.#wanted.has(name));
    for (const name of names) {
      const fault = channelFault(name);
      if (fault) throw new TypeError(fault);
    }
    for (const name of names) this.#wanted.set(name, since);
    if (this.#conn?.welcomed) this.#send(this.#conn, "subscribe", names, since);
  }

  /** @param {string | string[]} channel */
  unsubscribe(channel) {
    const names = [channel].flat().filter((name) => this.#wanted.delete(name));
    if (this.#conn?.welcomed) this.#send(this.#conn, "unsubscribe", names);
  }

  /**
   * @returns {Promise<number>} the round trip to the gateway in milliseconds; rejected if the connection is not open
   *   or ends first
   */
  ping() {
    const conn = this.#conn;
    if (!conn?.welcomed) return Promise.reject(new Error("not connected"));
    return new Promise((resolve, reject) => {
      conn.pings.push({ sent: performance.now(), resolve, reject });
      conn.transport?.send(JSON.stringify({ type: "ping" }));
    });
  }

  async #dial() {
    /** @type {Connection} */
    const conn = { pings: [], heard: 0, heartbeat: 0 };
    this.#conn = conn;
    this.#become("connecting");
    conn.watchdog = setTimeout(() => this.#abandon(conn, "no answer"), CONNECT_TIMEOUT);
    try {
      conn.token = await this.#token();
    } catch (err) {
      if (conn !== this.#conn) return;
      this.#emit("error", { code: "no-token", detail: String(err) });
      this.#abandon(conn, "no token");
      return;
    }
    if (conn !== this.#conn) return; // closed or abandoned meanwhile
    try {
      conn.transport = webSocket(
        this.#options.WebSocket,
        this.#url(conn),
        (text) => conn === this.#conn && this.#receive(conn, text),
        (code, reason) => conn === this.#conn && this.#lost(conn, code, reason),
      );
    } catch (err) { // a forbidden port, ws: from an https: page: the next attempt would fare no better
      this.#forget();
      this.#emit("error", { code: "no-connection", detail: String(err) });
      this.#closed({ code: 1006, detail: String(err) });
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
   * @param {Connection} conn
   * @param {string} text
   */
  #receive(conn, text) {
    conn.heard = performance.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (err) {
      this.#emit("error", { code: "bad-frame", detail: String(err) });
      return;
    }
    switch (frame.type) {
      case undefined:
        this.#emit("message", frame);
        this.#keep(frame.id); // after the handlers: a page that dies in one sees the message again
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
        // Its id holds even if it is not newer: a stream that was restored from a backup has lost its end. A gap of one
        // channel says nothing about the others.
        if (frame.channel === undefined) this.#store(frame.id);
        this.#emit("gap", frame);
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
    // With since, what was missed is still on its way: a connection that ends now must ask for the same again.
    if (conn.since === undefined) this.#keep(frame.id);
    this.#watch(conn);
    this.#refreshLater(conn);
    this.#reconcile(conn, frame);
    this.#become("open");
    this.#emit("welcome", frame);
    if (frame.resumed) this.#emit("resumed", frame);
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

  /**
   * Notices a connection that died without a word. The gateway's own pings are invisible to a page, so after two
   * heartbeats without a frame it asks.
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
    if (this.#conn?.welcomed) {
      this.#probe(this.#conn);
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
   */
  #lost(conn, code, reason) {
    this.#forget();
    const detail = conn.error?.code === reason ? conn.error.detail : undefined;
    const change = { code, reason, detail };
    // 4002 asks for a new token; a fixed one will not get any newer.
    if (!comesBack(code) || (code === 4002 && typeof this.#options.token !== "function")) {
      if (code === 4502) this.#store(undefined); // perhaps it was the id
      this.#closed(change);
      return;
    }
    if (conn.welcomed !== undefined && performance.now() - conn.welcomed > STEADY) this.#attempt = 0;
    this.#wait(change, backoff(this.#attempt++));
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
    clearTimeout(conn?.refresh);
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
 * Why a name is neither a channel nor a pattern; undefined if it is one. For a literal channel see isPattern.
 *
 * @param {string} name
 * @returns {string | undefined} a sentence for people
 */
export function channelFault(name) {
  if (name === "") return "A channel needs a name.";
  if (/[^\x21-\x7e]/.test(name)) return "A channel has only printable ASCII characters, without spaces.";
  if (name.length > 255) return `A channel has at most 255 characters; this one has ${name.length}.`;
  if (/["'`\\]/.test(name)) return "A channel has no quotes and no backslash.";
  const tokens = name.split(".");
  if (tokens.includes("")) return "There is an empty token: dots separate, one at a time.";
  const wrong = (/** @type {string} */ token, /** @type {number} */ i) =>
    /[*>]/.test(token) && token !== "*" && !(token === ">" && i === tokens.length - 1);
  if (tokens.some(wrong)) return "A wildcard is a whole token: * is any one, and > at the end is all that follow.";
  return undefined;
}

/**
 * @param {string} name a valid name
 * @returns {boolean} whether it has wildcards, so that one can follow it but not publish to it
 */
export function isPattern(name) {
  return /[*>]/.test(name);
}

/**
 * Whether id is to replace kept. Ids are EPOCH-SEQUENCE. Of one epoch the larger sequence is newer, compared as text
 * since 64 bits do not fit into a number. Another epoch is another stream: the gateway only ever sends ids of the one
 * that it has now, so that one wins, whichever clock made them.
 *
 * @param {string} id
 * @param {string | undefined} kept
 */
export function isNewer(id, kept) {
  if (kept === undefined) return true;
  const [epoch, seq = ""] = id.split("-");
  const [keptEpoch, keptSeq = ""] = kept.split("-");
  if (epoch !== keptEpoch) return true;
  return seq.length === keptSeq.length ? seq > keptSeq : seq.length > keptSeq.length;
}

// These complain about the client: the same again would end the same way.
const STAY_AWAY = new Set([1000, 1002, 1003, 1007, 1008, 1009]);

/**
 * Whether to reconnect after this close code.
 *
 * @param {number} code
 */
export function comesBack(code) {
  return !STAY_AWAY.has(code) && !(code >= 4500 && code <= 4999);
}

/**
 * How long to wait before the next attempt: anything up to a ceiling that doubles each time. The whole range is used
 * ("full jitter"), so that the clients of a gateway that died do not come back in waves.
 *
 * @param {number} attempt counted from 0
 * @returns {number} milliseconds
 */
export function backoff(attempt) {
  return Math.random() * Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempt);
}

/**
 * @param {string} token a JWT
 * @returns {number | undefined} when it expires, Unix milliseconds, if it can be read
 */
function expiry(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload));
    return Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Names in groups of at most MAX_NAMES and about maxBytes, in order. Names are ASCII.
 *
 * @param {string[]} names
 * @param {number} maxBytes
 */
function batches(names, maxBytes) {
  /** @type {string[][]} */
  const groups = [];
  let bytes = 0;
  for (const name of names) {
    const group = groups.at(-1);
    bytes += name.length + 3; // two quotes and a comma
    if (group && group.length < MAX_NAMES && bytes <= maxBytes) {
      group.push(name);
    } else {
      groups.push([name]);
      bytes = name.length + 3;
    }
  }
  return groups;
}

/**
 * @typedef {object} Connection
 * @property {Transport} [transport] missing while the token is fetched
 * @property {string} [token]
 * @property {string} [since] what the URL asked for
 * @property {number} [welcomed] when the welcome frame came; this and `heard` in performance.now() milliseconds
 * @property {number} heard when anything came last
 * @property {number} heartbeat milliseconds
 * @property {Fault} [error] the last error frame; it explains the close code that has its name
 * @property {{sent: number, resolve: (took: number) => void, reject: (err: Error) => void}[]} pings unanswered, oldest
 *   first
 * @property {ReturnType<typeof setTimeout>} [watchdog]
 * @property {ReturnType<typeof setTimeout>} [refresh]
 */

/**
 * A transport carries frames. It calls frame(text) for each that comes and end(code, reason) when it is over; after
 * close() it calls neither.
 *
 * @typedef {object} Transport
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 */

/**
 * @param {new (url: string) => WebSocket} WebSocket
 * @param {URL} url
 * @param {(text: string) => void} frame
 * @param {(code: number, reason: string) => void} end
 * @returns {Transport}
 */
function webSocket(WebSocket, url, frame, end) {
  const ws = new WebSocket(url.href);
  ws.onmessage = (event) => frame(event.data);
  ws.onclose = (event) => end(event.code, event.reason);
  ws.onerror = () => {}; // close follows and says as much; Node's ws throws where nobody listens
  return {
    send: (text) => ws.send(text),
    close(code) {
      ws.onmessage = ws.onclose = null;
      ws.close(code);
    },
  };
}
