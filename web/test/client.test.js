// The client over WebSocket, frame by frame. The gateway is played by gateway.js; events.test.js has Server-Sent Events.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { suite, test } from "node:test";
import { Herald, backoff, channelFault, comesBack, connect, isNewer, isPattern } from "../client/herald.js";
import { WebSocket, becomes, closeCodes, deliver, event, gateway, golden, id, jwt, memory, message, pair, proto } from "./gateway.js";

const timeout = 900_000; // of a suite, on a machine that is busy with other things

suite("golden frames", { timeout }, () => {
  const fromGateway = {
    message: "message", "message-ephemeral": "message", welcome: "welcome", subscribed: "subscribed", unsubscribed: "unsubscribed",
    authenticated: "authenticated", gap: "gap", error: "error",
  };
  for (const [name, type] of Object.entries(fromGateway)) {
    test(`${name} becomes a ${type} event`, async (t) => {
      const { peer, client } = await pair(t, { channels: ["broadcast", "orders.*"] });
      const connection = await peer.accept();
      if (name !== "welcome") connection.welcome();
      const got = event(client, type, (detail) => JSON.stringify(detail) === golden(name));
      connection.send(golden(name));
      await got;
    });
  }

  test("what the client sends", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
    const tokens = [jwt({ exp: 3600 }), "eyJ…"];
    const { peer, client } = await pair(t, { channels: ["broadcast"], token: () => tokens.shift() });
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    client.subscribe(["a", "b"], { since: "mib3k2x9-1024" });
    assert.equal(await connection.nextText(), golden("client-subscribe"));
    client.subscribe("orders.*");
    assert.equal(await connection.nextText(), '{"type":"subscribe","channel":"orders.*"}');
    client.unsubscribe("orders.*");
    assert.equal(await connection.nextText(), golden("client-unsubscribe"));
    const ping = client.ping();
    assert.equal(await connection.nextText(), golden("client-ping"));
    connection.send(golden("pong"));
    assert.ok((await ping) >= 0);
    t.mock.timers.tick(3600_000 * 0.8);
    assert.equal(await connection.nextText(), golden("client-auth"));
  });

  test("no golden is overlooked", () => {
    const http = ["message-body", "publication", "result", "problem"]; // not on this socket
    const others = ["client-subscribe", "client-unsubscribe", "client-ping", "client-auth", "pong", "position", "names"];
    const files = readdirSync(new URL("testdata/", proto)).filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));
    assert.deepEqual(files.sort(), [...Object.keys(fromGateway), ...others, ...http].sort());
  });
});

suite("names, ids, delays", () => {
  test("the page accepts the names that the gateway accepts", () => {
    for (const { name, channel, pattern } of JSON.parse(golden("names"))) {
      assert.equal(channelFault(name) === undefined, pattern, `pattern ${JSON.stringify(name)}: ${channelFault(name)}`);
      assert.equal(channelFault(name) === undefined && !isPattern(name), channel, `channel ${JSON.stringify(name)}`);
    }
    assert.equal(channelFault("a".repeat(255)), undefined);
    assert.match(channelFault("a".repeat(256)), /255/);
  });

  test("newer ids", () => {
    for (const [a, b, newer] of [
      ["mib3k2x9-1", undefined, true],
      ["mib3k2x9-2", "mib3k2x9-1", true],
      ["mib3k2x9-1", "mib3k2x9-2", false],
      ["mib3k2x9-2", "mib3k2x9-2", false],
      ["mib3k2x9-10", "mib3k2x9-9", true],
      ["mib3k2x9-9", "mib3k2x9-10", false],
      // Neighbours that are the same number to JavaScript.
      ["mib3k2x9-18446744073709551615", "mib3k2x9-18446744073709551614", true],
      ["mib3k2x9-9007199254740992", "mib3k2x9-9007199254740993", false],
      // A stream made anew, by a clock that goes right or wrong.
      ["mib3k2xa-1", "mib3k2x9-1024", true],
      ["mib3k2x8-1", "mib3k2x9-1024", true],
    ]) {
      assert.equal(isNewer(a, b), newer, `${a} after ${b}`);
    }
  });

  test("delays fill the range below a ceiling that doubles up to 30 s", (t) => {
    const random = t.mock.method(Math, "random");
    for (const [attempt, ceiling] of [[0, 500], [1, 1000], [2, 2000], [5, 16_000], [6, 30_000], [7, 30_000], [5000, 30_000]]) {
      for (const share of [0, 0.25, 0.999999]) {
        random.mock.mockImplementation(() => share);
        assert.equal(backoff(attempt), share * ceiling);
      }
    }
  });
});

suite("close codes", { timeout }, () => {
  test("PROTOCOL.md has the table", () => assert.ok(closeCodes.length >= 18, `found ${closeCodes.length} rows`));

  for (const [, code, name, then] of closeCodes) {
    test(`${code} ${name}: ${then}`, async (t) => {
      assert.equal(comesBack(Number(code)), then === "come back");
      const { peer, client } = await pair(t, { token: () => jwt({ exp: 4_000_000_000 }) });
      const connection = await peer.accept();
      connection.welcome();
      await becomes(client, "open");
      const over = event(client, "state");
      connection.send({ type: "error", code: name, detail: "because" });
      connection.close(Number(code), name);
      const { state, code: got, reason, detail } = await over;
      assert.deepEqual({ state, got, reason, detail }, {
        state: then === "come back" ? "waiting" : "closed", got: Number(code), reason: name, detail: "because",
      });
      if (then === "come back") await peer.accept();
    });
  }

  test("codes that are not listed", () => {
    for (const code of [1005, 1006, 1010, 1014, 1015, 3000, 4005, 4499]) assert.ok(comesBack(code), `${code}`);
    for (const code of [4503, 4999]) assert.ok(!comesBack(code), `${code}`);
  });

  test("an old error frame does not explain a new close", async (t) => {
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    connection.welcome();
    connection.send({ type: "error", code: "bad-channel", detail: "hours ago", channel: "x" });
    await event(client, "error");
    connection.close(1012, "restart");
    assert.equal((await becomes(client, "waiting")).detail, undefined);
  });

  test("open() after closed connects again", async (t) => {
    const { peer, client } = await pair(t);
    (await peer.accept()).close(4501, "kicked");
    await becomes(client, "closed");
    client.open();
    (await peer.accept()).welcome();
    await becomes(client, "open");
  });

  test("close() says goodbye and is final", async (t) => {
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    const ping = client.ping();
    client.close();
    assert.equal(client.state, "closed");
    await assert.rejects(ping);
    await assert.rejects(client.ping());
    const [socket] = peer.clients;
    assert.equal(await new Promise((resolve) => socket.on("close", resolve)), 1000);
    assert.equal(peer.waiting.length, 0);
  });

  test("close() while waiting is final too", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { peer, client } = await pair(t);
    (await peer.accept()).cut();
    await becomes(client, "waiting");
    client.close();
    t.mock.timers.tick(60_000);
    assert.equal(client.state, "closed");
  });

  test("open() while waiting does not wait", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { peer, client } = await pair(t);
    (await peer.accept()).cut();
    await becomes(client, "waiting");
    client.open();
    await peer.accept();
    client.open(); // is on its way already
    assert.equal(client.state, "connecting");
  });
});

suite("resume", { timeout }, () => {
  test("the first connection asks for channels, the next also for what came after the newest id", async (t) => {
    const { peer, client } = await pair(t, { channels: ["orders.*", "news.>"] });
    let connection = await peer.accept();
    assert.equal(connection.query.toString(), "channel=orders.*&channel=news.%3E");
    connection.welcome();
    await deliver(connection, client, 101, "orders.eu");
    await deliver(connection, client, 99, "news.a"); // a replay: older, so it is not where to go on
    connection.send(golden("message-ephemeral"));
    await event(client, "message", (m) => m.id === undefined);
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=orders.*&channel=news.%3E&since=${id(101)}`);
    const resumed = event(client, "resumed");
    connection.welcome({ resumed: true, id: id(500) });
    assert.equal((await resumed).id, id(500));
    connection.cut(); // before anything that was missed came
    assert.equal((await peer.accept()).query.get("since"), id(101));
  });

  test("without any message it goes on from the welcome", async (t) => {
    const { peer, client } = await pair(t);
    let connection = await peer.accept();
    assert.equal(connection.query.toString(), "channel=broadcast");
    connection.welcome();
    await becomes(client, "open");
    connection.cut();
    assert.equal((await peer.accept()).query.get("since"), id(100));
  });

  test("a replay of everything that broke before it began is asked for again", async (t) => {
    const { peer, client } = await pair(t, { since: "all" });
    let connection = await peer.accept();
    assert.equal(connection.query.get("since"), "all");
    connection.welcome({ resumed: true });
    await becomes(client, "open");
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.query.get("since"), "all");
    connection.welcome({ resumed: true });
    await deliver(connection, client, 7);
    connection.cut();
    assert.equal((await peer.accept()).query.get("since"), id(7));
  });

  for (const since of [undefined, "all", "last", id(42)]) {
    test(`a quiet channel moves on: since ${since}`, async (t) => {
      const storage = memory();
      const { peer, client } = await pair(t, { storage, since });
      let connection = await peer.accept();
      connection.welcome({ resumed: since !== undefined });
      connection.subscribed("broadcast", 120, true);
      await event(client, "subscribed");
      assert.equal(client.id, id(120));
      connection.cut();
      connection = await peer.accept();
      assert.equal(connection.query.toString(), `channel=broadcast&since=${id(120)}`);
      connection.welcome({ resumed: true, id: id(120) });
      connection.send({ type: "position", id: id(500) });
      connection.send({ type: "position", id: id(400) }); // never back
      await event(client, "error", connection.send("{"));
      assert.equal(client.id, id(500));
      client.close();
      const next = connect(peer.url, { WebSocket, storage, since });
      t.after(() => next.close());
      assert.equal((await peer.accept()).query.get("since"), id(500));
    });
  }

  test("since last with nothing stored keeps the id of welcome, and still gets the newest", async (t) => {
    const storage = memory();
    const { peer, client } = await pair(t, { channels: ["a", "b"], since: "last", storage });
    let connection = await peer.accept();
    connection.welcome({ resumed: true });
    connection.subscribed("b", 100, true);
    await event(client, "subscribed");
    assert.deepEqual([...storage.items.values()], [id(100)]);
    connection.cut(); // before the answer for a
    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=a&channel=b&since=${id(100)}&subscribe=a%40last`);
    connection.welcome({ resumed: true, id: id(100) });
    connection.subscribed("a", 150, true); // of the URL's channel
    connection.subscribed("b", 150, true);
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=a&channel=b&since=${id(150)}&subscribe=a%40last`);
    connection.welcome({ resumed: true, id: id(150) });
    for (const name of ["a", "b", "a"]) connection.subscribed(name, 150, true);
    connection.send(message(9, "a"));
    await event(client, "message");
    connection.cut();
    assert.equal((await peer.accept()).query.toString(), `channel=a&channel=b&since=${id(150)}`);
  });

  test("after a gap it goes on behind the gap, also in another stream", async (t) => {
    const { peer, client } = await pair(t, { since: id(5) });
    let connection = await peer.accept();
    for (const gap of [
      { type: "gap", reason: "expired", since: id(5), id: id(50) },
      { type: "gap", reason: "epoch", since: id(50), id: id(20) }, // restored from a backup
      { type: "gap", reason: "epoch", since: id(20), id: "mib3k2x8-3" }, // made anew by a clock that was set back
    ]) {
      assert.equal(connection.query.get("since"), gap.since);
      connection.welcome();
      connection.send(gap);
      assert.deepEqual(await event(client, "gap"), gap);
      assert.equal(client.id, gap.id);
      connection.cut();
      connection = await peer.accept();
    }
    connection.welcome();
    connection.send({ type: "gap", reason: "limit", since: "mib3k2x8-1", id: "mib3k2x8-90", channel: "a" });
    await event(client, "gap");
    assert.equal(client.id, "mib3k2x8-3", "the gap of one channel moved the id of all");
  });

  test("storage carries the id to the next page", async (t) => {
    const storage = memory([["other", "untouched"]]);
    const { peer, client } = await pair(t, { storage });
    let connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 123);
    client.close();
    const next = connect(peer.url, { WebSocket, storage, since: "all" });
    t.after(() => next.close());
    connection = await peer.accept();
    assert.equal(connection.query.get("since"), id(123));
    connection.close(4502, "bad-request");
    await becomes(next, "closed");
    assert.deepEqual([...storage.items], [["other", "untouched"]], "an id that may be refused for ever was kept");
  });

  test("storage that fails or holds nonsense does no harm", async (t) => {
    const broken = () => { throw new Error("quota"); };
    const { peer, client } = await pair(t, { storage: { getItem: () => "?&=", setItem: broken, removeItem: broken } });
    const connection = await peer.accept();
    assert.equal(connection.query.get("since"), null);
    connection.welcome();
    await deliver(connection, client, 101);
    assert.equal(client.id, id(101));
  });
});

suite("subscriptions", { timeout }, () => {
  test("a subscribe with since is repeated until it is answered", async (t) => {
    const { peer, client } = await pair(t);
    let connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 200);
    client.subscribe("orders.eu", { since: id(42) });
    const frame = { type: "subscribe", channel: "orders.eu", since: id(42) };
    assert.deepEqual(await connection.next(), frame);
    await deliver(connection, client, 43, "orders.eu");
    connection.cut();

    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=broadcast&since=${id(200)}&subscribe=orders.eu%40${id(42)}`);
    connection.welcome({ resumed: true });
    connection.subscribed("broadcast", 200, true);
    connection.send(message(43, "orders.eu"));
    connection.send(message(290, "orders.eu")); // further than the others may have come
    await event(client, "message", (m) => m.id === id(290));
    assert.equal(client.id, id(200), "the past of one channel moved the id of all");
    connection.subscribed("orders.eu", 300, true);
    await event(client, "subscribed", (f) => f.channel === "orders.eu");
    assert.equal(client.id, id(290));
    connection.cut();

    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=broadcast&channel=orders.eu&since=${id(290)}`);
    connection.welcome({ resumed: true });
    await becomes(client, "open");
    assert.deepEqual(connection.frames, []);
  });

  test("such a subscription alone does not end up on broadcast", async (t) => {
    const { peer, client } = await pair(t, { channels: ["a"] });
    let connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    client.unsubscribe("a");
    client.subscribe("b@c", { since: "all" });
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.query.toString(), "subscribe=b%40c%40all");
  });

  test("a new name that was not answered is owed what came since", async (t) => {
    const { peer, client } = await pair(t, { channels: ["a"] });
    let connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 200, "a");
    client.subscribe("b@c");
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "b@c" });
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.query.toString(), `channel=a&since=${id(200)}&subscribe=b%40c%40${id(200)}`);
  });

  test("the changes of one turn are one frame, and a refusal ends one name", async (t) => {
    const { peer, client } = await pair(t, { channels: ["a", "b"] });
    const connection = await peer.accept();
    connection.welcome();
    for (const name of ["a", "b"]) connection.subscribed(name, 100);
    await event(client, "subscribed", (frame) => frame.channel === "b");
    const names = Array.from({ length: 200 }, (_, i) => `n.${i}`);
    for (const name of names) client.subscribe(name);
    client.unsubscribe("a");
    client.unsubscribe("b");
    client.subscribe("b"); // and is answered
    client.unsubscribe("n.7"); // never was
    const left = [...names.filter((name) => name !== "n.7"), "b"];
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a" });
    assert.deepEqual(await connection.next(), { type: "subscribe", channels: left.slice(0, 100) });
    assert.deepEqual(await connection.next(), { type: "subscribe", channels: left.slice(100) });
    connection.subscribed("b", 100);
    await event(client, "subscribed");
    client.subscribe("b", { since: "nonsense" });
    await connection.next();
    connection.send({ type: "error", code: "bad-since", detail: "no", channel: "b" });
    await event(client, "error");
    assert.ok(client.channels.includes("b"), "what was followed before goes on");
  });

  test("no more frames go out than the gateway takes", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let clock = 10_000;
    t.mock.method(performance, "now", () => clock);
    const { peer, client } = await pair(t, { channels: ["a"] });
    const connection = await peer.accept();
    connection.welcome({ heartbeat: 1e6 });
    await becomes(client, "open");
    for (let i = 0; i < 30; i++) client.subscribe(`n.${i}`, { since: id(i) }); // none can be joined
    for (let i = 0; i < 20; i++) await connection.next();
    client.unsubscribe("n.25");
    await deliver(connection, client, 101, "a");
    assert.deepEqual(connection.frames, []);
    clock += 1000;
    t.mock.timers.tick(1000);
    for (const i of [20, 21, 22, 23, 24, 26, 27, 28, 29]) {
      assert.deepEqual(await connection.next(), { type: "subscribe", channel: `n.${i}`, since: id(i) });
    }
  });

  test("what changed while the connection was on its way is made good", async (t) => {
    const { peer, client } = await pair(t, { channels: ["a", "b"] });
    const connection = await peer.accept();
    client.unsubscribe("a");
    client.subscribe("c");
    client.subscribe("b"); // is followed already
    assert.deepEqual(client.channels, ["b", "c"]);
    connection.welcome();
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a" });
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "c", since: id(100) });
  });

  test("more names than fit into the URL follow by frame", async (t) => {
    const short = Array.from({ length: 150 }, (_, i) => `short.${i}`);
    const long = Array.from({ length: 150 }, (_, i) => `long.${i}.`.padEnd(255, "x"));
    const { peer, client } = await pair(t, { channels: [...short, ...long], since: id(9) });
    const connection = await peer.accept();
    assert.deepEqual(connection.query.getAll("channel"), short.slice(0, 100));
    connection.welcome({ resumed: true });
    const names = [];
    while (names.length < 200) {
      const text = await connection.nextText();
      const { channels, since } = JSON.parse(text);
      assert.ok(text.length <= 16 << 10 && channels.length <= 100, `${channels.length} names, ${text.length} bytes`);
      assert.equal(since, id(9));
      names.push(...channels);
    }
    assert.deepEqual([...short.slice(0, 100), ...names], client.channels);
  });

  test("a refused channel is not asked for again", async (t) => {
    const { peer, client } = await pair(t);
    let connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    client.subscribe(["secret", "inner"]);
    await connection.next();
    connection.send({ type: "error", code: "forbidden", detail: "no", channel: "secret" });
    connection.send({ type: "subscribed", channel: "inner", resumed: false, id: id(101) });
    await event(client, "subscribed");
    connection.send({ type: "unsubscribed", channel: "inner", reason: "forbidden" });
    await event(client, "unsubscribed");
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual(connection.query.getAll("channel"), ["broadcast"]);
  });

  test("invalid names are refused before they are sent", async (t) => {
    const { client } = await pair(t);
    assert.throws(() => client.subscribe(["fine", "not fine"]), TypeError);
    assert.deepEqual(client.channels, ["broadcast"]);
    assert.throws(() => new Herald("ws://127.0.0.1/ws", { WebSocket, channels: ["a..b"] }), TypeError);
  });

  test("the URL may be http and bring channels and parameters of its own", async (t) => {
    t.mock.method(Math, "random", () => 0);
    const peer = await gateway(t);
    const url = peer.url.replace("ws:", "http:") + "?channel=a&tenant=7&since=x&token=y#hash";
    const client = connect(url, { WebSocket, channels: ["b"], token: "T" });
    t.after(() => client.close());
    assert.equal((await peer.accept()).query.toString(), "tenant=7&channel=a&channel=b");
  });
});

suite("tokens", { timeout }, () => {
  test("4002 asks the function for a new one", async (t) => {
    const tokens = ["one", "two"];
    const { peer } = await pair(t, { token: async () => tokens.shift() });
    let connection = await peer.accept();
    assert.equal(connection.token, "one");
    connection.close(4002, "token-expired");
    connection = await peer.accept();
    assert.equal(connection.token, "two");
  });

  test("what cannot be one is refused here", async (t) => {
    const client = connect("ws://127.0.0.1:1/ws", { WebSocket, token: "two words" });
    const { code, reason, detail } = await becomes(client, "closed");
    assert.deepEqual([code, reason], [4500, "token-invalid"]);
    assert.match(detail, /JWT/);
  });

  test("4002 with a fixed token is final", async (t) => {
    const { peer, client } = await pair(t, { token: "one" });
    (await peer.accept()).close(4002, "token-expired");
    assert.equal((await becomes(client, "closed")).code, 4002);
  });

  test("a failing function is asked again", async (t) => {
    let calls = 0;
    const { peer, client } = await pair(t, {
      token: async () => {
        if (++calls < 3) throw new Error("login is down");
        return "third";
      },
    });
    assert.equal((await event(client, "error")).code, "no-token");
    assert.equal((await peer.accept()).token, "third");
  });

  test("close() while the function is busy leads to no connection", async (t) => {
    let answer;
    const { peer, client } = await pair(t, { token: () => new Promise((resolve) => { answer = resolve; }) });
    client.close();
    answer("late");
    const other = connect(peer.url, { WebSocket, token: "other" });
    t.after(() => other.close());
    assert.equal((await peer.accept()).token, "other");
    assert.equal(client.state, "closed");
  });

  test("is renewed before it expires, and again if that failed", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
    const second = jwt({ exp: 7200, name: "größer ÿ?>" }); // its base64url has - or _ in it
    const first = jwt({ exp: 3600 });
    const tokens = [() => first, () => { throw new Error("login is down"); }, () => first, () => second, () => "opaque"];
    const { peer, client } = await pair(t, { token: () => tokens.shift()() });
    const connection = await peer.accept();
    connection.welcome({ heartbeat: 1e6 });
    await becomes(client, "open");
    const failed = event(client, "error");
    t.mock.timers.tick(0.8 * 3600_000);
    assert.equal((await failed).code, "no-token");
    t.mock.timers.tick(0.8 * 720_000); // the function has no newer one yet: nothing to say
    await Promise.resolve();
    t.mock.timers.tick(0.8 * 144_000);
    assert.deepEqual(await connection.next(), { type: "auth", token: second });
    t.mock.timers.tick(0.8 * (7200_000 - Date.now()));
    assert.deepEqual(await connection.next(), { type: "auth", token: "opaque" });
  });
});

suite("a silent connection", { timeout }, () => {
  test("is asked, and given up if it does not answer", async (t) => {
    const { peer, client } = await pair(t);
    let connection = await peer.accept();
    const waiting = becomes(client, "waiting");
    connection.welcome({ heartbeat: 0.02 });
    assert.deepEqual(await connection.next(), { type: "ping" });
    assert.equal((await waiting).reason, "no pong");
    connection = await peer.accept();
    assert.equal(connection.query.get("since"), id(100));
  });

  test("stays while it answers", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let clock = 10_000;
    t.mock.method(performance, "now", () => clock);
    const pass = (seconds) => {
      clock += 1000 * seconds;
      t.mock.timers.tick(1000 * seconds);
    };
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    connection.welcome({ heartbeat: 5 }); // which is also how long the answer may take
    await becomes(client, "open");
    const states = [];
    client.on("state", ({ state }) => states.push(state));
    for (let i = 101; i < 104; i++) {
      pass(10);
      assert.deepEqual(await connection.next(), { type: "ping" });
      clock += 4900;
      connection.send({ type: "pong" });
      await deliver(connection, client, i); // and so the pong came
      t.mock.timers.tick(5000);
      clock += 100;
    }
    assert.deepEqual(states, []);
    pass(10);
    assert.deepEqual(await connection.next(), { type: "ping" });
    pass(5);
    assert.equal(states[0], "waiting");
  });

  test("is given up if it never welcomes", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { peer, client } = await pair(t);
    await peer.accept();
    const waiting = becomes(client, "waiting");
    t.mock.timers.tick(15_000);
    assert.equal((await waiting).reason, "no answer");
  });
});

suite("coming back", { timeout }, () => {
  test("an error before open is the end of an attempt, with or without a close after it", async (t) => {
    const attempts = [];
    class Mute { // as Node's own WebSocket does it
      constructor() {
        attempts.push(this);
        setImmediate(() => this.onerror({ type: "error" }));
      }
      close() {}
    }
    const { client } = await pair(t, { WebSocket: Mute, transport: "websocket" });
    const delays = [];
    client.on("state", ({ state, code, attempt }) => state === "waiting" && delays.push([code, attempt]));
    await becomes(client, "waiting");
    await becomes(client, "waiting");
    attempts[1].onerror({ type: "error" }); // and again, too late
    attempts[1].onclose?.({ code: 1006, reason: "" });
    assert.deepEqual(delays, [[1006, 1], [1006, 2]]);
  });

  test("delays grow while connections do not last, and start again after one that did", async (t) => {
    let clock = 0;
    t.mock.method(performance, "now", () => clock);
    const { peer, client } = await pair(t);
    const delays = [];
    client.on("state", ({ state, attempt }) => state === "waiting" && delays.push(attempt));
    for (const lasted of [0, 5000, 9999, 10_001, 0]) {
      const connection = await peer.accept();
      connection.welcome();
      await becomes(client, "open");
      clock += lasted;
      const waiting = becomes(client, "waiting");
      connection.cut();
      await waiting;
    }
    assert.deepEqual(delays, [1, 2, 3, 1, 2]);
  });

  test("the network's return cuts a long wait short", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const page = new EventTarget();
    for (const name of ["addEventListener", "removeEventListener"]) {
      globalThis[name] = page[name].bind(page);
      t.after(() => delete globalThis[name]);
    }
    const { peer, client } = await pair(t, { transport: "websocket" });
    Math.random.mock.mockImplementation(() => 0.9);
    for (let i = 0; i < 6; i++) {
      (await peer.accept()).cut();
      const { delay } = await becomes(client, "waiting");
      if (i < 5) t.mock.timers.tick(delay);
      else assert.equal(delay, 0.9 * 16_000);
    }
    page.dispatchEvent(new Event("offline"));
    page.dispatchEvent(new Event("online"));
    t.mock.timers.tick(450);
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    page.dispatchEvent(new Event("offline"));
    assert.deepEqual(await connection.next(), { type: "ping" });
    t.mock.timers.tick(10_000);
    assert.equal(client.state, "waiting");
  });
});

suite("handlers", { timeout }, () => {
  test("one that throws is reported and harms nobody", async (t) => {
    const thrown = [];
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    t.mock.method(globalThis, "queueMicrotask", (report) => thrown.push(report));
    client.on("message", () => { throw new Error("mine"); });
    await deliver(connection, client, 101);
    assert.throws(thrown[0], /mine/);
    assert.equal(client.id, id(101));
  });

  test("frames that are no JSON or of a later protocol are passed over", async (t) => {
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    connection.welcome({ later: true });
    connection.send({ type: "presence", channel: "a" });
    connection.send("{");
    assert.equal((await event(client, "error")).code, "bad-frame");
    await deliver(connection, client, 101);
  });

  test("off() and the function that on() gives back end it", async (t) => {
    const { peer, client } = await pair(t);
    const connection = await peer.accept();
    const got = [];
    const handler = (m) => got.push(m.id);
    client.on("message", handler);
    client.off("message", handler);
    client.on("message", handler)();
    connection.welcome();
    await deliver(connection, client, 101);
    assert.deepEqual(got, []);
  });
});
