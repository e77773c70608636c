// The client over Server-Sent Events, and when it goes over to them. The gateway is played by gateway.js.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { connect } from "../client/herald.js";
import { covers } from "../client/protocol.js";
import { eventParser } from "../client/transport.js";
import { WebSocket, becomes, closeCodes, deliver, event, gateway, golden, id, jwt, memory, message, pair } from "./gateway.js";

const timeout = 900_000; // of a suite, on a machine that is busy with other things
const over = (t, options) => pair(t, { transport: "sse", ...options });
const follows = (connection) => [connection.query.getAll("channel"), connection.query.get("since")];

const asks = (connection) => [...follows(connection), connection.query.getAll("subscribe")];

/** Collects what the message handlers get. */
function collect(client) {
  const got = [];
  client.on("message", (m) => got.push([m.channel, m.id]));
  return got;
}

/** Waits without a timer, which may be mocked. */
async function until(passes) {
  const end = performance.now() + timeout;
  while (!passes()) {
    assert.ok(performance.now() < end, `it never came true: ${passes}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

suite("an event stream", () => {
  const text = "\uFEFF: a comment\n\nretry: 1000\n\nid: e-1\nevent: welcome\ndata: {\"a\":\ndata:1}\n\ndata:  größer 🜂 ÿ\n\n" +
    "id: e-2\n\nevent: lonely\n\ndata\nunknown: x\n\nid: e-3\ndata: {}\n\ndata: cut off";
  const want = [
    ["welcome", '{"a":\n1}', "e-1"], ["", " größer 🜂 ÿ", undefined], ["", undefined, "e-2"], ["", "", undefined], ["", "{}", "e-3"],
  ];
  for (const [name, end] of [["LF", "\n"], ["CR", "\r"], ["CRLF", "\r\n"]]) {
    test(`is the same wherever its chunks end, with ${name}`, () => {
      const bytes = new TextEncoder().encode(text.replaceAll("\n", end));
      const parsed = (...chunks) => {
        const got = [];
        const parse = eventParser((...args) => got.push(args));
        for (const chunk of chunks) parse(chunk);
        return got;
      };
      assert.deepEqual(parsed(bytes), want);
      assert.deepEqual(parsed(...Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))), want, "byte by byte");
      for (let i = 0; i <= bytes.length; i++) {
        assert.deepEqual(parsed(bytes.subarray(0, i), new Uint8Array(0), bytes.subarray(i)), want, `cut at byte ${i}`);
      }
    });
  }

  test("is not held up by a CR that a LF may follow", () => {
    const got = [];
    const parse = eventParser((...args) => got.push(args));
    parse(new TextEncoder().encode("data: 1\r\n\r"));
    assert.equal(got.length, 1);
    parse(new TextEncoder().encode("\ndata: 2\n\n"));
    assert.deepEqual(got, [["", "1", undefined], ["", "2", undefined]]);
  });
});

suite("patterns", () => {
  test("what a pattern takes in", () => {
    for (const [pattern, channel, want] of [
      ["orders.eu", "orders.eu", true], ["orders.eu", "orders.us", false], ["orders.eu", "orders.eu.paid", false],
      ["orders.*", "orders.eu", true], ["orders.*", "orders.eu.paid", false], ["orders.*", "orders", false],
      ["orders.>", "orders.eu", true], ["orders.>", "orders.eu.paid", true], ["orders.>", "orders", false],
      ["*.eu", "orders.eu", true], ["*.eu", "orders.us", false], [">", "a", true], [">", "a.b.c", true], ["*.>", "a", false],
    ]) {
      assert.equal(covers(pattern, channel), want, `${pattern} and ${channel}`);
    }
  });
});

suite("over Server-Sent Events", { timeout }, () => {
  for (const [name, type] of Object.entries({
    message: "message", "message-ephemeral": "message", welcome: "welcome", gap: "gap", error: "error",
  })) {
    test(`the golden ${name} becomes a ${type} event`, async (t) => {
      const { peer, client } = await over(t, { channels: ["broadcast", "orders.*"] });
      const connection = await peer.accept();
      if (name !== "welcome") connection.welcome();
      const got = event(client, type, (detail) => JSON.stringify(detail) === golden(name));
      connection.send(golden(name));
      await got;
    });
  }

  test("the URL is the neighbour of /ws and names what /ws would", async (t) => {
    const peer = await gateway(t);
    const url = peer.url.replace("/ws", "/push/ws?tenant=7");
    const client = connect(url, { transport: "sse", channels: ["a", "b.>"], token: "T", since: "all" });
    t.after(() => client.close());
    const connection = await peer.accept();
    assert.equal(connection.path, "/push/sse");
    assert.equal(connection.query.toString(), "tenant=7&channel=a&channel=b.%3E&since=all");
    assert.equal(client.transport, undefined);
    connection.welcome();
    await becomes(client, "open");
    assert.equal(client.transport, "sse");
    await assert.rejects(client.ping(), /no ping/);
    client.close();
    await connection.gone;
    assert.equal(client.transport, undefined);
    assert.equal(peer.waiting.length, 0);
  });

  test("it comes back from the newest id", async (t) => {
    const { peer, client } = await over(t);
    let connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual(follows(connection), [["broadcast"], id(100)]);
    connection.welcome({ resumed: true });
    connection.send(golden("message-ephemeral"));
    await deliver(connection, client, 101);
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual(follows(connection), [["broadcast"], id(101)]);
    const resumed = event(client, "resumed");
    connection.welcome({ resumed: true, id: id(101) });
    await resumed;
  });

  test("after the newest messages it goes on from the place that follows them", async (t) => {
    const { peer, client } = await over(t, { since: "last" });
    let connection = await peer.accept();
    assert.equal(connection.query.get("since"), "last");
    connection.welcome({ resumed: true });
    await deliver(connection, client, 40);
    assert.equal(client.id, id(100));
    connection.write(`id: ${id(100)}\n\n`);
    await deliver(connection, client, 101);
    connection.write(`id: ${id(105)}\n\n`);
    connection.send(golden("message-ephemeral"));
    await event(client, "message");
    assert.equal(client.id, id(105));
  });

  test("events that are cut in the middle of a character, and CRLF", async (t) => {
    const { peer, client } = await over(t);
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    const bytes = Buffer.from(`id: ${id(101)}\r\ndata: ${JSON.stringify({ ...message(101), data: "größer 🜂" })}\r\n\r\n`);
    const cut = bytes.indexOf(Buffer.from("🜂")) + 2;
    const got = event(client, "message");
    connection.write(bytes.subarray(0, cut));
    connection.write(bytes.subarray(cut));
    assert.equal((await got).data, "größer 🜂");
  });

  for (const [, code, name, then] of closeCodes) {
    test(`${code} ${name}: ${then}`, async (t) => {
      const { peer, client } = await over(t, { token: () => jwt({ exp: 4_000_000_000 }) });
      const connection = await peer.accept();
      connection.welcome();
      await becomes(client, "open");
      const ended = event(client, "state");
      connection.send({ type: "error", code: name, detail: "because" });
      connection.close(Number(code), name);
      const { state, code: got, reason, detail } = await ended;
      assert.deepEqual({ state, got, reason, detail }, {
        state: then === "come back" ? "waiting" : "closed", got: Number(code), reason: name, detail: "because",
      });
      if (then === "come back") assert.equal((await peer.accept()).query.get("since"), id(100));
    });
  }

  const problem = (status, detail) => [status, "application/problem+json", JSON.stringify({ status, title: "No", detail })];
  for (const [name, answer, want] of [
    ["a wrong parameter", problem(400, "since: no id"), { state: "closed", code: 4502, reason: "bad-request", detail: "since: no id" }],
    ["a wrong token", problem(401, "forged"), { state: "closed", code: 4500, reason: "token-invalid", detail: "forged" }],
    ["a forbidden channel", problem(403), { state: "closed", code: 1008, reason: "forbidden", detail: "No" }],
    ["a gateway's bad moment", problem(500), { state: "waiting", code: 1006, reason: "HTTP 500", detail: undefined }],
    ["a proxy that forbids", [403, "text/html", "<p>No"], { state: "waiting", code: 1006, reason: "HTTP 403", detail: undefined }],
    ["a proxy without a gateway", [502, "text/html", ""], { state: "waiting", code: 1006, reason: "HTTP 502", detail: undefined }],
    ["a page to log in", [200, "text/html", "<form>"], { state: "waiting", code: 1006, reason: "HTTP 200", detail: undefined }],
    ["a broken problem", [403, "application/problem+json", "{"], { state: "waiting", code: 1006, reason: "", detail: undefined }],
  ]) {
    test(`${name}: ${want.state}`, async (t) => {
      const { peer, client } = await over(t);
      const connection = await peer.accept();
      const ended = event(client, "state");
      connection.answer(...answer);
      const { state, code, reason, detail } = await ended;
      assert.deepEqual({ state, code, reason, detail }, want);
      if (state === "waiting") await peer.accept();
      else assert.equal(peer.waiting.length, 0);
    });
  }

  test("a token that is over is replaced, as after 4002", async (t) => {
    const [first, second] = [jwt({ exp: Date.now() / 1000 - 5 }), jwt({ exp: 4_000_000_000 })];
    const tokens = [first, second];
    const { peer, client } = await over(t, { token: () => tokens.shift() });
    const waiting = becomes(client, "waiting");
    (await peer.accept()).answer(...problem(401, "the token is expired"));
    assert.equal((await waiting).code, 4002);
    assert.equal((await peer.accept()).token, second);
  });

  test("a token is renewed by another stream before it expires", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
    const [first, second] = [jwt({ exp: 3600 }), jwt({ exp: 7200 })];
    const tokens = [() => first, () => { throw new Error("login is down"); }, () => second];
    const { peer, client } = await over(t, { token: () => tokens.shift()() });
    let connection = await peer.accept();
    connection.welcome({ heartbeat: 1e6 });
    await becomes(client, "open");
    await deliver(connection, client, 101);
    const states = [];
    client.on("state", ({ state }) => states.push(state));
    const failed = event(client, "error");
    t.mock.timers.tick(0.8 * 3600_000);
    assert.equal((await failed).code, "no-token");
    t.mock.timers.tick(0.8 * 720_000);
    await connection.gone;
    connection = await peer.accept();
    assert.equal(connection.token, second);
    assert.equal(connection.query.get("since"), id(101));
    const welcome = event(client, "welcome");
    connection.welcome({ resumed: true });
    await welcome;
    assert.deepEqual(states, [], "who changes a token sees nothing of it");
  });

  test("silence for two heartbeats is the end, a comment in time is enough", async (t) => {
    let clock = 0; // the timers run, but what they find is up to us
    const now = t.mock.method(performance, "now", () => clock);
    const { peer, client } = await over(t);
    const connection = await peer.accept();
    connection.welcome({ heartbeat: 0.02 });
    await deliver(connection, client, 101);
    const waiting = becomes(client, "waiting");
    for (let i = 102; i < 105; i++) {
      clock += 39;
      connection.write(`:\n\nid: ${id(i)}\n\n`);
      await until(() => client.id === id(i));
      const looks = now.mock.callCount();
      await until(() => now.mock.callCount() > looks);
      assert.equal(client.state, "open");
    }
    clock += 40;
    assert.equal((await waiting).reason, "no heartbeat");
    await connection.gone;
    assert.equal((await peer.accept()).query.get("since"), id(104));
  });

  test("one that never welcomes is given up", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { peer, client } = await over(t);
    (await peer.accept()).write(":\n\n");
    const waiting = becomes(client, "waiting");
    t.mock.timers.tick(15_000);
    assert.equal((await waiting).reason, "no answer");
  });

  test("the network's return makes a new stream", async (t) => {
    const page = new EventTarget();
    for (const name of ["addEventListener", "removeEventListener"]) {
      globalThis[name] = page[name].bind(page);
      t.after(() => delete globalThis[name]);
    }
    const { peer, client } = await over(t);
    const connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 101);
    page.dispatchEvent(new Event("offline"));
    page.dispatchEvent(new Event("online"));
    await connection.gone;
    assert.equal((await peer.accept()).query.get("since"), id(101));
  });
});

suite("subscriptions over Server-Sent Events", { timeout }, () => {
  /** A client that follows "a" and has come to 200. */
  async function settled(t, options) {
    const { peer, client } = await over(t, { channels: ["a"], ...options });
    const connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 200, "a");
    return { peer, client, connection };
  }

  test("new names are asked for beside the others, once for all changes of a turn", async (t) => {
    const { peer, client, connection: first } = await settled(t);
    const got = collect(client);
    const answers = [];
    client.on("subscribed", (frame) => answers.push(frame.channel));
    client.subscribe("b.*");
    client.subscribe(["c", "a"]);
    client.unsubscribe("c");
    client.subscribe("d");
    await first.gone;
    let connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a"], id(200), ["b.*", "d"]]);
    connection.welcome({ resumed: true, id: id(200) });
    connection.subscribed("a", 300, true);
    connection.subscribed("b.*", 300);
    connection.subscribed("d", 301);
    connection.send(golden("message-ephemeral"));
    connection.send(message(302, "b.x"));
    await deliver(connection, client, 303, "a");
    assert.deepEqual(answers, ["a", "b.*", "d"]);
    assert.deepEqual(got, [["orders.eu", undefined], ["b.x", id(302)], ["a", id(303)]]);
    client.subscribe("e");
    connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a", "b.*", "d"], id(303), ["e"]]);
    connection.welcome({ resumed: true, id: id(303) });
    for (const name of ["a", "b.*", "d", "e"]) connection.subscribed(name, 303, true);
    await event(client, "subscribed");
    assert.deepEqual(answers, ["a", "b.*", "d", "e"], "one stream that follows another is not worth a word");
    connection.cut();
    assert.deepEqual(asks(await peer.accept()), [["a", "b.*", "d", "e"], id(303), []]);
  });

  test("unsubscribe is another stream, and an answer", async (t) => {
    const { peer, client, connection: first } = await settled(t, { channels: ["a", "b"] });
    const gone = event(client, "unsubscribed");
    client.unsubscribe(["b", "unheard of"]);
    assert.deepEqual(await gone, { type: "unsubscribed", channel: "b" });
    await first.gone;
    let connection = await peer.accept();
    assert.deepEqual(follows(connection), [["a"], id(200)]);
    connection.welcome({ resumed: true });
    await event(client, "welcome");
    client.unsubscribe("a");
    connection = await peer.accept();
    assert.equal(connection.query.toString(), "channel=", "to name none would mean broadcast");
  });

  test("a change while the stream is on its way waits for its welcome", async (t) => {
    const { peer, client } = await over(t, { channels: ["a"] });
    let connection = await peer.accept();
    client.subscribe("b");
    connection.welcome();
    connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a"], id(100), [`b@${id(100)}`]]);
    client.unsubscribe("b");
    connection.welcome({ id: id(100) });
    connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a"], id(100), []]);
    assert.deepEqual(client.channels, ["a"]);
  });

  test("a refused name harms no other, and is not asked for again", async (t) => {
    const { peer, client } = await settled(t);
    const faults = [];
    client.on("error", (fault) => faults.push([fault.code, fault.channel]));
    client.subscribe(["b", "secret", "c"]);
    let connection = await peer.accept();
    connection.welcome({ resumed: true, id: id(200) });
    connection.subscribed("a", 300, true);
    connection.subscribed("b", 300);
    connection.send({ type: "error", code: "forbidden", detail: "no", channel: "secret" });
    connection.subscribed("c", 300);
    await event(client, "subscribed", (frame) => frame.channel === "c");
    assert.deepEqual(client.channels, ["a", "b", "c"]);
    assert.equal(peer.waiting.length, 0, "a refusal is no reason for another stream");
    client.subscribe("d", { since: "nonsense!" });
    connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a", "b", "c"], id(300), ["d@nonsense!"]]);
    connection.welcome({ resumed: true, id: id(300) });
    const fault = event(client, "error");
    connection.send({ type: "error", code: "bad-since", detail: "no", channel: "d" });
    await fault;
    assert.deepEqual(faults, [["forbidden", "secret"], ["bad-since", "d"]]);
    connection.cut();
    assert.deepEqual(asks(await peer.accept()), [["a", "b", "c"], id(300), []]);
  });

  for (const since of [id(42), "all", "last"]) {
    test(`since ${since === id(42) ? "an id" : since} is asked for until it is answered, through a cut`, async (t) => {
      const { peer, client } = await settled(t);
      const got = collect(client);
      client.subscribe("b", { since });
      let connection = await peer.accept();
      for (const last of [false, true]) {
        assert.deepEqual(asks(connection), [["a"], id(200), [`b@${since}`]]);
        connection.welcome({ resumed: true, id: id(200) });
        connection.send(message(43, "b"));
        connection.send(message(290, "b"));
        await event(client, "message", (m) => m.id === id(290));
        assert.equal(client.id, id(200), "the past of one channel moved the id of all");
        if (last) break;
        connection.cut();
        connection = await peer.accept();
      }
      connection.subscribed("a", 280, true);
      connection.subscribed("b", 300, true);
      await event(client, "subscribed", (frame) => frame.channel === "b");
      assert.equal(client.id, id(290));
      await deliver(connection, client, 301, "a");
      assert.deepEqual(got, [["b", id(43)], ["b", id(290)], ["b", id(43)], ["b", id(290)], ["a", id(301)]]);
      connection.cut();
      assert.deepEqual(asks(await peer.accept()), [["a", "b"], id(301), []]);
    });
  }

  test("a gap in the past of one channel is that channel's, and not told twice", async (t) => {
    const { peer, client } = await settled(t);
    client.subscribe("b", { since: id(42) });
    let connection = await peer.accept();
    connection.welcome({ resumed: true, id: id(200) });
    const frame = { type: "gap", reason: "expired", since: id(42), id: id(80), channel: "b" };
    connection.send(frame);
    assert.deepEqual(await event(client, "gap"), frame);
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual(asks(connection), [["a"], id(200), [`b@${id(80)}`]]);
    connection.welcome({ id: "mib3k2xa-7" });
    const epoch = { type: "gap", reason: "epoch", since: id(200), id: "mib3k2xa-7" };
    connection.send(epoch);
    assert.deepEqual(await event(client, "gap"), epoch);
    connection.cut();
    assert.equal((await peer.accept()).query.get("since"), "mib3k2xa-7");
  });

  test("names that do not fit are refused, and come by WebSocket", async (t) => {
    t.mock.method(Math, "random", () => 0);
    const peer = await gateway(t);
    peer.blocked = true;
    const names = Array.from({ length: 102 }, (_, i) => `n.${i}`);
    const client = connect(peer.url, { WebSocket, channels: names });
    t.after(() => client.close());
    const refused = [];
    client.on("error", ({ code, channel }) => refused.push([code, channel]));
    let connection = await peer.accept();
    assert.deepEqual(follows(connection), [names.slice(0, 100), null]);
    connection.welcome();
    await deliver(connection, client, 101, "n.1");
    assert.deepEqual(refused, [["limit", "n.100"], ["limit", "n.101"]]);
    assert.deepEqual(client.channels, names);
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual([connection.kind, connection.query.get("since")], ["sse", id(101)]);
    client.close();
    peer.blocked = false;
    client.open();
    connection = await peer.accept();
    assert.deepEqual(follows(connection), [names.slice(0, 100), id(101)]);
    connection.welcome({ resumed: true });
    assert.deepEqual(await connection.next(), { type: "subscribe", channels: ["n.100", "n.101"], since: id(100) });
  });
});

suite("the choice of transport", { timeout }, () => {
  async function blocked(t, options) {
    t.mock.method(Math, "random", () => 0);
    const peer = await gateway(t);
    peer.blocked = true;
    const client = connect(peer.url, { WebSocket, ...options });
    t.after(() => client.close());
    return { peer, client };
  }

  test("where no WebSocket gets through it stays with events, also on the next page", async (t) => {
    const storage = memory();
    const { peer, client } = await blocked(t, { storage });
    let connection = await peer.accept();
    assert.deepEqual([connection.kind, peer.turnedAway], ["sse", 2]);
    connection.welcome();
    await becomes(client, "open");
    assert.equal(client.transport, "sse");
    await deliver(connection, client, 101);
    connection.cut();
    connection = await peer.accept();
    assert.deepEqual([connection.kind, connection.query.get("since"), peer.turnedAway], ["sse", id(101), 2]);
    connection.welcome();
    client.close();

    const next = connect(peer.url, { WebSocket, storage });
    t.after(() => next.close());
    connection = await peer.accept();
    assert.deepEqual([connection.kind, connection.query.get("since"), peer.turnedAway], ["sse", id(101), 2]);
    connection.welcome();
    await becomes(next, "open");

    client.open(); // begins with a WebSocket
    connection = await peer.accept();
    assert.deepEqual([connection.kind, peer.turnedAway], ["sse", 4]);
  });

  test("it looks now and then, and goes over to the WebSocket that works", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    const { peer, client } = await blocked(t);
    for (let i = 0; i < 2; i++) {
      await becomes(client, "waiting");
      t.mock.timers.tick(0);
    }
    let connection = await peer.accept();
    connection.welcome({ heartbeat: 1e6 });
    await becomes(client, "open");
    await deliver(connection, client, 101);
    const states = [];
    client.on("state", ({ state }) => states.push(state));
    t.mock.timers.tick(300_000);
    await until(() => peer.turnedAway === 3);
    await deliver(connection, client, 102); // the stream is not touched
    assert.deepEqual(states, []);
    peer.blocked = false;
    for (const look of [1, 2, 3]) { // the last look may not be over yet
      t.mock.timers.tick(300_000);
      await deliver(connection, client, 102 + look);
      if (peer.waiting.length > 0) break;
    }
    const probe = await peer.accept();
    assert.deepEqual([probe.kind, probe.query.toString()], ["websocket", "channel="]);
    probe.welcome();
    await connection.gone;
    connection = await peer.accept();
    assert.deepEqual([connection.kind, connection.query.get("since")], ["websocket", client.id]);
    connection.welcome();
    await becomes(client, "open");
    assert.equal(client.transport, "websocket");
  });

  test("a gateway that is down is asked in turn, and the first that is welcomed has it", async (t) => {
    const { peer, client } = await blocked(t);
    for (const turnedAway of [2, 3, 4]) {
      const connection = await peer.accept();
      assert.deepEqual([connection.kind, peer.turnedAway], ["sse", turnedAway]);
      if (turnedAway === 4) peer.blocked = false;
      connection.cut();
    }
    let connection = await peer.accept();
    assert.equal(connection.kind, "websocket");
    connection.welcome();
    await becomes(client, "open");
    connection.cut();
    connection = await peer.accept();
    assert.equal(connection.kind, "websocket");
  });

  test("a goodbye by WebSocket says that it gets through", async (t) => {
    const { peer } = await pair(t);
    for (let i = 0; i < 4; i++) {
      const connection = await peer.accept();
      assert.equal(connection.kind, "websocket");
      connection.close(1013, "overload");
    }
  });

  test("from WebSocket to events and back, the id goes along", async (t) => {
    const { peer, client } = await pair(t);
    let connection = await peer.accept();
    connection.welcome();
    await deliver(connection, client, 101);
    client.subscribe("b", { since: id(42) });
    await connection.next();
    peer.blocked = true;
    connection.cut();

    connection = await peer.accept();
    assert.equal(connection.kind, "sse");
    assert.deepEqual(asks(connection), [["broadcast"], id(101), [`b@${id(42)}`]]);
    connection.welcome({ resumed: true, id: id(101) });
    connection.subscribed("broadcast", 101, true);
    connection.subscribed("b", 101, true);
    await deliver(connection, client, 102);
    peer.blocked = false;
    connection.cut();
    connection = await peer.accept(); // still events: WebSocket was blocked a moment ago
    connection.welcome();
    await becomes(client, "open");
    client.close();
    client.open();
    connection = await peer.accept();
    assert.equal(connection.kind, "websocket");
    assert.deepEqual(follows(connection), [["broadcast", "b"], id(102)]);
  });

  test("a WebSocket that never opens is not waited for long", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    class Swallowed extends EventTarget {
      send() {}
      close() {}
    }
    const { peer, client } = await pair(t, { WebSocket: Swallowed });
    for (let i = 0; i < 2; i++) {
      const waiting = becomes(client, "waiting");
      t.mock.timers.tick(5000);
      await waiting;
      t.mock.timers.tick(0);
      await Promise.resolve();
    }
    assert.equal((await peer.accept()).kind, "sse");
  });

  for (const [name, options] of [
    ["there is no WebSocket", { WebSocket: undefined }],
    ["the platform throws", { WebSocket: class { constructor() { throw new Error("SecurityError"); } } }],
  ]) {
    test(`events alone where ${name}`, async (t) => {
      const { peer, client } = await pair(t, options);
      const connection = await peer.accept();
      assert.equal(connection.kind, "sse");
      connection.welcome();
      await becomes(client, "open");
    });
  }

  test("transport: websocket wants a class", () => {
    assert.throws(() => connect("ws://127.0.0.1/ws", { transport: "websocket", WebSocket: undefined }), TypeError);
  });

  test("transport: sse never opens a WebSocket", async (t) => {
    const { peer, client } = await over(t);
    for (let i = 0; i < 4; i++) {
      const connection = await peer.accept();
      assert.equal(connection.kind, "sse");
      connection.cut();
      await becomes(client, "waiting");
    }
  });
});
