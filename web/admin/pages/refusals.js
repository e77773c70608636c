import { get } from "../api.js";
import { component, html } from "../component.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { change, Empty, Facts, Filter, Filters, link, List, place, Silent, Time, Waiting } from "../view.js";

const SHOWN = 200;

export const Page = component((self) => {
  const list = poll((stop) => {
    const { reason, address } = place.value.query;
    return get("refusals", { reason, address }, stop);
  }, 4);
  self.cleanup(list.stop);

  const columns = [
    { title: "Time", name: (row) => `refusal of ${row.address}`, cell: (row) => html`<${Time} at=${row.time} />` },
    { title: "Reason", narrow: true, cell: (row) => row.reason },
    { title: "Answer", number: true, at: "wide", cell: (row) => row.status || row.code || "–" },
    { title: "Service", at: "wide", cell: (row) => row.service },
    { title: "Address", code: true, cell: (row) => row.address },
    { title: "Path", code: true, at: "desk", grow: true, cell: (row) => row.path },
    { title: "Request", code: true, at: "desk", cell: (row) => row.request },
  ];
  const detail = (row) => html`
    ${row.detail && html`<p>${row.detail}</p>`}
    <${Facts} of=${[
      ["Time", html`<${Time} at=${row.time} form="full" />`], ["Service", `${row.service} ${row.instance}`],
        ["Status", row.status || undefined], ["Close code", row.code || undefined],
      ["Path", row.path && html`<span class="code">${row.path}</span>`],
        ["Origin", row.origin && html`<span class="code">${row.origin}</span>`],
      ["Request, for the log", row.request && html`<span class="code">${row.request}</span>`],
    ]} />
    <div class="actions"><a href=${link("refusals", { address: row.address })}>All of this address</a>
      <a href=${link("connections", { address: row.address })}>Its connections</a>
      <a href=${link("settings")}>Settings</a></div>`;

  return () => {
    const page = list.data.value;
    const reasons = new Map();
    for (const { reason } of page?.rows ?? []) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return html`
      <${Filters} names=${["reason", "address"]}>
        <${Filter} name="reason" label="Reason" /><${Filter} name="address" label="Address" />
      </${Filters}>
      <${Waiting} of=${list}>
        <${Silent} names=${page?.silent} />
        ${reasons.size > 1 && html`<ul class="chips"
          aria-label="By reason">${[...reasons].sort((a, b) => b[1] - a[1]).map(([reason, n]) =>
          html`<li class="chip"><button type="button"
          onClick=${() => change({ reason })}>${reason} <b>${n}</b></button></li>`)}</ul>`}
        ${page && (page.rows.length === 0
          ? html`<${Empty} title=${place.value.query.reason || place.value.query.address ? "No refusal matches."
            : "Nothing was refused."}>
              Every request and connection that is turned away is listed here with its reason, the last 500 of each service.</${Empty}>`
          : html`<${List} label="Refusals" columns=${columns} rows=${page.rows.slice(0, SHOWN)}
            id=${(row) => `${row.instance} ${row.time} ${row.request ?? ""} ${row.address}`} detail=${detail} />
            <p class="count">${page.rows.length > SHOWN
              ? `the newest ${SHOWN} of ${format.number(page.rows.length)}; filter to see others`
              : format.count(page.rows.length, "refusal")}, newest first</p>`)}
      </${Waiting}>`;
  };
});
