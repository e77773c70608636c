import { get, home } from "../api.js";
import { component, html } from "../component.js";
import { line } from "../exact.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { Copy, Empty, Facts, Filter, Filters, Json, link, List, Pages, place, Time, Waiting } from "../view.js";

const NAMES = ["q", "channel", "sender", "event", "after", "before"];

const filters = () => {
  const { q, channel, sender, event, after, before, order } = place.value.query;
  return { q, channel, sender, event, after, before, order };
};

export const Page = component((self) => {
  // The log is read when somebody asks; a page of it does not change under the reader.
  const list = poll((stop) => get("log", { ...filters(), limit: 100, cursor: place.value.query.cursor }, stop), 0);
  self.cleanup(list.stop);

  const columns = [
    { title: "Time", name: (row) => `message ${row.id}`, cell: (row) => html`<${Time} at=${row.timestamp} />` },
    { title: "Channel", code: true, cell: (row) => row.channel },
    { title: "Event", at: "desk", narrow: true, cell: (row) => row.event },
    { title: "Sender", at: "wide", narrow: true, cell: (row) => row.sender },
    { title: "Message", code: true, grow: true, cell: (row) => line(row.message, 200) },
  ];
  const detail = (row) => html`<${Json} text=${row.message} />
    <${Facts} of=${[
      ["Id", html`<span class="code">${row.id}</span>`], ["Number in the stream", row.seq],
        ["Time", html`<${Time} at=${row.timestamp} form="full" />`],
      ["Event", row.event], ["Sender", row.sender],
        ["Publisher’s address", row.source && html`<span class="code">${row.source}</span>`],
    ]} />
    <div class="actions"><a href=${link("message", {}, row.id)}>Its path</a>
      <a href=${link("log", { channel: row.channel })}>All of ${row.channel}</a>
      <${Copy} text=${row.message} label="Copy the message" what="the message" /></div>`;

  const file = (kind) => {
    const url = new URL("api/log", home);
    for (const [name, value] of Object.entries({ ...filters(), format: kind })) if (value) url.searchParams.set(name,
      value);
    return url.href;
  };

  return () => {
    const page = list.data.value;
    const filtered = NAMES.some((name) => place.value.query[name]);
    return html`
      <${Filters} names=${NAMES}
        more=${html`<span class="links push"><button type="button" onClick=${list.refresh}>Read again</button>
          <a href=${file("csv")} download="herald-log.csv">Export CSV</a>
            <a href=${file("ndjson")} download="herald-log.ndjson">Export NDJSON</a></span>`}>
        <${Filter} name="q" label="Words" placeholder="backup, or back*" wide />
        <${Filter} name="channel" label="Channel or pattern" placeholder="orders.>" />
        <${Filter} name="sender" label="Sender" />
        <${Filter} name="event" label="Event" />
        <${Filter} name="after" label="From" placeholder="2026-11-28" />
        <${Filter} name="before" label="Before" placeholder="2026-11-29" />
        <${Filter} name="order" label="Order" choices=${[["", "newest first"], ["asc", "oldest first"]]} />
      </${Filters}>
      <${Waiting} of=${list}>
        ${page && (page.messages.length === 0 && !page.next
          ? html`<${Empty} title=${filtered ? "No message matches." : "The log is empty."}>${filtered
              ? "Words must all occur; a day such as 2026-11-28 begins at midnight UTC."
              : html`Publish the first message <a href=${link("tail")}>here</a>, or with <span
                class="code">herald send</span>.`}</${Empty}>`
          : html`<${List} label="Log" columns=${columns} rows=${page.messages} id=${(row) => row.id} detail=${detail} />
            <${Pages} next=${page.next} shown=${page.messages.length}
              what=${`${page.messages.length === 1 ? "message" : "messages"} on this page`} />`)}
      </${Waiting}>`;
  };
});
