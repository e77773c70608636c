// A small OpenID Connect provider in this process (OpenID Connect Core 1.0, code flow with PKCE): who logs in chooses a
// user on its page, as at a real one a person types a password.

import { createHash, createSign, generateKeyPairSync, randomUUID } from "node:crypto";
import http from "node:http";
import { listen } from "./ports.js";

const CLIENT = { id: "herald", secret: "of-the-console-0123456789" };

/**
 * @param {Record<string, string[]>} users the groups of each
 * @returns {Promise<Record<string, string>>} the settings that have Herald use it; HERALD_OIDC_ROLES is the caller's
 */
export async function identity(t, users) {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const codes = new Map();
  const json = (response, value, status = 200) => response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, issuer);
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(response, { issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/keys`, id_token_signing_alg_values_supported: ["RS256"] });
      case "/keys":
        return json(response, { keys: [{ ...publicKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: "1" }] });
      case "/authorize": {
        const choice = (user) => `<p><a href="/choose?${new URLSearchParams([...url.searchParams, ["as", user]])}">${user}</a></p>`;
        return response.writeHead(200, { "Content-Type": "text/html" })
          .end(`<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,"><h1>Who are you?</h1>${Object.keys(users).map(choice).join("")}`);
      }
      case "/choose": {
        const { redirect_uri: back, state, code_challenge: challenge, nonce, as } = Object.fromEntries(url.searchParams);
        const code = randomUUID();
        codes.set(code, { challenge, nonce, as, back });
        return response.writeHead(302, { Location: `${back}?${new URLSearchParams({ code, state })}` }).end();
      }
      case "/token": {
        let body = "";
        for await (const chunk of request) body += chunk;
        const form = new URLSearchParams(body);
        const asked = codes.get(form.get("code"));
        codes.delete(form.get("code"));
        const who = `${CLIENT.id}:${CLIENT.secret}`;
        const known = request.headers.authorization === `Basic ${Buffer.from(who).toString("base64")}` || `${form.get("client_id")}:${form.get("client_secret")}` === who;
        const verified = asked && createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url") === asked.challenge;
        if (!known || !verified || form.get("redirect_uri") !== asked.back) return json(response, { error: "invalid_grant" }, 400);
        const now = Math.floor(Date.now() / 1000);
        const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
        const signed = `${part({ alg: "RS256", kid: "1" })}.${part({ iss: issuer, aud: CLIENT.id, sub: `id-of-${asked.as}`, preferred_username: asked.as, groups: users[asked.as], nonce: asked.nonce, iat: now, exp: now + 300 })}`;
        return json(response, { access_token: "x", token_type: "Bearer", id_token: `${signed}.${createSign("RSA-SHA256").update(signed).sign(privateKey, "base64url")}` });
      }
      default:
        return response.writeHead(404).end();
    }
  });
  const port = await listen(t, server);
  // Another name than the console's 127.0.0.1, so that the way back comes from another site, as with a real provider.
  const issuer = `http://localhost:${port}`;
  return { HERALD_OIDC_ISSUER: issuer, HERALD_OIDC_CLIENT_ID: CLIENT.id, HERALD_OIDC_CLIENT_SECRET: CLIENT.secret, HERALD_OIDC_NAME: "Example" };
}
