// follow(): state and stream without a race. The gateway is played by gateway.js.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { becomes, event, id, message, pair } from "./gateway.js";

const timeout = 900_000; // of a suite, on a machine that is busy with other things

/** A load that waits until the test answers it. */
function loads() {
  const calls = [];
  const waiters = [];
  const load = (place, signal) => new Promise((resolve, reject) => {
    calls.push({ place, signal, resolve, reject });
    for (const done of waiters.splice(0)) done();
  });
  const called = async (times) => {
    while (calls.length < times) await new Promise((resolve) => waiters.push(resolve));
  };
  return { calls, load, called };
}

suite("follow()", { timeout }, () => {
  /** A client that follows "a.*" by follow(), and what the page was told. */
  async function following(t) {
    const { peer, client } = await pair(t, { channels: ["x"] });
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    const told = [];
    const { calls, load, called } = loads();
    const stop = client.follow("a.*", { load, state: (state) => told.push(state), message: (m) => told.push(m.id ?? "ephemeral") });
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "a.*" });
    assert.equal(calls.length, 0, "the place is taken before the load");
    const passes = async (sequence, channel = "a.b") => {
      const got = event(client, "message", (m) => m.id === id(sequence));
      connection.send(message(sequence, channel));
      await got;
    };
    return { peer, client, connection, calls, called, told, stop, passes };
  }

  test("messages wait for the state, and follow it", async (t) => {
    const { client, connection, calls, told, passes } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    assert.equal(calls[0].place, id(120));
    await passes(121);
    await passes(122, "x");
    await passes(123);
    assert.deepEqual(told, []);
    calls[0].resolve("state");
    await passes(124);
    assert.deepEqual(told, ["state", id(121), id(123), id(124)]);
  });

  test("a load that fails is tried again, and a connection that ends costs none", async (t) => {
    const { peer, client, connection: first, calls, called, told, passes } = await following(t);
    first.subscribed("a.*", 120);
    await event(client, "subscribed");
    await passes(121);
    const fault = event(client, "error");
    calls[0].reject(new Error("503"));
    assert.deepEqual(await fault, { code: "load-failed", detail: "Error: 503", channel: "a.*" });
    await called(2);
    assert.deepEqual([calls[1].place, calls[1].signal.aborted], [id(120), false]);
    calls[1].resolve("state");
    await passes(122);
    assert.deepEqual(told, ["state", id(121), id(122)], "what came after the place has waited all the while");
    first.cut();
    const connection = await peer.accept();
    connection.welcome({ resumed: true });
    for (const name of ["x", "a.*"]) connection.subscribed(name, 122, true);
    connection.send(message(123, "a.b"));
    await event(client, "message");
    assert.deepEqual([told, calls.length], [["state", id(121), id(122), id(123)], 2]);
  });

  test("after a gap the state is loaded again, and what an earlier load brings does not count", async (t) => {
    const { client, connection, calls, told, passes } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    await passes(121);
    const gap = async (frame) => {
      connection.send({ type: "gap", reason: "expired", since: id(121), id: id(200), ...frame });
      await event(client, "gap");
    };
    await gap({ channel: "x" });
    assert.equal(calls.length, 1);
    await gap({});
    assert.equal(calls[1].place, id(200));
    assert.deepEqual(calls.map(({ signal }) => signal.aborted), [true, false]);
    calls[0].resolve("old");
    await passes(201);
    calls[1].resolve("new");
    await passes(202);
    assert.deepEqual(told, ["new", id(201), id(202)]);
    await gap({ channel: "a.*", id: id(300) });
    calls[2].resolve("newest");
    await passes(301);
    assert.deepEqual(told, ["new", id(201), id(202), "newest", id(301)]);
  });

  test("stop() ends it, and only a subscription of its own", async (t) => {
    const { client, connection, calls, told, stop, passes } = await following(t);
    connection.subscribed("x", 119); // of the URL
    connection.subscribed("a.*", 120);
    await event(client, "subscribed", (frame) => frame.channel === "a.*");
    const another = loads();
    const end = client.follow("x", { load: another.load, message: (m) => told.push(m.id) }); // is followed already
    assert.equal(another.calls[0].place, id(119));
    another.calls[0].resolve();
    await passes(121, "x");
    assert.deepEqual(told, [id(121)]);
    end();
    stop();
    assert.equal(calls[0].signal.aborted, true);
    calls[0].resolve("late");
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a.*" });
    client.subscribe("a.*");
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "a.*" });
    stop(); // again, which ends no subscription of others
    client.unsubscribe("a.*");
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a.*" });
    await passes(122, "x");
    assert.deepEqual([told, client.channels], [[id(121)], ["x"]]);
  });

  test("a connection that ends while the state is loaded costs nothing, and another epoch loads it anew", async (t) => {
    const { peer, client, connection: first, calls, told, passes } = await following(t);
    first.subscribed("a.*", 120);
    await event(client, "subscribed");
    await passes(121);
    first.cut();
    const second = await peer.accept();
    assert.equal(second.query.get("since"), id(121));
    const [replayed, confirmed] = [event(client, "message", (m) => m.id === id(122)), event(client, "subscribed", ({ channel }) => channel === "a.*")];
    second.welcome({ resumed: true });
    second.send(message(122, "a.b"));
    for (const name of ["x", "a.*"]) second.subscribed(name, 122, true);
    await Promise.all([replayed, confirmed]);
    assert.equal(calls.length, 1);
    second.cut();
    const third = await peer.accept();
    const gap = event(client, "gap");
    third.welcome({ id: "zzzzzzzz-5" });
    third.send({ type: "gap", reason: "epoch", since: id(122), id: "zzzzzzzz-5" });
    await gap;
    assert.deepEqual(calls.map(({ place, signal }) => [place, signal.aborted]), [[id(120), true], ["zzzzzzzz-5", false]]);
    calls[0].resolve("old");
    const late = event(client, "message");
    third.send({ ...message(1, "a.b"), id: "zzzzzzzz-6" });
    await late;
    assert.deepEqual(told, []);
    calls[1].resolve("new");
    await new Promise(setImmediate);
    assert.deepEqual(told, ["new", "zzzzzzzz-6"]);
  });

  test("several of one channel share its subscription, which ends with the last of them", async (t) => {
    const { client, connection, calls, told, stop, passes } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    const [other, seen] = [loads(), []];
    const end = client.follow("a.*", { load: other.load, state: (state) => seen.push(state), message: (m) => { seen.push(m.id); stop(); } });
    assert.equal(other.calls[0].place, id(120));
    calls[0].resolve("one");
    other.calls[0].resolve("other");
    await passes(121);
    assert.deepEqual([told, seen], [["one", id(121)], ["other", id(121)]]);
    await passes(122); // the first has ended, the other has not
    assert.deepEqual([told, seen], [["one", id(121)], ["other", id(121), id(122)]]);
    assert.deepEqual(client.channels, ["x", "a.*"]);
    end();
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a.*" });
  });

  test("who is taken away by an earlier handler of a message does not get it", async (t) => {
    const { client, connection, calls, told, stop, passes } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    calls[0].resolve("state");
    await passes(121);
    const early = loads();
    client.follow("x", { load: early.load }); // its handler stands behind
    stop();
    const again = loads();
    const ends = [];
    client.on("message", () => ends.pop()?.());
    ends.push(client.follow("a.*", { load: again.load, message: () => told.push("never") }));
    connection.send({ type: "unsubscribed", channel: "a.*" });
    connection.subscribed("a.*", 122);
    await event(client, "subscribed", ({ channel }) => channel === "a.*");
    again.calls[0].resolve();
    await new Promise(setImmediate);
    await passes(123);
    assert.deepEqual(told, ["state", id(121)]);
  });

  test("a subscription that ended and begins again has its state loaded again", async (t) => {
    const { client, connection, calls, told, passes } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    calls[0].resolve("state");
    await passes(121);
    connection.send({ type: "unsubscribed", channel: "a.*", reason: "forbidden" });
    await event(client, "unsubscribed");
    client.subscribe("a.*");
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "a.*" });
    connection.subscribed("a.*", 300);
    await event(client, "subscribed");
    assert.deepEqual(calls.map(({ place }) => place), [id(120), id(300)]);
    calls[1].resolve("newer");
    await passes(301);
    assert.deepEqual(told, ["state", id(121), "newer", id(301)]);
  });

  test("a load for which too many messages wait begins anew, and says so", async (t) => {
    const { client, connection, calls, told } = await following(t);
    connection.subscribed("a.*", 120);
    await event(client, "subscribed");
    const fault = event(client, "error");
    for (let i = 1; i <= 10_002; i++) connection.send(message(120 + i, "a.b"));
    assert.deepEqual(await fault, { code: "load-failed", channel: "a.*",
      detail: "More than 10000 messages came before the state was loaded, so it is loaded anew." });
    const last = client.id === id(10_122) ? undefined : event(client, "message", (m) => m.id === id(10_122));
    await last;
    assert.deepEqual(calls.map(({ place, signal }) => [place, signal.aborted]), [[id(120), true], [id(10_121), false]]);
    calls[1].resolve("state");
    await new Promise(setImmediate);
    assert.deepEqual(told, ["state", id(10_122)]);
  });

  test("what it is given is looked at", async (t) => {
    const { client } = await pair(t);
    assert.throws(() => client.follow("a", {}), TypeError);
    assert.throws(() => client.follow("a b", { load() {} }), TypeError);
    assert.deepEqual(client.channels, ["broadcast"]);
  });
});
