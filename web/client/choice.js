/**
 * Which transport to connect over. WebSocket is the better one; Server-Sent Events are for where it does not get through.
 *
 * A gateway that is down answers to neither, so after two attempts without an answer they take turns, and the first that is
 * welcomed has it. If that were the events, they stay the first choice for a while, also on the next page; then it is time
 * to look whether a WebSocket gets through by now.
 */

/** @typedef {"websocket" | "sse"} Kind */

// When to look: after this time, and up to twice of it. It is the shorter one if a WebSocket worked before, since then most
// likely the gateway was away, and came back just when it was the turn of the events.
const RECHECK = 300_000;
const RECHECK_SOON = 15_000;

export class Choice {
  #options;
  #key;
  /** Attempts in a row that nobody answered. */
  #unanswered = 0;
  /** Whether a WebSocket ever worked here. */
  #worked = false;
  /** Until when it counts as blocked, Unix milliseconds. */
  #blocked = 0;

  /**
   * @param {import("./types.js").Options} options are read again each time: a WebSocket class may turn out to be none
   * @param {string} key in the storage
   */
  constructor(options, key) {
    this.#options = options;
    this.#key = `${key} blocked`;
    try {
      const blocked = Number(options.storage?.getItem(this.#key));
      if (blocked < Date.now() + 2 * RECHECK) this.#blocked = blocked; // else the clock was wrong
    } catch {
      // Forbidden: it is found out again.
    }
  }

  /** @returns {Kind} what to try next */
  get next() {
    const { transport = "auto", WebSocket } = this.#options;
    if (transport !== "auto") return transport;
    if (!WebSocket) return "sse";
    const others = this.#unanswered >= 2 && this.#unanswered % 2 === 0;
    return (Date.now() < this.#blocked) !== others ? "sse" : "websocket";
  }

  /** Whether there is one. */
  get free() { return (this.#options.transport ?? "auto") === "auto" && this.#options.WebSocket !== undefined; }

  /** Whether a WebSocket ever worked here. */
  get worked() { return this.#worked; }

  /** Milliseconds until it is time to look whether a WebSocket gets through. */
  get recheck() { return this.#blocked - Date.now(); }

  /** A series of attempts begins. */
  begin() {
    this.#unanswered = 0;
  }

  /**
   * A frame came.
   *
   * @param {Kind} kind
   */
  answered(kind) {
    this.#unanswered = 0;
    if (kind !== "websocket") return;
    this.#worked = true;
    this.unblock();
  }

  /**
   * An attempt ended without any frame.
   *
   * @param {number} code with a code of the gateway's, that was an answer
   */
  failed(code) {
    this.#unanswered = code === 1006 ? this.#unanswered + 1 : 0;
  }

  /** Server-Sent Events were welcomed. */
  welcomed() {
    if (this.#blocked <= Date.now()) this.block();
  }

  /** A WebSocket does not get through. */
  block() {
    if (!this.free) return;
    this.#blocked = Date.now() + (this.#worked ? RECHECK_SOON : RECHECK) * (1 + Math.random());
    try {
      this.#options.storage?.setItem(this.#key, String(this.#blocked));
    } catch {
      // Full or forbidden: then it lives as long as the page.
    }
  }

  /** A WebSocket gets through, or is worth a try. */
  unblock() {
    if (this.#blocked === 0) return;
    this.#blocked = 0;
    try {
      this.#options.storage?.removeItem(this.#key);
    } catch {
      // As above.
    }
  }
}
