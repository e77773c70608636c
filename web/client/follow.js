/**
 * State and stream without a race, see Herald.follow(). The order does it: first the subscription, whose `subscribed` names
 * a place in the stream; then the load, during which messages wait. Whatever changed before that place is in what was
 * loaded, whatever changed later comes as a message.
 */

import { call } from "./emitter.js";
import { backoff, covers, isNewer } from "./protocol.js";

// So many messages may wait for one load; if more come it begins anew.
const MAX_WAITING = 10_000;

/**
 * Who follows a channel of a client by follow(), and whether its subscription began with the first of them: it ends with
 * the last.
 *
 * @type {WeakMap<import("./herald.js").Herald, Map<string, {count: number, began: boolean}>>}
 */
const shares = new WeakMap();

/**
 * @param {import("./herald.js").Herald} client
 * @param {import("./emitter.js").Emitter} events of the client
 * @param {string} channel
 * @param {{load: (id: string | undefined, signal: AbortSignal) => any, state?: (state: any) => void, message?: (message: import("./types.js").Message) => void}} handlers
 * @param {string | undefined} confirmed the id of the channel's subscription, if the client follows it already
 * @returns {() => void}
 */
export function follow(client, events, channel, { load, state, message }, confirmed) {
  if (typeof load !== "function") throw new TypeError("follow() needs a load function");
  /** @type {import("./types.js").Message[] | undefined} what waits for the load; undefined: it is done */
  let waiting = [];
  /** @type {AbortController | undefined} of the newest load: what an earlier one brings no longer counts */
  let current;
  let failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  /** A new load, from a place on. @param {string | undefined} id */
  const begin = (id) => {
    cancel();
    waiting = [];
    current = new AbortController();
    run(id, current);
  };

  const cancel = () => {
    clearTimeout(timer);
    current?.abort();
    current = undefined;
  };

  /** Loads, and tries it again; messages after the place wait all the while. */
  const run = async (/** @type {string | undefined} */ id, /** @type {AbortController} */ mine) => {
    try {
      const loaded = await load(id, mine.signal);
      if (mine.signal.aborted) return;
      failures = 0;
      call(state, loaded);
    } catch (err) {
      if (mine.signal.aborted) return;
      timer = setTimeout(run, backoff(failures++), id, mine);
      fail(String(err));
      return;
    }
    const late = waiting ?? [];
    waiting = undefined;
    for (const m of late) if (!mine.signal.aborted) call(message, m);
  };

  const fail = (/** @type {string} */ detail) => events.emit("error", { code: "load-failed", detail, channel });

  const handle = (/** @type {import("./types.js").Message} */ m) => {
    if (!covers(channel, m.channel)) return;
    if (waiting === undefined) {
      call(message, m);
    } else if (waiting.push(m) > MAX_WAITING) {
      begin(m.id ?? client.id);
      fail(`More than ${MAX_WAITING} messages came before the state was loaded, so it is loaded anew.`);
    }
  };
  const subscribed = (/** @type {import("./types.js").Subscribed} */ frame) => {
    if (current === undefined && frame.channel === channel) begin(frame.id);
  };
  const missed = (/** @type {import("./types.js").Gap} */ frame) => {
    if (current !== undefined && (frame.channel === undefined || frame.channel === channel)) begin(frame.id);
  };
  const ended = (/** @type {import("./types.js").Unsubscribed} */ frame) => {
    if (frame.channel === channel) cancel(); // who subscribes again has missed something, and loads anew
  };

  const began = !client.channels.includes(channel);
  client.subscribe(channel); // may throw, so it comes first
  const shared = shares.get(client) ?? new Map();
  shares.set(client, shared);
  const share = shared.get(channel) ?? { count: 0, began };
  shared.set(channel, share);
  share.count++;
  events.on("message", handle);
  events.on("subscribed", subscribed);
  events.on("gap", missed);
  events.on("unsubscribed", ended);
  if (confirmed !== undefined) begin(client.id !== undefined && isNewer(client.id, confirmed) ? client.id : confirmed);

  let stopped = false;
  return () => {
    if (stopped) return;
    stopped = true;
    cancel();
    events.off("message", handle);
    events.off("subscribed", subscribed);
    events.off("gap", missed);
    events.off("unsubscribed", ended);
    if (--share.count > 0) return;
    shared.delete(channel);
    if (share.began) client.unsubscribe(channel);
  };
}
