// Signing in: as the whole page, or over the page when the session ended while something was being done.

import { call, home, signIn, who } from "./api.js";
import { component, createRef, html, signal } from "./component.js";
import { Dialog, Form } from "./view.js";

/** How one may sign in. */
const options = signal({ password: true, oidc: null });

export async function loginOptions() {
  options.value = await call("GET", "login").catch(() => options.value);
}

/** @type {any} {{over?: boolean}} */
export const Login = component((self, { over }) => {
  const user = createRef();
  const password = createRef();
  self.mounted(() => (user.current?.value ? password.current : user.current)?.focus());
  if (over) loginOptions();
  const form = () => {
    const { oidc } = options.value;
    return html`
      ${options.value.password && html`<${Form} action="Sign in" label="Sign in" run=${async () => {
        try {
          await signIn(user.current.value.trim(), password.current.value);
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
      ${oidc && html`<p class="actions"><a class="button" href=${new URL(oidc.url, home).href}>Sign in with ${oidc.name}</a>
        </p>`}`;
  };
  return () => (over
    ? html`<${Dialog} title="Sign in again" stay>
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
