// What the address of the page says after "#": which page, and its filters, sorting and time zone. A link shows the same view.

/** @typedef {{page: string, rest: string, query: Record<string, string>}} Place */

/**
 * @param {string} hash "#/connections?user=ann&sort=-queued"; after the page may stand one more part: "#/message/ID"
 * @returns {Place}
 */
export function read(hash) {
  const [path, query = ""] = split(hash.replace(/^#?\/?/, ""), "?");
  const [page, rest = ""] = split(path, "/");
  return { page: decode(page), rest: decode(rest),
    query: Object.fromEntries([...new URLSearchParams(query)].filter(([, value]) => value !== "")) };
}

/**
 * @param {string} page
 * @param {Record<string, string | number | undefined>} [query] empty values are left out
 * @param {string} [rest]
 */
export function write(page, query = {}, rest = "") {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") kept.set(name, String(value));
  }
  const path = `#/${encodeURIComponent(page)}${rest === "" ? "" : `/${encodeURIComponent(rest)}`}`;
  return kept.size === 0 ? path : `${path}?${kept}`;
}

/** The other direction of the column that is sorted by, or this column. */
export function resort(current, column, descendingFirst) {
  if (current === column) return `-${column}`;
  if (current === `-${column}`) return column;
  return descendingFirst ? `-${column}` : column;
}

function split(text, at) {
  const i = text.indexOf(at);
  return i < 0 ? [text] : [text.slice(0, i), text.slice(i + 1)];
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray % in a link that somebody typed
  }
}
