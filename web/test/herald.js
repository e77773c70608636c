// The real thing for tests: a herald process, and a browser to look at it with. What must be there stands in
// browser.test.js.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { freePort, listen } from "./ports.js";

assert.ok(process.env.HERALD_BIN, "HERALD_BIN must name the herald binary that this test is to run.");
const BIN = resolve(process.env.HERALD_BIN);
assert.ok(existsSync(BIN), `HERALD_BIN says ${BIN}, but there is no such file.`);

const run = promisify(execFile);

/** How long a test waits for what comes by itself; less than a suite may take, so that one that fails says what it waited for. */
export const patience = 120_000;

/** How long a suite may take, of which some tests begin with a browser and five processes on a machine that is busy. */
export const timeout = 3_600_000;

/** Asks again and again until the answer is truthy. */
export async function until(ask, howLong = patience) {
  for (const end = Date.now() + howLong; Date.now() < end;) {
    const answer = await ask();
    if (answer) return answer;
    await pause(50);
  }
  throw new Error(`it never came true: ${ask}`);
}

/**
 * A folder, a port and a herald in it that can be killed and started again.
 *
 * @param {boolean} secure whether to configure HTTPS
 * @param {boolean} file whether the predecessor's config file says where it listens, and no flag
 * @param {Record<string, string>} settings variables of its environment
 * @param {string[]} flags more of its command line
 */
export async function herald(t, { secure = false, file = secure, settings = {}, flags = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "herald-"));
  const data = join(folder, "data");
  const port = await freePort();
  const origin = `${secure ? "https" : "http"}://127.0.0.1:${port}`;
  let args = ["-listen", `127.0.0.1:${port}`, "-data", data];
  let ca;
  const config = { http: secure ? "https" : "http", socketport: `${port}` };
  if (secure) {
    const [certpath, keypath] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
      "-keyout", keypath, "-out", certpath, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
    { stdio: "ignore" });
    Object.assign(config, { certpath, keypath });
    ca = readFileSync(certpath);
  }
  if (file) {
    mkdirSync(join(folder, "config"));
    writeFileSync(join(folder, "config", "socket_config.json"), JSON.stringify(config));
    args = ["-data", data];
  }

  const self = {
    origin, port, folder, key: "", password, command, start, kill, stop, renew, request, metric, notify, publish, token, rows,
  };
  let child;
  let output = "";
  let begun = 0; // where the output of this run begins
  t.after(async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  await start();
  await readKey();
  return self;

  async function readKey() {
    self.key = await until(() => [...output.matchAll(/API key:\s+(\S+)/g)].at(-1)?.[1]);
  }

  /** The console's first password, which is printed once. */
  function password() {
    return until(() => [...output.matchAll(/user admin, password (\S+)/g)].at(-1)?.[1]);
  }

  /** host:port of the operators' port, as the log of this run names it. */
  function ops() {
    return until(() => output.slice(begun).match(/ ops=(\S+)/)?.[1]);
  }

  /** What the operators' port says of a metric without labels. */
  async function metric(name) {
    const metrics = await (await fetch(`http://${await ops()}/metrics`)).text();
    return Number(metrics.match(new RegExp(`^${name} (\\d+)$`, "m"))?.[1]);
  }

  async function start() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HERALD_")));
    Object.assign(env, settings);
    begun = output.length;
    child = spawn(BIN, [...args, ...flags], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.on("data", (chunk) => { output += chunk; });
    child.stderr.on("data", (chunk) => { output += chunk; });
    const started = child;
    await until(() => {
      assert.equal(started.exitCode, null, `herald ended by itself:\n${output}`);
      return request("GET", "/readyz").then(({ status }) => status === 200, () => false);
    });
  }

  /** Runs a command of herald on this server, and returns what it says. The last word may be variables of its environment. */
  async function command(...words) {
    const env = typeof words.at(-1) === "object" ? words.pop() : {};
    const { stdout } = await run(BIN, [...words, "-data", data], { cwd: folder, env: { ...process.env, ...env } });
    return stdout;
  }

  async function kill() {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  }

  /** Lets it say goodbye to its clients. */
  async function stop() {
    assert.equal(child.exitCode ?? child.signalCode, null, `herald ended by itself:\n${output}`);
    child.kill("SIGTERM");
    await once(child, "exit");
  }

  /** The same server with nothing in it: another stream, another key. */
  async function renew() {
    await kill();
    rmSync(data, { recursive: true });
    output = "";
    await start();
    await readKey();
  }

  function request(method, path, headers = {}, body = "") {
    return new Promise((done, fail) => {
      const call = (secure ? https : http).request(origin + path, { method, headers, ca, agent: false }, (response) => {
        let text = "";
        response.on("data", (chunk) => { text += chunk; });
        response.on("end", () => done({ status: response.statusCode, headers: response.headers, text }));
      });
      call.on("error", fail);
      call.end(body);
    });
  }

  function notify(message, key = self.key) {
    return request("POST", "/notify", { "X-API-KEY": key, "Content-Type": "application/json" }, JSON.stringify({ message }));
  }

  async function publish(channel, value, query = "") {
    const headers = { "X-API-KEY": self.key, "Content-Type": "application/json" };
    const answer = await request("POST", `/v1/channels/${channel}${query}`, headers, JSON.stringify(value));
    assert.equal(answer.status, 200, answer.text);
  }

  /** A token of an hour, signed with the secret that the server made. */
  function token(...channels) {
    const secret = readFileSync(join(data, "jwt.secret"), "utf8").trim();
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "user", exp: Math.floor(Date.now() / 1000) + 3600, channels })}`;
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  }

  /** What the command line shows; empty as long as the file or the table is not there. */
  async function rows() {
    const { stdout } = await run("sqlite3", ["-readonly", join(data, "herald.db"), "SELECT * FROM messages"]).catch(() => ({ stdout: "" }));
    return stdout;
  }
}

/** A page of another origin: serves these files, by path, until the test ends. */
export async function site(t, files, handler) {
  const server = http.createServer((request, response) => {
    const body = files[request.url.split("?")[0]];
    if (body === undefined) {
      if (handler) handler(request, response);
      else response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(body);
  });
  const port = await listen(t, server);
  return { server, origin: `http://127.0.0.1:${port}` };
}

/** A site of another origin that has an npm package as a browser module at /lib/client.js. */
export function module(t, name) {
  const main = { "@microsoft/fetch-event-source": "lib/esm/index.js", "event-source-polyfill": "src/eventsource.js" }[name];
  const folder = new URL(`node_modules/${name}/${main.slice(0, main.lastIndexOf("/") + 1)}`, import.meta.url);
  return site(t, { "/": "<!doctype html><title>mine</title>" }, (request, response) => {
    const file = request.url === "/lib/client.js" ? main.slice(main.lastIndexOf("/") + 1) : request.url.slice("/lib/".length);
    const path = new URL(file.endsWith(".js") ? file : `${file}.js`, folder); // its imports leave the ending out
    if (!existsSync(path)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "text/javascript" }).end(readFileSync(path));
  });
}

let launched;
after(async () => (await launched)?.close());

/** The browser of this process; the first who asks starts it. */
export function browser() {
  launched ??= chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  return launched;
}

/** An empty page of a browser without any past; its other pages wait as long as this one. */
export async function tab(t, options = {}) {
  const context = await (await browser()).newContext(options);
  t.after(() => context.close());
  context.setDefaultTimeout(patience);
  return context.newPage();
}

/** Without these a page does not work; what it fetches it asks for again by itself. */
const PARTS = ["document", "script", "stylesheet", "image"];

/**
 * Opens a page, and waits for what is to be there. When a network interface of this machine comes or goes, as with every
 * container, Chromium drops what it is loading, from this machine, too: then again, as a person would.
 *
 * @param {import("playwright-core").Page} page
 * @param {string | (() => Promise<unknown>)} to its URL, or what leads there: a reload, or a click
 * @param {import("playwright-core").Locator} there
 */
export async function arrive(page, to, there = page.locator("html")) {
  let go = typeof to === "string" ? () => page.goto(to) : to;
  for (let left = 20; left > 0; left--) {
    let stop;
    const changed = new Promise((done) => {
      stop = (request) => {
        if (networkChanged(request.failure()?.errorText) && PARTS.includes(request.resourceType())) done(true);
      };
    });
    page.on("requestfailed", stop);
    try {
      await go();
      const arrived = there.waitFor().then(() => false);
      arrived.catch(() => {}); // when the race is over, nobody waits for it
      if (!await Promise.race([changed, arrived])) return;
    } catch (err) {
      if (left === 1 || !networkChanged(err)) throw err;
    } finally {
      page.off("requestfailed", stop);
    }
    if (typeof to !== "string") go = () => page.reload();
  }
  throw new Error(`the network changes all the time: ${to}`);
}

const networkChanged = (err) => /ERR_NETWORK_CHANGED/.test(String(err));

/** Opens a page that must stay without complaint: no console error, no exception, no violation of the policy. */
export async function open(t, server, path = "/", { script, ...options } = {}) {
  const page = await tab(t, { ignoreHTTPSErrors: true, ...options });
  if (script) await page.addInitScript(script);
  // The eight seconds of a toast are minutes here, so that it is there as long as somebody looks for it.
  const animations = await page.context().newCDPSession(page);
  await animations.send("Animation.enable");
  await animations.send("Animation.setPlaybackRate", { playbackRate: 0.02 });
  const complaints = [];
  page.on("pageerror", (err) => complaints.push(String(err)));
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type()) && !networkChanged(line.text())) complaints.push(line.text());
  });
  await arrive(page, server.origin + path, shows(page, "Connected"));
  return { page, complaints };
}

/** Where the demo page says what its connection is doing. */
export const shows = (page, text) => page.getByRole("status").filter({ hasText: new RegExp(`^${text}$`) });
export const state = (page, text) => shows(page, text).waitFor();
export const toast = (page, text) => page.locator("#toasts > li").filter({ hasText: text });
export const entries = (page, text) => page.locator("#log > li").filter({ hasText: text });

/** Whether a line of the console is the browser's own about a server that is away. */
export const unreachable = (line) => /^WebSocket connection to|net::ERR_/.test(line);
