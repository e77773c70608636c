/**
 * Pings of one connection that wait for their pong, oldest first.
 */
export class Pings {
  /** @type {{sent: number, resolve: (took: number) => void, reject: (err: Error) => void}[]} */
  #waiting = [];

  /**
   * @param {() => void} send
   * @returns {Promise<number>} the round trip in milliseconds; rejected if the connection ends first
   */
  ask(send) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ sent: performance.now(), resolve, reject });
      send();
    });
  }

  /** @param {number} heard when the pong came */
  answered(heard) {
    const ping = this.#waiting.shift();
    ping?.resolve(heard - ping.sent);
  }

  ended() {
    for (const ping of this.#waiting.splice(0)) ping.reject(new Error("the connection ended"));
  }
}
