// Stock clients and the server SDK of Pusher against the real binary: what pages and backends have that come from
// Pusher, Soketi or Reverb, with nothing changed but host and port.
//
//     HERALD_BIN=/path/to/herald node --test web/test/pusher.test.js

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { suite, test } from "node:test";
import Echo from "laravel-echo";
import WebSocket from "ws";
import { arrive, herald, patience, tab, timeout, until } from "./herald.js";

const require = createRequire(import.meta.url);
const PusherJS = require("pusher-js");
const SDK = require("pusher");

/** A herald with an app, and the app's backend. */
async function shop(t) {
  const server = await herald(t);
  const said = await server.command("apps", "add", "shop");
  const [, appId, key, secret] = said.match(/app id: (\S+)\nkey: +(\S+)\nsecret: (\S+)/);
  const backend = new SDK({ appId, key, secret, host: "127.0.0.1", port: String(server.port), useTLS: false });
  await known(server, backend, key);
  return { server, backend, appId, key };
}

/**
 * Waits until ingest and the gateway, each for itself, know an app that was just made: a client whose key is unknown stays
 * away for good.
 */
async function known(server, backend, key) {
  await until(() => backend.get({ path: "/channels" }).then(() => true, () => false));
  await until(() => new Promise((done) => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/app/${key}?protocol=7`);
    socket.on("error", () => done(false));
    socket.on("close", () => done(false));
    socket.on("message", (text) => {
      done(JSON.parse(text).event === "pusher:connection_established");
      socket.close();
    });
  }));
}

const options = (server, backend) => ({
  wsHost: "127.0.0.1", wsPort: server.port, forceTLS: false, cluster: "", enabledTransports: ["ws"],
  channelAuthorization: { customHandler: ({ socketId, channelName }, done) => done(null, backend.authorizeChannel(socketId, channelName,
    channelName.startsWith("presence-") ? { user_id: "1" } : undefined)) },
});

function connect(t, { server, backend, key }) {
  const client = new PusherJS(key, options(server, backend));
  t.after(() => client.disconnect());
  return client;
}

/** What a channel gets, in order, once the subscription has succeeded. */
async function follow(client, name) {
  const got = [];
  let succeeded = false;
  const channel = client.subscribe(name);
  channel.bind_global((event, data) => got.push([event, data]));
  channel.bind("pusher:subscription_succeeded", () => { succeeded = true; });
  await until(() => succeeded);
  return got;
}

const events = (got) => got.filter(([event]) => !event.startsWith("pusher:"));

suite("Pusher", { timeout }, () => {
  test("the server SDK triggers, pusher-js receives, also over a restart", async (t) => {
    const all = await shop(t);
    const client = connect(t, all);
    const open = await follow(client, "orders");
    const closed = await follow(client, "private-orders");
    await all.backend.trigger(["orders", "private-orders"], "created", { n: 1, text: "ü😀 \"quoted\" \\ back" });
    await all.backend.trigger("orders", "App\\Events\\Shipped", "plain text");
    await all.backend.triggerBatch([{ channel: "orders", name: "a", data: [1, 2] }, { channel: "private-orders", name: "b", data: { n: 2 } }]);
    await until(() => events(open).length === 3 && events(closed).length === 2);
    assert.deepEqual(events(open), [["created", { n: 1, text: "ü😀 \"quoted\" \\ back" }], ["App\\Events\\Shipped", "plain text"], ["a", [1, 2]]]);
    assert.deepEqual(events(closed), [["created", { n: 1, text: "ü😀 \"quoted\" \\ back" }], ["b", { n: 2 }]]);

    const socket = client.connection.socket_id;
    await all.server.kill();
    await until(() => client.connection.state !== "connected");
    await all.server.start();
    await until(() => client.connection.state === "connected" && client.allChannels().every((channel) => channel.subscribed), 3 * patience);
    assert.notEqual(client.connection.socket_id, socket);
    await all.backend.trigger("orders", "after", { n: 3 });
    await until(() => events(open).length === 4);
    assert.deepEqual(events(open)[3], ["after", { n: 3 }]);
  });

  test("the sender is excluded, channels are counted, and what is not supported is said", async (t) => {
    const all = await shop(t);
    const [one, other] = [connect(t, all), connect(t, all)];
    const [ones, others] = [await follow(one, "orders"), await follow(other, "orders")];
    await all.backend.trigger("orders", "typed", { n: 1 }, { socket_id: one.connection.socket_id });
    const counted = await all.backend.trigger("orders", "typed", { n: 2 }, { info: "subscription_count" });
    await until(() => events(ones).length === 1 && events(others).length === 2);
    assert.deepEqual(events(ones), [["typed", { n: 2 }]]);
    assert.deepEqual((await counted.json()).channels, { orders: { subscription_count: 2 } });
    assert.deepEqual(await (await all.backend.get({ path: "/channels", params: { filter_by_prefix: "ord" } })).json(), { channels: { orders: {} } });
    assert.deepEqual(await (await all.backend.get({ path: "/channels/orders", params: { info: "subscription_count" } })).json(), { occupied: true, subscription_count: 2 });
    await assert.rejects(all.backend.get({ path: "/channels/presence-x/users" }), ({ status, body }) => status === 400 && /not supported/.test(body));
    await assert.rejects(new SDK({ appId: all.appId, key: all.key, secret: "wrong secret, forged", host: "127.0.0.1", port: String(all.server.port), useTLS: false }).trigger("orders", "x", 1), ({ status }) => status === 401);

    const refused = [];
    one.connection.bind("error", (err) => refused.push(err.data.code));
    const presence = one.subscribe("presence-x");
    const why = new Promise((resolve) => presence.bind("pusher:subscription_error", resolve));
    assert.match((await why).error, /not supported/);
    const closed = one.subscribe("private-x");
    await until(() => closed.subscribed);
    closed.trigger("client-typing", { n: 1 });
    await until(() => refused.includes(4301));
    assert.equal(one.connection.state, "connected");
  });

  test("a cache channel begins with its newest event", async (t) => {
    const all = await shop(t);
    const early = await follow(connect(t, all), "cache-price");
    await until(() => early.some(([event]) => event === "pusher:cache_miss"));
    await all.backend.trigger("cache-price", "changed", { price: 1 });
    await all.backend.trigger("cache-price", "changed", { price: 2 });
    await until(() => events(early).length === 2); // the gateway has both
    const late = await follow(connect(t, all), "cache-price");
    await until(() => events(late).length > 0);
    await all.backend.trigger("cache-price", "changed", { price: 3 });
    await until(() => events(late).at(-1)[1].price === 3);
    assert.deepEqual(events(late), [["changed", { price: 2 }], ["changed", { price: 3 }]]);
  });

  test("an unknown key ends the client, a revoked app too", async (t) => {
    const all = await shop(t);
    const stranger = new PusherJS("unknown-key", options(all.server, all.backend));
    t.after(() => stranger.disconnect());
    await until(() => stranger.connection.state === "disconnected"); // for good: 4001
    const client = connect(t, all);
    await until(() => client.connection.state === "connected");
    await all.server.command("apps", "revoke", "shop");
    await until(() => client.connection.state === "disconnected");
  });

  test("Laravel Echo follows public and private channels, and native clients the same ones", async (t) => {
    const all = await shop(t);
    const echo = new Echo({ broadcaster: "pusher", client: connect(t, all), key: all.key });
    const got = [];
    echo.channel("orders").listen("OrderShipped", (data) => got.push(data)).listen(".order.paid", (data) => got.push(data));
    echo.private("user.4711").notification((data) => got.push(data));
    await until(() => echo.connector.pusher.allChannels().length === 2 && echo.connector.pusher.allChannels().every((channel) => channel.subscribed));
    await all.backend.trigger("orders", "App\\Events\\OrderShipped", { n: 1 }); // as Laravel names it
    await all.backend.trigger("orders", "order.paid", { n: 2 });
    await all.backend.trigger("private-user.4711", "Illuminate\\Notifications\\Events\\BroadcastNotificationCreated", { n: 3 });
    await all.server.publish(`pusher.${all.appId}.orders`, { n: 4 }, "?event=order.paid"); // a backend that speaks Herald
    await until(() => got.length === 4);
    assert.deepEqual(got, [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }]);
  });

  test("the line of from-pusher.md has pusher-js try again and again, and subscriptions stay", async (t) => {
    const page = readFileSync(new URL("../../docs/how-to/from-pusher.md", import.meta.url), "utf8");
    const all = await shop(t);
    const client = new PusherJS(all.key, { ...options(all.server, all.backend), unavailableTimeout: 200 });
    t.after(() => client.disconnect());
    new Function("pusher", page.match(/^pusher\.connection\.bind\("unavailable".*$/m)[0])(client);
    const got = await follow(client, "orders");
    let tries = 0;
    client.connection.bind("unavailable", () => { tries++; });
    await all.server.kill();
    await until(() => tries >= 3); // without the line it is unavailable once, and tries after 15 s
    await all.server.start();
    await until(() => client.connection.state === "connected" && client.channel("orders").subscribed);
    await all.backend.trigger("orders", "created", { n: 1 });
    await until(() => events(got).length === 1);
  });

  test("from-pusher.md, step by step", async (t) => {
    const page = readFileSync(new URL("../../docs/how-to/from-pusher.md", import.meta.url), "utf8");
    const server = await herald(t);
    const [line, secret, words] = page.match(/^HERALD_APP_SECRET=(\S+) herald (apps add .*)$/m);
    await server.command(...words.split(" "), { HERALD_APP_SECRET: secret });
    const [id, key] = [words.match(/-id (\S+)/)[1], words.match(/-key (\S+)/)[1]];
    assert.ok(id && key, line);
    // The code as it is after the change, with the port of this server.
    const after = (start) => page.match(new RegExp("```diff\\n([^`]*" + start + "[^`]*)```"))[1]
      .split("\n").filter((code) => !code.startsWith("-")).map((code) => code.slice(1)).join("\n").replaceAll("5000", server.port);
    const backend = new Function("Pusher", "key", "secret", `${after("const backend")}; return backend`)(SDK, key, secret);
    await known(server, backend, key);
    const client = new Function("Pusher", `${after("const pusher")}; return pusher`)(PusherJS);
    t.after(() => client.disconnect());
    const echo = new Function("Echo", `${after("const echo")}; return echo`)(class extends Echo {
      constructor(options) {
        super({ ...options, Pusher: PusherJS });
      }
    });
    t.after(() => echo.disconnect());
    const [direct, byEcho] = [await follow(client, "orders"), []];
    echo.channel("orders").listen(".created", (data) => byEcho.push(data));
    await until(() => echo.connector.pusher.channel("orders").subscribed);
    await backend.trigger("orders", "created", { n: 1 });
    await until(() => events(direct).length === 1 && byEcho.length === 1);
    assert.deepEqual([events(direct)[0][1], byEcho[0]], [{ n: 1 }, { n: 1 }]);
  });

  test("pusher-js in Chromium, over a restart of the gateway", async (t) => {
    const all = await shop(t);
    const page = await tab(t, { bypassCSP: true });
    await arrive(page, all.server.origin + "/");
    await page.addScriptTag({ path: require.resolve("pusher-js/dist/web/pusher.min.js") });
    await page.evaluate(([key, port]) => {
      globalThis.got = [];
      globalThis.client = new globalThis.Pusher(key, { wsHost: "127.0.0.1", wsPort: port, forceTLS: false, cluster: "", enabledTransports: ["ws"] });
      globalThis.channel = globalThis.client.subscribe("cache-orders");
      globalThis.channel.bind("created", (data) => globalThis.got.push(data));
    }, [all.key, all.server.port]);
    await page.waitForFunction(() => globalThis.channel.subscribed);
    await all.backend.trigger("cache-orders", "created", { n: 1 });
    await page.waitForFunction(() => globalThis.got.length === 1);
    await all.server.stop();
    await page.waitForFunction(() => globalThis.client.connection.state !== "connected");
    await all.server.start();
    await page.waitForFunction(() => globalThis.got.length === 2, null, { timeout: 3 * patience }); // the newest event, again: pusher-js tries after 15, 30 and 60 s
    await all.backend.trigger("cache-orders", "created", { n: 2 });
    await page.waitForFunction(() => globalThis.got.length === 3);
    assert.deepEqual(await page.evaluate(() => globalThis.got), [{ n: 1 }, { n: 1 }, { n: 2 }]);
  });
});
