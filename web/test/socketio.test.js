// Stock Socket.IO clients against the real binary: what the pages of Herald's predecessor have, with nothing changed but
// the address.
//
//     HERALD_BIN=/path/to/herald node --test web/test/socketio.test.js

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { suite, test } from "node:test";
import { herald, open, patience, timeout, until } from "./herald.js";

const require = createRequire(import.meta.url);

/** recovers: the client keeps its place and sends it when it comes back (4.6 and later). */
const clients = [
  { version: "4.8", io: require("socket.io-client").io, auth: true, recovers: true },
  { version: "4.0", io: require("socket.io-client-4.0").io, auth: true },
  { version: "3.1", io: require("socket.io-client-3").io, auth: true },
  { version: "2.5", io: require("socket.io-client-2") },
];
const ways = { "polling only": ["polling"], "WebSocket only": ["websocket"], upgrade: ["polling", "websocket"] };

const soon = { reconnectionDelay: 20, reconnectionDelayMax: 100, timeout: patience, forceNew: true };

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

suite("Socket.IO", { timeout }, () => {
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

  test("channels by auth and by emit, with acknowledgements", async (t) => {
    const server = await herald(t);
    const { socket, got } = await connect(t, clients[0], server.origin, { auth: { channels: ["public.a"] } });
    const answer = await socket.emitWithAck("subscribe", ["public.b", "secret"]);
    assert.deepEqual([answer[0].channel, answer[1].error], ["public.b", "forbidden"]);
    await server.publish("public.a", { n: 1 }, "?event=created");
    await server.publish("public.b", { n: 2 }, "?event=created");
    await until(() => got.length === 2);
    assert.deepEqual(got.map(([event, value, details]) => [event, value.n, details.channel]), [["created", 1, "public.a"], ["created", 2, "public.b"]]);
  });

  for (const client of clients) {
    for (const [way, transports] of Object.entries(ways)) {
      test(`socket.io-client ${client.version}, ${way}: binary data arrives as bytes`, async (t) => {
        const server = await herald(t);
        const { got } = await connect(t, client, server.origin, { transports });
        const bytes = Buffer.from([0, 1, 2, 254, 255]);
        const headers = { "X-API-KEY": server.key, "Content-Type": "application/octet-stream" };
        assert.equal((await server.request("POST", "/v1/channels/broadcast", headers, bytes)).status, 200);
        await server.notify("text");
        await until(() => got.length === 2);
        assert.deepEqual(Buffer.from(got[0][1].data), bytes);
        assert.equal(got[0][2].channel, "broadcast");
        assert.deepEqual(got[1][1], { data: "text" });
      });
    }
  }

  test("what may not be followed is a connect_error", async (t) => {
    const server = await herald(t);
    const { log, socket } = await connect(t, clients[0], server.origin, { auth: { channels: ["secret"] } });
    assert.match(log[0], /^connect_error Error: .*needs a token/);
    assert.equal(socket.active, false);
  });

  test("after a goodbye it recovers; with another stream it does not, and says so", async (t) => {
    const server = await herald(t);
    const { socket, got } = await connect(t, clients[0], server.origin, {});
    await server.notify("one");
    await until(() => got.length === 1);
    await server.stop();
    await until(() => !socket.connected);
    await server.start();
    await server.notify("two");
    await until(() => got.length === 2 && socket.connected);
    assert.equal(socket.recovered, true);
    await server.renew();
    await until(() => socket.connected && !socket.recovered);
    await server.notify("three");
    await until(() => got.length === 3);
    assert.deepEqual(data(got), ["one", "two", "three"]);
  });

  test("the browser build in Chromium upgrades, and gets a notify", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server, "/", { bypassCSP: true });
    await page.addScriptTag({ path: require.resolve("socket.io-client/dist/socket.io.js") });
    await page.evaluate(() => {
      globalThis.got = [];
      globalThis.socket = io().on("message", ({ data }) => globalThis.got.push(data));
    });
    // Either may come first: the answer to CONNECT may travel by the last poll or by the WebSocket.
    await page.waitForFunction(() => globalThis.socket.connected && globalThis.socket.io.engine.transport.name === "websocket");
    await server.notify("hello");
    await page.waitForFunction(() => globalThis.got.length === 1);
    assert.deepEqual(await page.evaluate(() => [globalThis.got, globalThis.socket.io.engine.transport.name]), [["hello"], "websocket"]);
    assert.deepEqual(complaints, []);
  });

  // Debian has python3-socketio; it is asked for where it is installed.
  const python = ["/usr/bin/python3", "python3"].find((bin) => spawnSync(bin, ["-c", "import socketio, requests"]).status === 0);
  for (const transports of python ? ["polling", "websocket", "polling,websocket"] : []) {
    test(`python-socketio over ${transports}: a handler of one argument gets one`, async (t) => {
      const server = await herald(t);
      const child = spawn(python, ["-c", PYTHON, server.origin, transports], { stdio: ["ignore", "pipe", "inherit"] });
      t.after(() => child.kill("SIGKILL"));
      const ended = once(child, "close"); // its output has been read by then, which "exit" does not say
      let output = "";
      child.stdout.on("data", (chunk) => { output += chunk; });
      await until(() => output.includes("connected\n"));
      await server.notify("hello");
      await ended;
      assert.equal(output, `connected\n{"data": "hello"}\n`);
    });
  }
});

const PYTHON = `
import json, socketio, sys, threading
client, done = socketio.Client(), threading.Event()
@client.event
def message(data):
    print(json.dumps(data), flush=True)
    done.set()
client.connect(sys.argv[1], transports=sys.argv[2].split(","), wait_timeout=60)
print("connected", flush=True)
done.wait(60)
client.disconnect()
`;
