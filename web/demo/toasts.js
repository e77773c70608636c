// Where toasts stand: in a corner, inside the window, and never over what somebody is using.

const MARGIN = 8; // pixels around what is in use
const CORNERS = ["bottom-right", "top-right", "bottom-left", "top-left"];
const CONTROLS = "a, button, input, textarea, select, summary, pre, [contenteditable]";

/** Where the pointer is; undefined while it is outside, or on a toast: then it is the toast that is in use. @type {{x: number, y: number} | undefined} */
let pointer;
/** @type {(() => void) | undefined} */
let again;

/**
 * Puts the list into the first corner where it covers nothing that is in use, and takes the oldest away as long as there is
 * none. It does so again whenever what is in use changes.
 *
 * @param {HTMLElement} list of toasts, oldest first
 * @param {(toast: Element | null) => void} dismiss
 */
export function arrange(list, dismiss) {
  again = () => place(list, dismiss);
  again();
}

/**
 * @param {HTMLElement} list
 * @param {(toast: Element | null) => void} dismiss
 */
function place(list, dismiss) {
  const frame = /** @type {HTMLElement} */ (list.parentElement);
  const used = inUse(list);
  while (list.children.length > 0) {
    for (const corner of CORNERS) {
      frame.dataset.corner = corner;
      const box = list.getBoundingClientRect();
      const inside = box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= document.documentElement.clientWidth;
      if (inside && !used.some((other) => meet(box, other))) return;
    }
    dismiss(list.firstElementChild);
  }
  frame.dataset.corner = CORNERS[0];
}

/**
 * @param {HTMLElement} list
 * @returns {DOMRect[]} what has the focus, and what the pointer is on
 */
function inUse(list) {
  const under = pointer ? document.elementsFromPoint(pointer.x, pointer.y).find((element) => !list.contains(element)) : undefined;
  return [document.activeElement, under]
    .map((element) => element?.closest(CONTROLS))
    .filter((element) => element && !list.contains(element))
    .map((element) => /** @type {Element} */ (element).getBoundingClientRect());
}

/**
 * @param {DOMRect} a
 * @param {DOMRect} b
 */
function meet(a, b) {
  return a.left < b.right + MARGIN && b.left < a.right + MARGIN && a.top < b.bottom + MARGIN && b.top < a.bottom + MARGIN;
}

let waits = false;
function soon() {
  if (waits || !again) return;
  waits = true;
  requestAnimationFrame(() => {
    waits = false;
    again?.();
  });
}

addEventListener("pointermove", (event) => {
  pointer = /** @type {Element} */ (event.target).closest?.(".toast") ? undefined : { x: event.clientX, y: event.clientY };
  if (pointer) soon();
});
document.documentElement.addEventListener("pointerleave", () => { pointer = undefined; });
addEventListener("focusin", soon);
addEventListener("scroll", soon, { passive: true, capture: true });
addEventListener("resize", soon);
