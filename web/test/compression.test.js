// permessage-deflate as others understand it: a browser and the ws library, at the same time, each message compressed
// once for all of them. What must be there stands in browser.test.js.

import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import WS from "ws";
import { herald, tab, until } from "./herald.js";

// Long enough for every client to compress it.
const subscribe = JSON.stringify({ type: "subscribe", channels: Array.from({ length: 90 }, (_, i) => `public.channel.${i}`) });

suite("compressed messages", { timeout: 600_000 }, () => {
  test("a browser and the ws library get and send them", async (t) => {
    const server = await herald(t);
    const url = `${server.origin.replace("http", "ws")}/ws?channel=public.text`;

    const page = await tab(t);
    await page.goto(`${server.origin}/favicon.ico`);
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
      await until(async () => (await frames()).filter(({ type }) => type === "subscribed").length === 91, name); // the one of the URL, too
    }

    const words = "the machine on line three reports a pressure of twelve bar and waits for an operator ".repeat(700);
    const sent = ["short", words.slice(0, 1000), words.slice(0, 4300), words.slice(0, 59_000), "ü€😀".repeat(500)];
    for (const text of sent) await server.publish("public.text", text);
    for (const { name, frames } of clients) {
      const received = async () => (await frames()).filter(({ type }) => type === undefined).map(({ data }) => data);
      await until(async () => (await received()).length >= sent.length);
      assert.deepEqual(await received(), sent, name);
    }

    const metrics = await (await fetch(`http://${server.ops()}/metrics`)).text();
    assert.equal(metrics.match(/^herald_gateway_compressed_total (\d+)$/m)?.[1], "4", "once for each message that is long");
    for (const { name, extensions } of clients) assert.match(await extensions(), /^permessage-deflate/, name);
  });

  test("a message that inflates to more than a client may send is too big", async (t) => {
    const server = await herald(t);
    const socket = new WS(`${server.origin.replace("http", "ws")}/ws`, { perMessageDeflate: { threshold: 0 } });
    await once(socket, "open");
    socket.send(" ".repeat(16 << 20));
    const [code] = await once(socket, "close");
    assert.equal(code, 1009);
  });
});
