import { call, Fault, get, segment } from "../api.js";
import { component, html, signal } from "../component.js";
import * as format from "../format.js";
import { Grace } from "../grace.js";
import { poll } from "../live.js";
import { Confirm, Dialog, Empty, Facts, Field, Form, List, Secret, Tag, tell, Time, Waiting } from "../view.js";

const SCOPES = [["publish", "send messages"], ["history", "read what the stream keeps"], ["log", "read the log"],
  ["admin", "with all others, on >: see publishers’ addresses"]];

/** Names with commas or spaces between. */
export const words = (text) => text.split(/[\s,]+/).filter(Boolean);

export const Page = component((self) => {
  const list = poll((stop) => get("keys", {}, stop), 5);
  self.cleanup(list.stop);
  const doing = signal(undefined); // {what: "add" | "rotate" | "revoke", row}
  const secret = signal(undefined); // {title, secret, more}
  const close = () => { doing.value = undefined; };

  const add = async (form) => {
    const data = new FormData(form);
    if (data.get("name").trim() === "") throw new Fault({ title: "Give the key a name" });
    const expires = data.get("expires");
    const answer = await call("POST", "keys", { body: {
      name: data.get("name").trim(), channels: words(data.get("channels")), scopes: data.getAll("scopes"),
      rate: data.get("rate") === "" ? undefined : Number(data.get("rate")),
      expires: expires ? new Date(expires).toISOString() : undefined,
    } });
    close();
    secret.value = { title: `The key “${answer.key.name}”`, secret: answer.secret };
    list.refresh();
  };
  const rotate = async (data) => {
    const { row } = doing.value;
    const answer = await call("POST", `keys/${segment(row.id)}/rotate`,
      { body: { grace_seconds: Number(data.get("grace")) } });
    secret.value = { title: `The new key “${row.name}”`, secret: answer.secret,
      more: answer.warning ?? (data.get("grace") === "0" ? "The old one works no longer."
      : `The old one works for ${format.duration(Number(data.get("grace")))} more.`) };
    list.refresh();
  };
  const revoke = async () => {
    await call("DELETE", `keys/${segment(doing.value.row.id)}`);
    tell(`The key ${doing.value.row.name} opens nothing any more.`);
    list.refresh();
  };

  const state = (row) => (row.damaged ? html`<${Tag} tone="bad">damaged</${Tag}>` : row.expired
    ? html`<${Tag} tone="warn">expired</${Tag}>` : html`<${Tag} tone="good">valid</${Tag}>`);
  const columns = [
    { title: "Name", name: (row) => `key ${row.name || row.id}`, cell: (row) => html`<b>${row.name || row.id}</b>` },
    { title: "State", cell: state },
    { title: "May", at: "wide", cell: (row) => row.scopes?.join(", ") },
    { title: "On", code: true, at: "wide", grow: true, cell: (row) => row.channels?.join(", ") },
    { title: "Rate", number: true, at: "desk",
      cell: (row) => (row.rate > 0 ? `${format.rate(row.rate)}/s` : html`<span class="none">no limit</span>`) },
    { title: "Expires", at: "desk",
      cell: (row) => (row.expires ? html`<${Time} at=${row.expires} />` : html`<span class="none">never</span>`) },
    { title: "Last use", at: "wide", cell: (row) => (row.last_use ? html`<${Time} at=${row.last_use} />`
      : html`<span class="none">not yet</span>`) },
  ];
  const detail = (row) => html`<${Facts}
    of=${[["Id", html`<span class="code">${row.id}</span>`], ["May", row.scopes?.join(", ")],
    ["On channels", row.channels?.length > 0 && html`<span class="code">${row.channels.join(", ")}</span>`],
      ["Made", html`<${Time} at=${row.created} form="full" />`],
        ["Expires", row.expires && html`<${Time} at=${row.expires} form="full" />`],
        ["Last use", row.last_use && html`<${Time} at=${row.last_use} form="full" />`]]} />
    ${row.damaged && html`<p
      class="fault">The stored entry cannot be read. It opens no door; revoke it to be rid of it.</p>`}
    <div class="actions">${!row.damaged
      && html`<button type="button" onClick=${() => { doing.value = { what: "rotate", row }; }}>Rotate…</button>`}
      <button type="button" class="danger" onClick=${() => { doing.value = { what: "revoke", row }; }}>Revoke…</button>
        </div>`;

  return () => {
    const { what, row } = doing.value ?? {};
    const rows = list.data.value?.rows;
    return html`
      <div class="filters"><p class="lead">With a key a backend publishes, and reads what its key allows. Only a digest of it is kept.</p>
        <button type="button" class="primary push" onClick=${() => { doing.value = { what: "add" }; }}>New key…</button>
          </div>
      <${Waiting} of=${list}>${rows && (rows.length === 0
        ? html`<${Empty} title="There is no key.">Without one nobody can publish but from this console. Make the first with “New key”.</${Empty}>`
        : html`<${List} label="API keys" columns=${columns} rows=${rows} id=${(row) => row.id}
          detail=${detail} />`)}</${Waiting}>
      ${what === "add" && html`<${Dialog} title="New key" onClose=${close}><${Form} action="Make the key" run=${add}>
        <${Field} label="Name" id="key-name" help="Of the backend that uses it; messages name it as their sender.">
          <input id="key-name" name="name" required autocomplete="off" aria-describedby="key-name-help" /></${Field}>
        <${Field} label="Channels" id="key-channels"
          help="Names or patterns: orders.> is everything below orders, > is all.">
          <input id="key-channels" name="channels" class="code" defaultValue=">" autocomplete="off" spellcheck="false"
          aria-describedby="key-channels-help" /></${Field}>
        <fieldset class="options">
          <legend>May</legend>${SCOPES.map(([name, what], i) =>
          html`<label><input type="checkbox" name="scopes" value=${name} defaultChecked=${i === 0} /> <span>
          <b>${name}</b> <span class="hint">${what}</span></span></label>`)}</fieldset>
        <div class="pair"><${Field} label="Messages a second" id="key-rate" help="Empty: no limit.">
          <input id="key-rate" name="rate" type="number" min="0" step="any" aria-describedby="key-rate-help" /></${Field}>
          <${Field} label="Expires" id="key-expires" help="Local time. Empty: never.">
            <input id="key-expires" name="expires" type="datetime-local" aria-describedby="key-expires-help" /></${Field}>
            </div>
      </${Form}></${Dialog}>`}
      ${what === "rotate" && html`<${Confirm} title=${`Rotate the key “${row.name}”`} action="Make the new key"
        danger=${false} run=${rotate} onClose=${close}>
        <${Grace} id="key-grace" what="The old key works" />
      </${Confirm}>`}
      ${what === "revoke" && html`<${Confirm} title=${`Revoke the key “${row.name || row.id}”`} action="Revoke"
        run=${revoke} onClose=${close}>
        <p>Every ingest refuses it from now on. This cannot be undone.</p>${row.last_use
          && html`<p>It was last used ${format.ago(row.last_use)} ago.</p>`}
      </${Confirm}>`}
      ${secret.value && html`<${Secret} title=${secret.value.title} secret=${secret.value.secret}
        onClose=${() => { secret.value = undefined; }}>${secret.value.more
        && html`<p>${secret.value.more}</p>`}</${Secret}>`}`;
  };
});
