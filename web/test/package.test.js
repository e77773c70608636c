// The npm package of the client, as somebody installs it from its tarball: in Node, through a bundler, and with the types
// that TypeScript sees.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { herald, timeout, until } from "./herald.js";

const run = promisify(execFile);
const root = new URL("../../", import.meta.url).pathname;
const tsc = new URL("node_modules/typescript/bin/tsc", import.meta.url).pathname;

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "herald-package-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Makes the package and a project that depends on it. */
async function project(t) {
  const path = folder(t);
  await run("go", ["run", "./packaging", "-only", "npm", "-version", "v1.2.3", "-out", join(path, "dist")], { cwd: root });
  writeFileSync(join(path, "package.json"), JSON.stringify({ name: "shop", private: true, type: "module" }));
  const tarball = join(path, "dist", "herald-push-client-1.2.3.tgz");
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--cache", join(path, "cache"), tarball], { cwd: path });
  return path;
}

const program = `
import { connect } from "@herald-push/client";
const herald = connect(process.argv[2], { channels: ["broadcast"] });
herald.on("welcome", () => console.log("welcome over " + herald.transport));
herald.on("message", (m) => { console.log(JSON.stringify(m.data)); herald.close(); });
`;

/** Runs a program that follows broadcast, and publishes once it is welcome. */
async function receives(file, server) {
  const running = run(process.execPath, [file, `${server.origin}/ws`]);
  let output = "";
  running.child.stdout.on("data", (chunk) => { output += chunk; });
  await until(() => output.includes("welcome") || running.child.exitCode !== null || running.child.signalCode !== null);
  await server.publish("broadcast", { n: 17 });
  const { stdout } = await running;
  assert.match(stdout, /\{"n":17\}/);
}

suite("the npm package", { timeout }, () => {
  test("installed from its tarball: in Node, through a bundler, with types", async (t) => {
    const path = await project(t);
    const server = await herald(t);

    writeFileSync(join(path, "main.js"), program);
    await receives(join(path, "main.js"), server);

    const bundle = join(path, "bundle.mjs");
    await build({ entryPoints: [join(path, "main.js")], bundle: true, minify: true, format: "esm", platform: "node", outfile: bundle });
    rmSync(join(path, "node_modules", "@herald-push"), { recursive: true }); // the bundle has all that it needs
    await receives(bundle, server);

    await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--cache", join(path, "cache")], { cwd: path });
    writeFileSync(join(path, "main.ts"), `
      import { connect } from "@herald-push/client";
      const herald = connect("wss://push.example.com/ws", { channels: ["orders.>"], transport: "sse" });
      herald.on("message", (m) => { const channel: string = m.channel; console.log(channel, m.data); });
      herald.on("gap", (gap) => { const reason: "expired" | "epoch" | "damaged" | "limit" = gap.reason; console.log(reason); });
      // @ts-expect-error there is no such event
      herald.on("massage", () => {});
      // @ts-expect-error there is no such transport
      connect("/ws", { transport: "pigeon" });
      // @ts-expect-error only the package's front door is exported
      import("@herald-push/client/watch.js");
    `);
    await run(process.execPath, [tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "", "main.ts"], { cwd: path })
      .catch((failure) => assert.fail(failure.stdout));
    await assert.rejects(run(process.execPath, ["-e", 'import("@herald-push/client/watch.js")'], { cwd: path }), /ERR_PACKAGE_PATH_NOT_EXPORTED/);
  });

  test("the types in packaging/npm/types are those of the sources (make npm-types)", async (t) => {
    const path = folder(t);
    await run("npm", ["run", "--silent", "types", "--", "--outDir", path], { cwd: import.meta.dirname });
    const types = join(root, "packaging", "npm", "types");
    assert.deepEqual(readdirSync(types).sort(), readdirSync(path).sort());
    for (const file of readdirSync(path)) {
      assert.equal(readFileSync(join(types, file), "utf8"), readFileSync(join(path, file), "utf8"), `${file}; make npm-types`);
    }
  });
});
