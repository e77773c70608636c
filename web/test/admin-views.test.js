// What an operator meets in the console who works with it for an hour: floods, large messages, pages of lists, links,
// the browser's Back, services that do not answer.
//
//     HERALD_BIN=/path/to/herald node --test web/test/admin-views.test.js

import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import WebSocket from "ws";
import { at, console_, details, dialog, go, heading, rows } from "./console.js";
import { arrive, herald, timeout, until } from "./herald.js";
import { parts } from "./parts.js";

/** NDJSON in one request: one pack after the other, as fast as ingest takes them. */
const publish = (server, messages) => server.request("POST", "/v1/messages", { "X-API-KEY": server.key, "Content-Type": "application/x-ndjson" },
  messages.map((message) => (typeof message === "string" ? message : JSON.stringify(message))).join("\n"));

suite("the console in use", { timeout }, () => {
  test("a flood is dropped with a count; a message that is read stays", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "Tail and publish");
    await page.getByText("Live", { exact: true }).waitFor();
    const MESSAGES = 5000;
    const { status } = await publish(server, Array.from({ length: MESSAGES }, (_, n) => `{"channel":"public.flood","data":{"n":9007199254740993,"i":${n}}}`));
    assert.equal(status, 200);
    // What is not shown is counted, to the last message; a page shows 200 at most, so a slow machine may not tell the sum.
    await until(async () => {
      const [shown, dropped] = ((await page.locator(".tailing .count").textContent()).replaceAll(",", "").match(/\d+/g) ?? []).map(Number);
      return dropped > 0 && (shown === 200 || shown + dropped === MESSAGES);
    });
    assert.ok(await page.locator(".tail .row").count() <= 200);

    const first = page.locator(".tail .row").first();
    /** Again and again: the second in which it is published may have had its fifty. */
    const again = (data, there) => until(async () => {
      assert.equal((await publish(server, [{ channel: "public.flood", data }])).status, 200);
      return await there.count() > 0;
    });
    // The one by the keyboard holds the list, so that it is not pushed away from under the pointer.
    await page.keyboard.press("Tab");
    await first.focus();
    const row = page.locator(".tail .row:focus");
    await page.keyboard.press("Enter");
    const read = page.locator(".tail .shown");
    await read.locator(".json .number").filter({ hasText: "9007199254740993" }).waitFor();
    const before = await page.locator(".tail .row").allTextContents();
    const show = page.getByRole("button", { name: /^Show (\d+|the newest \d+)( newer)?$/ });
    await again("any", show);
    assert.deepEqual(await page.locator(".tail .row").allTextContents(), before, "the open message is where it was");
    assert.equal(await row.getAttribute("aria-expanded"), "true");
    await show.click();
    await until(async () => await read.count() === 0);
    await again("newer", first.filter({ hasText: "newer" }));

    // The keyboard in the list holds it, too. The row need not be the first any more: one more may have come before it had the focus.
    await page.keyboard.press("Tab");
    await first.focus();
    const held = await page.locator(".tail .row").allTextContents();
    await again("any", show);
    assert.deepEqual(await page.locator(".tail .row").allTextContents(), held, "the list is as it was when a row got the focus");
    assert.equal(await row.count(), 1, "the row has the focus");
    await page.getByLabel("Sender").focus();
    await again("newest", first.filter({ hasText: "newest" }));

    await page.getByLabel("Channel or pattern").fill("orders.>");
    await page.getByText("None that matches was published since this page opened.").waitFor(); // those of the filter before are gone
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal((await publish(server, [{ channel: "public.flood", data: 1 }, { channel: "orders.eu", data: 2 }])).status, 200);
    await first.filter({ hasText: "orders.eu" }).waitFor();
    assert.equal(await page.locator(".tail .row").filter({ hasText: "flood" }).count(), 0);
    assert.deepEqual(complaints, []);
  });

  test("a megabyte of JSON, and a text of as many characters, open at once", async (t) => {
    const server = await herald(t, { settings: { HERALD_MAX_MESSAGE_BYTES: "2MiB" } });
    const { page, complaints } = await console_(t, server);
    await go(page, "Tail and publish");
    await page.getByText("Live", { exact: true }).waitFor();
    const list = Array.from({ length: 9000 }, (_, i) => ({ i, text: "x".repeat(80), list: [1, 2, 3] }));
    assert.equal((await publish(server, [{ channel: "a", data: list }])).status, 200);
    await page.locator(".tail .row").first().click();
    const tree = page.locator(".tail .json");
    await tree.getByRole("button", { name: "8,900 more" }).click();
    await tree.getByRole("button", { name: "8,400 more" }).waitFor();
    assert.equal(await tree.locator(".children > div").count(), 600, "the members of a long list are closed");
    await tree.locator(".children > div .branch").first().click();
    await tree.locator(".number").first().waitFor();
    await page.locator(".tail .row").first().click();
    assert.equal((await publish(server, [{ channel: "a", data: `${"y".repeat(1_000_000)}\u202ez` }])).status, 200);
    await page.locator(".tail .row").filter({ hasText: "yyy" }).click();
    await tree.getByRole("button", { name: /more characters$/ }).click();
    await until(async () => (await tree.textContent()).endsWith('y\\u202ez"')); // a mark that turns the line is seen
    assert.deepEqual(complaints, []);
  });

  test("pages of a list are steps of the browser, and a link shows the page", async (t) => {
    const server = await herald(t, { settings: { HERALD_ANONYMOUS_CHANNELS: ">" } });
    for (let client = 0; client < 3; client++) {
      const names = Array.from({ length: 50 }, (_, i) => `channel=list.${client}-${String(i).padStart(2, "0")}`);
      const socket = new WebSocket(`${server.origin.replace("http", "ws")}/ws?${names.join("&")}`);
      t.after(() => socket.terminate());
      await once(socket, "message");
    }
    const { page, context, complaints } = await console_(t, server);
    await at(page, "#/channels?sort=channel&tz=utc", "Channels");
    const top = (name) => rows(page).first().filter({ hasText: name }).waitFor();
    await top("list.0-00");
    await page.getByRole("button", { name: "Next page" }).click();
    await top("list.2-00");
    const link = page.url();
    assert.match(link, /sort=channel.*tz=utc.*cursor=/);
    await arrive(page, () => page.reload(), rows(page).first().filter({ hasText: "list.2-00" }));
    await page.goBack();
    await top("list.0-00");
    await page.goForward();
    await top("list.2-00");
    await page.getByRole("button", { name: "First page" }).click(); // a page that was reloaded knows none before it
    await top("list.0-00");
    await page.getByRole("button", { name: "Next page" }).click();
    await top("list.2-00");
    await page.getByRole("button", { name: "Page before" }).click();
    await top("list.0-00");
    const other = await context.newPage();
    await arrive(other, link, rows(other).first().filter({ hasText: "list.2-00" }));
    await other.getByRole("button", { name: "Times: UTC" }).waitFor();
    await other.close();

    // A filter keeps what is typed, a space at its end, too, while the list is asked.
    const search = page.getByRole("searchbox", { name: "Search" });
    await search.fill("list.1 ");
    await page.waitForURL(/q=list\.1/);
    await top("list.1-00");
    assert.equal(await search.inputValue(), "list.1 ");
    assert.match(await (await details(page)).textContent(), /list\.1-00/);
    assert.deepEqual(complaints, []);
  });

  test("a gateway that does not answer is no zero, and a chart has a gap", async (t) => {
    const herald = await parts(t);
    const { page, complaints } = await console_(t, herald, { password: herald.password });
    const vital = page.getByRole("region", { name: "Vital figures" });
    await vital.getByRole("link", { name: /Connections\s*0$/ }).waitFor();
    const charts = () => page.evaluate(async () => (await (await fetch("api/charts?seconds=600")).json()).series.connections);
    await until(async () => (await charts()).filter((n) => n === 0).length >= 2);
    for (const pid of herald.pids.gateway) process.kill(pid, "SIGSTOP");
    await vital.getByRole("link", { name: /Connections\s*–$/ }).waitFor();
    await page.getByText("Not everything is here:").waitFor();
    await until(async () => (await charts()).at(-1) === null);
    await page.locator(".chart").filter({ hasText: "Connections" }).getByText("–").waitFor();
    for (const pid of herald.pids.gateway) process.kill(pid, "SIGCONT");
    await vital.getByRole("link", { name: /Connections\s*0$/ }).waitFor();
    const gap = await until(async () => {
      const all = await charts();
      return all.at(-1) === 0 && all;
    });
    assert.match(gap.map((n) => (n === null ? "-" : n)).join(""), /0+-+0+$/);
    assert.deepEqual(complaints, []);
  });

  test("a form that is refused says what the API says, at its field", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server, { viewport: { width: 640, height: 400 } }); // 1280 at 200 %
    await at(page, "#/tail", "Tail and publish");
    await page.locator("summary").click();
    for (const [label, value, message] of [["Channel", "bad channel", { channel: "bad channel", data: "" }], ["Lives for (ttl)", "soon", { channel: "a", data: "", ttl: "soon" }]]) {
      await page.getByLabel(label, { exact: true }).fill(value);
      const refused = page.waitForResponse(/\/api\/publish$/);
      await page.getByRole("button", { name: "Publish", exact: true }).click();
      assert.equal((await refused).status(), 400);
      const { status, text } = await server.request("POST", "/v1/messages", { "X-API-KEY": server.key, "Content-Type": "application/json" }, JSON.stringify(message));
      assert.equal(status, 400, text);
      const { title, detail } = JSON.parse(text);
      const alert = page.getByRole("alert").filter({ hasText: title }).filter({ hasText: detail });
      await alert.waitFor();
      await until(() => alert.evaluate((box) => box.getBoundingClientRect().bottom <= innerHeight)); // it is scrolled to
      assert.equal(await page.getByLabel(label, { exact: true }).getAttribute("aria-invalid"), "true");
      await page.getByLabel("Channel", { exact: true }).fill("a");
    }
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 640, "nothing scrolls sideways");
    // What is copied can be pasted, also where the page may not reach the clipboard by itself; the focus stays.
    const copy = page.getByRole("button", { name: "Copy as curl" });
    for (const denied of [false, true]) {
      if (denied) await page.evaluate(() => { navigator.clipboard.writeText = () => Promise.reject(new Error("denied")); });
      const data = page.getByLabel("Data");
      await data.fill(`denied: ${denied}`);
      await copy.click();
      await until(() => page.evaluate(() => /^Cop(ied|y as curl)$/.test(document.activeElement?.textContent ?? "")));
      await until(async () => {
        await data.fill("");
        await page.keyboard.press("Control+V");
        return new RegExp(`^curl .*denied: ${denied}`).test(await data.inputValue());
      });
    }
    assert.equal(await dialog(page).count(), 0);
    await at(page, "#/message/..", "Path of a message");
    await page.getByRole("alert").filter({ hasText: "Nothing is called “..”" }).waitFor();
    await at(page, "#/listening", "Listening");
    await heading(page, "Listening");
    assert.deepEqual(complaints, []);
  });
});
