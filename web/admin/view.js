// What all pages share: the place in the address, the notice line, and small components.

import { component, computed, createRef, Fragment, html, signal } from "./component.js";
import { aborted, refused } from "./api.js";
import { paused } from "./live.js";
import * as format from "./format.js";
import { parse, visible } from "./exact.js";
import * as places from "./place.js";

/** Where the page is. */
export const place = signal(places.read(location.hash));
addEventListener("hashchange", () => { place.value = places.read(location.hash); });

/** @type {{value: "local" | "utc"}} */
export const zone = computed(() => (place.value.query.tz === "utc" ? "utc" : "local"));

/** A link to a page of the console; it keeps the time zone. */
export const link = (page, query = {}, rest = "") =>
  places.write(page, { tz: zone.value === "utc" ? "utc" : undefined, ...query }, rest);

/**
 * Changes the query of this place. Another filter is no step in the browser's history.
 * @param {Record<string, any>} patch @param {boolean} [step] this is one: the browser's Back undoes it
 */
export function change(patch, step = false) {
  const { page, query, rest } = place.value;
  history[step ? "pushState" : "replaceState"](null, "", places.write(page, { ...query, ...patch }, rest));
  place.value = places.read(location.hash);
}

/** @type {any} one sentence about what was done */
export const notice = signal(undefined);
let noticeTimer;

/** Says what was done, for some seconds; a screen reader says it too. @param {string} text */
export function tell(text) {
  clearTimeout(noticeTimer);
  notice.value = text;
  noticeTimer = setTimeout(() => { notice.value = undefined; }, 8000);
}

/** A time that stands in the zone of the page; the whole of it as a tooltip. */
export const Time = component(() => ({ at, form = "short" }) => (at
  ? html`<time datetime=${at} title=${format.time(at, zone.value, "full")}>${format.time(at, zone.value, form)}</time>`
  : html`<span class="none">–</span>`));

/** What went wrong, and what to do. @param {{fault: any, again?: () => void}} props */
export function Problem({ fault, again, children }) {
  if (!fault) return null;
  return html`<div class="problem" role="alert">
    <p><b>${fault.title ?? "Something went wrong in this page"}</b>${fault.pointer
      ? html` <span class="code">${fault.pointer}</span>` : ""}</p>
    ${(fault.detail || !fault.title) && html`<p>${fault.detail ?? String(fault.message ?? fault)}</p>`}
    ${fault.request && html`<p class="hint">Request <span class="code">${fault.request}</span>, for the log.</p>`}
    ${children}
    ${again && html`<p><button type="button" onClick=${again}>Try again</button></p>`}
  </div>`;
}

/** Services that did not answer: what is shown is not the whole. */
export function Silent({ names }) {
  if (!names?.length) return null;
  return html`<p class="silent" role="status"><b>Not everything is here:</b> ${names.join("; ")}</p>`;
}

/** Says that a list is empty, and what to do next. */
export const Empty = ({ title, children }) =>
  html`<div class="empty"><p><b>${title}</b></p>${children && html`<p>${children}</p>`}</div>`;

/**
 * A poll: what it answered, its fault, or a line while there is no answer yet. A question that is refused has no older answer.
 *
 * @type {any} {{of: any, children: any}}
 */
export const Waiting = component(() => ({ of, children }) => (refused(of.fault.value)
  ? html`<${Problem} fault=${of.fault.value} />` : html`
  <${Problem} fault=${of.fault.value} again=${of.byItself && of.fault.value?.status === 0 ? undefined : of.refresh}>
    <p class="hint">${of.data.value !== undefined && "What is shown below is older. "}${of.byItself && !paused.value
      && "It is asked again by itself."}</p>
  </${Problem}>
  ${of.data.value === undefined && !of.fault.value ? html`<p class="hint waiting" role="status">Asking…</p>` : ""}
  ${of.data.value !== undefined && children}`));

/** A button that copies. @param {{text: string | (() => string), label?: string, what?: string}} props */
export const Copy = component((self) => {
  const state = signal("");
  const instead = signal(""); // is read out where the notice is not
  let timer;
  self.cleanup(() => clearTimeout(timer));
  return ({ text, label = "Copy", what = "" }) => html`<button type="button" class="quiet" onClick=${async () => {
    const copied = await write(typeof text === "function" ? text() : text);
    state.value = copied ? "Copied" : "Not copied: select it";
    // While a window is open, what stands behind it is not read out.
    if (!copied || document.querySelector("dialog[open]")) instead.value = state.value;
    else tell(what ? `Copied ${what}.` : "Copied.");
    clearTimeout(timer);
    timer = setTimeout(() => {
      state.value = "";
      instead.value = "";
    }, copied ? 2000 : 8000);
  }}>${state.value || label}</button><span class="visually-hidden" role="status">${instead.value}</span>`;
});

/**
 * The clipboard of a page that is not secure can only be reached through a selection.
 * @returns {Promise<boolean>} whether the text is there
 */
async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/**
 * A window over the page. The browser keeps the focus in it and gives it back.
 * @type {any} {{title: string, onClose: () => void, stay?: boolean}}; stay: Escape does not close it
 */
export const Dialog = component((self, { onClose, stay }) => {
  const ref = createRef();
  const id = `dialog-${++dialogs}`;
  self.mounted(() => {
    ref.current.showModal();
    // What is asked for comes first, not the cross that closes.
    ref.current.querySelector("input:not([type=radio]:not(:checked)), select, textarea")?.focus();
  });
  self.cleanup(() => ref.current?.close()); // close() gives the focus back to where it was; removing the element alone does not
  return ({ title, children, wide }) => html`<dialog ref=${ref} class=${wide ? "wide" : ""} aria-labelledby=${id}
    onCancel=${(event) => { if (stay) event.preventDefault(); }} onClose=${() => onClose?.()}>
    <div class="heading"><h2 id=${id}>${title}</h2>
      ${!stay && html`<button type="button" class="quiet close" aria-label="Close" onClick=${() => ref.current.close()}>
        <span class="cross" aria-hidden="true"></span></button>`}</div>
    ${children}
  </dialog>`;
});
let dialogs = 0;

/**
 * Asks before it does something that cannot be undone.
 * @type {any} {{title: string, action: string, run: () => Promise<any>, onClose: () => void, danger?: boolean}}
 */
export const Confirm = component(() => {
  const fault = signal(undefined);
  const busy = signal(false);
  return ({ title, action, run, onClose, danger = true, children }) => html`<${Dialog} title=${title} onClose=${onClose}>
    <form class="stack" onSubmit=${async (event) => {
      event.preventDefault();
      if (busy.value) return;
      busy.value = true;
      fault.value = undefined;
      try {
        await run(new FormData(event.target));
        onClose();
      } catch (err) {
        if (!aborted(err)) {
          fault.value = err;
          reveal(event.target);
        }
      } finally {
        busy.value = false;
      }
    }}>
      ${children}
      <${Problem} fault=${fault.value} />
      <div class="actions"><button type="submit" class=${danger ? "danger" : ""} ...${waits(busy)}>${action}</button>
        <button type="button" onClick=${onClose}>Cancel</button></div>
    </form>
  </${Dialog}>`;
});

/** A secret that is shown once. */
export const Secret = ({ title, secret, onClose, children }) => html`<${Dialog} title=${title} onClose=${onClose} stay>
  <div class="stack">
    <p>This is shown once and stored nowhere. Copy it now to where it is used.</p>
    <p class="secret code" tabindex="0" aria-label="The secret">${secret}</p>
    ${children}
    <div class="actions"><${Copy} text=${secret} label="Copy it" what="the secret" />
      <button type="submit" onClick=${onClose}>I have stored it</button></div>
  </div>
</${Dialog}>`;

/** A form whose submit is a promise: its button waits, its fault stands in it. */
export const Form = component(() => {
  const fault = signal(undefined);
  const busy = signal(false);
  return ({ run, action, children, more, class: name = "stack", disabled, label }) =>
    html`<form class=${name} aria-label=${label} novalidate onSubmit=${async (event) => {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    fault.value = undefined;
    try {
      await run(event.target);
    } catch (err) {
      if (!aborted(err)) {
        fault.value = err;
        reveal(event.target);
      }
    } finally {
      busy.value = false;
    }
  }}>
    ${children}
    <${Problem} fault=${fault.value} />
    <div class="actions"><button type="submit" disabled=${disabled} ...${waits(busy)}>${action}</button>${more}</div>
  </form>`;
});

/** A button while what it began is going on. One that is disabled would lose the focus. */
export const waits = (busy) => ({ "aria-disabled": busy.value ? "true" : "false" });

/** A form may be higher than the window: what went wrong comes into view. @param {HTMLFormElement} form */
const reveal = (form) => requestAnimationFrame(() => form.querySelector(".problem")?.scrollIntoView({ block: "nearest" }));

/** A field with its label above, and a line of help below. */
export const Field = ({ label, help, id, children }) => html`<div class="field">
  <label for=${id}>${label}</label>${children}${help && html`<p class="hint" id=${`${id}-help`}>${help}</p>`}
</div>`;

/**
 * A filter that stands in the address.
 * @type {any} {{name: string, label: string, placeholder?: string, choices?: [string, string][], width?: string}}
 */
export const Filter = component((self, { name }) => {
  let timer;
  self.cleanup(() => clearTimeout(timer));
  /** What stands in the field: it may end with a space, which the address has not. */
  let typed = "";
  let pending = false;
  const set = (value, wait) => {
    typed = value;
    pending = true;
    clearTimeout(timer);
    timer = setTimeout(() => {
      pending = false;
      change({ [name]: value.trim(), cursor: undefined });
    }, wait);
  };
  const shown = () => {
    const { [name]: now = "" } = place.value.query;
    return pending || typed.trim() === now ? typed : now;
  };
  return ({ label, placeholder, choices, type = "search", wide }) =>
    html`<label class=${`filter ${wide ? "wide" : ""}`}><span>${label}</span>
    ${choices
      ? html`<select value=${place.value.query[name] ?? ""} onChange=${(event) => set(event.target.value, 0)}>
          ${choices.map(([value, text]) =>
            html`<option value=${value} selected=${(place.value.query[name] ?? "") === value}>${text}</option>`)}</select>`
      : html`<input type=${type} value=${shown()} placeholder=${placeholder} autocomplete="off"
        autocapitalize="none" spellcheck="false"
          onInput=${(event) => set(event.target.value, 300)} />`}
  </label>`;
});

/** The filters above a list. */
export const Filters = component((self) => {
  const ref = createRef();
  self.keepFocus(ref, () => ref.current.querySelector("input, select"));
  return ({ children, names, more }) => html`<search class="filters" aria-label="Filters" ref=${ref}>
  ${children}
  ${names.some((name) => place.value.query[name]) && html`<button type="button" class="quiet"
    onClick=${() => change({ cursor: undefined,
      ...Object.fromEntries(names.map((name) => [name, undefined])) })}>Clear filters</button>`}
  ${more}
</search>`;
});

/**
 * A list. A column has {title, cell(row), sort?: name, down?: true, number?: true, narrow?: true, at?: "wide" | "desk"};
 * at leaves it out on narrower screens, where the row's details have it; narrow cuts what is long.
 *
 * @type {any} {{label: string, columns: any[], rows: any[], id(row): string, detail?(row): any, sort?: string}}
 */
export const List = component((self) => {
  const open = signal("");
  const ref = createRef();
  self.keepFocus(ref, () => ref.current);
  return ({ label, columns, rows, id, detail, sort }) => {
    const named = distinct();
    return html`<div class="table" ref=${ref} role="region" aria-label=${label} tabindex="0"><table>
    <caption class="visually-hidden">${label}</caption>
    <thead><tr>${detail && html`<th class="opener"><span class="visually-hidden">Details</span>
      </th>`}${columns.map((column) => html`
      <th scope="col" class=${classes(column)} aria-sort=${column.sort && sorted(sort, column.sort)}>${column.sort
        ? html`<button type="button"
          onClick=${() => change({ sort: places.resort(sort, column.sort, column.down),
          cursor: undefined })}>${column.title}<span class="arrow" aria-hidden="true"></span></button>`
        : column.title}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => {
      const key = named(id(row));
      const shown = open.value === key;
      // Keyed, so that a row keeps its elements, and the focus in it, when others come before it.
      return html`<${Fragment} key=${key}>
        <tr class=${shown ? "shown" : ""}>${detail && html`<td class="opener"><button type="button"
          aria-expanded=${shown ? "true" : "false"} aria-label=${`Details of ${columns[0].name?.(row) ?? key}`}
          onClick=${() => { open.value = shown ? "" : key; }}><span class="fold" aria-hidden="true"></span></button></td>`}
          ${columns.map((column) => html`<td class=${classes(column)}>${column.cell(row)}</td>`)}</tr>
        ${shown && html`<tr class="details"><td colspan=${columns.length + 1}><div>${detail(row)}</div></td></tr>`}
      </${Fragment}>`;
    })}</tbody>
  </table></div>`;
  };
});

/** Two rows may have one name, as two that were refused in the same millisecond: the second is told by its place. */
function distinct() {
  const seen = new Map();
  return (name) => {
    const n = seen.get(name) ?? 0;
    seen.set(name, n + 1);
    return n === 0 ? name : `${name} ${n}`;
  };
}

const classes = ({ number, at, code, grow, narrow }) =>
  [number && "number", at, code && "code", grow && "grow", narrow && "narrow"].filter(Boolean).join(" ");
const sorted = (sort, name) => (sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none");

/**
 * The names and values of one thing.
 * @param {{of: [string, any, boolean?][]}} props values that are undefined are left out; the third: the value is long, and
 *   has a line of its own
 */
export const Facts = ({ of }) =>
  html`<dl class="facts">${of.filter(([, value]) => value !== undefined && value !== null && value !== "")
  .map(([name, value, long]) => html`<div class=${long ? "long" : ""}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** From page to page, each a step in the browser's history. */
export const Pages = component((self) => {
  const ref = createRef();
  self.keepFocus(ref, () => ref.current.querySelector("button"));
  /** The cursor of the page before, by that of a page; "" is the first one's. @type {Map<string, string>} */
  const before = new Map();
  return ({ next, shown, matched, total, what }) => {
    const cursor = place.value.query.cursor;
    const sum = matched === undefined ? "" : matched === total ? ` of ${format.number(total)}`
      : ` of ${format.number(matched)} that match, ${format.number(total)} in all`;
    if (shown === 0 && !cursor) return "";
    return html`<nav class="pages" aria-label="Pages" ref=${ref}>
      <span class="count">${format.number(shown)}${sum} ${what ?? ""}</span>
      ${cursor && html`<button type="button"
        onClick=${() => turn(before.get(cursor))}>${before.has(cursor) ? "Page before" : "First page"}</button>`}
      ${next && html`<button type="button" onClick=${() => {
        before.set(next, cursor ?? "");
        turn(next);
      }}>Next page</button>`}
    </nav>`;
  }
});

/** Shows another page of a list, from its first row. @param {string | undefined} cursor */
function turn(cursor) {
  change({ cursor }, true);
  scrollTo(0, 0);
}

/** How many children of one object or array are shown at first; those of a longer one are closed. */
const CHILDREN = 100;
/** How many more of them, and characters of one text, come at once. */
const MORE = 500;
const CHARACTERS = 5000;

/** JSON as a tree that opens and closes; numbers as they stand in the text. @type {any} {{text: string, deep?: number}} */
export const Json = component(() => {
  let text;
  let node;
  return (props) => {
    if (text !== props.text) {
      text = props.text;
      try {
        node = parse(text);
      } catch {
        node = undefined; // plain text, as the log has strings
      }
    }
    if (!node) return html`<pre class="data"><${Long} text=${text} /></pre>`;
    return html`<div class="json code"><${Value} node=${node} deep=${props.deep ?? 2} /></div>`;
  }
});

/** A text whose end is shown when asked for: a browser takes seconds to break a megabyte into lines. */
const Long = component(() => {
  const all = signal(false);
  return ({ text }) => (all.value || text.length <= CHARACTERS ? text : html`${text.slice(0, CHARACTERS)}…
    <button type="button" class="quiet" onClick=${() => { all.value = true; }}>${format.number(text.length
    - CHARACTERS)} more characters</button>`);
});

const Value = component((self, { deep }) => {
  const open = signal(deep > 0);
  const most = signal(CHILDREN);
  return ({ node, name, deep: left }) => {
    const label = name === undefined ? "" : html`<span class="key">${visible(name)}</span>: `;
    if (node.type === "string") return html`<div>${label}<span class="string">
      <${Long} text=${visible(JSON.stringify(node.text))} /></span></div>`;
    if (node.type === "number"
      || node.type === "word") return html`<div>${label}<span class=${node.type}>${node.text}</span></div>`;
    const list = node.type === "array";
    const children = list ? node.items.map((value, i) => ({ key: String(i), value })) : node.members;
    const ends = list ? "[]" : "{}";
    if (children.length === 0) return html`<div>${label}${ends}</div>`;
    return html`<div>
      <button type="button" class="branch" aria-expanded=${open.value ? "true" : "false"}
        onClick=${() => { open.value = !open.value; }}>
        <span class="fold" aria-hidden="true">
          </span>${label}${open.value ? ends[0]
          : html`${ends[0]} <span class="hint">${format.count(children.length,
          list ? "item" : "member")}</span> ${ends[1]}`}</button>
      ${open.value && html`<div
        class="children">${children.slice(0,
        most.value).map(({ key, value }) =>
        html`<${Value} node=${value} name=${list ? undefined : key} deep=${children.length > CHILDREN ? 0 : left - 1} />`)}
        ${children.length > most.value
          && html`<button type="button" class="quiet"
          onClick=${() => { most.value += MORE; }}>${format.number(children.length - most.value)} more</button>`}
      </div><div>${ends[1]}</div>`}
    </div>`;
  }
});

/** A word in a box. tone: good, warn, bad or nothing. */
export const Tag = ({ tone = "", children }) => html`<span class=${`tag ${tone}`}>${children}</span>`;

/** What was there, and what is there now. */
export const Difference = ({ before, after }) => html`<dl class="difference code">
  <div class="before"><dt class="visually-hidden">Before</dt><dd>${before || "nothing"}</dd></div>
  <div class="after"><dt class="visually-hidden">After</dt><dd>${after || "nothing"}</dd></div></dl>`;
