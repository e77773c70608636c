// Stock Socket.IO clients and two gateways behind a balancer that sends each request to the other one, WebSockets included.
//
//     HERALD_BIN=/path/to/herald node --test web/test/sticky.test.js

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { suite, test } from "node:test";
import { herald, patience, timeout, until } from "./herald.js";
import { freePort, listen } from "./ports.js";

const require = createRequire(import.meta.url);
const clients = {
  "4.8": require("socket.io-client").io,
  "4.0": require("socket.io-client-4.0").io,
  "3.1": require("socket.io-client-3").io,
  "2.5": require("socket.io-client-2"),
};

/** A second gateway on the NATS of the first server. */
async function another(t, first) {
  const folder = mkdtempSync(join(tmpdir(), "herald-"));
  const { url } = JSON.parse(readFileSync(join(first.folder, "data", "nats.json"), "utf8"));
  const port = await freePort();
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HERALD_")));
  const child = spawn(resolve(process.env.HERALD_BIN), ["-listen", `127.0.0.1:${port}`, "-data", join(folder, "data")], {
    cwd: folder, stdio: ["ignore", "pipe", "pipe"], env: { ...env, HERALD_NATS_URL: url },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => { output += chunk; });
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  t.after(async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  const origin = `http://127.0.0.1:${port}`;
  await until(() => {
    assert.equal(child.exitCode, null, `the second server ended by itself:\n${output}`);
    return fetch(`${origin}/readyz`).then(({ ok }) => ok, () => false);
  });
  return { port, kill };
}

/** Sends each request to the next port. What a port does not take goes to the next one. */
async function balancer(t, ports) {
  let turn = 0;
  const sockets = new Set();
  const forward = (request, done, failed, tries = ports.length) => {
    const upstream = http.request({
      host: "127.0.0.1", port: ports[turn++ % ports.length], agent: false,
      method: request.method, path: request.url, headers: request.headers,
    });
    upstream.on("error", ({ code }) => {
      if (code === "ECONNREFUSED" && tries > 1) forward(request, done, failed, tries - 1);
      else failed();
    });
    done(upstream);
    return upstream;
  };
  const server = http.createServer((request, response) => {
    const body = [];
    request.on("data", (chunk) => body.push(chunk)).on("end", () => {
      forward(request, (upstream) => {
        upstream.on("response", (answer) => {
          response.writeHead(answer.statusCode, answer.headers);
          answer.pipe(response);
        });
        response.on("close", () => upstream.destroy());
        upstream.end(Buffer.concat(body));
      }, () => response.destroy());
    });
  });
  server.on("upgrade", (request, socket, head) => {
    sockets.add(socket.on("error", () => {}));
    forward(request, (upstream) => {
      upstream.on("upgrade", (answer, other, first) => {
        sockets.add(other.on("error", () => {}));
        const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
        socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`);
        socket.write(first);
        other.write(head);
        socket.pipe(other).pipe(socket);
        socket.on("close", () => other.destroy());
        other.on("close", () => socket.destroy());
      });
      upstream.on("response", (answer) => socket.end(`HTTP/1.1 ${answer.statusCode} No\r\nContent-Length: 0\r\n\r\n`));
      upstream.end();
    }, () => socket.destroy());
  });
  t.after(() => { for (const socket of sockets) socket.destroy(); });
  return `http://127.0.0.1:${await listen(t, server)}`;
}

suite("without sticky sessions", { timeout }, () => {
  test("stock clients poll and upgrade at whichever gateway, and go on when one is killed", async (t) => {
    const first = await herald(t);
    const second = await another(t, first);
    const origin = await balancer(t, [first.port, second.port]);
    const all = [];
    for (const [version, io] of Object.entries(clients)) {
      for (const transports of [["polling"], ["polling", "websocket"], ["websocket"]]) {
        for (let i = 0; i < 2; i++) { // the balancer's next turn is another one
          const socket = io(origin, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, timeout: patience });
          t.after(() => socket.close());
          const client = { name: `${version} ${transports}`, socket, got: [], lost: 0, last: transports.at(-1) };
          socket.on("message", ({ data }) => client.got.push(data));
          socket.on("disconnect", () => client.lost++);
          await until(() => socket.connected && socket.io.engine.transport.name === client.last);
          all.push(client);
        }
      }
    }
    const sent = [...Array(20).keys()].map((n) => `m${n}`);
    for (let n = 0; n < 20; n++) await first.notify(`m${n}`);
    await until(() => all.every(({ got }) => got.length >= 20));
    for (const { name, got, lost } of all) {
      assert.deepEqual([name, lost, got], [name, 0, sent]);
    }
    await second.kill();
    await until(() => all.some(({ lost }) => lost > 0));
    // Clients before 4.6 do not recover: what comes while they are away is not for them.
    await until(async () => {
      await first.notify("after");
      return all.every(({ got }) => got.at(-1) === "after");
    });
  });
});
