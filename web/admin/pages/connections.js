import { call, get, home, may, segment, who } from "../api.js";
import { component, html, signal } from "../component.js";
import { follow } from "../curl.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { Confirm, Copy, Empty, Facts, Filter, Filters, link, List, Pages, place, Silent, tell, Time,
  Waiting } from "../view.js";
import { Reasons } from "../kick.js";

const NAMES = ["q", "user", "address", "channel", "protocol", "gateway"];
const PROTOCOLS = [["", "any"], ...Object.entries(format.PROTOCOLS)];

export const Page = component((self) => {
  const list = poll((stop) => {
    const { q, user, address, protocol, channel, gateway, sort, cursor } = place.value.query;
    return get("connections", { q, user, address, protocol, channel, gateway, sort: sort ?? "-since", limit: 100, cursor },
      stop);
  }, 3);
  self.cleanup(list.stop);
  /** @type {any} what is to be kicked: {row} or {by: "user" | "address", value} */
  const kick = signal(undefined);

  const columns = [
    { title: "Connection", code: true, name: (row) => `connection ${row.id}`,
      cell: (row) => html`<span title=${row.id}>${row.id.slice(0, 10)}</span>` },
    { title: "Address", sort: "address", code: true, cell: (row) => row.address },
    { title: "User", sort: "user", at: "wide", narrow: true, cell: (row) => row.user || html`<span class="none">anonymous</span>` },
    { title: "Protocol", at: "wide", cell: (row) => format.protocol(row.protocol) },
    { title: "Channels", sort: "channels", down: true, at: "desk", code: true, grow: true, cell: (row) => channelsOf(row) },
    { title: "Since", sort: "since", down: true, at: "desk", cell: (row) => html`<${Time} at=${row.since} />` },
    { title: "Sent", sort: "sent", down: true, number: true, at: "wide", cell: (row) => format.number(row.sent_messages) },
    { title: "Queued", sort: "queued", down: true, number: true,
      cell: (row) => (row.queued_bytes > 0 ? html`<b class="warn">${format.bytes(row.queued_bytes)}</b>` : "0") },
  ];

  const detail = (row) => html`<${Facts} of=${[
    ["Connection", html`<span class="code">${row.id}</span>`],
    ["Gateway", html`<a class="code" href=${link("connections", { gateway: row.gateway })}>${row.gateway}</a>`],
    ["Address", html`<a class="code" href=${link("connections", { address: row.address })}>${row.address}</a>`],
    ["User", row.user && html`<a href=${link("connections", { user: row.user })}>${row.user}</a>`],
    ["Protocol", format.protocol(row.protocol)],
    ["Since", html`<${Time} at=${row.since} form="full" /> (${format.ago(row.since)})`],
    ["Sent", `${format.count(row.sent_messages, "message")}, ${format.bytes(row.sent_bytes)}`],
    ["Queued", format.bytes(row.queued_bytes)],
    ["Newest message", row.last_id && html`<a class="code" href=${link("message", {}, row.last_id)}>${row.last_id}</a>`],
    ["Client", row.agent, true],
  ]} />
  <div><p class="hint">${format.count(row.channel_count, "channel")}</p>
    <ul class="chips">${row.channels.map((name) =>
      html`<li class="chip"><a class="code" href=${link("connections", { channel: name })}>${name}</a></li>`)}
      ${row.channel_count > row.channels.length
        && html`<li class="hint">and ${format.number(row.channel_count - row.channels.length)} more</li>`}</ul></div>
  <div class="actions">
    ${may("operator") && html`<button type="button" class="danger"
      onClick=${() => { kick.value = { row }; }}>Kick…</button>`}
    <${Copy} label="Copy as curl" what="a line that follows what this client follows"
      text=${() => follow(row, who.value?.single ? new URL("../", home).href : undefined)} />
    <a href=${link("tail", { channel: row.channels[0] })}>Tail</a>
    <a href=${link("refusals", { address: row.address })}>Refusals of this address</a>
  </div>`;

  return () => {
    const page = list.data.value;
    const { user, address } = place.value.query;
    const by = user ? { by: "user", value: user } : address ? { by: "address", value: address } : undefined;
    return html`
      <${Filters} names=${NAMES}
        more=${by && may("operator") && page?.matched > 0 && html`<button type="button" class="quiet danger"
          onClick=${() => { kick.value = by; }}>Kick all of ${by.by} ${format.quoted(by.value)}…</button>`}>
        <${Filter} name="q" label="Search" placeholder="id, address, user, channel" wide />
        <${Filter} name="user" label="User" />
        <${Filter} name="address" label="Address" />
        <${Filter} name="channel" label="Channel" />
        <${Filter} name="protocol" label="Protocol" choices=${PROTOCOLS} />
        ${place.value.query.gateway && html`<${Filter} name="gateway" label="Gateway" />`}
      </${Filters}>
      <${Waiting} of=${list}>
        <${Silent} names=${page?.silent} />
        ${page && (page.rows.length === 0
          ? page.total === 0
            ? html`<${Empty} title="Nobody is connected.">Open <a
              href=${who.value?.single ? "../"
              : undefined}>the page that follows broadcast</a> in another tab, or follow it from a terminal with <span
              class="code">herald listen</span>.</${Empty}>`
            : html`<${Empty} title="No connection matches.">${format.count(page.total, "connection is",
              "connections are")} there; clear a filter to see them.</${Empty}>`
          : html`<${List} label="Connections" columns=${columns} rows=${page.rows} id=${(row) => `${row.gateway} ${row.id}`}
            detail=${detail} sort=${place.value.query.sort ?? "-since"} />`)}
        ${page && html`<${Pages} next=${page.next} shown=${page.rows.length} matched=${page.matched} total=${page.total}
          what="connections" />`}
      </${Waiting}>
      ${kick.value && html`<${Kick} of=${kick.value} onClose=${() => {
        kick.value = undefined;
        list.refresh();
      }} />`}`;
  };
});

const channelsOf = (row) => {
  const more = row.channel_count - Math.min(2, row.channels.length);
  return html`${row.channels.slice(0, 2).join(", ")}${more > 0 ? html` <span class="hint">+${format.number(more)}</span>`
    : ""}`;
};

function Kick({ of, onClose }) {
  const { row, by, value } = of;
  const run = async (form) => {
    const body = { code: Number(form.get("code")), reason: form.get("reason") || undefined };
    const { kicked } = row
      ? await call("POST", `connections/${segment(row.gateway)}/${segment(row.id)}/kick`, { body })
      : await call("POST", "kick", { body: { ...body, [by]: value } });
    tell(`${format.count(kicked, "connection was", "connections were")} closed.`);
  };
  return html`<${Confirm} title=${row ? "Kick this connection" : `Kick all of ${by} ${format.quoted(value)}`} action="Kick" run=${run}
    onClose=${onClose}>
    ${row && html`<p><span class="code">${row.address}</span>${row.user
      ? ` · ${format.quoted(row.user)}` : ""} · ${format.protocol(row.protocol)}</p>`}
    <${Reasons} />
  </${Confirm}>`;
}
