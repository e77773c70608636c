// JSON as it stands in the text: numbers keep their digits, objects their order and their double keys. JSON.parse would
// turn 9007199254740993 into 9007199254740992, and 1.10 into 1.1.

/**
 * @typedef {{type: "object", members: {key: string, value: Node}[], start: number, end: number}
 *   | {type: "array", items: Node[], start: number, end: number}
 *   | {type: "string" | "number" | "word", text: string, start: number, end: number}} Node
 * start and end are where the value stands in the text. The text of a number is its digits, of a string its characters
 * after unescaping, of a word true, false or null.
 */

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;

/**
 * Reads JSON without recursion, so that the depth of the data is no danger.
 *
 * @param {string} text
 * @returns {Node}
 * @throws {SyntaxError} with the place, if it is not JSON (RFC 8259)
 */
export function parse(text) {
  let at = 0;
  const fault = (wanted) => new SyntaxError(`not JSON at character ${at + 1}: want ${wanted}`);
  const match = (/** @type {RegExp} */ re) => {
    re.lastIndex = at;
    const found = re.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const string = (wanted) => {
    const raw = match(STRING);
    if (raw === undefined) throw fault(wanted);
    return JSON.parse(raw);
  };
  /** @type {any[]} containers that are not closed yet */
  const open = [];
  /** @type {any} */
  let value;
  for (;;) {
    match(SPACE);
    const start = at;
    const c = text[at];
    if (c === "{" || c === "[") {
      at++;
      match(SPACE);
      value = c === "{" ? { type: "object", members: [], start, end: 0 } : { type: "array", items: [], start, end: 0 };
      if (text[at] !== (c === "{" ? "}" : "]")) {
        open.push(value);
        if (c === "{") key(value);
        continue;
      }
      at++;
      value.end = at;
    } else if (c === '"') {
      value = { type: "string", text: string("a string"), start, end: at };
    } else {
      const word = match(WORD);
      const number = word === undefined ? match(NUMBER) : undefined;
      if (word === undefined && number === undefined) throw fault("a value");
      value = { type: word === undefined ? "number" : "word", text: word ?? number, start, end: at };
    }
    // A value is whole: it goes into its container, which may be whole then, too.
    for (;;) {
      match(SPACE);
      const container = open.at(-1);
      if (!container) {
        if (at < text.length) throw fault("the end");
        return value;
      }
      if (container.type === "array") container.items.push(value);
      else container.members.at(-1).value = value;
      if (text[at] === ",") {
        at++;
        if (container.type === "object") key(container);
        break;
      }
      if (text[at] !== (container.type === "array" ? "]" : "}")) throw fault(container.type === "array" ? '"," or "]"'
        : '"," or "}"');
      at++;
      container.end = at;
      value = open.pop();
    }
  }

  function key(object) {
    match(SPACE);
    const name = string("a key in quotes");
    match(SPACE);
    if (text[at] !== ":") throw fault('":"');
    at++;
    object.members.push({ key: name, value: undefined });
  }
}

/**
 * The text of one member of the object that the text is, as it stands there.
 *
 * @param {string} text
 * @param {string} key
 * @returns {string | undefined} undefined if there is no such member; of two, the last
 */
export function member(text, key) {
  const node = parse(text);
  if (node.type !== "object") return undefined;
  const found = node.members.findLast((m) => m.key === key);
  return found && text.slice(found.value.start, found.value.end);
}

/**
 * Marks that turn writing around or take no room, as their escapes: they would show a text as another one. Those that
 * Arabic, Persian or an emoji needs stay (U+200C to U+200F).
 *
 * @param {string} text
 */
export const visible = (text) => text.replace(/[\u061c\u200b\u202a-\u202e\u2060-\u2069\ufeff]/g,
  (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);

/**
 * One line of a value, for lists: cut after so many characters.
 *
 * @param {string} text JSON, or any text
 */
export function line(text, characters = 300) {
  const one = text.slice(0, characters * 2).replace(/\s+/g, " ").trim();
  return visible(one.length > characters || text.length > characters * 2 ? `${one.slice(0, characters)}…` : one);
}
