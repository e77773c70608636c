// Ways to receive, with the real binary, a real browser and a client that others wrote: none of them misses a message or
// gets one twice when the server is killed, stops or is made anew. What must be there stands in browser.test.js.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { EventSource } from "eventsource";
import { arrive, entries, herald, open, shows, tab, timeout, unreachable, until } from "./herald.js";

/** Kills and stops the server under a client; every message is to come once, in order. */
async function ordeal(server, received) {
  const sent = [];
  const notify = async (text) => {
    sent.push(text);
    await server.notify(text);
  };
  const arrived = () => until(async () => (await received()).length >= sent.length);
  await notify("one");
  await arrived();
  await server.kill();
  await server.start();
  await notify("two");
  await notify("three");
  await arrived();
  await server.stop();
  await server.start();
  await notify("four");
  await arrived();
  await notify("five");
  await arrived();
  assert.deepEqual(await received(), sent);
}

/** A page of the server's origin with nothing of its own in it. */
async function blank(t, server) {
  const page = await tab(t);
  await arrive(page, `${server.origin}/favicon.ico`);
  return page;
}

suite("Server-Sent Events", { timeout }, () => {
  test("the page takes them where WebSocket is blocked", async (t) => {
    const server = await herald(t);
    const block = () => {
      globalThis.attempts = 0;
      globalThis.WebSocket = class {
        constructor() {
          globalThis.attempts++;
          setTimeout(() => this.onclose?.({ code: 1006, reason: "" }));
        }
        close() {}
      };
    };
    const { page, complaints } = await open(t, server, "/", { script: block });
    await page.getByText("Server-Sent Events", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => globalThis.attempts), 2);
    await ordeal(server, async () => (await page.locator("#log .data").allTextContents()).reverse());
    await arrive(page, () => page.reload(), shows(page, "Connected"));
    assert.equal(await page.evaluate(() => globalThis.attempts), 0, "the next page knows what gets through");
    assert.deepEqual(complaints.filter((line) => !unreachable(line)), []);
  });

  test("channels come and go without a socket to ask by", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server, "/?transport=sse");
    await page.getByText("Server-Sent Events", { exact: true }).waitFor();
    const chip = (name) => page.locator(`.chip[data-channel="${name}"]:not([data-pending])`);
    await server.publish("public.news", "before");
    const follow = async (name) => {
      await page.getByPlaceholder("public.news").fill(name);
      await page.keyboard.press("Enter");
    };
    await follow("public.>");
    await chip("public.>").waitFor();
    await server.publish("public.news", "after");
    await entries(page, "after").waitFor();
    await follow("secret.plans");
    await page.getByRole("alert").filter({ hasText: /^"secret\.plans" needs a token/ }).waitFor();
    await chip("broadcast").waitFor();
    await page.getByRole("button", { name: "Stop following broadcast" }).click();
    await page.locator('.chip[data-channel="broadcast"]').waitFor({ state: "detached" });
    await server.notify("unheard");
    await server.publish("public.news", "heard");
    await entries(page, "heard").waitFor();
    assert.deepEqual(await page.locator("#log .data").allTextContents(), ["heard", "after"]);
    assert.match(page.url(), /\?channel=public\.%3E&transport=sse$/);
    assert.deepEqual(complaints.filter((line) => !line.includes("403")), []); // the browser's own line about the refusal
  });

  test("a page leaves on WebSocket, comes back on events, and back again", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    await page.getByText("WebSocket", { exact: true }).waitFor();
    await server.notify("one");
    await entries(page, "one").waitFor();
    for (const [query, name, text] of [["?transport=sse", "Server-Sent Events", "two"], ["?transport=websocket", "WebSocket", "three"]]) {
      await page.goto("about:blank");
      await server.notify(text);
      await arrive(page, `${server.origin}/${query}`, page.getByText(name, { exact: true }));
      await entries(page, text).waitFor();
      assert.deepEqual(await page.locator("#log .data").allTextContents(), [text]);
    }
    assert.deepEqual(complaints, []);
  });

  test("a browser's own EventSource", async (t) => {
    const server = await herald(t);
    const page = await blank(t, server);
    await page.evaluate(() => new Promise((resolve) => {
      globalThis.received = [];
      const source = new EventSource("/sse?channel=broadcast");
      source.onmessage = (e) => globalThis.received.push(JSON.parse(e.data).data);
      source.addEventListener("welcome", resolve);
    }));
    await ordeal(server, () => page.evaluate(() => globalThis.received));
  });

  test("the eventsource library", async (t) => {
    const server = await herald(t);
    const received = [];
    const source = new EventSource(`${server.origin}/sse?channel=broadcast`);
    t.after(() => source.close());
    source.onmessage = (e) => received.push(JSON.parse(e.data).data);
    await new Promise((resolve) => source.addEventListener("welcome", resolve));
    await ordeal(server, () => received);
  });
});

suite("a reload", { timeout }, () => {
  for (const transport of ["websocket", "sse"]) {
    test(`goes on from the stored id, and is told of a stream that was made anew, over ${transport}`, async (t) => {
      const server = await herald(t);
      const page = await blank(t, server);
      const begin = () => page.evaluate(async (transport) => {
        const { connect } = await import("/client/herald.js");
        globalThis.told = [];
        const herald = connect("/ws", { storage: sessionStorage, transport });
        for (const type of ["resumed", "gap"]) herald.on(type, (frame) => globalThis.told.push(frame.reason ?? type));
        herald.on("message", (m) => globalThis.told.push(m.data));
        await new Promise((resolve) => { herald.on("welcome", resolve); });
      }, transport);
      const told = async (...want) => {
        await until(() => page.evaluate((n) => globalThis.told.length >= n, want.length));
        assert.deepEqual(await page.evaluate(() => globalThis.told), want);
      };
      await begin();
      await server.notify("one");
      await told("one");
      await page.goto("about:blank");
      await server.notify("two");
      await arrive(page, `${server.origin}/favicon.ico`);
      await begin();
      await told("resumed", "two");
      await page.goto("about:blank");
      await server.renew();
      await arrive(page, `${server.origin}/favicon.ico`);
      await begin();
      await server.notify("three");
      await told("epoch", "three");
      await arrive(page, () => page.reload());
      await begin();
      await server.notify("four");
      await told("resumed", "four");
    });
  }
});
