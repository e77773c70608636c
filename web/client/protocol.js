/**
 * The rules of proto/PROTOCOL.md that need no connection: names, ids, close codes, sizes, delays.
 */

// Reconnecting: the first delay is up to half a second, the ceiling doubles up to half a minute.
const FIRST_DELAY = 500;
const MAX_DELAY = 30_000;

// PROTOCOL.md: 100 names in a URL or frame, 16 KiB a frame. Names in the URL are held to 4 KiB, since proxies refuse
// request lines over 8 KiB and the token wants room too.
export const MAX_NAMES = 100;
export const MAX_FRAME = 16 << 10;
export const MAX_URL = 4 << 10;

/**
 * Why a name is neither a channel nor a pattern; undefined if it is one. For a literal channel see isPattern.
 *
 * @param {string} name
 * @returns {string | undefined} a sentence for people
 */
export function channelFault(name) {
  if (name === "") return "A channel needs a name.";
  if (/[^\x21-\x7e]/.test(name)) return "A channel has only printable ASCII characters, without spaces.";
  if (name.length > 255) return `A channel has at most 255 characters; this one has ${name.length}.`;
  if (/["'`\\]/.test(name)) return "A channel has no quotes and no backslash.";
  const tokens = name.split(".");
  if (tokens.includes("")) return "There is an empty token: dots separate, one at a time.";
  const wrong = (/** @type {string} */ token, /** @type {number} */ i) =>
    /[*>]/.test(token) && token !== "*" && !(token === ">" && i === tokens.length - 1);
  if (tokens.some(wrong)) return "A wildcard is a whole token: * is any one, and > at the end is all that follow.";
  return undefined;
}

/**
 * @param {string} name a valid name
 * @returns {boolean} whether it has wildcards, so that one can follow it but not publish to it
 */
export function isPattern(name) {
  return /[*>]/.test(name);
}

/**
 * @param {string} pattern a valid channel or pattern
 * @param {string} channel
 * @returns {boolean} whether the pattern matches the channel
 */
export function covers(pattern, channel) {
  const [wanted, tokens] = [pattern.split("."), channel.split(".")];
  const open = wanted.at(-1) === ">";
  if (open ? tokens.length < wanted.length : tokens.length !== wanted.length) return false;
  return wanted.every((token, i) => token === "*" || token === tokens[i] || (open && i === wanted.length - 1));
}

/**
 * Whether id is to replace kept. Ids are EPOCH-SEQUENCE. Of one epoch the larger sequence is newer, compared as text
 * since 64 bits do not fit into a number. Another epoch is another stream: the gateway only ever sends ids of the one
 * that it has now, so that one wins, whichever clock made them.
 *
 * @param {string} id
 * @param {string | undefined} kept
 */
export function isNewer(id, kept) {
  if (kept === undefined) return true;
  const [epoch, seq = ""] = id.split("-");
  const [keptEpoch, keptSeq = ""] = kept.split("-");
  if (epoch !== keptEpoch) return true;
  return seq.length === keptSeq.length ? seq > keptSeq : seq.length > keptSeq.length;
}

// These complain about the client: the same again would end the same way.
const STAY_AWAY = new Set([1000, 1002, 1003, 1007, 1008, 1009]);

/**
 * Whether to reconnect after this close code.
 *
 * @param {number} code
 */
export function comesBack(code) {
  return !STAY_AWAY.has(code) && !(code >= 4500 && code <= 4999);
}

/**
 * How long to wait before the next attempt: anything up to a ceiling that doubles each time. The whole range is used
 * ("full jitter"), so that the clients of a gateway that died do not come back in waves.
 *
 * @param {number} attempt counted from 0
 * @returns {number} milliseconds
 */
export function backoff(attempt) {
  return Math.random() * Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempt);
}

/**
 * @param {string} token a JWT
 * @returns {number | undefined} when it expires, Unix milliseconds, if it can be read
 */
export function expiry(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload));
    return Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether this may be a JWT. Anything else has no way into a header or subprotocol.
 *
 * @param {string} token
 */
export function isToken(token) {
  return /^[\w.-]+$/.test(token);
}

/**
 * Names in groups of at most MAX_NAMES and about maxBytes, in order. Names are ASCII.
 *
 * @param {string[]} names
 * @param {number} maxBytes
 */
export function batches(names, maxBytes) {
  /** @type {string[][]} */
  const groups = [];
  let bytes = 0;
  for (const name of names) {
    const group = groups.at(-1);
    bytes += name.length + 3; // two quotes and a comma
    if (group && group.length < MAX_NAMES && bytes <= maxBytes) {
      group.push(name);
    } else {
      groups.push([name]);
      bytes = name.length + 3;
    }
  }
  return groups;
}
