// The console: who is logged in, the menu, the bar with the vital figures, and the page that the address names.

import { call, ended, may, session, logOut, who } from "./api.js";
import { Boundary, component, createRef, effect, html, render, signal } from "./component.js";
import { confirm } from "./follow.js";
import { greeted, Login, loginOptions, returnThere } from "./login.js";
import { fresh, paused } from "./live.js";
import * as format from "./format.js";
import { VitalBar } from "./vital.js";
import { change, link, notice, place, Problem, zone } from "./view.js";

/** @type {{group: string, pages: {name: string, title: string, role?: "operator" | "admin", single?: boolean, hidden?: boolean}[]}[]} */
const MENU = [
  { group: "Now", pages: [
    { name: "overview", title: "Overview" },
    { name: "connections", title: "Connections" },
    { name: "channels", title: "Channels" },
    { name: "addresses", title: "Addresses" },
    { name: "refusals", title: "Refusals" },
  ] },
  { group: "Messages", pages: [
    { name: "tail", title: "Tail and publish" },
    { name: "message", title: "Path of a message" },
    { name: "log", title: "Log" },
  ] },
  { group: "Who may what", pages: [
    { name: "keys", title: "API keys", role: "admin" },
    { name: "apps", title: "Apps", role: "admin" },
    { name: "users", title: "Users" },
    { name: "audit", title: "Audit", role: "admin" },
  ] },
  { group: "This Herald", pages: [
    { name: "settings", title: "Settings", role: "admin" },
    { name: "listening", title: "Listening", role: "admin", single: true },
  ] },
];
const PAGES = MENU.flatMap(({ pages }) => pages);

/** The component of the page in place.page; null: there is no such page. */
const current = signal(undefined);
const broken = signal(undefined);

effect(() => {
  const { page } = place.value;
  if (session.value === undefined) return;
  const known = PAGES.find(({ name }) => name === (page || "overview"));
  document.title = known ? `${known.title} · Herald` : "Herald";
  broken.value = undefined;
  if (!known) {
    current.value = { name: page, title: "Nothing here", Page: null };
    return;
  }
  load(known);
});

/** Shows a page once its module is here. A browser may remember that one did not load, but not under another name. */
function load(known, tries = 0) {
  const here = () => (place.value.page || "overview") === known.name && current.peek()?.name !== known.name;
  import(`./pages/${known.name}.js${tries > 0 ? `?${tries}` : ""}`).then(({ Page }) => {
    if (!here()) return;
    broken.value = undefined;
    current.value = { ...known, Page };
  }, () => {
    if (!here()) return;
    broken.value = { title: "This page did not load",
      detail: "It is tried again by itself. If Herald was updated, reload the page." };
    setTimeout(() => { if (here()) load(known, tries + 1); }, 2000);
  });
}

const Shell = component((self) => {
  const menu = signal(false); // open, where there is no room for it beside the page
  const heading = createRef();
  const opener = createRef(); // of the menu
  // After a login the focus was in its form, which is gone.
  let shown = greeted() ? null : undefined;
  self.follow(() => {
    const name = current.value?.name;
    if (name === undefined) return;
    if (shown !== undefined && name !== shown) {
      menu.value = false;
      queueMicrotask(() => requestAnimationFrame(() => heading.current?.focus()));
    }
    shown = name;
  });
  const escape = (event) => {
    if (event.key !== "Escape" || !menu.value) return;
    menu.value = false;
    opener.current?.focus();
  };
  return () => {
    const page = current.value;
    const allowed = !page?.role || may(page.role);
    const here = !page?.single || who.value?.single;
    return html`
      <a class="skip" href="#main" onClick=${(event) => {
        event.preventDefault();
        heading.current?.focus();
      }}>To the page</a>
      <header class="top" onKeyDown=${escape}>
        <button type="button" class="menu" ref=${opener} aria-expanded=${menu.value ? "true" : "false"} aria-controls="side"
          onClick=${() => { menu.value = !menu.value; }}>${menu.value ? "Close" : "Menu"}</button>
        <a class="brand" href=${link("overview")}><img src="shared/herald.svg" alt="" width="26" height="26" />
          <span>Herald</span></a>
        <${VitalBar} />
      </header>
      <div id="side" onKeyDown=${escape} class=${`side ${menu.value ? "open" : ""}`}>
        <nav aria-label="Console">${MENU.map(({ group, pages }) => {
          const seen = pages.filter(({ role, single }) => (!role || may(role)) && (!single || who.value?.single));
          return seen.length > 0 && html`<div><p>${group}</p>
            <ul>${seen.map(({ name, title }) => html`<li><a href=${link(name)}
            aria-current=${page?.name === name ? "page" : undefined}>${title}</a></li>`)}</ul></div>`;
        })}</nav>
        <${Account} />
      </div>
      <main id="main">
        <div class="title"><h1 tabindex="-1" ref=${heading}>${page?.title ?? "…"}</h1><${Clock} /></div>
        <${Problem} fault=${broken.value} />
        <${Boundary} page=${page?.name}>
          ${page && (!page.Page
            ? html`<div class="empty"><p><b>The console has no page “${page.name}”.</b></p><p>
              <a href=${link("overview")}>Go to the overview</a></p></div>`
            : allowed && !here
              ? html`<div class="empty"><p><b>The deployment says where its services listen.</b></p>
                <p>Only the single binary changes that in the console.</p></div>`
            : allowed
              ? html`<${page.Page} key=${page.name} />`
              : html`<div class="empty"><p><b>Your role, ${who.value?.role}, does not include this page.</b></p>
                <p>An admin can give you another one under Users.</p></div>`)}
        </${Boundary}>
      </main>
      <p class="notice" role="status">${notice.value}</p>`;
  };
});

/** What of the view can be paused, since when it stands, and in which zone its times are. */
const Clock = component(() => () => html`<div class="clock">
  <span class="hint" role="status">${paused.value
    ? html`<b>Paused.</b> Figures of ${format.time(fresh.value, zone.value)}` : ""}</span>
  <button type="button" class=${paused.value ? "on" : ""}
    onClick=${() => { paused.value = !paused.value; }}>${paused.value ? "Go on" : "Pause"}</button>
  <button type="button" title="The zone of all times"
    onClick=${() => change({ tz: zone.value === "utc" ? undefined : "utc" })}>${zone.value === "utc" ? "Times: UTC"
    : "Times: local"}</button>
</div>`);

const Account = component(() => {
  const fault = signal(undefined);
  return () => html`<div class="account" role="region" aria-label="Account">
    <p><b>${who.value?.user}</b><span class="hint">${who.value?.role}</span></p>
    <p class="hint" title="Name of this host and version of the console">${who.value?.instance} · ${who.value?.version}</p>
    <button type="button" class="quiet" onClick=${() => logOut().catch((err) => { fault.value = err; })}>Log out</button>
    <${Problem} fault=${fault.value} />
  </div>`;
});

const start = signal(undefined);

const App = component(() => () => {
  if (session.value === undefined) return html`<${Problem} fault=${start.value} again=${begin} />`;
  if (!session.value && !ended.value) return html`<main class="door"><${Login} /></main>`;
  return html`<${Shell} />${ended.value && html`<${Login} over />`}`;
});

let again;

/** Finds out who is logged in. What stands in the way of the answer passes, so it is asked again until there is one. */
async function begin() {
  clearTimeout(again);
  try {
    session.value = await call("GET", "session");
    returnThere();
  } catch (err) {
    if (err.status === 401) {
      await loginOptions();
      session.value = null;
    } else {
      start.value = err;
      again = setTimeout(begin, 2000);
    }
  }
}

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("console")));
confirm();
begin();
