// Herald in parts: a NATS server, two ingests, two gateways, a logger and a console, as real processes. Their binaries
// stand beside that of HERALD_BIN, where make web builds them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { until } from "./herald.js";
import { freePort } from "./ports.js";

const BIN = dirname(resolve(process.env.HERALD_BIN));

/**
 * @param {Record<string, string>} settings variables of the environment of every service
 * @returns {Promise<{origin: string, ingests: string[], gateways: string[], password: string, nats: string, pids: {gateway: number[]}}>}
 */
export async function parts(t, settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "herald-parts-"));
  const children = [];
  t.after(async () => {
    for (const { child } of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    rmSync(folder, { recursive: true, force: true });
  });

  function start(name, args) {
    const path = join(BIN, name);
    assert.ok(existsSync(path), `There is no ${path}: make web builds it.`);
    const env = Object.fromEntries(Object.entries(process.env).filter(([variable]) => !variable.startsWith("HERALD_")));
    const child = spawn(path, args, { cwd: folder, env: { ...env, ...settings }, stdio: ["ignore", "pipe", "pipe"] });
    const one = { child, output: "" };
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => { one.output += chunk; });
    children.push(one);
    return one;
  }

  async function service(name, nats, ...args) {
    const origin = `http://127.0.0.1:${await freePort()}`;
    const one = start(name, ["-nats", nats, "-listen", origin.slice("http://".length), "-ops-listen", "", "-log-level", "warn", ...args]);
    await until(async () => {
      assert.equal(one.child.exitCode, null, `${name} ended by itself:\n${one.output}`);
      return fetch(`${origin}/readyz`).then(({ ok }) => ok, () => false);
    });
    return { origin, pid: one.child.pid, said: (pattern) => until(() => one.output.match(pattern)?.[1]) };
  }

  const port = await freePort();
  const nats = `nats://127.0.0.1:${port}`;
  const broker = start("nats-server", ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", join(folder, "nats")]);
  await until(() => {
    assert.equal(broker.child.exitCode, null, `nats-server ended by itself:\n${broker.output}`);
    return broker.output.includes("Server is ready");
  });
  const first = await service("ingest", nats);
  const second = await service("ingest", nats);
  const gateways = [await service("gateway", nats), await service("gateway", nats)];
  await service("logger", nats, "-db", join(folder, "log.db"));
  const admin = await service("admin", nats);
  return {
    origin: admin.origin,
    ingests: [first.origin, second.origin],
    gateways: gateways.map(({ origin }) => origin),
    password: await admin.said(/password: (\S+)/),
    nats,
    pids: { gateway: gateways.map(({ pid }) => pid) },
  };
}
