// The whole way, with nothing made up: the real binary, a real browser, and the sqlite3 tool to look at the log.
//
//     HERALD_BIN=/path/to/herald node --test web/test/browser.test.js
//
// CHROMIUM names the browser (/usr/bin/chromium), SCREENSHOTS a folder for pictures of the page. Besides these it needs
// the tools sqlite3 and openssl.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { arrive, entries, herald, open, shows, state, timeout, toast, unreachable, until } from "./herald.js";

const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** The texts of a toast, of the classes that are named. */
const texts = (page, text, ...names) => toast(page, text)
  .evaluate((item, all) => all.map((name) => item.querySelector(`.${name}`).textContent), names);

/** Presses Tab until the element has the focus. */
async function tabTo(page, selector) {
  const target = page.locator(selector);
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    if (await target.evaluate((element) => element === document.activeElement)) return;
  }
  assert.fail(`Tab does not reach ${selector}`);
}

async function screenshot(page, name) {
  if (!process.env.SCREENSHOTS) return;
  mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

suite("the page at /", { timeout }, () => {
  for (const secure of [false, true]) {
    test(`a notify becomes a toast and a row, over ${secure ? "https and wss" : "http and ws"}`, async (t) => {
      const server = await herald(t, { secure });
      const { headers } = await server.request("GET", "/");
      assert.equal(headers["content-security-policy"], POLICY);
      const { page, complaints } = await open(t, server);
      const text = `Hello from ${secure ? "https" : "http"}, it's <b>me</b>`;
      const wrong = await server.notify(text, "wrong");
      assert.deepEqual([wrong.status, JSON.parse(wrong.text)], [401, { error: "Unauthorized" }]);
      const sent = await server.notify(text);
      assert.deepEqual([sent.status, JSON.parse(sent.text)], [200, { status: "Message sent" }]);

      const shown = await texts(page, text, "data", "channel");
      assert.deepEqual(shown, [text, "broadcast"], "the data is shown as it is, markup and all");
      assert.equal(await entries(page, text).count(), 1);
      const row = await until(async () => (await server.rows()).split("\n").find((line) => line.includes(text)));
      assert.ok(row.startsWith(`${text}|`), `the message comes first, as plain text: ${row}`);
      assert.deepEqual(complaints, []);
    });
  }

  test("says when the server is gone, and misses nothing when it is back", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    await server.notify("before");
    await toast(page, "before").waitFor();
    await server.kill();
    await state(page, "Disconnected");
    await server.start();
    await server.notify("meanwhile");
    await state(page, "Connected");
    await entries(page, "meanwhile").waitFor();
    await server.notify("after");
    await entries(page, "after").waitFor();
    const shown = await page.locator("#log .data").allTextContents();
    assert.deepEqual(shown, ["after", "meanwhile", "before"]);
    assert.deepEqual(complaints.filter((line) => !unreachable(line)), []);
  });

  test("a reload goes on where the page was", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    await server.notify("seen");
    await toast(page, "seen").waitFor();
    await page.goto("about:blank");
    await server.notify("while away");
    await arrive(page, server.origin, entries(page, "while away"));
    assert.equal(await entries(page, "seen").count(), 0);
    assert.deepEqual(complaints, []);
  });

  test("channels are picked by keyboard", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    const chip = (name) => page.locator(`.chip[data-channel="${name}"]`);
    await tabTo(page, "#channel");
    await page.keyboard.type("public.orders.*");
    await page.keyboard.press("Enter");
    await page.locator('.chip[data-channel="public.orders.*"]:not([data-pending])').waitFor();
    await server.publish("public.orders.eu", { n: 1, paid: true }, "?event=created");
    assert.deepEqual(await texts(page, "public.orders.eu", "data", "event"), ['{ "n": 1, "paid": true }', "created"]);
    await until(() => /\?channel=broadcast&channel=public\.orders\.\*$/.test(page.url()));

    await page.keyboard.type("public..eu");
    await page.keyboard.press("Enter");
    await page.getByText("There is an empty token").waitFor();
    assert.equal(await page.locator("#channel").getAttribute("aria-invalid"), "true");
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("secret.plans"); // a fine name, but not for everybody
    await page.keyboard.press("Enter");
    await page.getByRole("alert").filter({ hasText: /^"secret\.plans" needs a token/ }).waitFor();
    await chip("secret.plans").waitFor({ state: "detached" });
    await state(page, "Connected");

    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await chip("public.orders.*").waitFor({ state: "detached" });
    await arrive(page, () => page.reload(), shows(page, "Connected"));
    assert.deepEqual(await page.locator(".chip .code").allTextContents(), ["broadcast"]);
    assert.deepEqual(complaints, []);
  });

  test("a toast waits for its reader and goes by key, click or by itself", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    for (const text of ["zero", "one", "two", "three"]) await server.notify(text);
    await toast(page, "three").waitFor();
    assert.equal(await page.locator("#toasts > li").count(), 3);
    await page.locator("#toasts").evaluate((list) => { // they have come in, and stand still
      for (const item of list.children) for (const animation of item.getAnimations()) animation.finish();
    });
    const life = (text) => toast(page, text).locator(".life").evaluate((bar) => bar.getAnimations()[0].playState);
    assert.equal(await life("one"), "running");
    await toast(page, "two").hover();
    await until(async () => (await life("one")) === "paused");
    await page.mouse.move(0, 0);
    await until(async () => (await life("one")) === "running");

    await toast(page, "two").getByRole("button", { name: "Dismiss" }).focus();
    await until(async () => (await life("one")) === "paused");
    await page.keyboard.press("Enter");
    await toast(page, "two").waitFor({ state: "detached" });
    assert.ok(await toast(page, "three").evaluate((item) => item.contains(document.activeElement)), "the focus goes to the neighbour");
    await page.keyboard.press("Escape"); // the one with the focus
    await toast(page, "three").waitFor({ state: "detached" });
    await toast(page, "one").locator(".life").evaluate((bar) => bar.getAnimations()[0].finish());
    await toast(page, "one").waitFor({ state: "detached" });
    assert.equal(await page.locator("#log > li").count(), 4);
    assert.deepEqual(complaints, []);
  });

  test("sends with a key that it does not keep", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    await page.getByLabel("Message", { exact: true }).fill('{"n": 1}');
    await page.getByLabel("API key").fill("a wrong key");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("A valid key or token is needed").waitFor();
    await until(() => complaints.some((line) => /401/.test(line))); // the browser's own line about the answer
    assert.equal(complaints.splice(0).length, 1);
    await page.getByLabel("API key").fill(server.key);
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText(/^Stored as [0-9a-z]+-\d+$/).waitFor();
    await toast(page, '{ "n": 1 }').waitFor();
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.ok(!kept.includes(server.key), kept);
    assert.match(await page.locator("#curl").textContent(), new RegExp(`^curl .* "${server.origin}/v1/channels/broadcast"$`));
    assert.deepEqual(complaints, []);
  });

  test("toasts stay inside of the window, and away from what is in use", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server);
    const long = "a line of a message that is long enough to be cut\n".repeat(20);
    const box = (locator) => locator.evaluate((element) => {
      const { left, top, right, bottom } = element.getBoundingClientRect();
      return { left, top, right, bottom };
    });
    for (const [width, height] of [[1280, 800], [390, 844], [320, 480], [700, 260]]) {
      await page.setViewportSize({ width, height });
      for (const id of ["#send-key", "#send button", "#send-data", "#channel"]) {
        await page.locator(id).focus();
        for (let i = 0; i < 4; i++) await server.notify(`${id} of ${width}, ${i}: ${long}`);
        await entries(page, `${id} of ${width}, 3`).waitFor();
        const used = await box(page.locator(id));
        const toasts = await page.locator("#toasts").evaluate((list) => [...list.children].map((item) => {
          for (const animation of item.getAnimations()) animation.finish();
          const { left, top, right, bottom } = item.getBoundingClientRect();
          return { left, top, right, bottom };
        }));
        assert.ok(toasts.length <= 3);
        for (const toast of toasts) {
          const what = `${width}x${height}, ${id}: ${JSON.stringify({ toast, used })}`;
          assert.ok(toast.left >= 0 && toast.top >= 0 && toast.right <= width && toast.bottom <= height, `outside: ${what}`);
          const covers = toast.left < used.right && used.left < toast.right && toast.top < used.bottom && used.top < toast.bottom;
          assert.ok(!covers, `over what has the focus: ${what}`);
        }
      }
    }
    await page.setViewportSize({ width: 390, height: 844 });
    await page.keyboard.press("Escape");
    await page.locator("#send button").scrollIntoViewIfNeeded();
    await page.evaluate(() => document.activeElement.blur());
    await page.locator("#send button").hover();
    for (let i = 0; i < 3; i++) await server.notify(`under the pointer ${i}`);
    await entries(page, "under the pointer 2").waitFor();
    assert.ok(await page.locator("#send button").evaluate((button) => {
      const { left, top, width, height } = button.getBoundingClientRect();
      return button === document.elementFromPoint(left + width / 2, top + height / 2);
    }), "a toast came between the pointer and the button");
    assert.deepEqual(complaints, []);
  });

  test("a wrong token does not stick, and no token stands in a URL", async (t) => {
    const server = await herald(t);
    const urls = [];
    const { page } = await open(t, server);
    page.on("request", (request) => urls.push(request.url()));
    page.on("websocket", (socket) => urls.push(socket.url()));
    await page.getByText("Use a token").click();
    const use = async (token) => {
      await page.getByPlaceholder("eyJ").fill(token);
      await page.getByRole("button", { name: "Connect with it" }).click();
    };
    const good = server.token("secret.plans");
    for (const wrong of ["no token at all", "no.token", `${good}x`]) {
      await use(wrong);
      await page.getByRole("alert").filter({ hasText: /^The token was refused: ./ }).waitFor();
      await state(page, "Connected");
      await server.notify(`after ${wrong}`);
      await entries(page, `after ${wrong}`).waitFor();
    }
    await use(good);
    await until(async () => await page.locator("#token-fault").textContent() === "");
    await state(page, "Connected");
    await page.getByPlaceholder("public.news").fill("secret.plans");
    await page.keyboard.press("Enter");
    await page.locator('.chip[data-channel="secret.plans"]:not([data-pending])').waitFor();
    await use("another.wrong.one");
    await page.getByRole("alert").filter({ hasText: /^The token was refused: ./ }).waitFor();
    await page.locator('.chip[data-channel="secret.plans"]:not([data-pending])').waitFor();
    await server.publish("secret.plans", "for your eyes only");
    await entries(page, "for your eyes only").waitFor();
    assert.ok(urls.length >= 5);
    for (const url of urls) assert.ok(!/token|eyJ|wrong/.test(url), url);

    // Without the token.
    await arrive(page, `${server.origin}/?channel=secret.plans&channel=broadcast`, page.getByRole("alert").filter({ hasText: /^"secret\.plans" needs a token/ }));
    await page.locator('.chip[data-channel="broadcast"]:not([data-pending])').waitFor();
    assert.deepEqual(await page.locator(".chip .code").allTextContents(), ["broadcast"]);
  });

  test("light, dark and narrow", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await open(t, server, "/?channel=broadcast&channel=public.>");
    await server.notify("Good morning. The nightly backup took 14 minutes.");
    await server.publish("public.orders.eu", { n: 1842, total: "79.90", items: [{ sku: "A-17", qty: 2 }, { sku: "B-4", qty: 1 }] });
    await toast(page, "1842").waitFor();
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: "light" });
    const light = await background();
    await screenshot(page, "light");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.notEqual(await background(), light);
    await screenshot(page, "dark");
    for (const width of [320, 390]) {
      await page.setViewportSize({ width, height: 844 });
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, "the page scrolls sideways");
    }
    await screenshot(page, "narrow");
    assert.deepEqual(complaints, []);
  });
});
