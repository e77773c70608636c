import { aborted, refused, session } from "../api.js";
import { component, createRef, html, signal } from "../component.js";
import { line, member } from "../exact.js";
import * as format from "../format.js";
import { paused, visible } from "../live.js";
import { Publish } from "../publish.js";
import { listen } from "../stream.js";
import { Empty, Facts, Filter, Filters, Json, link, place, Problem, Time } from "../view.js";

const NAMES = ["channel", "sender", "event", "text"];
/** A page is for looking; what is older is in the log. */
const KEPT = 200;

export const Page = component((self) => {
  /** @type {{value: any[]}} newest first */
  const rows = signal([]);
  const fault = signal(undefined);
  const state = signal("opening");
  const dropped = signal(0);
  const away = signal(false); // NATS, from the console
  const open = signal("");
  const list = createRef();
  /** What came since the last frame: the page is drawn once a frame, however many come. @type {any[]} */
  let waiting = [];
  /** How many of them wait for somebody to have read the message that is open. */
  const held = signal(0);
  let frame;
  let stop;
  let retry;
  let count = 0;

  const show = () => {
    frame = undefined;
    // A message that is read, or that the keyboard has come to, would be pushed down and away.
    if (open.value !== "" || list.current?.querySelector(":focus-visible")) {
      held.value = waiting.length;
      return;
    }
    held.value = 0;
    rows.value = [...waiting.reverse(), ...rows.value].slice(0, KEPT);
    waiting = [];
  };
  const release = () => {
    open.value = "";
    document.getElementById("live")?.focus();
    show();
  };

  const hear = (event, text) => {
    if (event === "state") {
      away.value = JSON.parse(text).connected === false;
    } else if (event === "dropped") {
      dropped.value += JSON.parse(text).count;
    } else if (event === "message") {
      waiting.push({ ...JSON.parse(text), data: member(text, "data") ?? "", n: ++count });
      if (waiting.length > KEPT) waiting.shift();
      frame ??= requestAnimationFrame(show);
    }
  };

  const clear = () => {
    rows.value = [];
    waiting = [];
    open.value = "";
    held.value = 0;
    dropped.value = 0;
  };

  let filters;
  self.follow(() => {
    const { channel, sender, event, text } = place.value.query;
    const wanted = JSON.stringify([channel, sender, event, text]);
    if (filters !== wanted) clear();
    filters = wanted;
    clearTimeout(retry);
    stop?.abort();
    if (!session.value || paused.value || !visible.value) {
      state.value = paused.value ? "paused" : "hidden";
      return;
    }
    const mine = new AbortController();
    stop = mine;
    state.value = "opening";
    const begin = () => listen("tail", { channel, sender, event, text }, hear, mine.signal, () => {
      state.value = "open";
      fault.value = undefined;
    }).then(() => ({ title: "The tail ended", detail: "It begins again by itself." }), (err) => err).then((err) => {
      if (aborted(err) || mine.signal.aborted) return;
      fault.value = err;
      state.value = "waiting";
      // A filter that is refused stays refused until it is changed.
      if (!refused(err)) retry = setTimeout(begin, 2000);
    });
    begin();
  });
  self.cleanup(() => {
    clearTimeout(retry);
    cancelAnimationFrame(frame);
    stop?.abort();
  });

  const WORDS = { opening: "Opening…", open: "Live", paused: "Paused", hidden: "Stopped while hidden",
    waiting: "Trying again…" };
  const LAMPS = { opening: "connecting", open: "open", paused: "waiting", hidden: "waiting", waiting: "waiting" };

  return () => html`
    <div class="beside">
      <section aria-labelledby="live">
        <${Filters} names=${NAMES}>
          <${Filter} name="channel" label="Channel or pattern" placeholder="> is all" wide />
          <${Filter} name="sender" label="Sender" />
          <${Filter} name="event" label="Event" />
          <${Filter} name="text" label="Text" />
        </${Filters}>
        <div class="heading tailing" data-state=${LAMPS[state.value]}>
          <h2 id="live" tabindex="-1"><span class="lamp" aria-hidden="true"></span>
            ${" "}<span role="status">${WORDS[state.value]}</span></h2>
          <span class="count">${rows.value.length > 0
            && `${format.count(rows.value.length, "message")} shown`}${dropped.value > 0 && html`
            <span class="warn">; ${format.number(dropped.value)} more came than a page can show, and were left out</span>`}</span>
          <span>${held.value > 0 && html`<button type="button" class="quiet" onClick=${release}>
            Show ${held.value === KEPT ? `the newest ${KEPT}` : `${format.number(held.value)} newer`}</button>`}
          ${rows.value.length > 0 && html`<button type="button" class="quiet" onClick=${() => {
            clear();
            document.getElementById("live")?.focus();
          }}>Clear</button>`}</span>
        </div>
        <p class="visually-hidden" role="status">${held.value > 0 ? "New messages wait while you read this one." : ""}</p>
        ${state.value === "paused"
          && html`<p class="hint">What is published meanwhile is in <a
          href=${link("log", { channel: place.value.query.channel })}>the log</a>.</p>`}
        <${Problem} fault=${fault.value} />
        ${away.value && html`<p class="silent" role="status">NATS does not answer the console.
          What is published meanwhile is not shown here; the log will have it.</p>`}
        ${rows.value.length === 0
          ? !fault.value && html`<${Empty}
            title="No message yet.">${NAMES.some((name) => place.value.query[name])
            ? "None that matches was published since this page opened."
            : "None was published since this page opened. Publish one with the form."}</${Empty}>`
          : html`<ol class="tail" ref=${list} aria-label="Messages, newest first"
            onFocusOut=${() => { frame ??= requestAnimationFrame(show); }}>${rows.value.map((row) => html`<${Row} key=${row.n} row=${row} open=${open} toggled=${show} />`)}</ol>`}
      </section>
      <section class="card" aria-labelledby="publish-title"><h2 id="publish-title">Publish</h2><${Publish} /></section>
    </div>`;
});

const Row = component(() => ({ row, open, toggled }) => {
  const shown = open.value === row.n;
  return html`<li class=${shown ? "shown" : ""}>
    <button type="button" class="row" aria-expanded=${shown ? "true" : "false"}
      onClick=${() => {
        open.value = shown ? "" : row.n;
        toggled();
      }}>
      <span class="fold" aria-hidden="true"></span>
      <${Time} at=${row.time} /><span class="code channel">${row.channel}</span>
      ${row.event && row.event !== "message" && html`<span class="tag">${row.event}</span>`}
      <span class="code text">${line(row.data, 240)}</span>
    </button>
    ${shown && html`<div class="more"><${Json} text=${row.data} />
      <${Facts} of=${[["Id", row.id ? html`<a class="code" href=${link("message", {}, row.id)}>${row.id}</a>`
        : "none: ephemeral"], ["Time", html`<${Time} at=${row.time} form="full" />`],
        ["Event", row.event], ["Sender",
          row.sender && html`<a href=${link("tail", { ...place.value.query, sender: row.sender })}>${row.sender}</a>`],
          ["Size", format.bytes(row.bytes)]]} />
      ${row.id && html`<div class="actions"><a href=${link("message", {}, row.id)}>Its path</a></div>`}</div>`}
  </li>`;
});
