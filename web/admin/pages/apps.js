import { call, get, segment } from "../api.js";
import { component, html, signal } from "../component.js";
import { Grace } from "../grace.js";
import { poll } from "../live.js";
import { Confirm, Dialog, Empty, Facts, Field, Form, List, Secret, Tag, tell, Time, Waiting } from "../view.js";

export const Page = component((self) => {
  const list = poll((stop) => get("apps", {}, stop), 5);
  self.cleanup(list.stop);
  const doing = signal(undefined);
  const secret = signal(undefined);
  const close = () => { doing.value = undefined; };

  const add = async (form) => {
    const data = new FormData(form);
    const answer = await call("POST", "apps",
      { body: { name: data.get("name").trim(), prefix: data.get("prefix").trim() || undefined } });
    close();
    secret.value = { title: `The app “${answer.app?.name ?? data.get("name")}”`, secret: answer.secret, app: answer.app,
      key: answer.key };
    list.refresh();
  };
  const rotate = async (data) => {
    const { row } = doing.value;
    const grace = Number(data.get("grace"));
    const answer = await call("POST", `apps/${segment(row.id)}/rotate`, { body: { grace_seconds: grace } });
    secret.value = { title: `New key and secret of “${row.name}”`, secret: answer.secret, app: answer.app,
      key: answer.key };
    list.refresh();
  };
  const revoke = async () => {
    await call("DELETE", `apps/${segment(doing.value.row.id)}`);
    tell(`The app ${doing.value.row.name} is gone; its clients are refused.`);
    list.refresh();
  };

  const columns = [
    { title: "Name", name: (row) => `app ${row.name || row.id}`, cell: (row) => html`<b>${row.name || row.id}</b>` },
    { title: "Id", code: true, cell: (row) => row.id },
    { title: "Key", code: true, at: "wide", cell: (row) => row.key },
    { title: "Channels below", code: true, at: "wide", grow: true, cell: (row) => row.prefix ?? "" },
    { title: "State", cell: (row) => (row.damaged ? html`<${Tag} tone="bad">damaged</${Tag}>`
      : html`<${Tag} tone="good">valid</${Tag}>`) },
    { title: "Made", at: "desk", cell: (row) => html`<${Time} at=${row.created} />` },
  ];
  const detail = (row) => html`<${Facts}
    of=${[["Id", html`<span class="code">${row.id}</span>`],
    ["Keys", html`<span class="code">${(row.keys ?? []).map(({ key }) => key).join(", ") || row.key}</span>`],
    ["Channels below", html`<span class="code">${row.prefix}</span>`],
    ["Made", row.created && html`<${Time} at=${row.created} form="full" />`]]} />
    <div class="actions">${!row.damaged
      && html`<button type="button" onClick=${() => { doing.value = { what: "rotate", row }; }}>Rotate…</button>`}
      <button type="button" class="danger" onClick=${() => { doing.value = { what: "revoke", row }; }}>Remove…</button>
        </div>`;

  return () => {
    const { what, row } = doing.value ?? {};
    const rows = list.data.value?.rows;
    return html`
      <div class="filters"><p class="lead">An app lets clients and servers of the Pusher protocol use Herald as they are.</p>
        <button type="button" class="primary push" onClick=${() => { doing.value = { what: "add" }; }}>New app…</button>
          </div>
      <${Waiting} of=${list}>${rows && (rows.length === 0
        ? html`<${Empty} title="There is no app.">Only clients of the Pusher protocol (pusher-js, Laravel Echo) need one. Make it with “New app”.</${Empty}>`
        : html`<${List} label="Apps" columns=${columns} rows=${rows} id=${(row) => row.id}
          detail=${detail} />`)}</${Waiting}>
      ${what === "add" && html`<${Dialog} title="New app" onClose=${close}><${Form} action="Make the app" run=${add}>
        <${Field} label="Name" id="app-name"><input id="app-name" name="name" autocomplete="off" /></${Field}>
        <${Field} label="Channels below (prefix)" id="app-prefix"
          help="Its channels stand below this name, apart from those of other apps. Empty: the server’s choice.">
          <input id="app-prefix" name="prefix" class="code" autocomplete="off" spellcheck="false"
          aria-describedby="app-prefix-help" /></${Field}>
      </${Form}></${Dialog}>`}
      ${what === "rotate" && html`<${Confirm} title=${`New key and secret for “${row.name}”`} action="Make them"
        danger=${false} run=${rotate} onClose=${close}><${Grace} id="app-grace" what="The old ones work" /></${Confirm}>`}
      ${what === "revoke" && html`<${Confirm} title=${`Remove the app “${row.name || row.id}”`} action="Remove"
        run=${revoke} onClose=${close}><p>Its clients and servers are refused from now on. This cannot be undone.</p>
        </${Confirm}>`}
      ${secret.value && html`<${Secret} title=${secret.value.title} secret=${secret.value.secret}
        onClose=${() => { secret.value = undefined; }}>
        ${secret.value.app && html`<${Facts}
          of=${[["App id", html`<span class="code">${secret.value.app.id}</span>`],
          ["Key", html`<span class="code">${secret.value.key ?? secret.value.app.key}</span>`, true]]} />`}</${Secret}>`}`;
  };
});
