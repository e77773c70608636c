// Stock Socket.IO clients against the real binary: what the pages of Herald's predecessor have, with nothing changed but
// the address.
//
//     HERALD_BIN=/path/to/herald node --test web/test/socketio.test.js

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { suite, test } from "node:test";
import { herald, until } from "./herald.js";

const require = createRequire(import.meta.url);

/** recovers: the client keeps its place and sends it when it comes back (4.6 and later). */
const clients = [
  { version: "4.8", io: require("socket.io-client").io, auth: true, recovers: true },
  { version: "4.0", io: require("socket.io-client-4.0").io, auth: true },
  { version: "3.1", io: require("socket.io-client-3").io, auth: true },
  { version: "2.5", io: require("socket.io-client-2") },
];
const ways = { "polling only": ["polling"], "WebSocket only": ["websocket"], upgrade: ["polling", "websocket"] };

const soon = { reconnectionDelay: 20, reconnectionDelayMax: 100, forceNew: true };

/** Connects, and keeps what comes: [event, ...arguments]. */
async function connect(t, { io }, url, options) {
  const socket = io(url, { ...soon, ...options });
  t.after(() => socket.close());
  const got = [];
  const log = [];
  for (const event of ["message", "created", "error"]) {
    socket.on(event, (...args) => args[0] instanceof Error || got.push([event, ...args])); // 2.x tells so, too, that it lost the server
  }
  for (const event of ["connect", "disconnect", "connect_error"]) socket.on(event, (what) => log.push(`${event} ${what ?? ""}`));
  await until(() => socket.connected || log.some((line) => line.startsWith("connect_error")));
  return { socket, got, log, transport: () => socket.io.engine.transport.name };
}

const data = (got) => got.map(([, value]) => value.data ?? value);

suite("Socket.IO", { timeout: 120_000 }, () => {
  for (const client of clients) {
    for (const [way, transports] of Object.entries(ways)) {
      test(`socket.io-client ${client.version}, ${way}: a POST arrives, also over a restart`, async (t) => {
        const server = await herald(t);
        const { socket, got, log, transport } = await connect(t, client, server.origin, { transports });
        assert.deepEqual(log, ["connect "]);
        await until(() => transport() === transports.at(-1));
        await server.notify("one");
        await server.notify({ text: "two", umlaut: "ü😀" });
        await until(() => got.length === 2);
        assert.deepEqual(got.map(([event]) => event), ["message", "message"]);
        assert.deepEqual(got[0][1], { data: "one" });
        assert.deepEqual(got[1][1], { data: { text: "two", umlaut: "ü😀" } });
        assert.equal(got[0][2].channel, "broadcast");

        await server.kill();
        await until(() => !socket.connected);
        await server.start();
        await until(() => socket.connected);
        await server.notify("three");
        await until(() => got.length === 3);
        assert.deepEqual(data(got), ["one", { text: "two", umlaut: "ü😀" }, "three"]);
        if (client.recovers) assert.equal(socket.recovered, true);
      });
    }
  }
});
