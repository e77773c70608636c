import { call, segment } from "../api.js";
import { component, html, signal } from "../component.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { Empty, Facts, Json, link, place, Time, Waiting } from "../view.js";

export const Page = component((self) => {
  const path = poll(async (stop) => {
    const id = place.value.rest;
    if (id === "") return undefined;
    return call("GET", `messages/${segment(id)}`, { signal: stop, exact: "data", background: true });
  }, 4);
  self.cleanup(path.stop);
  const typed = signal(undefined);

  return () => {
    const id = place.value.rest;
    const found = path.data.value?.id === id ? path.data.value : undefined;
    return html`
      <form class="filters" role="search" onSubmit=${(event) => {
        event.preventDefault();
        location.hash = link("message", {}, (typed.value ?? id).trim());
        typed.value = undefined;
      }}>
        <label class="filter wide"><span>Id of the message</span>
          <input class="code" value=${typed.value ?? id} placeholder="mib3k2x9-1024" autocomplete="off"
          autocapitalize="none" spellcheck="false"
          onInput=${(event) => { typed.value = event.target.value; }} /></label>
        <button type="submit">Show its path</button>
      </form>
      ${id === ""
        ? html`<${Empty} title="Which message?">Every answer to a publish has an id. Ids can be clicked in <a
          href=${link("tail")}>the tail</a> and <a href=${link("log")}>the log</a>.</${Empty}>`
        : html`<${Waiting} of=${{ ...path, data: { value: found } }}>${found && html`<${Picture} of=${found} /><${What} of=${found} />`}</${Waiting}>`}`;
  };
});

/** @param {string} tone good, warn, none @param {string} title */
const Stop = ({ tone, title, children }) => html`<li class=${`stop tone-${tone}`}><h2>${title}</h2>${children}</li>`;

/** The way of the message from left to right; from top to bottom where there is no room. */
const Picture = component(() => ({ of }) => {
  const { accepted, stored, gateways = [], log } = of;
  const sent = gateways.reduce((n, gateway) => n + gateway.sent, 0);
  const lost = gateways.reduce((n, gateway) => n + gateway.dropped, 0);
  const queued = gateways.reduce((n, gateway) => n + gateway.queued, 0);
  const known = gateways.filter((gateway) => gateway.known !== false).length;
  return html`<ol class="path" aria-label="The path of the message">
    <${Stop} tone=${accepted ? "good" : "none"} title="Accepted">
      ${accepted
        ? html`<${Facts} of=${[["By ingest", accepted.ingest && html`<span class="code">${accepted.ingest}</span>`],
          ["From", accepted.address && html`<span class="code">${accepted.address}</span>`],
            ["At", html`<${Time} at=${accepted.time} form="full" />`],
              ["Request", accepted.request && html`<span class="code">${accepted.request}</span>`]]} />`
        : html`<p class="hint">Not recorded</p>`}
    </${Stop}>
    <${Stop} tone=${stored ? "good" : of.expired ? "warn" : "none"} title="Stored">
      ${stored
        ? html`<${Facts} of=${[["Stream sequence", html`<span class="code">${format.number(stored.sequence)}</span>`],
          ["Index in its pack", stored.pack_index], ["At", html`<${Time} at=${stored.time} form="full" />`]]} />`
        : html`<p class="hint">${of.expired ? "The stream keeps it no longer" : "Not in the stream"}</p>`}
    </${Stop}>
    <${Stop} tone=${lost > 0 ? "bad" : queued > 0 ? "warn" : known > 0 ? "good" : "none"}
      title="Delivered">
      ${gateways.length === 0 && html`<p class="hint">No gateway answered</p>`}
      <ul class="gateways">${gateways.map((gateway) => html`<li key=${gateway.gateway}>
        <a class="code" href=${link("connections", { gateway: gateway.gateway })}>${gateway.gateway}</a>
        ${gateway.known === false
          ? html`<p class="hint">Not recorded</p>`
          : html`<p>${format.number(gateway.sent)} of ${format.count(gateway.clients, "client")}
              ${gateway.queued > 0 && html` · <span class="warn">${format.number(gateway.queued)} queued</span>`}
              ${gateway.dropped > 0 && html` · <span class="bad">${format.number(gateway.dropped)} dropped</span>`}</p>
            ${gateway.slowest_ms !== null && gateway.slowest_ms !== undefined
              && html`<p class="hint">slowest after ${format.millis(gateway.slowest_ms)}</p>`}`}
      </li>`)}</ul>
      ${known > 1 && html`<p class="sum">${format.count(sent, "client")} in all${known < gateways.length
        && ` of ${known} gateways`}</p>`}
    </${Stop}>
    <${Stop} tone=${log?.row ? "good" : "none"} title="Logged">
      ${log?.row
        ? html`<${Facts} of=${[["A row in the log", html`<${Time} at=${log.time || of.time} form="full" />`]]} />
          <p><a href=${link("log", { channel: of.channel })}>Log of this channel</a></p>`
        : html`<p class="hint">${log ? (log.later ? "No row any more" : "No row yet") : "The logger did not answer"}</p>`}
    </${Stop}>
  </ol>
  ${of.unknown?.length > 0
    && html`<div class="unknown"><p><b>What cannot be known</b></p>
    <ul>${of.unknown.map((sentence) => html`<li>${times(sentence)}</li>`)}</ul></div>`}`;
});

/** A sentence of the server's, its times in the zone of the page. @param {string} sentence */
const times = (sentence) => sentence.split(/(\d{4}-\d{2}-\d{2}T[\d:.]+Z)/).map((part, i) => (i % 2 === 1
  ? html`<${Time} at=${part} />` : part));

const What = ({ of }) => html`<section class="card" aria-labelledby="what">
  <h2 id="what">The message</h2>
  <${Facts} of=${[["Id", html`<span class="code">${of.id}</span>`],
    ["Channel", of.channel && html`<a class="code" href=${link("channels", { q: of.channel })}>${of.channel}</a>`],
    ["Event", of.event], ["Sender", of.sender],
    ["Time", of.time && html`<${Time} at=${of.time} form="full" />`], ["Size", of.bytes && format.bytes(of.bytes)]]} />
  ${of.data !== undefined && of.data !== "" && html`<${Json} text=${of.data} deep=${3} />`}
</section>`;
