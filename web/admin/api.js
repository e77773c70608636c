// Calls to the console's API, and who is logged in.

import { computed, signal } from "./component.js";
import { member } from "./exact.js";

/** Where the console is: behind a proxy it may be a folder. */
export const home = new URL("../", import.meta.url);

/** @typedef {{user: string, role: "viewer" | "operator" | "admin", csrf: string, expires: string, version: string, single: boolean, instance: string}} Session */

/** Who is logged in; null: nobody; undefined: not known yet. @type {import("./component.js").Signal<Session | null | undefined>} */
export const session = signal(undefined);

/** Whether somebody was logged in and the session ended: the login stands over the page then. */
export const ended = signal(false);

/** A 401 about the password in the body, not about the session. */
const WRONG_PASSWORD = "urn:herald:problem:wrong-password";

const RANKS = { viewer: 1, operator: 2, admin: 3 };

/** Who is logged in, or was until the session ended: what is being written stays on the page meanwhile. */
export const who = computed(() => {
  if (session.value || !ended.value) last = session.value;
  return last;
});
/** @type {Session | null | undefined} */
let last;

/** @param {"viewer" | "operator" | "admin"} role */
export const may = (role) => RANKS[who.value?.role] >= RANKS[role];

/** An answer that is no success; title and detail are for people. */
export class Fault extends Error {
  /** @param {{title: string, detail?: string, status?: number, pointer?: string, request?: string, results?: any[]}} problem */
  constructor(problem) {
    super(problem.detail ? `${problem.title}: ${problem.detail}` : problem.title);
    Object.assign(this, problem);
  }
}

/**
 * A name as a part of a path. A browser takes "." and ".." for steps, however they are written.
 * @param {string} name @throws {Fault}
 */
export function segment(name) {
  if (name === "." || name === "..") throw new Fault({ status: 404, title: `Nothing is called “${name}”` });
  return encodeURIComponent(name);
}

/** Whether the same question would be refused again: an answer of 4xx, but for those about time. @param {any} err */
export const refused = (err) => err?.status >= 400 && err.status < 500 && err.status !== 408 && err.status !== 429;

/** The answer of an aborted call, which nobody waits for. @param {any} err */
export const aborted = (err) => err?.name === "AbortError";

/**
 * @param {"GET" | "POST" | "PUT" | "DELETE"} method
 * @param {string} path below api/
 * @param {{query?: Record<string, any>, body?: any, text?: string, signal?: AbortSignal, exact?: string, background?: boolean}} [options] body is
 *   sent as JSON, text as it is; exact names a member of the answer that is given as its text; background: the page asks by itself, which keeps no session alive
 * @returns {Promise<any>} the answer's JSON; undefined for 204
 * @throws {Fault}
 */
export async function call(method, path, options = {}) {
  const response = await send(method, path, options);
  if (response.status === 204) return undefined;
  const text = await response.text();
  let answer;
  try {
    answer = text === "" ? undefined : JSON.parse(text);
  } catch {
    throw new Fault({ title: "The answer is not JSON",
      detail: `${method} ${path} answered ${response.status}. Is there a proxy in between?` });
  }
  if (options.exact && answer && options.exact in answer) answer[options.exact] = member(text, options.exact);
  return answer;
}

/** What the page asks again and again. */
export const get = (path, query, signal) => call("GET", path, { query, signal, background: true });

/** As call, but the answer is the response, to be read as a stream. */
export async function send(method, path, { query, body, text, signal: stop, background } = {}) {
  for (;;) {
    const asked = session.value;
    const response = await once(method, path,
      { query, text: text ?? (body === undefined ? undefined : JSON.stringify(body)), stop, background });
    if (response.ok) return response;
    const problem = await problemOf(response, method, path);
    if (response.status !== 401 || problem.type === WRONG_PASSWORD || !asked) throw problem;
    // Another call may have brought a new session while this one was on its way.
    if (session.value === asked) {
      ended.value = true;
      session.value = null;
    }
    await loggedIn(stop);
    if (method !== "GET" && session.value?.user !== asked.user) {
      throw new Fault({ title: `You are ${session.value?.user} now`,
        detail: `This was ${asked.user}’s to do, so nothing was sent. Send it again if you want to.` });
    }
  }
}

async function once(method, path, { query = {}, text, stop, background }) {
  const url = new URL(`api/${path}`, home);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = {};
  if (text !== undefined) headers["Content-Type"] = "application/json";
  if (background) headers["X-Background"] = "1";
  if (method !== "GET" && session.value) headers["X-CSRF-Token"] = session.value.csrf;
  try {
    return await fetch(url, { method, headers, body: text, signal: stop, credentials: "same-origin", redirect: "error" });
  } catch (err) {
    if (aborted(err)) throw err;
    throw new Fault({ status: 0, title: "Herald’s console does not answer",
      detail: `Is it running, and is the network there?${method === "GET" ? ""
        : " Whether this was done before the answer was lost is not known: look before you try again."}` });
  }
}

/** @param {Response} response */
async function problemOf(response, method, path) {
  const problem = await response.json().catch(() => undefined);
  return new Fault({ ...(typeof problem?.title === "string" ? problem
    : { title: `${method} ${path} answered ${response.status}`, detail: response.statusText }), status: response.status });
}

/** Waits until somebody is logged in. @param {AbortSignal} [stop] */
function loggedIn(stop) {
  return new Promise((done, fail) => {
    if (session.value) return done(undefined);
    const unsubscribe = session.subscribe((now) => {
      if (!now) return;
      queueMicrotask(() => unsubscribe());
      done(undefined);
    });
    stop?.addEventListener("abort", () => {
      unsubscribe();
      fail(new DOMException("aborted", "AbortError"));
    });
    return undefined;
  });
}

/** @param {string} user @param {string} password */
export async function logIn(user, password) {
  begin(await call("POST", "login", { body: { user, password } }));
}

/** @param {Session} answer */
export function begin(answer) {
  ended.value = false;
  session.value = answer;
}

export async function logOut() {
  await call("POST", "logout");
  ended.value = false;
  session.value = null;
}
