// Pages of another origin, and Herald in a folder of a proxy, with the real binary and a real browser. What must be there
// stands in browser.test.js.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { suite, test } from "node:test";
import { arrive, entries, herald, open, shows, site, tab, timeout, until } from "./herald.js";

suite("a page of another origin", { timeout }, () => {
  test("the page's own snippet receives there, once it is allowed", async (t) => {
    const files = { "/favicon.ico": "" };
    const { origin } = await site(t, files);
    const server = await herald(t, { settings: { HERALD_ALLOWED_ORIGINS: "http://127.0.0.1:*" } });
    const { page: demo } = await open(t, server, "/?channel=broadcast&channel=public.>");
    files["/"] = `<!doctype html><title>mine</title>${await demo.locator("#snippet").textContent()}`;
    const page = await tab(t);
    const lines = [];
    page.on("console", (line) => lines.push(line.text()));
    page.on("pageerror", (err) => lines.push(String(err)));
    const frames = [];
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => frames.push(String(payload))));
    await arrive(page, origin);
    await until(() => frames.some((frame) => /"type":"welcome"/.test(frame)));
    await server.publish("public.news", "from elsewhere");
    await until(() => lines.length > 0);
    assert.deepEqual(lines.splice(0), ["public.news from elsewhere"]);
  });

  for (const transport of ["websocket", "sse"]) {
    test(`with a token, over ${transport}; and one that is not allowed gets nothing`, async (t) => {
      const { origin } = await site(t, { "/": "<!doctype html><title>mine</title>" });
      const another = await site(t, { "/": "<!doctype html><title>another</title>" });
      const server = await herald(t, { settings: { HERALD_ALLOWED_ORIGINS: origin } });
      const page = await tab(t);
      await arrive(page, origin);
      const received = page.evaluate(async ({ home, transport, token }) => {
        const { connect } = await import(`${home}/client/herald.js`);
        const herald = connect(`${home}/ws`, { channels: ["secret"], transport, token });
        await new Promise((resolve, reject) => {
          herald.on("subscribed", resolve);
          herald.on("state", ({ state, detail }) => state === "closed" && reject(new Error(detail)));
        });
        globalThis.ready = true;
        return new Promise((resolve) => { herald.on("message", (m) => resolve(m.data)); });
      }, { home: server.origin, transport, token: server.token("secret") });
      await page.waitForFunction(() => globalThis.ready);
      await server.publish("secret", "plans");
      assert.equal(await received, "plans");

      await arrive(page, another.origin);
      const fault = await page.evaluate((home) => import(`${home}/client/herald.js`).then(() => "", String), server.origin);
      assert.match(fault, /TypeError/);
    });
  }
});

suite("a folder of a proxy", { timeout }, () => {
  test("page and client work there, over both transports", async (t) => {
    const server = await herald(t);
    const port = Number(new URL(server.origin).port);
    const prefix = "/deep/push";
    const { server: proxy, origin } = await site(t, {}, (request, response) => {
      if (!request.url.startsWith(`${prefix}/`)) {
        response.writeHead(404).end();
        return;
      }
      const { method, headers } = request;
      const onward = http.request({ port, host: "127.0.0.1", method, headers, path: request.url.slice(prefix.length) }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      request.pipe(onward);
    });
    proxy.on("upgrade", (request, socket, head) => {
      const onward = net.connect(port, "127.0.0.1", () => {
        const headers = request.rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${request.rawHeaders[i + 1]}`] : []));
        onward.write(`GET ${request.url.slice(prefix.length)} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
        onward.write(head);
        onward.pipe(socket);
        socket.pipe(onward);
      });
      for (const end of [onward, socket]) end.on("error", () => { onward.destroy(); socket.destroy(); });
    });

    for (const [query, name] of [["", "WebSocket"], ["?transport=sse", "Server-Sent Events"]]) {
      const { page, complaints } = await open(t, { origin }, `${prefix}/${query}`);
      await page.getByText(name, { exact: true }).waitFor();
      await page.getByLabel("Message", { exact: true }).fill("from a folder");
      await page.getByLabel("API key").fill(server.key);
      await page.getByRole("button", { name: "Send" }).click();
      await entries(page, "from a folder").first().waitFor();
      assert.ok((await page.locator("#curl").textContent()).includes(`"${origin}${prefix}/v1/channels/broadcast"`));
      assert.ok((await page.locator("#snippet").textContent()).includes(`"${origin}${prefix}/client/herald.js"`));
      await until(() => page.locator("header img").evaluate((image) => image.naturalWidth > 0));
      await arrive(page, () => page.reload(), shows(page, "Connected"));
      for (const link of await page.locator("footer a").all()) {
        const href = await link.evaluate((a) => a.href);
        if (href.startsWith(origin)) assert.equal((await fetch(href)).status, 200, href);
        else assert.match(href, /^https:\/\/github\.com\/herald-push\/herald/);
      }
      assert.deepEqual(complaints, []);
    }
  });
});
