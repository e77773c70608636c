import { get } from "../api.js";
import { component, html } from "../component.js";
import { poll } from "../live.js";
import { Difference, Empty, Facts, Filter, Filters, List, Pages, place, Time, Waiting } from "../view.js";

export const Page = component((self) => {
  const list = poll((stop) => {
    const { user, action, cursor } = place.value.query;
    return get("audit", { user, action, cursor }, stop);
  }, 5);
  self.cleanup(list.stop);

  const columns = [
    { title: "Time", name: (row) => `${row.action} by ${row.user}`, cell: (row) => html`<${Time} at=${row.time} />` },
    { title: "Who", cell: (row) => html`${row.user}` },
    { title: "Role", at: "desk", cell: (row) => row.role },
    { title: "Did", code: true, cell: (row) => row.action + (OUTCOMES[row.outcome] ? `: ${row.outcome}` : "") },
    { title: "To", code: true, at: "wide", grow: true, cell: (row) => row.target },
    { title: "From", code: true, at: "desk", cell: (row) => row.address },
  ];
  const detail = (row) => html`
    <${Facts} of=${[["Time", html`<${Time} at=${row.time} form="full" />`],
      ["Who", `${row.user}${row.role ? ` (${row.role})` : ""}`], ["Address", html`<span class="code">${row.address}</span>`],
      ["To", html`<span class="code">${row.target}</span>`],
      ...(OUTCOMES[row.outcome] ? [["Outcome", OUTCOMES[row.outcome]]] : [])]} />
    ${(text(row.before) || text(row.after))
      && html`<${Difference} before=${text(row.before)} after=${text(row.after)} />`}`;

  return () => {
    const page = list.data.value;
    return html`
      <${Filters} names=${["user", "action"]}>
        <${Filter} name="user" label="Who" /><${Filter} name="action" label="Did" placeholder="setting.set" />
      </${Filters}>
      <${Waiting} of=${list}>
        ${page && (page.rows.length === 0
          ? html`<${Empty} title=${place.value.query.user || place.value.query.action ? "No entry matches."
            : "Nothing was done yet."}>Everything that somebody does in the console is written here: who, what, before and after.</${Empty}>`
          : html`<${List} label="Audit" columns=${columns} rows=${page.rows}
            id=${(row) => `${row.time} ${row.user} ${row.action} ${row.target}`} detail=${detail} />`)}
        ${page && html`<${Pages} next=${page.next} shown=${page.rows.length}
          what=${`${page.rows.length === 1 ? "entry" : "entries"} on this page`} />`}
      </${Waiting}>`;
  };
});

// What is not simply done.
const OUTCOMES = {
  begun: "It was begun. What came of it is not written down: it may have been done, or it goes on.",
  failed: "It failed, and may have been done in part.",
};

const text = (value) => (value === undefined || value === null || value === "" ? "" : typeof value === "string" ? value
  : JSON.stringify(value));
