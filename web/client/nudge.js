/**
 * Calls the handler when it is worth looking at a connection now, and not when a timer comes: the network came or went,
 * or the page is looked at again. Without a page it is never called.
 *
 * @param {(event: Event) => void} handler is not called while nobody sees the page
 * @returns {() => void} ends it
 */
export function onNudge(handler) {
  const { document } = globalThis;
  const seen = (/** @type {Event} */ event) => {
    if (document?.visibilityState !== "hidden") handler(event);
  };
  globalThis.addEventListener?.("online", seen);
  globalThis.addEventListener?.("offline", seen);
  document?.addEventListener("visibilitychange", seen);
  return () => {
    globalThis.removeEventListener?.("online", seen);
    globalThis.removeEventListener?.("offline", seen);
    document?.removeEventListener("visibilitychange", seen);
  };
}
