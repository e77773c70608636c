import { begin, call, get, may, segment, who } from "../api.js";
import { component, html, signal } from "../component.js";
import { poll } from "../live.js";
import { Confirm, Dialog, Facts, Field, Form, List, Secret, Tag, tell, Time, Waiting } from "../view.js";

const ROLES = [["viewer", "sees everything that is not a secret"], ["operator", "also kicks and publishes"],
  ["admin", "also keys, apps, settings and users"]];

export const Page = component(() => () => html`
  ${may("admin") && html`<${Users} />`}
  <${Password} />`);

const Users = component((self) => {
  const list = poll((stop) => get("users", {}, stop), 5);
  self.cleanup(list.stop);
  const doing = signal(undefined);
  const secret = signal(undefined);
  const close = () => { doing.value = undefined; };
  const path = (row) => `users/${segment(row.name)}`;

  const add = async (form) => {
    const data = new FormData(form);
    const name = data.get("name").trim();
    const answer = await call("POST", "users", { body: { name, role: data.get("role") } });
    close();
    secret.value = { title: `Password of ${name}`, secret: answer.password };
    list.refresh();
  };
  const role = async (data) => {
    const { row } = doing.value;
    await call("PUT", path(row), { body: { role: data.get("role") } });
    tell(`${row.name} is ${data.get("role")} now.`);
    list.refresh();
  };
  const reset = async () => {
    const { row } = doing.value;
    const answer = await call("PUT", path(row), { body: { reset: true } });
    secret.value = { title: `New password of ${row.name}`, secret: answer.password };
    list.refresh();
  };
  const remove = async () => {
    await call("DELETE", path(doing.value.row));
    tell(`${doing.value.row.name} may not log in any more.`);
    list.refresh();
  };

  const columns = [
    { title: "Name", name: (row) => `user ${row.name}`, grow: true,
      cell: (row) => html`<b>${row.name}</b> ${row.name === who.value?.user && html`<${Tag}>you</${Tag}>`}` },
    { title: "Role", cell: (row) => row.role },
    { title: "Logs in by", at: "wide", cell: (row) => row.via },
    { title: "Made", at: "desk", cell: (row) => html`<${Time} at=${row.created} />` },
    { title: "Last login", at: "wide",
      cell: (row) => (row.last_login ? html`<${Time} at=${row.last_login} />` : html`<span class="none">not yet</span>`) },
  ];
  const detail = (row) => html`<${Facts}
    of=${[["Logs in by", row.via], ["Made", row.created && html`<${Time} at=${row.created} form="full" />`],
    ["Last login", row.last_login && html`<${Time} at=${row.last_login} form="full" />`]]} />
    <div class="actions"><button type="button"
      onClick=${() => { doing.value = { what: "role", row }; }}>Change role…</button>
      ${row.via !== "oidc" && html`<button type="button"
        onClick=${() => { doing.value = { what: "reset", row }; }}>New password…</button>`}
      <button type="button" class="danger" onClick=${() => { doing.value = { what: "remove", row }; }}>Remove…</button>
        </div>`;
  const roles = (chosen) =>
    html`<fieldset class="options">
    <legend>Role</legend>${ROLES.map(([name, what]) =>
    html`<label><input type="radio" name="role" value=${name} defaultChecked=${name === chosen} />
    <span><b>${name}</b> <span class="hint">${what}</span></span></label>`)}</fieldset>`;

  return () => {
    const { what, row } = doing.value ?? {};
    const rows = list.data.value?.rows;
    return html`<section aria-labelledby="users-title" class="stack">
      <div class="filters"><h2 id="users-title">Who may use the console</h2>
        <button type="button" class="primary push" onClick=${() => { doing.value = { what: "add" }; }}>New user…</button>
        </div>
      <${Waiting} of=${list}>${rows
        && html`<${List} label="Users" columns=${columns} rows=${rows} id=${(row) => row.name}
        detail=${detail} />`}</${Waiting}>
      ${what === "add" && html`<${Dialog} title="New user" onClose=${close}><${Form} action="Make the user" run=${add}>
        <${Field} label="Name" id="user-name">
          <input id="user-name" name="name" autocomplete="off" autocapitalize="none" spellcheck="false" />
          </${Field}>${roles("viewer")}
      </${Form}></${Dialog}>`}
      ${what === "role" && html`<${Confirm} title=${`Role of ${row.name}`} action="Change" danger=${false} run=${role}
        onClose=${close}>${roles(row.role)}</${Confirm}>`}
      ${what === "reset" && html`<${Confirm} title=${`New password for ${row.name}`} action="Make it" run=${reset}
        onClose=${close}><p>The old one stops working, and ${row.name} is logged out everywhere.</p></${Confirm}>`}
      ${what === "remove" && html`<${Confirm} title=${`Remove ${row.name}`} action="Remove" run=${remove} onClose=${close}>
        <p>${row.name} is logged out everywhere, and may not log in any more.</p></${Confirm}>`}
      ${secret.value && html`<${Secret} title=${secret.value.title} secret=${secret.value.secret}
        onClose=${() => { secret.value = undefined; }}><p>Give it to them; they can change it here.</p></${Secret}>`}
    </section>`;
  };
});

const Password = component(() => {
  const change = async (form) => {
    const data = new FormData(form);
    // Every session of the user ends; the answer is a new one for this page.
    begin(await call("PUT", `users/${segment(who.value.user)}`,
      { body: { password: { old: data.get("old"), new: data.get("new") } } }));
    form.reset();
    tell("Your password is changed.");
  };
  return () => html`<section class="card narrow" aria-labelledby="password-title"><h2 id="password-title">Your password</h2>
    <${Form} action="Change it" label="Change your password" run=${change}>
      <input class="visually-hidden" type="text" autocomplete="username" value=${who.value?.user} readonly tabindex="-1"
        aria-hidden="true" />
      <${Field} label="The one you have" id="password-old">
        <input id="password-old" name="old" type="password" autocomplete="current-password" /></${Field}>
      <${Field} label="The new one" id="password-new" help="At least 12 characters; a sentence is good.">
        <input id="password-new" name="new" type="password" autocomplete="new-password"
        aria-describedby="password-new-help" /></${Field}>
    </${Form}></section>`;
});
