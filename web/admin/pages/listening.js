import { call, get } from "../api.js";
import { component, html, signal } from "../component.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { Facts, Field, Form, Problem, tell, Waiting } from "../view.js";
import { confirmed } from "../follow.js";

const FIELDS = ["protocol", "port", "certpath", "keypath"];

export const Page = component((self) => {
  const now = poll((stop) => get("listen", {}, stop), 5);
  self.cleanup(now.stop);
  /** What is typed and not saved yet; undefined: as it is saved. */
  const draft = signal(undefined);
  const moving = signal(undefined);
  const left = signal(0);
  let timer;
  self.cleanup(() => clearInterval(timer));

  const save = async () => {
    const { url, token, confirm_within_seconds: seconds } = await call("PUT", "listen", { body: draft.value });
    const to = new URL(url);
    to.hash = `#/listening?confirm=${encodeURIComponent(token)}`;
    moving.value = { to: to.href, shown: to.origin };
    left.value = seconds;
    timer = setInterval(() => {
      left.value--;
      if (left.value > 0) return;
      clearInterval(timer);
      moving.value = undefined;
      now.refresh();
      tell("The new address was not confirmed in time. Herald listens where it did before.");
    }, 1000);
    location.assign(to.href);
  };

  return () => {
    const saved = now.data.value;
    const form = draft.value ?? (saved && Object.fromEntries(FIELDS.map((name) => [name, saved[name] ?? ""])));
    const dirty = draft.value !== undefined && FIELDS.some((name) => draft.value[name] !== (saved?.[name] ?? ""));
    const set = (name) => (event) => { draft.value = { ...form, [name]: event.target.value }; };
    return html`
      <${Problem} fault=${confirmed.fault.value} />
      ${confirmed.done.value && html`<p class="good-news" role="status">
        <b>Saved.</b> Herald listens here now; the old address is closed.</p>`}
      <${Waiting} of=${now}>${saved && html`<div class="two">
        <section class="card" aria-labelledby="listen">
          <h2 id="listen">Where Herald listens</h2>
          ${saved.locked && html`<p class="locked">${saved.locked}</p>`}
          <${Form} action="Save and go there" disabled=${!dirty || !!saved.locked || !!moving.value} run=${save}
            more=${html`
              <span class="saved warn" role="status">${dirty ? "Not saved" : ""}</span>
              ${dirty && html`<button type="button" class="quiet"
                onClick=${() => { draft.value = undefined; }}>Undo</button>`}`}>
            <fieldset class="options row" disabled=${!!saved.locked}><legend>Protocol</legend>
              ${["http", "https"].map((name) =>
                html`<label><input type="radio" name="protocol" value=${name} checked=${form.protocol === name}
                onChange=${set("protocol")} /> ${name.toUpperCase()}</label>`)}</fieldset>
            <${Field} label="Port" id="listen-port">
              <input id="listen-port" class="code short" inputmode="numeric" value=${form.port} disabled=${!!saved.locked}
              autocomplete="off" onInput=${set("port")} /></${Field}>
            ${form.protocol === "https" && html`
              <${Field} label="Certificate file" id="listen-cert"
                help="Path on the machine that Herald runs on, in PEM form.">
                <input id="listen-cert" class="code" value=${form.certpath} disabled=${!!saved.locked} autocomplete="off"
                spellcheck="false" aria-describedby="listen-cert-help" onInput=${set("certpath")} /></${Field}>
              <${Field} label="Key file" id="listen-key">
                <input id="listen-key" class="code" value=${form.keypath} disabled=${!!saved.locked} autocomplete="off"
                spellcheck="false" onInput=${set("keypath")} /></${Field}>`}
          </${Form}>
          ${moving.value && html`<div class="moving" role="status"><p>
            <b>Going to <a href=${moving.value.to}>${moving.value.shown}</a>.</b></p>
            <p>If that page does not open, do nothing: Herald goes back to where it was in ${format.duration(left.value)}.</p></div>`}
        </section>
        <section class="card" aria-labelledby="listen-now">
          <h2 id="listen-now">Now</h2>
          <${Facts} of=${[["Listens at", html`<span class="code">${saved.address}</span>`], ["Protocol", saved.protocol],
            ["Port", saved.port], ["Certificate", saved.certpath && html`<span class="code">${saved.certpath}</span>`],
            ["Key", saved.keypath && html`<span class="code">${saved.keypath}</span>`],
              ["Stored in", html`<span class="code">${saved.file}</span>`]]} />
          <p class="hint">Saving needs no restart. Herald listens at the new address beside the old one, this page goes there and confirms it, and only then the old one is closed.
            An address or certificate that does not work changes nothing.</p>
        </section>
      </div>`}</${Waiting}>`;
  };
});
