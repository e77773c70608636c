/**
 * What a client follows, and which answers it still waits for: what the next URL has to name, and what a connection has to
 * be told so that it follows what is wanted by now.
 *
 * A name is *covered* when the connection's `since` brings what it missed. Before that, and when the past of a channel is
 * asked for, it needs a subscription with a `since` of its own, which is asked for anew by each connection until the
 * gateway has answered it.
 */

import { MAX_FRAME, MAX_NAMES, MAX_URL, batches, covers } from "./protocol.js";

// How many frames go out in a second. The gateway accepts 50 in one of its seconds, which may have parts of two of ours.
const MAX_FRAMES = 20;

/**
 * @typedef {object} Entry
 * @property {boolean} covered
 * @property {string} [since] of the subscription that it needs; empty: from now on; undefined: it needs none
 * @property {import("./types.js").Connection} [asked] the connection that has asked for it
 */

export class Following {
  /** @type {Map<string, Entry>} */
  #entries = new Map();

  get names() { return [...this.#entries.keys()]; }

  /** @param {string} name */
  has(name) { return this.#entries.has(name); }

  /** @param {string} name */
  delete(name) { return this.#entries.delete(name); }

  /**
   * @param {string} name
   * @param {string} [since] undefined: the connection's `since` covers it
   */
  add(name, since) {
    this.#entries.set(name, { covered: since === undefined || this.#entries.get(name)?.covered === true, since });
  }

  /**
   * Puts into the URL of a connection what it is to follow, as far as it fits.
   *
   * @param {import("./types.js").Connection} conn
   * @param {URL} url
   * @param {string} [since] for the names that it covers
   */
  ask(conn, url, since) {
    let [count, bytes] = [0, 0];
    const fits = (/** @type {string} */ name, /** @type {string} */ text) => {
      const room = count < MAX_NAMES && bytes + text.length <= MAX_URL;
      if (room) [count, bytes] = [count + 1, bytes + text.length];
      else conn.unfit.add(name);
      return room;
    };
    for (const [name, { covered }] of this.#entries) {
      if (!covered || !fits(name, name)) continue;
      url.searchParams.append("channel", name);
      conn.names.add(name);
      conn.unconfirmed.add(name);
    }
    if (conn.names.size > 0 && since !== undefined) {
      conn.since = since;
      url.searchParams.set("since", since);
    }
    for (const [name, entry] of this.#entries) {
      if (entry.since === undefined || (entry.covered && !conn.names.has(name))) continue;
      const text = entry.since === "" && !name.includes("@") ? name : `${name}@${entry.since}`;
      if (!fits(name, text)) continue;
      url.searchParams.append("subscribe", text);
      conn.names.add(name);
      entry.asked = conn;
    }
    if (conn.names.size === 0) url.searchParams.append("channel", ""); // to name none would mean `broadcast`
  }

  /**
   * Makes a connection follow what is wanted by now, as far as frames may be sent in this second.
   *
   * @param {import("./types.js").Connection} conn
   * @param {(frame: object) => void} send
   * @returns {boolean} whether it does; over Server-Sent Events, which carry no frames, whether it did before
   */
  bring(conn, send) {
    const changes = this.#changes(conn, /** @type {string} */ (conn.since));
    if (conn.kind === "sse") return changes.length === 0;
    for (const { type, names, since } of changes) {
      const now = performance.now();
      if (now - conn.second >= 1000) [conn.second, conn.frames] = [now, 0];
      if (conn.frames === MAX_FRAMES) return false;
      conn.frames++;
      send({ type, ...(names.length === 1 ? { channel: names[0] } : { channels: names }), since });
      for (const name of names) {
        const entry = this.#entries.get(name);
        if (entry) entry.asked = conn;
        if (type === "subscribe") conn.names.add(name);
        else conn.names.delete(name);
      }
    }
    return true;
  }

  /**
   * @param {import("./types.js").Connection} conn
   * @param {string} start the connection's `since`: names that are not in its URL are asked for from there on
   * @returns {{type: "subscribe" | "unsubscribe", names: string[], since?: string}[]}
   */
  #changes(conn, start) {
    /** @type {Map<string, string[]>} */
    const missing = new Map();
    for (const [name, entry] of this.#entries) {
      if (conn.names.has(name) && (entry.since === undefined || entry.asked === conn)) continue;
      if (entry.since === undefined) Object.assign(entry, { covered: false, since: start });
      const since = /** @type {string} */ (entry.since);
      const alike = missing.get(since) ?? [];
      missing.set(since, alike);
      alike.push(name);
    }
    const room = MAX_FRAME - 256; // for the other members
    const gone = [...conn.names].filter((name) => !this.#entries.has(name));
    return [
      ...batches(gone, room).map((names) => ({ type: /** @type {const} */ ("unsubscribe"), names })),
      ...[...missing].flatMap(([since, all]) => batches(all, room).map((names) => (
        { type: /** @type {const} */ ("subscribe"), names, since: since || undefined }))),
    ];
  }

  /**
   * Postpones the names for which the URL of an event stream had no room, since no frame can be sent to it: the next
   * connection asks for them from this place on.
   *
   * @param {import("./types.js").Connection} conn
   * @param {string} since
   * @returns {string[]}
   */
  postpone(conn, since) {
    const names = this.names.filter((name) => conn.unfit.has(name));
    for (const name of names) {
      this.#entries.set(name, { covered: false, since: this.#entries.get(name)?.since || since, asked: conn });
      conn.names.add(name);
    }
    return names;
  }

  /**
   * Notes that a connection brings the newest message of its channels: if it ends before a channel's came, the next one
   * asks for it again.
   *
   * @param {import("./types.js").Connection} conn
   */
  awaitNewest(conn) {
    for (const name of conn.unconfirmed) {
      const entry = this.#entries.get(name);
      if (entry) Object.assign(entry, { since: "last", asked: conn });
    }
  }

  /**
   * A subscription is complete.
   *
   * @param {string} name
   */
  answered(name) {
    const entry = this.#entries.get(name);
    if (entry) Object.assign(entry, { covered: true, since: undefined, asked: undefined });
  }

  /**
   * A subscription was refused: what was followed before goes on.
   *
   * @param {import("./types.js").Connection} conn
   * @param {string} name
   */
  refused(conn, name) {
    const entry = this.#entries.get(name);
    if (entry?.covered) {
      entry.since = undefined;
    } else {
      this.#entries.delete(name);
      conn.names.delete(name);
    }
  }

  /**
   * A gap of one name: everything up to this id has come or is lost.
   *
   * @param {string} name
   * @param {string} id
   */
  skipped(name, id) {
    const entry = this.#entries.get(name);
    if (entry?.since !== undefined) entry.since = id;
  }

  /**
   * Whether a message brings a channel forward that is still behind: its id says nothing about the others.
   *
   * @param {string} channel
   */
  behind(channel) {
    let found = false;
    if ([...this.#entries.values()].every(({ covered }) => covered)) return found; // most of the time
    for (const [name, { covered }] of this.#entries) {
      if (!covers(name, channel)) continue;
      if (covered) return false;
      found = true;
    }
    return found;
  }

  /**
   * A connection is lost. Names that it was to follow from then on, and has not confirmed, are asked for from this id on.
   *
   * @param {import("./types.js").Connection} conn
   * @param {string} [id]
   */
  lost(conn, id) {
    for (const entry of this.#entries.values()) {
      if (entry.asked === conn && entry.since === "" && id !== undefined) entry.since = id;
    }
  }
}
