/**
 * Handlers by the type of what they are told.
 */
export class Emitter {
  /** @type {Map<string, Set<(detail: any) => void>>} */
  #handlers = new Map();

  /**
   * @param {string} type
   * @param {(detail: any) => void} handler
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
  }

  /**
   * @param {string} type
   * @param {(detail: any) => void} handler
   */
  off(type, handler) {
    this.#handlers.get(type)?.delete(handler);
  }

  /**
   * @param {string} type
   * @param {any} detail
   */
  emit(type, detail) {
    const handlers = this.#handlers.get(type);
    for (const handler of [...(handlers ?? [])]) if (handlers?.has(handler)) call(handler, detail); // an earlier one may remove it
  }
}

/**
 * Calls a handler. What it throws is reported as uncaught, and harms nobody else.
 *
 * @template T
 * @param {((detail: T) => void) | undefined} handler
 * @param {T} detail
 */
export function call(handler, detail) {
  try {
    handler?.(detail);
  } catch (err) {
    queueMicrotask(() => { throw err; });
  }
}
