// What herald.js promises, and what clients of others do, against the real binary. Frame by frame it stands in
// client.test.js and events.test.js.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import WS from "ws";
import { connect } from "../client/herald.js";
import { memory } from "./gateway.js";
import { arrive, herald, module, tab, timeout, until } from "./herald.js";

for (const transport of ["websocket", "sse"]) {
  suite(`herald.js over ${transport}`, { timeout }, () => {
    const join = (t, server, options) => {
      const client = connect(`${server.origin}/ws`, { WebSocket: WS, transport, ...options });
      t.after(() => client.close());
      const got = [];
      const told = [];
      client.on("message", (m) => got.push(m.data));
      for (const type of ["gap", "error"]) client.on(type, (frame) => told.push(frame));
      const confirmed = new Set();
      client.on("subscribed", (frame) => confirmed.add(frame.channel));
      return { client, got, told, confirmed };
    };

    test("since last with nothing stored, a lost connection, and nothing lost", async (t) => {
      const server = await herald(t);
      const storage = memory();
      const { client, got, told, confirmed } = join(t, server, { channels: ["public.a", "public.b"], since: "last", storage });
      await until(() => confirmed.size === 2);
      await server.kill();
      await server.start();
      for (const n of [1, 2, 3]) await server.publish("public.a", n);
      await until(() => got.length === 3);
      assert.deepEqual([got, told], [[1, 2, 3], []]);
      client.close();

      for (const n of [4, 5]) await server.publish("public.b", n); // a reload
      const next = join(t, server, { channels: ["public.a", "public.b"], since: "last", storage });
      await until(() => next.got.length === 2);
      assert.deepEqual([next.got, next.told], [[4, 5], []]);
    });

    test("a client of a quiet channel does not grow old", async (t) => {
      const server = await herald(t, { settings: { HERALD_STREAM_MAX_AGE: "10s" } });
      const { client, got, told, confirmed } = join(t, server, { channels: ["public.quiet"] });
      await until(() => confirmed.size === 1);
      // What was there at the beginning is gone by the end, and the place is one of which the client was told just now.
      const began = performance.now();
      let before = client.id;
      await until(async () => {
        await server.publish("public.busy", performance.now());
        if (performance.now() - began > 12_000) return client.id !== before;
        before = client.id;
        return false;
      });
      client.close();
      client.open(); // a restart would take a part of the ten seconds
      await server.publish("public.quiet", "still young");
      await until(() => got.length === 1);
      assert.deepEqual([got, told], [["still young"], []]);
    });

    test("a loop of 200 subscribe() calls just works, with and without pauses", async (t) => {
      const server = await herald(t);
      const { client, got, told, confirmed } = join(t, server, { channels: ["broadcast"] });
      await until(() => confirmed.size === 1);
      const many = transport === "sse" ? 90 : 200; // what fits into a URL
      for (let i = 0; i < many; i++) client.subscribe(`public.one.${i}`);
      await until(() => confirmed.size === many + 1);
      if (transport === "websocket") {
        for (let i = 0; i < 200; i++) {
          client.subscribe(`public.two.${i}`);
          if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        await until(() => confirmed.size === 401);
      }
      for (const n of [0, many - 1]) await server.publish(`public.one.${n}`, n);
      await until(() => got.length === 2);
      assert.deepEqual(told, []);
    });

    test("a name that is refused harms no other, and a past of its own comes once", async (t) => {
      const server = await herald(t);
      for (const n of [1, 2, 3]) await server.publish("public.old", n);
      const { client, got, told, confirmed } = join(t, server, { channels: ["public.a"] });
      await until(() => confirmed.size === 1);
      client.subscribe("secret");
      client.subscribe("public.old", { since: "all" });
      await until(() => confirmed.has("public.old") && told.length > 0);
      await server.publish("public.a", "a");
      await server.publish("public.old", 4);
      await until(() => got.length >= 5);
      await server.kill();
      await server.start();
      await server.publish("public.old", 5);
      await until(() => got.length >= 6);
      assert.deepEqual(got, [1, 2, 3, "a", 4, 5]);
      assert.deepEqual(told.map(({ code, channel }) => [code, channel]), [["forbidden", "secret"]]);
      assert.deepEqual(client.channels, ["public.a", "public.old"]);
    });

    test("follow() has every change, in the state or after it, through a crash", async (t) => {
      const server = await herald(t);
      const orders = [];
      const change = async (n) => {
        orders.push(n); // first the backend's own data, then the message
        await server.publish("public.orders", n);
      };
      const { client } = join(t, server, { channels: ["public.a"] });
      const shown = new Set();
      const load = async () => {
        const found = [...orders];
        await new Promise((resolve) => setTimeout(resolve, 100));
        return found;
      };
      await change(0);
      client.follow("public.orders", { load, state: (found) => found.forEach((n) => shown.add(n)), message: (m) => shown.add(m.data) });
      for (let n = 1; n < 20; n++) await change(n);
      await until(() => shown.size === 20);
      await server.kill();
      await server.start();
      for (let n = 20; n < 30; n++) await change(n);
      await until(() => shown.size === 30);
    });
  });
}

// Both read the stream by fetch() or XMLHttpRequest, so that they can send a token as a header.
suite("event sources of others", { timeout }, () => {
  const clients = {
    "@microsoft/fetch-event-source": ({ url, token }) => import("/lib/client.js").then(({ fetchEventSource }) => {
      fetchEventSource(url, {
        headers: { Authorization: `Bearer ${token}` },
        openWhenHidden: true,
        onmessage: (event) => {
          if (event.event === "welcome") globalThis.ready = true;
          if (event.event === "" && event.data !== "") globalThis.received.push(JSON.parse(event.data).data);
        },
        onclose: () => { throw new Error("come back"); }, // it stays away otherwise
        onerror: () => 100,
      });
    }),
    "event-source-polyfill": ({ url, token }) => import("/lib/client.js").then(() => {
      const source = new globalThis.EventSourcePolyfill(url, { headers: { Authorization: `Bearer ${token}` } });
      source.addEventListener("welcome", () => { globalThis.ready = true; });
      source.onmessage = (event) => globalThis.received.push(JSON.parse(event.data).data);
    }),
  };
  for (const [name, begin] of Object.entries(clients)) {
    test(name, async (t) => {
      const { origin } = await module(t, name);
      const server = await herald(t, { settings: { HERALD_ALLOWED_ORIGINS: origin } });
      const page = await tab(t);
      const urls = [];
      page.on("request", (request) => urls.push(request.url()));
      await arrive(page, origin);
      await page.evaluate(() => { globalThis.received = []; });
      await page.evaluate(begin, { url: `${server.origin}/sse?channel=secret`, token: server.token("secret") });
      await page.waitForFunction(() => globalThis.ready);
      const sent = [];
      const pass = async (text) => {
        sent.push(text);
        await server.publish("secret", text);
      };
      const arrived = () => until(() => page.evaluate((n) => globalThis.received.length >= n, sent.length));
      await pass("one");
      await arrived();
      await server.kill();
      await server.start();
      for (const text of ["two", "three"]) await pass(text);
      await arrived();
      await server.stop();
      await server.start();
      await pass("four");
      await arrived();
      assert.deepEqual(await page.evaluate(() => globalThis.received), sent);
      for (const url of urls) assert.ok(!url.includes("eyJ"), url);
      if (name === "event-source-polyfill") assert.ok(urls.some((url) => url.includes("lastEventId=")), "it resumes by a parameter");
    });
  }
});
