// follow(): state and stream without a race. The gateway is played by gateway.js.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { becomes, event, id, message, pair } from "./gateway.js";

const timeout = 10_000;

/** A load that waits until the test answers it. */
function loads() {
  const calls = [];
  const load = (place) => new Promise((resolve, reject) => calls.push({ place, resolve, reject }));
  return { calls, load };
}

suite("follow()", { timeout }, () => {
  /** A client that follows "a.*" by follow(), and what the page was told. */
  async function following(t) {
    const { peer, client } = await pair(t, { channels: ["x"] });
    const connection = await peer.accept();
    connection.welcome();
    await becomes(client, "open");
    const told = [];
    const { calls, load } = loads();
    const stop = client.follow("a.*", { load, state: (state) => told.push(state), message: (m) => told.push(m.id ?? "ephemeral") });
    assert.deepEqual(await connection.next(), { type: "subscribe", channel: "a.*" });
    assert.equal(calls.length, 0, "the place is taken before the load");
    const passes = async (sequence, channel = "a.b") => {
      const got = event(client, "message", (m) => m.id === id(sequence));
      connection.send(message(sequence, channel));
      await got;
    };
    return { peer, client, connection, calls, told, stop, passes };
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
    const { peer, client, connection: first, calls, told, passes } = await following(t);
    first.subscribed("a.*", 120);
    await event(client, "subscribed");
    await passes(121);
    const fault = event(client, "error");
    calls[0].reject(new Error("503"));
    assert.deepEqual(await fault, { code: "load-failed", detail: "Error: 503", channel: "a.*" });
    while (calls.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    calls[1].resolve("state");
    await passes(122);
    assert.deepEqual(told, ["state", id(122)]);
    first.cut();
    const connection = await peer.accept();
    connection.welcome({ resumed: true });
    for (const name of ["x", "a.*"]) connection.subscribed(name, 122, true);
    connection.send(message(123, "a.b"));
    await event(client, "message");
    assert.deepEqual([told, calls.length], [["state", id(122), id(123)], 2]);
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
    calls[0].resolve("late");
    assert.deepEqual(await connection.next(), { type: "unsubscribe", channel: "a.*" });
    await passes(122, "x");
    assert.deepEqual([told, client.channels], [[id(121)], ["x"]]);
  });

  test("what it is given is looked at", async (t) => {
    const { client } = await pair(t);
    assert.throws(() => client.follow("a", {}), TypeError);
    assert.throws(() => client.follow("a b", { load() {} }), TypeError);
    assert.deepEqual(client.channels, ["broadcast"]);
  });
});
