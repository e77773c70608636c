import { call, get, segment } from "../api.js";
import { component, createRef, html, signal } from "../component.js";
import { sentence } from "../format.js";
import { poll } from "../live.js";
import { change, Difference, Empty, Filter, Filters, Form, place, Problem, Silent, Tag, tell, waits, Waiting } from "../view.js";

const SOURCES = { default: "default", file: "file", environment: "environment", flag: "flag", console: "console" };
const SHOWN = [["", "what acts at once"], ["changed", "what is not default"], ["all", "all settings"]];
const WANT = { number: "A number.", bytes: "Bytes, such as 64KiB or 1GiB.", duration: "A time, such as 10s or 24h.",
  list: "Names, separated by commas.", text: "Text." };

export const Page = component((self) => {
  const list = poll((stop) => get("settings", {}, stop), 5);
  self.cleanup(list.stop);
  const editing = signal("");
  const after = signal({}); // what is different, by name

  const done = (name, before, setting) => {
    editing.value = "";
    after.value = { ...after.value, [name]: { before, after: setting?.value ?? "" } };
    tell(`${name} is ${setting?.value === "" ? "empty" : setting?.value ?? "changed"} now.`);
    list.refresh();
  };
  const save = async (setting, form) => {
    const value = String(new FormData(form).get("value") ?? "");
    done(setting.name, setting.value,
      await call("PUT", `settings/${segment(setting.name)}`, { body: { value } }));
  };
  const reset = async (setting) =>
    done(setting.name, setting.value, await call("DELETE", `settings/${segment(setting.name)}`));

  return () => {
    const all = list.data.value?.settings ?? [];
    const { q = "", only } = place.value.query;
    const seen = all.filter((s) => `${s.name} ${s.env} ${s.help} ${s.group}`.toLowerCase().includes(q.toLowerCase())
      && (only === "all" || (only === "changed" ? s.source !== "default" : s.live)));
    const groups = Map.groupBy ? Map.groupBy(seen, (s) => s.group) : group(seen);
    return html`
      <${Filters} names=${["q", "only"]}>
        <${Filter} name="q" label="Search" placeholder="name, variable or meaning" wide />
        <${Filter} name="only" label="Show" choices=${SHOWN} />
      </${Filters}>
      <${Waiting} of=${list}>
        <${Silent} names=${list.data.value?.silent} />
        ${list.data.value && seen.length === 0 && html`<${Empty} title="No setting matches.">
          <button type="button" onClick=${() => change({ q: "", only: "all" })}>Show all settings</button></${Empty}>`}
        ${[...groups].map(([name, settings]) => html`<section key=${name} class="group" aria-label=${sentence(name)}>
          <h2>${sentence(name)}</h2>
          <ul class="settings">${settings.map((setting) =>
            html`<${Setting} key=${setting.name} of=${setting} editing=${editing} after=${after.value[setting.name]}
            save=${save} reset=${reset} />`)}</ul>
        </section>`)}
      </${Waiting}>`;
  };
});

function group(settings) {
  const groups = new Map();
  for (const s of settings) groups.set(s.group, [...(groups.get(s.group) ?? []), s]);
  return groups;
}

const Setting = component((self) => {
  const ref = createRef();
  self.keepFocus(ref, () => ref.current.querySelector("button"));
  const busy = signal(false);
  const fault = signal(undefined);
  return ({ of, editing, after, save, reset }) => {
    const open = editing.value === of.name;
    const can = of.live && !of.locked;
    const secret = of.kind === "secret";
    return html`<li class=${open ? "shown" : ""} ref=${ref}>
      <div>
        <h3 class="code">${of.name}</h3>
        <p class="hint">${of.help}</p>
      </div>
      <div class="value">
        ${open
          ? html`<${Form} action="Save" label=${`Change ${of.name}`} run=${(form) => save(of, form)}
            more=${html`<button type="button" onClick=${() => { editing.value = ""; }}>Cancel</button>`}>
              <${Editor} of=${of} />
            </${Form}>`
          : html`<p><span class="code now">${of.value === "" || secret
              ? html`<span class="none">${secret ? (of.value ? "set" : "not set") : "empty"}</span>` : of.value}</span>
              <${Tag} tone=${of.source === "console" ? "good" : ""}>${SOURCES[of.source] ?? of.source}</${Tag}>
              ${can && html`<button type="button" class="quiet" aria-label=${`Change ${of.name}`}
                onClick=${() => { editing.value = of.name; }}>Change</button>`}
              ${can && of.source === "console"
                && html`<button type="button" class="quiet" ...${waits(busy)} aria-label=${`Reset ${of.name}`}
                  onClick=${() => {
                    if (busy.value) return;
                    busy.value = true;
                    fault.value = undefined;
                    reset(of).catch((err) => { fault.value = err; }).finally(() => { busy.value = false; });
                  }}>Reset</button>`}</p>`}
        <${Problem} fault=${fault.value} />
        ${after && !open && after.before !== after.after
          && html`<${Difference} before=${after.before} after=${after.after} />`}
        ${of.live && of.locked && html`<p class="locked">${of.locked}</p>`}
        ${of.fault && html`<p class="fault">${of.fault}</p>`}
        ${of.stored && of.stored !== of.value
          && html`<p class="hint">The console has <span class="code">${of.stored}</span> stored, which does not act.</p>`}
        ${of.differs?.map((other) =>
          html`<p class="locked">${other.services?.join(", ") || "Another process"} (${other.process}) has
            ${" "}<span class="code">${other.value || "nothing"}</span>, from ${SOURCES[other.source] ?? other.source}.</p>`)}
        <p class="hint">${[
          !secret && html`Default <span class="code">${of.default === "" ? "empty" : of.default}</span>`,
          of.name !== of.env && html`<span class="code">-${of.name}</span>`,
          of.env && html`<span class="code">${of.env}</span>`,
          of.services?.join(", "),
          !of.live && "changes with a restart only",
        ].filter(Boolean).map((part, i) => html`${i > 0 && " · "}${part}`)}</p>
      </div>
    </li>`;
  };
});

/** What one may write, by the kind of the setting. */
function Editor({ of }) {
  const id = `value-${of.name}`;
  const choices = of.kind === "choice" ? of.choices : of.kind === "switch"
    ? of.choices ?? (/^(true|false)$/.test(of.value) ? ["true", "false"] : ["on", "off"]) : undefined;
  return html`<div class="field"><label class="visually-hidden" for=${id}>New value of ${of.name}</label>
    ${choices
      ? html`<select id=${id} name="value">${choices.map((choice) =>
        html`<option value=${choice} selected=${choice === of.value}>${choice}</option>`)}</select>`
      : html`<input id=${id} name="value" class="code" defaultValue=${of.value}
        inputmode=${of.kind === "number" ? "numeric" : undefined} autocomplete="off" autocapitalize="none"
        spellcheck="false" aria-describedby=${`${id}-want`}
          ref=${(input) => { if (input && !input.dataset.seen) { input.dataset.seen = "1"; input.focus(); } }} />
        <p class="hint" id=${`${id}-want`}>${WANT[of.kind] ?? of.kind}</p>`}
  </div>`;
}
