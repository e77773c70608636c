// A server that plays the gateway, over WebSocket and Server-Sent Events, and does only what the test tells it to. Nothing
// here sleeps: tests wait for what they expect, and the runner's timeout is the only clock.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import ws, { WebSocketServer } from "ws";
import { connect } from "../client/herald.js";
import { listen } from "./ports.js";

export const proto = new URL("../../proto/", import.meta.url);
export const golden = (name) => readFileSync(new URL(`testdata/${name}.json`, proto), "utf8").trimEnd();

/** Rows of PROTOCOL.md's table of close codes: [row, code, name, then]. */
export const closeCodes = [
  ...readFileSync(new URL("PROTOCOL.md", proto), "utf8").matchAll(/^\| (\d{4}) \| `([a-z-]+)` \| (come back|stay away) \|/gm),
];

const EPOCH = "mib3k2x9";
export const id = (sequence) => `${EPOCH}-${sequence}`;
export const message = (sequence, channel = "broadcast") => ({ ...JSON.parse(golden("message")), id: id(sequence), channel });

// A socket waits half a minute for the other side's goodbye by a timer that a test with mocked timers cannot clear.
export class WebSocket extends ws {
  constructor(url, protocols = []) {
    super(url, protocols, { closeTimeout: 100 });
  }
}

/** An endless queue: next() waits for what put() brings. */
export function queue() {
  const items = [];
  const takers = [];
  return {
    items,
    put: (item) => (takers.shift() ?? ((it) => items.push(it)))(item),
    next: () => (items.length > 0 ? Promise.resolve(items.shift()) : new Promise((resolve) => takers.push(resolve))),
  };
}

/** accept() waits for the next connection. While `blocked` is true no WebSocket gets through. */
export async function gateway(t) {
  const connections = queue();
  const server = createServer((request, response) => connections.put(events(request, response)));
  const sockets = new WebSocketServer({ noServer: true });
  const port = await listen(t, server);
  t.after(() => { for (const socket of sockets.clients) socket.terminate(); });
  const peer = {
    url: `ws://127.0.0.1:${port}/ws`, blocked: false, turnedAway: 0,
    accept: connections.next, waiting: connections.items, clients: sockets.clients,
  };
  server.on("upgrade", (request, socket, head) => {
    if (peer.blocked) {
      peer.turnedAway++;
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    } else {
      sockets.handleUpgrade(request, socket, head, (client) => connections.put(frames(request, client)));
    }
  });
  return peer;
}

/** What both kinds of connection have. */
function connection(kind, request, send) {
  const query = new URL(request.url, "ws://gateway").searchParams;
  return {
    kind,
    path: request.url.split("?")[0],
    query,
    token: request.headers.authorization?.replace("Bearer ", "") ?? request.headers["sec-websocket-protocol"]?.match(/^herald, ?herald\.token\.(.+)$/)?.[1],
    send,
    subscribed: (channel, sequence, resumed = false) => send({ type: "subscribed", channel, resumed, id: id(sequence) }),
    welcome: (more) => send({
      type: "welcome", connection: "c1", heartbeat: 25, channels: query.getAll("channel").filter(Boolean), resumed: false, id: id(100), ...more,
    }),
  };
}

function frames(request, socket) {
  const received = queue();
  socket.on("message", (text) => received.put(text.toString()));
  return {
    ...connection("websocket", request, (frame) => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))),
    frames: received.items,
    nextText: received.next,
    next: async () => JSON.parse(await received.next()),
    close: (code, reason) => socket.close(code, reason),
    cut: () => socket.terminate(),
  };
}

function events(request, response) {
  const write = (bytes) => {
    if (!response.headersSent) response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(bytes);
  };
  const send = (frame) => {
    const text = typeof frame === "string" ? frame : JSON.stringify(frame);
    const { type, id: place } = JSON.parse(text);
    const name = type === "error" ? "problem" : type;
    write(`${place && type !== "subscribed" ? `id: ${place}\n` : ""}${name ? `event: ${name}\n` : ""}data: ${text}\n\n`);
  };
  return {
    ...connection("sse", request, send),
    write,
    gone: once(response, "close"),
    close: (code, reason) => {
      send({ type: "close", code, reason });
      response.end();
    },
    cut: () => request.socket.destroy(),
    answer: (status, type, body) => response.writeHead(status, { "Content-Type": type }).end(body),
  };
}

/** A gateway and a client of it that reconnects at once. */
export async function pair(t, options) {
  t.mock.method(Math, "random", () => 0);
  const peer = await gateway(t);
  const client = connect(peer.url, { WebSocket, ...options });
  t.after(() => client.close());
  return { peer, client };
}

/** The next event of this type that passes. */
export function event(client, type, passes = () => true) {
  return new Promise((resolve) => {
    const off = client.on(type, (detail) => {
      if (!passes(detail)) return;
      off();
      resolve(detail);
    });
  });
}

export const becomes = (client, state) => event(client, "state", (change) => change.state === state);

/** Sends a message and waits until the client has handed it over and kept its id. */
export async function deliver(connection, client, sequence, channel) {
  const got = event(client, "message", (m) => m.id === id(sequence));
  connection.send(message(sequence, channel));
  await got;
}

/** As much of a sessionStorage as the client uses. */
export function memory(entries = []) {
  const items = new Map(entries);
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
}

export const jwt = (claims) => ["{}", JSON.stringify(claims), "signature"].map((part) => Buffer.from(part).toString("base64url")).join(".");
