// Figures and times as people read them.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** @param {number | null | undefined} n */
export const number = (n) => (known(n) ? grouped.format(n) : "–");

/** A rate: a digit after the point while it is small. @param {number | null | undefined} n */
export const rate = (n) => (known(n) ? (n >= 100 ? grouped.format(n) : String(Number(n.toFixed(n < 1 ? 2 : 1)))) : "–");

/** @param {number | null | undefined} n */
export function bytes(n) {
  if (!known(n)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit === 0 || n >= 100 ? grouped.format(n) : n.toFixed(1)} ${units[unit]}`;
}

/** @param {number | null | undefined} ms */
export function millis(ms) {
  if (!known(ms)) return "–";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 10 || ms === 0 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

/** @param {number | null | undefined} s seconds */
export function duration(s) {
  if (!known(s)) return "–";
  if (s < 1) return millis(s * 1000);
  s = Math.round(s);
  const parts = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => s >= /** @type {number} */ (size));
  if (first < 0) return "0 s";
  const [unit, size] = /** @type {[string, number]} */ (parts[first]);
  const rest = s % size;
  const next = /** @type {[string, number] | undefined} */ (parts[first + 1]);
  const more = next && Math.floor(rest / next[1]);
  return `${Math.floor(s / size)} ${unit}${more && s / size < 10 ? ` ${more} ${next[0]}` : ""}`;
}

/**
 * A time in this zone, the day only if it is not today.
 *
 * @param {string | number | Date | null | undefined} when
 * @param {"local" | "utc"} zone
 * @param {"short" | "full"} [form] full: always with day and milliseconds
 */
export function time(when, zone, form = "short", now = new Date()) {
  if (when === null || when === undefined || when === "") return "–";
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  const two = (n) => String(n).padStart(2, "0");
  const day = (d) => (zone === "utc"
    ? `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`
    : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`);
  const clock = zone === "utc"
    ? `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`
    : `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  if (form === "full") return `${day(date)} ${clock}.${String(date.getMilliseconds()).padStart(3, "0")}${zone === "utc"
    ? " UTC" : ""}`;
  return day(date) === day(now) ? clock : `${day(date)} ${clock}`;
}

/** How long ago. @param {string | null | undefined} when */
export const ago = (when,
  now = Date.now()) => (when ? duration(Math.max(0, (now - new Date(when).getTime()) / 1000)) : "–");

/** @param {number} n @param {string} one @param {string} [many] */
export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** What people call the protocols of clients. @type {Record<string, string>} */
export const PROTOCOLS = { websocket: "WebSocket", sse: "SSE", socketio: "Socket.IO", pusher: "Pusher" };

/** @param {string} name as the services say it */
export const protocol = (name) => PROTOCOLS[name] ?? name;

/**
 * Somebody else's words within a sentence of ours: their writing direction ends with them, and marks that would turn the
 * rest of the line around are left out.
 *
 * @param {string} text
 */
export const quoted = (text) => (/^[ -~]*$/.test(text) ? text
  : `\u2068${text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`);

/** A heading of a word that begins in lower case. What may begin with a name, a flag or a value stays as it is. @param {string} text */
export const sentence = (text) => text && text[0].toUpperCase() + text.slice(1);

/** @returns {n is number} */
function known(n) {
  return typeof n === "number" && Number.isFinite(n);
}
