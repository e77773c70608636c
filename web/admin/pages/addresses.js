import { call, get, may } from "../api.js";
import { component, html, signal } from "../component.js";
import * as format from "../format.js";
import { Reasons } from "../kick.js";
import { poll } from "../live.js";
import { Confirm, Empty, Facts, Filter, Filters, link, List, Pages, place, Silent, tell, Waiting } from "../view.js";

export const Page = component((self) => {
  const list = poll((stop) => {
    const { q, sort, cursor } = place.value.query;
    return get("addresses", { q, sort: sort ?? "-connections", limit: 100, cursor }, stop);
  }, 4);
  self.cleanup(list.stop);
  const kick = signal(undefined);

  const columns = [
    { title: "Address", sort: "address", code: true, grow: true, name: (row) => `address ${row.address}`,
      cell: (row) => html`<a href=${link("connections", { address: row.address })}>${row.address}</a>` },
    { title: "Connections", sort: "connections", down: true, number: true, cell: (row) => html`<span class="of">
      ${row.limit > 0 && html`<meter min="0" max=${row.limit} high=${row.limit * 0.9} value=${row.connections}
        aria-label=${`Connections of ${row.address}`}></meter>`}
      <span>${format.number(row.connections)}</span></span>` },
    { title: "Limit", number: true, at: "wide", cell: (row) => (row.limit > 0 ? format.number(row.limit) : "none") },
    { title: "Refused", sort: "refused", down: true, number: true,
      cell: (row) => (row.refused > 0
      ? html`<a class="warn" href=${link("refusals", { address: row.address })}>${format.number(row.refused)}</a>` : "0") },
  ];
  const detail = (row) => html`<${Facts} of=${[
    ["Address", html`<span class="code">${row.address}</span>`],
    ["Connections", row.limit > 0 ? `${format.number(row.connections)} of ${format.number(row.limit)}`
      : format.number(row.connections)],
    ["Refused", format.number(row.refused)],
  ]} />
  <div class="actions">
    ${may("operator") && row.connections > 0 && html`<button type="button" class="danger"
      onClick=${() => { kick.value = row.address; }}>Kick all…</button>`}
    <a href=${link("connections", { address: row.address })}>Its connections</a>
    <a href=${link("refusals", { address: row.address })}>Its refusals</a>
  </div>`;

  return () => {
    const page = list.data.value;
    return html`
      <${Filters} names=${["q"]}><${Filter} name="q" label="Search" placeholder="part of an address" wide /></${Filters}>
      <${Waiting} of=${list}>
        <${Silent} names=${page?.silent} />
        ${page && (page.rows.length === 0
          ? page.total === 0
            ? html`<${Empty} title="No address has a connection.">Addresses of proxies show here until they are named as trusted: see Settings, <span class="code">trusted-proxies</span>.</${Empty}>`
            : html`<${Empty} title="No address matches." />`
          : html`<${List} label="Addresses" columns=${columns} rows=${page.rows} id=${(row) => row.address}
            detail=${detail} sort=${place.value.query.sort ?? "-connections"} />`)}
        ${page && html`<${Pages} next=${page.next} shown=${page.rows.length} matched=${page.matched} total=${page.total}
          what="addresses" />`}
      </${Waiting}>
      ${kick.value && html`<${Confirm} title=${`Kick all of ${kick.value}`} action="Kick"
        onClose=${() => { kick.value = undefined; }} run=${async (form) => {
        const { kicked } = await call("POST", "kick",
          { body: { address: kick.value, code: Number(form.get("code")), reason: form.get("reason") || undefined } });
        tell(`${format.count(kicked, "connection was", "connections were")} closed.`);
        list.refresh();
      }}><${Reasons} /></${Confirm}>`}`;
  };
});
