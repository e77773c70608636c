// The console, from the first login to the last page, against the real binary in a real browser.
//
//     HERALD_BIN=/path/to/herald node --test web/test/admin.test.js

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";
import {
  at, certificate, console_, details, dialog, door, endSession, findings, focused, folder, go, heading, PAGES, rows, logIn, says,
} from "./console.js";
import { arrive, herald, open, tab, timeout, until } from "./herald.js";
import { freePort } from "./ports.js";
import { parts } from "./parts.js";

const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** A client that holds a connection, and says how it ended. */
function client(t, server, query = "?channel=broadcast", headers = {}) {
  const socket = new WebSocket(`${server.origin.replace("http", "ws")}/ws${query}`, { headers });
  t.after(() => socket.terminate());
  const ended = new Promise((done) => {
    socket.on("close", (code, reason) => done({ code, reason: String(reason) }));
    socket.on("error", (err) => done({ code: 0, reason: String(err) }));
  });
  const heard = [];
  const welcome = new Promise((done) => {
    socket.on("message", (text) => {
      heard.push(String(text));
      done(JSON.parse(text));
    });
  });
  return { socket, ended, welcome, heard };
}

/** How an attempt to connect ends: undefined if it is welcome, else the reason. */
async function attempt(t, server) {
  const { socket, ended, welcome } = client(t, server);
  const end = await Promise.race([ended, welcome.then(({ type }) => (type === "welcome" ? undefined : ended))]);
  socket.terminate();
  return end;
}

/** A page's work that does not change with the console: elements are made, laid out and taken away. */
function yardstick() {
  const list = document.createElement("ul");
  for (let i = 0; i < 10_000; i++) list.append(Object.assign(document.createElement("li"), { textContent: JSON.stringify({ i, list: [i] }) }));
  document.body.append(list);
  list.getBoundingClientRect();
  list.remove();
}
/** As many of them a page may need: on the machine where they were counted, a second. */
const YARDS = 10;

const publish = (server, message, key = server.key) => server.request("POST", "/v1/messages", { "X-API-KEY": key, "Content-Type": "application/json" }, JSON.stringify(message));

suite("the console", { timeout }, () => {
  test("the first login, a wrong password, and its throttle", async (t) => {
    const server = await herald(t);
    const { headers } = await server.request("GET", "/admin/");
    assert.equal(headers["content-security-policy"], POLICY);
    const { page, complaints } = await door(t, server.origin);
    await focused(page.getByLabel("Name")); // one can type at once
    for (let i = 0; ; i++) {
      assert.ok(i < 30, "wrong passwords are never throttled");
      await logIn(page, "admin", `wrong-${i}`);
      await page.getByRole("alert").waitFor();
      await page.getByRole("button", { name: "Log in", exact: true }).and(page.locator("[aria-disabled=false]")).waitFor();
      if (/again in \d/.test(await page.getByRole("alert").textContent())) break;
      assert.match(await page.getByRole("alert").textContent(), /password is wrong/);
      assert.doesNotMatch(await page.getByRole("alert").textContent(), /Unauthorized/, "a problem needs no words of HTTP");
      assert.equal(await page.getByLabel("Password", { exact: true }).inputValue(), "", "a wrong password does not stay");
    }
    const again = await herald(t); // the throttle is the account's: another server has none
    const other = await door(t, again.origin);
    await logIn(other.page, "admin", await again.password());
    await heading(other.page, "Overview");
    await other.page.getByText("admin", { exact: true }).first().waitFor();
    await other.page.getByRole("button", { name: "Log out" }).click();
    await other.page.getByLabel("Name").waitFor();
    assert.deepEqual([...complaints, ...other.complaints], []);
  });

  test("a console that is not ready yet is asked again", async (t) => {
    const server = await herald(t);
    const page = await tab(t);
    const seen = { refused: 0, lost: 0 };
    let ready = false; // once it was seen that it is not
    await page.route("**/admin/api/session", (route) => (!ready && ++seen.refused
      ? route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"title":"Not now","detail":"NATS does not answer"}' })
      : route.continue()));
    await arrive(page, `${server.origin}/admin/`, page.getByRole("alert").filter({ hasText: "NATS does not answer" }));
    await until(() => seen.refused >= 2);
    ready = true;
    await page.getByLabel("Name").waitFor();
    let there = false;
    await page.route("**/pages/log.js*", (route) => (!there && ++seen.lost ? route.abort() : route.continue()));
    await logIn(page, "admin", await server.password());
    await heading(page, "Overview");
    await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Log", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "This page did not load" }).waitFor();
    await until(() => seen.lost >= 2);
    there = true;
    await heading(page, "Log"); // by itself
    await page.getByRole("alert").waitFor({ state: "detached" });
  });

  test("weighs at most 150 KB before data, and little work brings it", async (t) => {
    const server = await herald(t);
    const { page, context } = await console_(t, server);
    for (const [name, title] of PAGES) {
      const fresh = await context.newPage();
      const wire = [];
      const cdp = await context.newCDPSession(fresh);
      await cdp.send("Network.enable");
      const urls = new Map();
      cdp.on("Network.requestWillBeSent", ({ requestId, request }) => urls.set(requestId, request.url));
      cdp.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => wire.push([urls.get(requestId) ?? "", encodedDataLength]));
      await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
      await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
      const worked = async () => (await cdp.send("Performance.getMetrics")).metrics.find((metric) => metric.name === "TaskDuration").value;
      await arrive(fresh, `${server.origin}/admin/#/${name}`, fresh.getByRole("heading", { level: 1, name: title, exact: true }));
      const took = await fresh.evaluate(() => performance.now());
      const busy = await worked();
      await fresh.evaluate(yardstick);
      const yard = await worked() - busy;
      if (name === "overview") await fresh.locator(".u-wrap").first().waitFor();
      const weight = wire.filter(([url]) => !url.includes("/admin/api/")).reduce((sum, [, bytes]) => sum + bytes, 0);
      t.diagnostic(`${title}: ${Math.round(weight / 1000)} KB over the wire before data, interactive after ${Math.round(took)} ms, of which the page worked for ${Math.round(busy * 1000)} ms, and the yardstick took ${Math.round(yard * 1000)} ms`);
      // By the work of the same processor at the same time, not by the clock: a slow machine makes the page no heavier.
      assert.ok(busy > 0 && busy <= YARDS * yard, `${title} needs ${busy} seconds of a processor before it can be used, the yardstick ${yard}`);
      assert.ok(weight > 10_000 && weight <= 150_000, `${title} weighs ${weight} bytes`);
      await fresh.close();
    }
    await page.close();
  });

  test("shows who is connected, and a kicked client goes", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "Connections");
    await page.getByText("Nobody is connected.").waitFor();
    const live = await open(t, server); // the demo page in another tab
    const bot = client(t, server, "?channel=public.news&channel=broadcast");
    await bot.welcome;
    await until(async () => await rows(page).count() === 2);
    await page.getByRole("searchbox", { name: "Channel" }).fill("public.news");
    await until(async () => await rows(page).count() === 1);
    await until(() => /#\/connections\?channel=public\.news$/.test(page.url()));
    const detail = await details(page);
    await detail.getByText("public.news").waitFor();
    await detail.getByRole("button", { name: "Kick…" }).click();
    await dialog(page).getByText("Stay away", { exact: true }).click();
    await dialog(page).getByLabel(/^Reason/).fill("see the operator");
    const closed = says(page, "1 connection was closed.");
    await dialog(page).getByRole("button", { name: "Kick", exact: true }).click();
    const { code } = await bot.ended;
    assert.match(bot.heard.join(), /see the operator/, "the client hears why");
    assert.ok(code >= 4500 && code < 5000, `closed with ${code}, which means stay away`);
    await closed();
    await until(async () => await rows(page).count() === 0);
    await page.getByRole("button", { name: "Clear filters" }).click();
    await until(async () => await rows(page).count() === 1);
    await (await details(page)).getByRole("button", { name: "Kick…" }).click();
    await dialog(page).getByLabel(/^Reason/).fill("too loud");
    await dialog(page).getByRole("button", { name: "Kick", exact: true }).click();
    await live.page.getByText("Closed by an operator: too loud", { exact: true }).waitFor();
    await arrive(live.page, () => live.page.getByRole("link", { name: "Console" }).click(), live.page.getByLabel("Password", { exact: true }));
    assert.equal(live.page.url(), `${server.origin}/admin/`);
    assert.deepEqual(complaints, []);
  });

  test("a key is made, publishes, is revoked and refused", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "API keys");
    await rows(page, "default").waitFor();
    await page.getByRole("button", { name: "New key…" }).click();
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    await dialog(page).getByRole("alert").filter({ hasText: "Give the key a name" }).waitFor();
    await dialog(page).getByLabel("Name").fill("shop");
    await dialog(page).getByLabel("Channels").fill("orders.> stock.eu");
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    const secret = await dialog(page).locator(".secret").textContent();
    await dialog(page).getByRole("button", { name: "I have stored it" }).click();
    await rows(page, "shop").waitFor();
    assert.ok(!(await page.content()).includes(secret), "the secret is shown once");
    const accepted = await until(async () => {
      const answer = await publish(server, { channel: "orders.eu", data: 1 }, secret);
      return answer.status === 200 && answer;
    });
    assert.equal(accepted.status, 200, accepted.text);
    assert.equal((await publish(server, { channel: "secret", data: 1 }, secret)).status, 403);
    await (await details(page, "shop")).getByRole("button", { name: "Revoke…" }).click();
    await dialog(page).getByRole("button", { name: "Revoke", exact: true }).click();
    await until(async () => await rows(page, "shop").count() === 0);
    await until(async () => (await publish(server, { channel: "orders.eu", data: 1 }, secret)).status === 401);
    assert.equal((await server.notify("x", secret)).status, 401);
    assert.deepEqual(complaints, []);
  });

  test("a limit changes without a restart", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "Settings");
    await page.getByRole("searchbox", { name: "Search" }).fill("max-connections-per-ip");
    const setting = page.locator(".settings > li").filter({ hasText: "max-connections-per-ip" });
    await setting.getByRole("button", { name: "Change" }).click();
    const value = setting.getByLabel(/New value/);
    await value.fill("-5");
    await setting.getByRole("button", { name: "Save" }).click();
    await setting.getByRole("alert").waitFor();
    await value.fill("1");
    await setting.getByRole("button", { name: "Save" }).click();
    await setting.locator(".difference").waitFor();
    assert.match(await setting.locator(".difference").textContent(), /2000.*1/s);
    await setting.getByText("console", { exact: true }).waitFor();
    const first = client(t, server);
    await first.welcome;
    const refused = await until(() => attempt(t, server));
    assert.ok(refused.code === 4003 || /429|503/.test(refused.reason), JSON.stringify(refused));
    await setting.getByRole("button", { name: "Reset" }).click();
    await setting.getByText("default", { exact: true }).waitFor();
    await until(async () => await attempt(t, server) === undefined);
    await go(page, "Refusals");
    await rows(page).first().waitFor();
    await (await details(page)).getByRole("link", { name: "All of this address" }).waitFor();
    await go(page, "Audit");
    await rows(page, "max-connections-per-ip").first().waitFor();
    await (await details(page, "setting.set")).locator(".difference").getByText("2000").waitFor();
    assert.deepEqual(complaints, []);
  });

  test("a setting that a flag fixes says so", async (t) => {
    const server = await herald(t, { flags: ["-max-connections-per-ip", "7"] });
    const { page, complaints } = await console_(t, server);
    await at(page, "#/settings?q=max-connections-per-ip", "Settings");
    const setting = page.locator(".settings > li").filter({ hasText: "max-connections-per-ip" });
    await setting.locator(".locked").waitFor();
    await setting.getByText("flag", { exact: true }).waitFor();
    assert.equal(await setting.getByRole("button", { name: "Change" }).count(), 0);
    assert.deepEqual(complaints, []);
  });

  test("the single binary moves to HTTPS and another port, and the page goes there", async (t) => {
    const server = await herald(t, { file: true });
    const config = () => JSON.parse(readFileSync(join(server.folder, "config", "socket_config.json"), "utf8"));
    const before = config();
    const { page, context } = await console_(t, server);
    const { certpath, keypath } = certificate(server.folder);
    const port = await freePort();
    await go(page, "Listening");
    await page.getByRole("button", { name: "Save and go there" }).waitFor();
    assert.equal(await page.getByText("Saved", { exact: true }).count(), 0, "nothing was saved yet");
    await page.getByLabel("HTTPS").check();
    await page.getByLabel("Port").fill(String(port));
    await page.getByLabel("Certificate file").fill(join(server.folder, "no-such-cert.pem"));
    await page.getByLabel("Key file").fill(keypath);
    await page.getByText("Not saved", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Save and go there" }).click();
    const refusal = page.getByRole("alert").filter({ hasText: "no-such-cert.pem" });
    await refusal.waitFor();
    assert.equal((await server.request("GET", "/readyz")).status, 200, "nothing changed");
    assert.deepEqual(config(), before, "nothing is written");

    await page.getByLabel("Certificate file").fill(certpath);
    await page.getByRole("button", { name: "Save and go there" }).click();
    await page.waitForURL((url) => url.protocol === "https:" && url.port === String(port));
    const saved = page.getByText("Herald listens here now");
    const login = page.getByLabel("Password", { exact: true });
    await saved.or(login).first().waitFor();
    if (await login.count() > 0) {
      await logIn(page, "admin", await server.password());
      await heading(page, "Listening");
      await saved.waitFor();
    }
    assert.ok(!page.url().includes("confirm"), "the token does not stay in the address");
    await until(() => server.request("GET", "/readyz").then(() => false, () => true)); // the old address is closed
    assert.deepEqual(config(), { ...before, http: "https", socketport: String(port), certpath, keypath });
    await context.close();
  });

  test("what strangers write is text everywhere", async (t) => {
    const server = await herald(t, { settings: { HERALD_ANONYMOUS_CHANNELS: ">" } });
    const evil = "<img src=x onerror=globalThis.pwned=1><script>globalThis.pwned=1</script>";
    const name = "x<img/src=x/onerror=globalThis.pwned=1"; // a channel has no space and no ">"
    const { page, complaints } = await console_(t, server);
    const bot = client(t, server, `?channel=${encodeURIComponent(name)}`, { "User-Agent": evil });
    await bot.welcome;
    const key = await server.command("keys", "add", "<b>mallory</b>", "-channels", ">").then((text) => text.match(/hk_\w+/)?.[0], () => server.key);
    await go(page, "Tail and publish");
    await page.getByText("Live", { exact: true }).waitFor();
    const stored = await until(async () => {
      const answer = await publish(server, { channel: name, event: "<i>e", data: { evil, "=cmd|' /C calc'!A0": "=1+1" } }, key);
      assert.ok([200, 401].includes(answer.status), answer.text); // 401: the key is not known there yet
      return answer.status === 200 && answer;
    });
    assert.equal((await publish(server, { channel: "broadcast", data: "=HYPERLINK(\"http://evil\",\"x\")" }, key)).status, 200);
    const { id } = JSON.parse(stored.text).results?.[0] ?? JSON.parse(stored.text);
    await server.request("GET", `/v1/messages?evil=${encodeURIComponent(evil)}`);
    await publish(server, { channel: "broadcast", data: 1 }, evil.replaceAll(/[^ -~]/g, ""));
    await page.locator(".tail .row").filter({ hasText: "onerror" }).first().click();
    await page.locator(".tail .string").filter({ hasText: evil }).waitFor();
    await logIn((await door(t, server.origin)).page, evil, evil); // a refused login stands in the audit
    for (const [page_, title] of PAGES) {
      await at(page, `#/${page_}${page_ === "message" ? `/${id}` : ""}`, title);
      await page.getByText("Asking…").waitFor({ state: "detached" });
      await pause(100);
      for (const opener of await page.locator("main .opener button").all()) await opener.click({ timeout: 2000 }).catch(() => {});
      assert.equal(await page.evaluate(() => globalThis.pwned), undefined, title);
      assert.equal(await page.locator("main img, main script, main b:text-is('mallory')").count(), 0, title);
    }
    await at(page, "#/log", "Log");
    await rows(page, "onerror").first().waitFor();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Export CSV" }).click()]);
    const csv = readFileSync(await download.path(), "utf8");
    assert.ok(csv.includes("'=HYPERLINK"), `a formula is text in a spreadsheet: ${csv}`);
    assert.equal(await page.evaluate(() => globalThis.pwned), undefined);
    assert.deepEqual(complaints, []);
  });

  test("the tail shows numbers as they stand, and leads to a message's path", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    const bot = client(t, server);
    await bot.welcome;
    await go(page, "Tail and publish");
    await page.getByText("Live", { exact: true }).waitFor();
    await page.getByLabel("Channel", { exact: true }).fill("broadcast");
    await page.getByLabel("Data").fill('{"n": 9007199254740993, "price": 1.10, "big": 1e400}');
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await page.getByText(/^Stored as/).waitFor();
    const row = page.locator(".tail .row").first();
    await row.click();
    await until(async () => (await page.locator(".tail .json .number").allTextContents()).join() === "9007199254740993,1.10,1e400");
    await page.getByLabel("Channel", { exact: true }).fill("bad channel");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "channel" }).waitFor();
    await page.locator(".tail").getByRole("link", { name: "Its path" }).click();
    await heading(page, "Path of a message");
    const path = page.getByRole("list", { name: "The path of the message" });
    await path.getByText("1 of 1 client").waitFor();
    await path.getByText("A row in the log").waitFor();
    await until(async () => (await page.locator("main .json .number").allTextContents()).join() === "9007199254740993,1.10,1e400");
    await at(page, "#/message/nonsense", "Path of a message");
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByText("What is shown below is older").count(), 0, "nothing is shown below");
    assert.equal(await page.getByRole("button", { name: "Try again" }).count(), 0, "a wrong id stays wrong");
    assert.deepEqual(complaints, []);
  });

  test("a session that ends in the middle leaves the draft", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "Tail and publish");
    await page.getByLabel("Data").fill("a long text that must not be lost");
    await endSession(page);
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await dialog(page).getByText("Your session has ended").waitFor();
    await page.keyboard.press("Escape");
    assert.equal(await dialog(page).count(), 1, "what stands behind it needs a session");
    assert.equal(await page.getByLabel("Name").inputValue(), "admin");
    await dialog(page).getByLabel("Password", { exact: true }).fill(await server.password());
    await page.keyboard.press("Enter");
    await page.getByText(/^Stored as/).waitFor(); // it goes on by itself
    assert.equal(await page.getByLabel("Data").inputValue(), "a long text that must not be lost");
    assert.deepEqual(complaints, []);
  });

  test("a link shows the same view; a page that is paused or hidden asks nothing", async (t) => {
    const server = await herald(t);
    const { page, context, complaints } = await console_(t, server);
    const bot = client(t, server, "?channel=public.a");
    await bot.welcome;
    await go(page, "Connections");
    await rows(page).first().waitFor();
    await page.getByRole("searchbox", { name: "Channel" }).fill("public.a");
    await page.getByRole("button", { name: "Queued" }).click();
    await page.getByRole("button", { name: "Times: local" }).click();
    await until(() => /channel=public\.a/.test(page.url()) && /sort=-queued/.test(page.url()) && /tz=utc/.test(page.url()));
    const second = await context.newPage();
    await arrive(second, page.url(), rows(second).first());
    assert.equal(await second.getByRole("searchbox", { name: "Channel" }).inputValue(), "public.a");
    await second.getByRole("button", { name: "Times: UTC" }).waitFor();
    assert.equal(await second.getByRole("columnheader", { name: "Queued" }).getAttribute("aria-sort"), "descending");
    await second.close();

    let asked = 0;
    page.on("request", (request) => { if (request.url().includes("/api/")) asked++; });
    await page.clock.install();
    await arrive(page, () => page.reload(), rows(page).first());
    await until(() => asked > 2);
    const still = async (text) => {
      for (let before = -1; before !== asked;) { // what was on its way
        before = asked;
        await pause(1000);
      }
      asked = 0;
      await page.clock.runFor(60_000); // of the page, in a moment
      await pause(200);
      assert.equal(asked, 0, text);
    };
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("Paused.").waitFor();
    await still("it is paused");
    await page.getByRole("button", { name: "Go on" }).click();
    await until(() => asked > 0);
    const hide = (hidden) => page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await hide(true);
    await still("nobody sees it");
    await hide(false);
    await until(() => asked > 0);
    assert.deepEqual(complaints, []);
  });

  test("two ingests and two gateways behind it: all are there, and none is passed over", async (t) => {
    const herald = await parts(t);
    const { page, complaints } = await console_(t, herald, { password: herald.password });
    const services = page.locator(".services > li");
    await until(async () => /ingest.*ingest/s.test((await services.allTextContents()).join()) && /gateway.*gateway/s.test((await services.allTextContents()).join()));
    const bots = [];
    for (const origin of herald.gateways) {
      for (let i = 0; i < 2; i++) bots.push(client(t, { origin }, "?channel=broadcast", { "User-Agent": `bot ${bots.length}` }));
    }
    await Promise.all(bots.map(({ welcome }) => welcome));
    await page.getByRole("region", { name: "Vital figures" }).getByRole("link", { name: /Connections\s*4/ }).waitFor();
    const send = async (ingest, key, data) => (await fetch(`${ingest}/v1/messages`, {
      method: "POST", headers: { "X-API-KEY": key, "Content-Type": "application/json" }, body: JSON.stringify({ channel: "broadcast", data }),
    })).status;

    await go(page, "API keys");
    await page.getByRole("button", { name: "New key…" }).click();
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    await dialog(page).getByRole("alert").filter({ hasText: "Give the key a name" }).waitFor();
    await dialog(page).getByLabel("Name").fill("shop");
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    const secret = await dialog(page).locator(".secret").textContent();
    await dialog(page).getByRole("button", { name: "I have stored it" }).click();
    for (const ingest of herald.ingests) await until(async () => await send(ingest, secret, "with the new key") === 200);
    await (await details(page, "shop")).getByRole("button", { name: "Revoke…" }).click();
    await dialog(page).getByRole("button", { name: "Revoke", exact: true }).click();
    for (const ingest of herald.ingests) await until(async () => await send(ingest, secret, "with the old key") === 401);

    await go(page, "Tail and publish");
    await page.getByText("Live", { exact: true }).waitFor();
    await page.getByLabel("Data").fill("to both gateways");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await page.locator(".sent a").click();
    await heading(page, "Path of a message");
    const path = page.getByRole("list", { name: "The path of the message" });
    await until(async () => await path.getByText("2 of 2 clients").count() === 2);
    await path.getByText("4 clients in all").waitFor();
    await path.getByText("A row in the log").waitFor();

    await go(page, "Connections");
    await until(async () => await rows(page).count() === 4);
    await page.getByRole("searchbox", { name: "Address" }).fill("127.0.0.1");
    await page.getByRole("button", { name: "Kick all of address 127.0.0.1…" }).click();
    await dialog(page).getByText("Come back", { exact: true }).click();
    const closed = says(page, "4 connections were closed.");
    await dialog(page).getByRole("button", { name: "Kick", exact: true }).click();
    for (const { ended } of bots) {
      const { code } = await ended;
      assert.ok(code >= 4000 && code < 4500, `closed with ${code}, which means come back`);
    }
    await closed();
    await page.getByText("Nobody is connected.").waitFor();

    await at(page, "#/settings?q=max-connections-per-ip", "Settings");
    const setting = page.locator(".settings > li").filter({ hasText: "max-connections-per-ip" });
    await setting.getByRole("button", { name: "Change" }).click();
    await setting.getByLabel(/New value/).fill("1");
    await setting.getByRole("button", { name: "Save" }).click();
    await setting.getByText("console", { exact: true }).waitFor();
    const [one] = herald.gateways.map((origin) => client(t, { origin }));
    await one.welcome;
    await until(async () => { // counted over both gateways, so the other one refuses
      const end = await attempt(t, { origin: herald.gateways[1] });
      return end?.code === 4003 || /429|503/.test(end?.reason ?? "");
    });
    assert.equal(await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Listening" }).count(), 0, "that is the single binary’s");
    assert.deepEqual(complaints, []);
  });

  test("works in a folder of a proxy", async (t) => {
    const server = await herald(t, { settings: { HERALD_CONSOLE: "on", HERALD_TRUSTED_PROXIES: "127.0.0.1" } });
    const { page, complaints } = await door(t, await folder(t, server.origin, "/push/herald"));
    await logIn(page, "admin", await server.password());
    await heading(page, "Overview");
    await page.locator(".u-wrap").first().waitFor();
    for (const [, title] of PAGES) await go(page, title);
    assert.match(page.url(), /\/push\/herald\/admin\/#\/listening$/);
    assert.deepEqual(complaints, []);
  });

  test("roles: who only reads sees no button that writes; users are made and change their password", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "Users");
    await page.getByRole("button", { name: "New user…" }).click();
    await dialog(page).getByLabel("Name").fill("vera");
    await dialog(page).getByRole("button", { name: "Make the user" }).click();
    const password = await dialog(page).locator(".secret").textContent();
    await dialog(page).getByRole("button", { name: "I have stored it" }).click();
    await rows(page, "vera").waitFor();

    const bot = client(t, server);
    await bot.welcome;
    const vera = await console_(t, server, { user: "vera", password });
    const menu = vera.page.getByRole("navigation", { name: "Console" });
    await menu.getByRole("link", { name: "Users" }).waitFor();
    assert.deepEqual(await menu.getByRole("link").allTextContents(), ["Overview", "Connections", "Channels", "Addresses", "Refusals", "Tail and publish", "Path of a message", "Log", "Users"]);
    await go(vera.page, "Connections");
    await rows(vera.page).first().waitFor();
    const hers = await details(vera.page);
    await hers.getByText("broadcast").first().waitFor();
    assert.equal(await hers.getByRole("button", { name: "Kick…" }).count(), 0);
    await go(vera.page, "Tail and publish");
    await vera.page.getByText("An operator may publish from here").waitFor();
    await at(vera.page, "#/keys", "API keys");
    await vera.page.getByText("Your role, viewer, does not include this page.").waitFor();
    await go(vera.page, "Users");
    await vera.page.getByLabel("The one you have").fill("wrong");
    await vera.page.getByLabel("The new one").fill("a sentence that she likes");
    await vera.page.getByRole("button", { name: "Change it" }).click();
    await vera.page.getByRole("alert").waitFor();
    await vera.page.getByLabel("The one you have").fill(password);
    await vera.page.getByLabel("The new one").fill("a sentence that she likes");
    await vera.page.getByRole("button", { name: "Change it" }).click();
    await vera.page.getByText("Your password is changed.").waitFor();

    await (await details(page, "vera")).getByRole("button", { name: "Remove…" }).click();
    await dialog(page).getByRole("button", { name: "Remove", exact: true }).click();
    await until(async () => await rows(page, "vera").count() === 0);
    await vera.page.getByText("Your session has ended").waitFor();
    assert.deepEqual([...complaints, ...vera.complaints], []);
  });

  test("by keyboard: to the page, through the menu, and back from a window", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    /** Waits until what has the focus says this. */
    const hasFocus = (text) => until(async () => await page.evaluate(() => document.activeElement?.textContent?.trim() ?? "") === text);
    await hasFocus("Overview"); // what had it, the login, is gone
    const bot = client(t, server);
    await page.getByRole("link", { name: "To the page" }).focus();
    await page.keyboard.press("Enter");
    await hasFocus("Overview");
    await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "API keys" }).focus();
    await page.keyboard.press("Enter");
    await heading(page, "API keys");
    await hasFocus("API keys"); // a screen reader says where it is
    await page.getByRole("button", { name: "New key…" }).focus();
    await page.keyboard.press("Enter");
    await dialog(page).waitFor();
    await until(() => dialog(page).evaluate((window) => window.contains(document.activeElement)));
    await page.keyboard.press("Escape");
    await dialog(page).waitFor({ state: "detached" });
    await hasFocus("New key…");
    await (await details(page, "default")).getByRole("button", { name: "Rotate…" }).focus();
    await page.keyboard.press("Enter");
    await dialog(page).getByRole("button", { name: "Cancel" }).focus();
    await page.keyboard.press("Enter");
    await dialog(page).waitFor({ state: "detached" });
    await hasFocus("Rotate…");

    // Where an update takes away what has the focus, it stays nearby.
    await at(page, "#/settings?q=max-connections-per-ip", "Settings");
    await page.getByRole("button", { name: "Change max-connections-per-ip" }).focus();
    await page.keyboard.press("Enter");
    await page.getByLabel(/New value/).and(page.locator(":focus")).fill("7");
    await page.keyboard.press("Enter");
    await page.locator(".difference").waitFor();
    await hasFocus("Change");
    await page.getByRole("button", { name: "Reset max-connections-per-ip" }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("default", { exact: true }).waitFor();
    await hasFocus("Change");
    await page.getByRole("button", { name: "Clear filters" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("searchbox", { name: "Search" }).and(page.locator(":focus")).waitFor();
    await bot.welcome;
    await at(page, "#/connections", "Connections");
    await (await details(page)).getByRole("button", { name: "Kick…" }).focus();
    await page.keyboard.press("Enter");
    await dialog(page).getByRole("button", { name: "Kick", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("Nobody is connected.").waitFor();
    await hasFocus("Connections");
    await page.setViewportSize({ width: 390, height: 800 });
    await page.getByRole("button", { name: "Menu" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Log", exact: true }).focus();
    await page.keyboard.press("Escape");
    await hasFocus("Menu");
    assert.deepEqual(complaints, []);
  });

  test("axe-core finds nothing serious on any page, light and dark, wide and narrow", async (t) => {
    const server = await herald(t);
    const bot = client(t, server);
    await bot.welcome;
    for (let i = 0; i < 5; i++) await publish(server, { channel: "broadcast", event: i % 2 ? "made" : undefined, data: { n: i, text: "x" } });
    await publish(server, { channel: "broadcast", data: 1 }, "a wrong key that is long enough");
    const { page, complaints } = await console_(t, server);
    await go(page, "Log");
    await until(async () => await rows(page).count() > 0 || page.getByRole("button", { name: "Read again" }).click().then(() => false));
    const id = await (await details(page)).locator("dd .code").first().textContent();
    const login = await door(t, server.origin);
    for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["dark", 390], ["light", 390]]) {
      for (const one of [page, login.page]) {
        await one.emulateMedia({ colorScheme });
        await one.setViewportSize({ width, height: 844 });
      }
      assert.deepEqual(await findings(login.page), [], `login, ${colorScheme}, ${width}`);
      for (const [name, title] of PAGES) {
        await at(page, `#/${name}${name === "message" ? `/${id}` : ""}`, title);
        await page.getByText("Asking…").waitFor({ state: "detached" });
        const opener = page.locator("main .opener button").first();
        if (await opener.count() > 0) await opener.click();
        assert.deepEqual(await findings(page), [], `${title}, ${colorScheme}, ${width}`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, `${title} scrolls sideways`);
      }
    }
    assert.deepEqual(complaints, []);
  });
});
