// Ports of this machine's loopback address.

import { once } from "node:events";
import { createServer } from "node:net";

// Below those that Linux gives to outgoing connections and to listeners on port 0 (32768 and up): one of them could get the
// port of a server that is being restarted.
const FIRST = 20_000;
const LAST = 32_000;

/** Listeners that keep a port of freePort for this process. */
const guards = [];

/**
 * A port where nobody listens now, and that no other process of these tests is given as long as this one runs: whoever holds
 * the odd port above it owns it, also while its server is restarted.
 */
export async function freePort() {
  for (;;) {
    const port = FIRST + 2 * Math.floor(Math.random() * (LAST - FIRST) / 2);
    const guard = await bind(port + 1);
    if (!guard) continue;
    const server = await bind(port);
    if (!server) {
      guard.close();
      continue;
    }
    server.close();
    await once(server, "close");
    guards.push(guard.unref());
    return port;
  }
}

/** A server that listens on the port; undefined where it is taken. */
function bind(port) {
  return new Promise((done) => {
    const server = createServer().on("error", () => done(undefined)).listen(port, "127.0.0.1", () => done(server));
  });
}

/** Has an HTTP server listen until the test ends, and returns its port. */
export async function listen(t, server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return server.address().port;
}
