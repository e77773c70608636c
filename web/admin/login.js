// Logging in: as the whole page, or over the page when the session ended while something was being done.

import { begin, call, home, logIn, who } from "./api.js";
import { component, createRef, html, signal } from "./component.js";
import { Dialog, Form } from "./view.js";

/** How one may log in. */
const options = signal({ password: true, oidc: null });

export async function loginOptions() {
  options.value = await call("GET", "login").catch(() => options.value);
}

/** Where somebody was who went to the provider: the way back leads to the console, and no further. */
const LEFT = "herald-place";

/** Goes there, in a session that has just begun. */
export function returnThere() {
  const hash = sessionStorage.getItem(LEFT);
  sessionStorage.removeItem(LEFT);
  if (hash && location.hash === "") location.replace(hash);
}

let shown = false;

/** Whether the login was the whole page since the last call. */
export function greeted() {
  const was = shown;
  shown = false;
  return was;
}

/** A login in another tab is one here, too: it is looked for while the window over the page is open. */
function watchSession(self) {
  const look = () => call("GET", "session", { background: true }).then(begin, () => {});
  const timer = setInterval(() => { if (!document.hidden) look(); }, 3000);
  addEventListener("focus", look);
  self.cleanup(() => {
    clearInterval(timer);
    removeEventListener("focus", look);
  });
}

/** @type {any} {{over?: boolean}} */
export const Login = component((self, { over }) => {
  const user = createRef();
  const password = createRef();
  self.mounted(() => (user.current?.value ? password.current : user.current)?.focus());
  shown ||= !over;
  if (over) {
    loginOptions();
    watchSession(self);
  }
  const form = () => {
    const { oidc } = options.value;
    return html`
      ${options.value.password && html`<${Form} action="Log in" label="Log in" run=${async () => {
        try {
          await logIn(user.current.value.trim(), password.current.value);
        } catch (err) {
          password.current.value = "";
          password.current.focus();
          throw err;
        }
      }}>
        <div class="field"><label for="user">Name</label>
          <input id="user" ref=${user} autocomplete="username" autocapitalize="none" spellcheck="false"
            defaultValue=${over ? who.value?.user : ""} required /></div>
        <div class="field"><label for="password">Password</label>
          <input id="password" ref=${password} type="password" autocomplete="current-password" required /></div>
      </${Form}>`}
      ${oidc && html`<div class="provider">
        <a class="button" href=${new URL(oidc.url, home).href} target=${over ? "_blank" : undefined}
          onClick=${() => { if (!over) sessionStorage.setItem(LEFT, location.hash); }}>Log in with ${oidc.name}</a>
        ${over && html`<p class="hint">Opens another tab. Come back to this one then.</p>`}</div>`}`;
  };
  return () => (over
    ? html`<${Dialog} title="Log in again" stay>
        <p class="hint">Your session has ended. What you were doing is still here, behind this window.</p>
        ${form()}
      </${Dialog}>`
    : html`<div class="card login">
        <h1><img src="shared/herald.svg" alt="" width="32" height="32" />Herald’s console</h1>
        ${form()}
        <p class="hint">Herald printed the first password, of <b>admin</b>, when it first started.
          If it is lost: <span class="code">herald users reset admin</span></p>
      </div>`);
});
