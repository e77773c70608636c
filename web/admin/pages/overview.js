import { get } from "../api.js";
import { Chart } from "../chart.js";
import { component, html } from "../component.js";
import * as format from "../format.js";
import { poll } from "../live.js";
import { change, Facts, link, place, Silent, Tag, Time, Waiting } from "../view.js";
import { gateways, overview } from "../vital.js";

const WINDOWS = [["120", "2 min"], ["300", "5 min"], ["", "10 min"]];

const CHARTS = [
  { title: "Connections", show: format.number, lines: [["", "connections", "accent"]] },
  { title: "Delivered a second", show: format.rate, lines: [["", "deliveries", "accent"]] },
  { title: "Published a second", show: format.rate, lines: [["", "publishes", "accent"]] },
  { title: "Latency", show: format.millis,
    lines: [["p99", "latency_p99_ms", "warn"], ["p50", "latency_p50_ms", "accent"]] },
  { title: "Queued for clients", show: format.bytes, lines: [["", "queue_bytes", "accent"]] },
  { title: "Log behind the stream", show: format.duration, lines: [["", "log_lag_seconds", "accent"]] },
  { title: "Stored by NATS", show: format.bytes, lines: [["", "nats_bytes", "accent"]] },
  { title: "Refused a second", show: format.rate, lines: [["", "refusals", "bad"]] },
];

export const Page = component((self) => {
  const charts = poll((stop) => get("charts", { seconds: place.value.query.seconds ?? 600 }, stop), 4);
  self.cleanup(charts.stop);
  return () => html`
    <${Waiting} of=${overview}>
      <${Silent} names=${overview.data.value?.silent} />
      ${overview.data.value && html`<${Now} of=${overview.data.value} />`}
    </${Waiting}>
    <section aria-labelledby="charts">
      <div class="heading"><h2 id="charts">The last minutes</h2>
        ${charts.data.value?.since
          && html`<span class="count">recorded since <${Time}
          at=${charts.data.value.since} />, while somebody looks</span>`}
        <div class="choice" role="group" aria-label="How much">${WINDOWS.map(([value, text]) => html`<button type="button"
          aria-pressed=${(place.value.query.seconds ?? "") === value ? "true" : "false"}
            onClick=${() => change({ seconds: value })}>${text}</button>`)}</div></div>
      <${Waiting} of=${overview.fault.value ? { ...charts, fault: { value: undefined } } : charts}>${charts.data.value && html`<${Charts} of=${charts.data.value} />`}</${Waiting}>
    </section>`;
});

function Charts({ of }) {
  const length = Math.max(0, ...Object.values(of.series).map((values) => values.length));
  const end = new Date(of.end).getTime() / 1000;
  // One sample is no line, and has no width that an axis could divide.
  if (length < 2) return html`<p class="hint" role="status">Collecting…</p>`;
  const times = Array.from({ length }, (_, i) => end - (length - 1 - i) * of.step_seconds);
  return html`<div class="charts">${CHARTS.filter(({ lines }) =>
    lines.some(([, name]) => of.series[name])).map(({ title, show, lines }) => html`
    <${Chart} key=${title} title=${title} show=${show} times=${times} lines=${lines.map(([name, series, tone]) => ({
      name, tone, values: pad(of.series[series] ?? [], length),
    }))} />`)}</div>`;
}

const pad = (values, length) => [...Array(length - values.length).fill(null), ...values];

const Now = component(() => ({ of }) => {
  const { stream } = of.nats ?? {};
  const protocols = Object.entries(of.connections_by_protocol ?? {}).filter(([, n]) => n > 0);
  return html`<div class="two">
    <section class="card" aria-labelledby="services">
      <h2 id="services">Services</h2>
      <ul class="services">${of.services.map((service) => html`<li key=${`${service.service} ${service.instance}`}>
        <${Tag} tone=${service.ready ? "good" : "bad"}>${service.ready ? "ready" : "not ready"}</${Tag}>
        <div><span><b>${service.service}</b> <span class="code" title=${service.instance}>${service.instance.slice(0, 12)}</span></span>
          <span class="hint">${[service.host, service.version, service.started && `up ${format.ago(service.started)}`,
            service.connections !== undefined
              && format.count(service.connections, "connection")].filter(Boolean).join(" · ")}</span>
          ${service.reasons?.length > 0 && html`<span class="fault">${service.reasons.join("; ")}</span>`}</div>
      </li>`)}</ul>
    </section>
    <section class="card" aria-labelledby="stream">
      <h2 id="stream">Stream and connections</h2>
      ${stream && html`<${Full} of=${stream} />`}
      <${Facts} of=${[
        ["Packs of messages kept", stream && format.number(stream.messages)],
        ["Oldest", stream?.first_id
          && html`<a class="code" href=${link("message", {}, stream.first_id)}>${stream.first_id}</a>`],
        ["Newest", stream?.last_id && html`<a class="code" href=${link("message", {}, stream.last_id)}>${stream.last_id}</a>`],
        ["Kept for", stream?.max_age_seconds > 0 ? format.duration(stream.max_age_seconds) : undefined],
        ["Protocols", protocols.length > 0 ? protocols.map(([name, n]) => `${format.number(n)} ${format.protocol(name)}`).join(", ")
          : gateways(of) === "none" ? "not known" : "no connections"],
      ]} />
    </section>
  </div>`;
});

/** How full the stream is. */
function Full({ of }) {
  if (!(of.max_bytes > 0)) return html`<p>${format.bytes(of.bytes)} stored</p>`;
  const part = Math.min(1, of.bytes / of.max_bytes);
  return html`<div><p>${format.bytes(of.bytes)} of ${format.bytes(of.max_bytes)} stored</p>
    <meter min="0" max="1" high="0.9" value=${part} aria-label="How full the stream is">${Math.round(part * 100)} %</meter>
      </div>`;
}
