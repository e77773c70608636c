// The form that publishes: the same rules and errors as POST /v1/messages. What is in it stays while the page changes.

import { call, home, may, who } from "./api.js";
import { body } from "./compose.js";
import { component, html, signal } from "./component.js";
import { publish } from "./curl.js";
import { Copy, Field, Form, link } from "./view.js";

const draft = { channel: signal("broadcast"), event: signal(""), data: signal(""), ttl: signal(""), id: signal(""),
  ephemeral: signal(false) };
const sent = signal(undefined);
/** The member of the message that was refused, as a JSON pointer. */
const wrong = signal("");

const now = () => body({
  channel: draft.channel.value.trim(), event: draft.event.value.trim(), data: draft.data.value, ttl: draft.ttl.value.trim(),
    id: draft.id.value.trim(), ephemeral: draft.ephemeral.value,
});

const Input = component(() => ({ name, id, ...rest }) =>
  html`<input id=${id} class="code" aria-invalid=${wrong.value === `/${name}` ? "true" : undefined} value=${draft[name].value} autocomplete="off" autocapitalize="none" spellcheck="false"
  onInput=${(event) => { draft[name].value = event.target.value; }} ...${rest} />`);

export const Publish = component(() => {
  const run = async () => {
    sent.value = undefined;
    wrong.value = "";
    try {
      sent.value = await call("POST", "publish", { text: now() });
    } catch (err) {
      wrong.value = err.pointer ?? "";
      throw err;
    }
  };
  return () => {
    if (!may("operator")) return html`<p
      class="hint">Your role, ${who.value?.role}, reads. An operator may publish from here.</p>`;
    return html`<${Form} action="Publish" label="Publish a message" run=${run}
      more=${html`<${Copy} label="Copy as curl" what="this call"
      text=${() => publish(now(), who.value?.single ? new URL("../", home).href : undefined)} />`}>
      <${Field} label="Channel" id="publish-channel"><${Input} name="channel" id="publish-channel" maxlength="300" />
        </${Field}>
      <${Field} label="Data" id="publish-data"
        help="Valid JSON goes as JSON, with its numbers as they stand; anything else as text.">
        <textarea id="publish-data" class="code" rows="5" aria-invalid=${wrong.value === "/data" ? "true" : undefined} value=${draft.data.value} spellcheck="false"
          aria-describedby="publish-data-help" onInput=${(event) => { draft.data.value = event.target.value; }}></textarea>
          </${Field}>
      <details><summary>Event, lifetime, idempotency</summary><div class="stack">
        <${Field} label="Event" id="publish-event"><${Input} name="event" id="publish-event" placeholder="message" />
          </${Field}>
        <${Field} label="Lives for (ttl)" id="publish-ttl" help="Seconds; empty: as long as the stream keeps it.">
          <${Input} name="ttl" id="publish-ttl" inputmode="decimal" aria-describedby="publish-ttl-help" /></${Field}>
        <${Field} label="Idempotency id" id="publish-id" help="The same id within two minutes stores once.">
          <${Input} name="id" id="publish-id" aria-describedby="publish-id-help" /></${Field}>
        <label class="check"><input type="checkbox" checked=${draft.ephemeral.value}
          onChange=${(event) => { draft.ephemeral.value = event.target.checked; }} /> Ephemeral: delivered now, stored nowhere</label>
      </div></details>
      <div role="status">${sent.value && html`<${Sent} of=${sent.value} />`}</div>
    </${Form}>`;
  };
});

/** @param {{of: any}} props the answer of POST /v1/messages */
function Sent({ of }) {
  const results = of.results ?? (Array.isArray(of) ? of : [of]);
  return html`<ul class="sent">${results.map((result) => html`<li>${result.id
    ? html`${result.duplicate ? "Was stored already as" : "Stored as"} <a class="code"
      href=${link("message", {}, result.id)}>${result.id}</a>`
    : result.detail ?? result.error ?? "Delivered, and stored nowhere."}</li>`)}</ul>`;
}
