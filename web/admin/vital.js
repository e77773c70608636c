// The bar with the figures that tell whether Herald is well, on every page.

import { get } from "./api.js";
import { component, html } from "./component.js";
import { poll } from "./live.js";
import * as format from "./format.js";
import { link } from "./view.js";

/** The overview, asked for once for the bar and the page. */
export const overview = poll((stop) => get("overview", {}, stop), 2);

/** What is known of the gateways: "all", "some" or "none" of them answered. A sum over none is no figure. */
export const gateways = (now) => (!now.services.some(({ service }) => service === "gateway") ? "none"
  : now.silent?.some((name) => name.startsWith("gateway")) ? "some" : "all");

export const VitalBar = component(() => () => {
  const now = overview.data.value;
  const unready = now?.services.filter(({ ready }) => !ready).length ?? 0;
  const silent = now?.silent?.length ?? 0;
  const known = now && gateways(now);
  const sum = (show, n) => (known === "none" ? "–" : show(n));
  const figures = now && [
    ["Connections", sum(format.number, now.connections), link("connections"), known === "some" && "warn",
      known === "some" ? "Not all gateways answered" : undefined],
    ["Delivered/s", format.rate(now.deliveries_per_second), link("overview")],
    ["Published/s", format.rate(now.publishes_per_second), link("tail")],
    ["p99", format.millis(now.latency_ms?.p99), link("overview"), now.latency_ms?.p99 > 1000 && "warn",
      "Latency from ingest to socket, 99 of 100"],
    ["Queued", sum(format.bytes, now.queue_bytes), link("connections", { sort: "-queued" })],
    ["Slow", sum(format.number, now.slow), link("connections", { sort: "-queued" }), now.slow > 0 && "warn",
      "Clients with a queue"],
    ["Log lag", format.duration(now.log_lag_seconds), link("log"), now.log_lag_seconds > 30 && "warn"],
    ["NATS", !now.nats?.connected ? "away" : now.nats.stream ? "connected" : "no answer", link("overview"),
      !now.nats?.stream && "bad"],
    ["Services", unready + silent === 0 ? `${now.services.length} ready`
      : `${now.services.length - unready} of ${now.services.length + silent}`, link("overview"),
      unready + silent > 0 && "bad"],
  ];
  return html`<div class=${`vital ${overview.fault.value ? "stale" : ""}`} role="region" aria-label="Vital figures"
    tabindex="0">
    ${overview.fault.value && html`<span class="lost" role="alert">${overview.fault.value.title}</span>`}
    ${figures && html`<ul>${figures.map(([name, value, to, tone, title]) =>
      html`<li class=${tone || ""}><a href=${to} title=${title}>
      <span class="name">${name}</span> <span class="value">${value}</span></a></li>`)}</ul>`}
  </div>`;
});
