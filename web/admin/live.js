// What the page asks for again and again, and when it does not: while somebody paused it, while nobody sees the page, and
// while nobody is logged in. Then the console costs nothing.

import { aborted, session } from "./api.js";
import { effect, signal, untracked } from "./component.js";

export const paused = signal(false);
export const visible = signal(!document.hidden);
document.addEventListener("visibilitychange", () => { visible.value = !document.hidden; });

/** When the last answer came, of whatever was asked. @type {import("./component.js").Signal<Date | undefined>} */
export const fresh = signal(undefined);

/**
 * Asks now and then, until stop. A change of what ask reads from signals before its first await asks again at once.
 *
 * @template T
 * @param {(stop: AbortSignal) => Promise<T>} ask
 * @param {number} seconds 0: only when told, and when the signals change
 */
export function poll(ask, seconds) {
  /** @type {import("./component.js").Signal<T | undefined>} */
  const data = signal(undefined);
  const fault = signal(undefined);
  const busy = signal(false);
  const again = signal(0);
  let timer;
  /** @type {AbortController | undefined} */
  let running;

  const end = effect(() => {
    again.value;
    clearTimeout(timer);
    running?.abort();
    // Also while the page is paused: what a person asks for by another filter is answered once.
    if (!session.value || !visible.value) return;
    start();
  });

  function start() {
    const stop = new AbortController();
    running = stop;
    const answer = ask(stop.signal); // reads the signals that this effect follows
    untracked(() => { busy.value = true; });
    answer.then((value) => {
      data.value = value;
      fault.value = undefined;
      fresh.value = new Date();
    }, (err) => {
      if (!aborted(err)) fault.value = err;
    }).finally(() => {
      if (running !== stop) return;
      busy.value = false;
      if (seconds > 0) timer = setTimeout(tick, seconds * 1000);
    });
  }

  function tick() {
    if (paused.value) timer = setTimeout(tick, 250);
    else again.value++;
  }

  return {
    data,
    fault,
    busy,
    byItself: seconds > 0,
    refresh: () => { again.value++; },
    stop: () => {
      end();
      clearTimeout(timer);
      running?.abort();
      running = undefined;
    },
  };
}
