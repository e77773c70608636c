/**
 * State and stream without a race, see Herald.follow(). The order does it: first the subscription, whose `subscribed` names
 * a place in the stream; then the load, during which messages wait. Whatever changed before that place is in what was
 * loaded, whatever changed later comes as a message.
 */

import { call } from "./emitter.js";
import { backoff, covers } from "./protocol.js";

// So many messages may wait for one load; if more come it begins anew.
const MAX_WAITING = 10_000;

/**
 * @param {import("./herald.js").Herald} client
 * @param {import("./emitter.js").Emitter} events of the client
 * @param {string} channel
 * @param {{load: (id: string | undefined) => any, state?: (state: any) => void, message?: (message: import("./types.js").Message) => void}} handlers
 * @param {boolean} followed whether the client follows the channel already
 * @returns {() => void}
 */
export function follow(client, events, channel, { load, state, message }, followed) {
  if (typeof load !== "function") throw new TypeError("follow() needs a load function");
  /** @type {import("./types.js").Message[] | undefined} what waits for the load; undefined: it is done */
  let waiting = [];
  let round = 0; // counts loads: what an earlier one brings no longer counts
  let failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const begin = async (/** @type {string | undefined} */ id) => {
    const mine = ++round;
    clearTimeout(timer);
    waiting = [];
    try {
      const loaded = await load(id);
      if (mine !== round) return;
      failures = 0;
      call(state, loaded);
    } catch (err) {
      if (mine !== round) return;
      timer = setTimeout(begin, backoff(failures++), id);
      events.emit("error", { code: "load-failed", detail: String(err), channel });
      return;
    }
    const late = waiting;
    waiting = undefined;
    for (const m of late) if (mine === round) call(message, m);
  };

  const take = (/** @type {import("./types.js").Message} */ m) => {
    if (!covers(channel, m.channel)) return;
    if (waiting === undefined) call(message, m);
    else if (waiting.push(m) > MAX_WAITING) begin(m.id);
  };
  const confirmed = (/** @type {import("./types.js").Subscribed} */ frame) => {
    if (round === 0 && frame.channel === channel) begin(frame.id);
  };
  const missed = (/** @type {import("./types.js").Gap} */ frame) => {
    if (round > 0 && (frame.channel === undefined || frame.channel === channel)) begin(frame.id);
  };
  events.on("message", take);
  events.on("subscribed", confirmed);
  events.on("gap", missed);
  const began = !client.channels.includes(channel);
  try {
    client.subscribe(channel);
  } catch (err) {
    stop();
    throw err;
  }
  if (followed) begin(client.id);
  return stop;

  function stop() {
    round++;
    clearTimeout(timer);
    events.off("message", take);
    events.off("subscribed", confirmed);
    events.off("gap", missed);
    if (began) client.unsubscribe(channel);
  }
}
