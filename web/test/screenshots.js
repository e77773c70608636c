// Pictures of the console, of real pages with real data. Not a test of its own: make screenshots runs it.
//
//     HERALD_BIN=/path/to/herald node --test web/test/screenshots.js
//
// FOLDER names where they go. Without ALL there are only those that the documentation shows; with it every page, wide and
// narrow, light and dark.

import assert from "node:assert/strict";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { at, console_, details, dialog, door, go, heading, PAGES, rows } from "./console.js";
import { herald, until } from "./herald.js";

const { FOLDER, ALL } = process.env;

/** What the documentation shows: page, theme, width, height, and whether the first row is open. */
const SHOWN = [
  ["overview", "light", 1280, 800, false],
  ["message", "light", 1280, 800, false],
  ["connections", "dark", 1280, 640, true],
  ["tail", "light", 390, 844, false],
];
const MOST = 150_000; // bytes of a picture that lies in the repository

const NEWS = ["The nightly backup took 14 minutes.", "Release 4.2 is out.", "Maintenance on Sunday from 02:00 to 03:00 UTC.", "Three lifts are back in service."];

// `node --test` takes every file of this folder for one with tests.
if (FOLDER) test("pictures", { timeout: 900_000 }, async (t) => {
  mkdirSync(FOLDER, { recursive: true });
  const server = await herald(t, { settings: { HERALD_TRUSTED_PROXIES: "127.0.0.1", HERALD_ANONYMOUS_CHANNELS: "broadcast,public.>,orders.>,stock.>" } });
  const { page } = await console_(t, server);
  await people(t, server);
  const life = traffic(server);
  t.after(() => life.stop());
  const id = await furnish(page, server);

  await t.test("with data", { timeout: 60_000 }, async () => {
    await at(page, "#/overview", "Overview");
    // A chart of a few points tells nothing.
    await pause(ALL ? 20_000 : 40_000);
  });
  for (const [name, theme, width, height, open] of ALL ? every() : SHOWN) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height });
    if (name === "login") {
      const stranger = await door(t, server.origin, { colorScheme: theme, viewport: { width, height } });
      await stranger.page.screenshot({ path: join(FOLDER, `console-login-${theme}-${width}.png`) });
      continue;
    }
    const title = PAGES.find(([known]) => known === name)[1];
    await at(page, `#/${name}${{ message: `/${id}`, connections: "?sort=-sent" }[name] ?? ""}`, title);
    await page.getByText("Asking…").waitFor({ state: "detached" });
    await pause(name === "tail" ? 9000 : name === "overview" ? 2500 : 700);
    if (open && await rows(page).count() > 0 && await page.locator("main .opener").count() > 0) await details(page);
    await page.evaluate(() => /** @type {any} */ (document.activeElement)?.blur());
    await page.mouse.move(0, 0);
    const path = join(FOLDER, ALL ? `console-${name}-${theme}-${width}.png` : `console-${name}.png`);
    await page.screenshot({ path });
    const { size } = statSync(path);
    if (!ALL) assert.ok(size <= MOST, `${path} has ${size} bytes`);
  }
});

function* every() {
  for (const [theme, width, height] of [["light", 1280, 800], ["dark", 1280, 800], ["light", 390, 844], ["dark", 390, 844]]) {
    yield ["login", theme, width, height, false];
    for (const [name] of PAGES) yield [name, theme, width, height, true];
  }
}

/** Clients of every kind, of whom one is slow. */
async function people(t, server) {
  const ws = server.origin.replace("http", "ws");
  const agents = ["Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) Safari/605.1", "okhttp/5.1.0", "Mozilla/5.0 (Windows NT 10.0) Firefox/145.0"];
  for (let i = 0; i < 36; i++) {
    const channels = [["broadcast"], ["public.news.sports", "broadcast"], [`orders.eu.${100 + i}`], ["public.>"], ["stock.warehouse-7", "orders.>"]][i % 5];
    const query = channels.map((name) => `channel=${encodeURIComponent(name)}`).join("&");
    const token = i % 3 === 0 ? `&token=${server.token(">")}` : "";
    const socket = new WebSocket(`${ws}/ws?${query}${token}`, { headers: { "User-Agent": agents[i % agents.length], ...from(i) } });
    t.after(() => socket.terminate());
    socket.on("error", () => {});
  }
  for (let i = 0; i < 6; i++) {
    const stop = new AbortController();
    t.after(() => stop.abort());
    fetch(`${server.origin}/sse?channel=public.news.sports`, { signal: stop.signal, headers: from(i + 3) }).then(async (answer) => {
      for await (const _ of answer.body);
    }).catch(() => {});
    const client = io(server.origin, { transports: ["websocket"], reconnection: false, extraHeaders: from(i + 7) });
    t.after(() => client.close());
  }
  // Refused: a key that is none, an origin that is not allowed.
  for (let i = 0; i < 3; i++) await server.notify("hello", "a key that was revoked");
  const foreign = new WebSocket(`${ws}/ws?channel=broadcast`, { origin: "https://other.example", headers: from(9) });
  foreign.on("error", () => {});
}

/** As a trusted proxy says it. */
const from = (i) => ({ "X-Forwarded-For": i % 11 === 5 ? "2001:db8:4:a::17" : `203.0.113.${i % 13 + 4}` });

/** Something is always going on. */
function traffic(server) {
  let going = true;
  let n = 1842;
  (async () => {
    while (going) {
      n++;
      await Promise.all([
        server.publish(`orders.eu.${100 + n % 36}`, { order: n, total: "79.90", items: [{ sku: "A-17", qty: n % 4 + 1 }], paid: n % 3 > 0 }, "?event=created"),
        server.publish("public.news.sports", NEWS[n % NEWS.length]),
        n % 3 === 0 && server.notify(NEWS[(n / 3) % NEWS.length]),
        server.publish("stock.warehouse-7", { sku: "B-4", left: 9007199254740993n.toString().length + n % 40 }, "?event=changed"),
      ]).catch(() => {});
      await pause(200 + Math.random() * 500);
    }
  })();
  return { stop: () => { going = false; } };
}

/** Keys, users and a changed setting, made as a person makes them; the id of a message that all of its clients have. */
async function furnish(page, server) {
  await go(page, "API keys");
  for (const [name, channels] of [["shop", "orders.>"], ["newsroom", "public.news.>"]]) {
    await page.getByRole("button", { name: "New key…" }).click();
    await dialog(page).getByLabel("Name").fill(name);
    await dialog(page).getByLabel("Channels").fill(channels);
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    await dialog(page).getByRole("button", { name: "I have stored it" }).click();
    await rows(page, name).waitFor();
  }
  await go(page, "Apps");
  await page.getByRole("button", { name: "New app…" }).click();
  await dialog(page).getByLabel("Name").fill("legacy-shop");
  await dialog(page).getByRole("button", { name: "Make the app" }).click();
  await dialog(page).getByRole("button", { name: "I have stored it" }).click();
  await go(page, "Users");
  for (const [name, role] of [["ann", "operator"], ["kiosk", "viewer"]]) {
    await page.getByRole("button", { name: "New user…" }).click();
    await dialog(page).getByLabel("Name").fill(name);
    await dialog(page).getByText(role, { exact: true }).click();
    await dialog(page).getByRole("button", { name: "Make the user" }).click();
    await dialog(page).getByRole("button", { name: "I have stored it" }).click();
    await rows(page, name).waitFor();
  }
  await at(page, "#/settings?q=max-connections-per-ip", "Settings");
  const setting = page.locator(".settings > li").filter({ hasText: "max-connections-per-ip" });
  await setting.getByRole("button", { name: "Change" }).click();
  await setting.getByLabel(/New value/).fill("5000");
  await setting.getByRole("button", { name: "Save" }).click();
  await setting.locator(".difference").waitFor();
  await go(page, "Tail and publish"); // while it is open, what happens to messages is recorded
  await page.locator(".tail .row").nth(3).waitFor();
  const answer = await server.request("POST", "/v1/channels/broadcast?event=release", { "X-API-KEY": server.key, "Content-Type": "application/json" },
    '{"version": "4.2", "notes": ["faster charts", "dark theme"], "build": 9007199254740993}');
  const { id } = JSON.parse(answer.text);
  await until(async () => (await server.rows()).includes("faster charts"));
  return id;
}
