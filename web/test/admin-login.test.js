// Logging in to the console by OpenID Connect, and sessions that end, in a real browser.
//
//     HERALD_BIN=/path/to/herald node --test web/test/admin-login.test.js

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { at, console_, dialog, endSession, findings, focused, go, logIn, rows } from "./console.js";
import { arrive, herald, tab, timeout, until } from "./herald.js";
import { identity } from "./identity.js";

suite("logging in to the console", { timeout }, () => {
  test("by OpenID Connect: back to the same place, refused without a role, again in the middle of a message", async (t) => {
    const provider = await identity(t, { olga: ["ops"], mallory: ["guests"] });
    const server = await herald(t, { settings: { ...provider, HERALD_OIDC_ROLES: "herald-admins=admin,ops=operator" } });
    const page = await tab(t, { viewport: { width: 1280, height: 800 } });
    const link = `${server.origin}/admin/#/connections?protocol=sse&tz=utc`;
    const login = page.getByRole("link", { name: "Log in with Example" });
    const account = page.getByRole("region", { name: "Account" });

    /** Follows a link to another page. */
    const follow = (from, name, there) => arrive(from, () => from.getByRole("link", { name }).click(), there);
    const who = page.getByRole("heading", { name: "Who are you?" });

    await arrive(page, link, login);
    await follow(page, "Log in with Example", who);
    await follow(page, "mallory", page.getByRole("alert").filter({ hasText: "your account has none of the roles that may log in here" }));
    assert.deepEqual(await findings(page), []);
    assert.ok(await page.locator(".login").evaluate((card) => card.getBoundingClientRect().left > 100), "the refusal looks like the login");
    await follow(page, "Back to the login", page.getByLabel("Password", { exact: true }));

    await arrive(page, link, login);
    await follow(page, "Log in with Example", who);
    await follow(page, "olga", page.getByRole("heading", { level: 1, name: "Connections" }));
    assert.equal(await page.getByLabel("Protocol").inputValue(), "sse", "the filters of the link are there");
    await page.getByRole("button", { name: "Times: UTC" }).waitFor();
    assert.match(await account.textContent(), /olga.*operator/s);
    assert.equal(await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "API keys" }).count(), 0);

    await go(page, "Tail and publish");
    await page.getByLabel("Data").fill("a text that must not be lost");
    await endSession(page);
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    const again = dialog(page).getByRole("link", { name: "Log in with Example" });
    await again.waitFor();
    const [other] = await Promise.all([page.context().waitForEvent("page"), again.click()]);
    await follow(other, "olga", other.getByRole("heading", { level: 1, name: "Overview" }));
    await other.close();
    await page.getByText(/^Stored as/).waitFor(); // the message that was begun goes out, in the new session
    assert.equal(await page.getByLabel("Data").inputValue(), "a text that must not be lost");
    assert.equal(await dialog(page).count(), 0);

    await page.getByRole("button", { name: "Log out" }).click();
    await login.waitFor();
    await arrive(page, () => page.reload(), login);
    await logIn(page, "admin", await server.password()); // the password goes on working beside it
    await account.filter({ hasText: "admin" }).waitFor();
    await at(page, "#/audit?user=olga", "Audit");
    await until(async () => /logout/.test((await page.locator("main tbody").allTextContents()).join()));
  });

  test("a session that ends while a key is being made leaves the window and what is in it", async (t) => {
    const server = await herald(t);
    const { page, complaints } = await console_(t, server);
    await go(page, "API keys");
    await rows(page, "default").waitFor();
    await endSession(page);
    await page.getByRole("button", { name: "New key…" }).click();
    await focused(dialog(page).getByLabel("Name")); // one can type at once
    await dialog(page).getByLabel("Name").fill("shop");
    await dialog(page).getByLabel("Channels").fill("orders.>");
    await dialog(page).getByRole("button", { name: "Make the key" }).click();
    const again = page.getByRole("dialog", { name: "Log in again" });
    await again.getByLabel("Password", { exact: true }).fill(await server.password());
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "The key “shop”" }).locator(".secret").waitFor();
    assert.match(page.url(), /#\/keys$/);
    assert.deepEqual(complaints, []);
  });
});
