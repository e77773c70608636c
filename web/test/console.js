// The console in a real browser, for tests and for pictures: logging in, walking through its pages.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { arrive, tab, until } from "./herald.js";
import { listen } from "./ports.js";

/** Every page of the menu: the name in the address and the heading. */
export const PAGES = [
  ["overview", "Overview"], ["connections", "Connections"], ["channels", "Channels"], ["addresses", "Addresses"], ["refusals", "Refusals"], ["tail", "Tail and publish"],
  ["message", "Path of a message"], ["log", "Log"], ["keys", "API keys"], ["apps", "Apps"], ["users", "Users"], ["audit", "Audit"], ["settings", "Settings"], ["listening", "Listening"],
];

/** A page at the login, that must stay without complaint: no exception, no violation of the policy. */
export async function door(t, origin, options = {}) {
  const page = await tab(t, { ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options });
  const complaints = [];
  page.on("pageerror", (err) => complaints.push(String(err.stack ?? err)));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (line) => {
    // The browser's own line about an answer such as 401, or about none, is no fault of the page, which shows it.
    if (["error", "warning"].includes(line.type()) && !/^Failed to load resource: (the server responded with a status of|net::)/.test(line.text())) complaints.push(line.text());
  });
  await arrive(page, `${origin}/admin/`, page.getByLabel("Name"));
  return { context: page.context(), page, complaints };
}

/** Types name and password into the login, which is the page or a window over it. */
export async function logIn(page, user, password) {
  await page.getByLabel("Name").fill(user);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
}

/** A page of somebody who is logged in. */
export async function console_(t, server, { user = "admin", password, ...options } = {}) {
  const opened = await door(t, server.origin, options);
  await logIn(opened.page, user, password ?? await server.password());
  await heading(opened.page, "Overview");
  return opened;
}

export const heading = (page, text) => page.getByRole("heading", { level: 1, name: text, exact: true }).waitFor();

/** Goes to a page by the menu. */
export async function go(page, title) {
  await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: title, exact: true }).click();
  await heading(page, title);
}

/** Goes to a place by its address. */
export async function at(page, hash, title) {
  await page.evaluate((to) => { location.hash = to; }, hash);
  await heading(page, title);
}

/** The rows of the list, without their details. */
export const rows = (page, text) => page.locator("main tbody tr:not(.details)").filter({ hasText: text });

/** Opens the details of the first row that has the text. */
export async function details(page, text) {
  const opener = rows(page, text).first().locator(".opener button");
  if (await opener.getAttribute("aria-expanded") !== "true") await opener.click();
  return page.locator("main tr.details");
}

/**
 * The session ends. What the page asks by itself would meet that first, and put the login over what is to be clicked: so
 * it is paused before.
 */
export async function endSession(page) {
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused.").waitFor();
  await page.context().clearCookies();
}

/** Waits from now on until the page says it for some seconds, as it says what was done. */
export function says(page, text) {
  const said = page.getByText(text).waitFor();
  said.catch(() => {}); // is the caller's, who may come to it later
  return () => said;
}

/** Waits until the element has the focus. */
export const focused = (locator) => until(() => locator.evaluate((element) => element === document.activeElement));

export const dialog = (page) => page.getByRole("dialog");

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/**
 * What axe-core finds serious or critical, twice: the page changes under it each second, and an element that leaves while it
 * is looked at is no fault.
 */
export async function findings(page) {
  const first = await look(page);
  if (first.length === 0) return first;
  const second = await look(page);
  return first.filter((finding) => second.includes(finding));
}

/** The page's policy forbids the script of axe-core; the debugger brings it in. */
async function look(page) {
  const client = await page.context().newCDPSession(page);
  await client.send("Runtime.evaluate", { expression: axe });
  await client.detach();
  const violations = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ["violations"] })).violations);
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target }) => target.join(" ")).slice(0, 5).join(", ")}`);
}

/** A proxy that has Herald in a folder, as nginx with a location does. */
export async function folder(t, origin, prefix) {
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) {
      response.writeHead(404).end();
      return;
    }
    const onward = http.request(origin + request.url.slice(prefix.length), { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  return `http://127.0.0.1:${await listen(t, server)}${prefix}`;
}

/** A certificate for this machine, in the folder. */
export function certificate(folder) {
  const [certpath, keypath] = [join(folder, "new-cert.pem"), join(folder, "new-key.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
    "-keyout", keypath, "-out", certpath, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], { stdio: "ignore" });
  return { certpath, keypath };
}
