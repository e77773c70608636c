import { get } from "../api.js";
import { component, html } from "../component.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { Copy, Empty, Facts, Filter, Filters, link, List, Pages, place, Silent, Tag, Waiting } from "../view.js";

export const Page = component((self) => {
  const list = poll((stop) => {
    const { q, sort, cursor } = place.value.query;
    return get("channels", { q, sort: sort ?? "-subscribers", limit: 100, cursor }, stop);
  }, 4);
  self.cleanup(list.stop);

  const columns = [
    { title: "Channel", sort: "channel", code: true, grow: true, name: (row) => `channel ${row.channel}`,
      cell: (row) => html`${row.channel} ${row.pattern && html`<${Tag}>pattern</${Tag}>`}` },
    { title: "Subscribers", sort: "subscribers", down: true, number: true,
      cell: (row) => html`<a href=${link("connections", { channel: row.channel })}>${format.number(row.subscribers)}</a>` },
    { title: "Messages/s", sort: "rate", down: true, number: true, at: "wide", cell: (row) => format.rate(row.rate_per_second) },
    { title: "Newest message", at: "wide", code: true,
      cell: (row) => (row.last_id ? html`<a href=${link("message", {}, row.last_id)}>${row.last_id}</a>`
      : html`<span class="none">–</span>`) },
    { title: "Look", at: "wide",
      cell: (row) => html`<span class="links">
      <a href=${link("tail", { channel: row.channel })} aria-label=${`Tail of ${row.channel}`}>Tail</a>
      <a href=${link("log", { channel: row.channel })} aria-label=${`Log of ${row.channel}`}>Log</a></span>` },
  ];

  const detail = (row) => html`<${Facts} of=${[
    [row.pattern ? "Pattern" : "Channel", html`<span class="code">${row.channel}</span>`, true],
    ["Messages a second", format.rate(row.rate_per_second)],
    ["Newest message", row.last_id
      && html`<a class="code" href=${link("message", {}, row.last_id)}>${row.last_id}</a>`],
  ]} />
  <div class="actions">
    <a href=${link("connections", { channel: row.channel })}>Connections</a>
    <a href=${link("tail", { channel: row.channel })}>Tail</a>
    <a href=${link("log", { channel: row.channel })}>Log</a>
    <${Copy} text=${row.channel} label="Copy the name" what="the name" />
  </div>`;

  return () => {
    const page = list.data.value;
    return html`
      <${Filters} names=${["q"]}><${Filter} name="q" label="Search" placeholder="part of a name" wide /></${Filters}>
      <${Waiting} of=${list}>
        <${Silent} names=${page?.silent} />
        ${page && (page.rows.length === 0
          ? page.total === 0
            ? html`<${Empty} title="Nobody follows a channel.">A channel is here as soon as a client follows it; it need not be made.</${Empty}>`
            : html`<${Empty} title="No channel matches.">Look for a part of its name.</${Empty}>`
          : html`<${List} label="Channels" columns=${columns} rows=${page.rows}
            id=${(row) => `${row.pattern} ${row.channel}`} detail=${detail} sort=${place.value.query.sort ?? "-subscribers"} />`)}
        ${page && html`<${Pages} next=${page.next} shown=${page.rows.length} matched=${page.matched} total=${page.total}
          what="channels and patterns" />`}
      </${Waiting}>`;
  };
});
