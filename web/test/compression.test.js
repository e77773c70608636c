// permessage-deflate as others understand it: a browser and the ws library, at the same time, each message compressed
// once for all of them. What must be there stands in browser.test.js.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { suite, test } from "node:test";
import { io } from "socket.io-client";
import WS from "ws";
import { arrive, herald, tab, timeout, until } from "./herald.js";

const require = createRequire(import.meta.url);

// Long enough for every client to compress it.
const subscribe = JSON.stringify({ type: "subscribe", channels: Array.from({ length: 90 }, (_, i) => `public.channel.${i}`) });

suite("compressed messages", { timeout }, () => {
  test("a browser and the ws library get and send them", async (t) => {
    const server = await herald(t);
    const url = `${server.origin.replace("http", "ws")}/ws?channel=public.text`;

    const page = await tab(t);
    await arrive(page, `${server.origin}/favicon.ico`);
    await page.evaluate(({ url, subscribe }) => {
      globalThis.received = [];
      globalThis.socket = new WebSocket(url);
      socket.onopen = () => socket.send(subscribe);
      socket.onmessage = ({ data }) => received.push(JSON.parse(data));
    }, { url, subscribe });

    const clients = [{ name: "Chromium", extensions: () => page.evaluate(() => socket.extensions), frames: () => page.evaluate(() => received) }];
    for (const [name, options] of [
      ["ws", {}],
      ["ws with windows", { serverMaxWindowBits: 15, clientMaxWindowBits: 9 }],
    ]) {
      const frames = [];
      const socket = new WS(url, { perMessageDeflate: { threshold: 0, ...options } });
      t.after(() => socket.close());
      socket.onopen = () => socket.send(subscribe);
      socket.onmessage = ({ data }) => frames.push(JSON.parse(data));
      clients.push({ name, extensions: () => socket.extensions, frames: () => frames });
    }
    for (const { name, frames } of clients) {
      await until(async () => (await frames()).filter(({ type }) => type === "subscribed").length === 91); // the one of the URL, too
    }

    const words = "the machine on line three reports a pressure of twelve bar and waits for an operator ".repeat(700);
    const sent = ["short", words.slice(0, 1000), words.slice(0, 4300), words.slice(0, 59_000), "ü€😀".repeat(500)];
    for (const text of sent) await server.publish("public.text", text);
    for (const { name, frames } of clients) {
      const received = async () => (await frames()).filter(({ type }) => type === undefined).map(({ data }) => data);
      await until(async () => (await received()).length >= sent.length);
      assert.deepEqual(await received(), sent, name);
    }

    assert.equal(await server.metric("herald_gateway_compressed_total"), 4, "once for each message that is long");
    for (const { name, extensions } of clients) assert.match(await extensions(), /^permessage-deflate/, name);
  });

  test("stock Socket.IO clients get them, also after the upgrade from polling", async (t) => {
    const server = await herald(t);
    const words = "the machine on line three reports a pressure of twelve bar and waits for an operator ".repeat(100);
    const got = [];
    const socket = io(server.origin, { forceNew: true });
    t.after(() => socket.close());
    socket.on("message", ({ data }) => got.push(data));
    const polling = io(server.origin, { forceNew: true, transports: ["polling"] });
    t.after(() => polling.close());
    polling.on("message", ({ data }) => got.push(data));
    const page = await tab(t, { bypassCSP: true });
    await arrive(page, `${server.origin}/favicon.ico`);
    await page.addScriptTag({ path: require.resolve("socket.io-client/dist/socket.io.js") });
    await page.evaluate(() => {
      globalThis.got = [];
      globalThis.socket = io().on("message", ({ data }) => globalThis.got.push(data));
    });
    await until(() => socket.io.engine?.transport.name === "websocket" && !socket.io.engine.upgrading && socket.connected && polling.connected);
    await page.waitForFunction(() => globalThis.socket.io.engine?.transport.name === "websocket" && globalThis.socket.connected);
    // What is answered by WebSocket says that the server has ended the upgrade, too.
    await socket.emitWithAck("subscribe", ["broadcast"]);
    await page.evaluate(() => globalThis.socket.emitWithAck("subscribe", ["broadcast"]));
    for (const text of ["short", words]) await server.publish("broadcast", text);
    await until(() => got.length === 4);
    await page.waitForFunction(() => globalThis.got.length === 2);
    assert.deepEqual(got.toSorted((a, b) => a.length - b.length), ["short", "short", words, words]);
    assert.deepEqual(await page.evaluate(() => globalThis.got), ["short", words]);
    assert.match(await page.evaluate(() => globalThis.socket.io.engine.transport.ws.extensions), /^permessage-deflate/);
    assert.equal(await server.metric("herald_gateway_compressed_total"), 1, "once for both over WebSocket");
  });

  test("a message that inflates to more than a client may send is too big", async (t) => {
    const server = await herald(t);
    const socket = new WS(`${server.origin.replace("http", "ws")}/ws`, { perMessageDeflate: { threshold: 0 } });
    t.after(() => socket.terminate());
    await once(socket, "open");
    socket.send(" ".repeat(16 << 20));
    const [code] = await once(socket, "close");
    assert.equal(code, 1009);
  });
});
