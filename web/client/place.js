/**
 * The newest id that a client has seen, from which its next connection resumes; and its copy in a storage, from which the
 * next page does.
 */

import { isNewer } from "./protocol.js";

export class Place {
  #storage;
  #key;
  /** @type {string | undefined} */
  #id;

  /**
   * @param {import("./types.js").Options["storage"]} storage
   * @param {string} key
   */
  constructor(storage, key) {
    this.#storage = storage;
    this.#key = key;
    try {
      const id = storage?.getItem(key);
      if (id && /^[0-9a-z-]{1,64}$/.test(id)) this.#id = id;
    } catch {
      // Forbidden: then it lives as long as the page.
    }
  }

  get id() { return this.#id; }

  /**
   * Moves on, never back.
   *
   * @param {string | undefined} id
   */
  keep(id) {
    if (id !== undefined && isNewer(id, this.#id)) this.set(id);
  }

  /** @param {string | undefined} id */
  set(id) {
    this.#id = id;
    try {
      if (id === undefined) this.#storage?.removeItem(this.#key);
      else this.#storage?.setItem(this.#key, id);
    } catch {
      // Full or forbidden: then it lives as long as the page.
    }
  }
}
