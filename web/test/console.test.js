// The parts of the console that need no browser: exact JSON, the place in the address, lines for a terminal, figures.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { suite, test } from "node:test";
import { body } from "../admin/compose.js";
import { follow, publish, quote } from "../admin/curl.js";
import { line, member, parse, visible } from "../admin/exact.js";
import * as format from "../admin/format.js";
import { read, resort, write } from "../admin/place.js";
import { clockSteps, labels, lone, steps } from "../admin/plot.js";
import { reader } from "../admin/stream.js";

/** The value that a node stands for, with the text of numbers. */
function plain(node) {
  if (node.type === "object") return Object.fromEntries(node.members.map(({ key, value }) => [key, plain(value)]));
  if (node.type === "array") return node.items.map(plain);
  if (node.type === "string") return node.text;
  return `<${node.text}>`;
}

suite("JSON as it stands in the text", () => {
  for (const [name, text, want] of [
    ["an integer beyond 2^53", '{"n":9007199254740993}', { n: "<9007199254740993>" }],
    ["trailing zeros", "[1.10, 1.100, -0, 1E5, 0.1e-3]", ["<1.10>", "<1.100>", "<-0>", "<1E5>", "<0.1e-3>"]],
    ["many digits", "0.1234567890123456789012345678901234567890", "<0.1234567890123456789012345678901234567890>"],
    ["beyond a double", "[1e400, -1e400]", ["<1e400>", "<-1e400>"]],
    ["words", "[true, false, null]", ["<true>", "<false>", "<null>"]],
    ["escapes", String.raw`"a\"b\\cé😀\n\/"`, 'a"b\\cé😀\n/'],
    ["nothing in them", '{"a":{},"b":[],"c":""}', { a: {}, b: [], c: "" }],
    ["space everywhere", ' { "a" : [ 1 , { "b" : 2 } ] } ', { a: ["<1>", { b: "<2>" }] }],
  ]) test(name, () => assert.deepEqual(plain(parse(text)), want));

  test("keys that are there twice are shown twice", () => {
    assert.deepEqual(parse('{"a":1,"a":2}').members.map(({ key, value }) => [key, value.text]), [["a", "1"], ["a", "2"]]);
  });

  test("depth and length are no danger", () => {
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    assert.equal(parse(deep).end, deep.length);
    assert.equal(parse(JSON.stringify("x".repeat(1_000_000))).text.length, 1_000_000);
    assert.equal(parse(`[${"1,".repeat(100_000)}1]`).items.length, 100_001);
  });

  for (const text of ["", " ", "{", "[", "[1", "[1,", "[1,]", '{"a"', '{"a":', '{"a":1', '{"a":1,}', "{a:1}", "01", "1.", ".5", "+1", "1 2", "[1 2]", "]", "}", '"', '"\n"', String.raw`"\x"`, "tru", "nulls", "NaN",
    "[1}", '{"a":1]', "'a'"]) {
    test(`${JSON.stringify(text)} is not JSON`, () => assert.throws(() => parse(text), SyntaxError));
  }

  test("the text of one member", () => {
    const event = '{"id":"a-1","data":{"n":9007199254740993, "x":[1.10]},"time":"t"}';
    assert.equal(member(event, "data"), '{"n":9007199254740993, "x":[1.10]}');
    assert.equal(member(event, "id"), '"a-1"');
    assert.equal(member(event, "nothing"), undefined);
    assert.equal(member('{"data":1,"data":2.0}', "data"), "2.0");
    assert.equal(member("[1]", "data"), undefined);
  });

  test("one line of it", () => {
    assert.equal(line(' {"a":\n  1}\t'), '{"a": 1}');
    assert.equal(line("abcdef", 3), "abc…");
    assert.equal(line("x".repeat(1_000_000), 10), "xxxxxxxxxx…");
  });
});

suite("marks that cannot be seen", () => {
  test("are written as escapes, but for those that a script needs", () => {
    assert.equal(visible("a\u202etxt.exe\u2069\ufeff\u200b"), "a\\u202etxt.exe\\u2069\\ufeff\\u200b");
    for (const text of ["مرحبا", "می\u200cخواهم", "👩\u200d👩\u200d👧", "שלום\u200f!"]) assert.equal(visible(text), text);
    assert.equal(line("\u202ex"), "\\u202ex");
  });
});

suite("the place in the address", () => {
  for (const [hash, page, rest, query] of [
    ["", "", "", {}],
    ["#/", "", "", {}],
    ["#/connections", "connections", "", {}],
    ["#/connections?user=ann&sort=-queued&tz=utc", "connections", "", { user: "ann", sort: "-queued", tz: "utc" }],
    ["#/connections?user=", "connections", "", {}],
    ["#/message/mib3-1", "message", "mib3-1", {}],
    ["#/message/a%2Fb%3Fc?tz=utc", "message", "a/b?c", { tz: "utc" }],
    ["#/tail?channel=orders.%3E&text=a+b%26c", "tail", "", { channel: "orders.>", text: "a b&c" }],
    ["#/message/100%", "message", "100%", {}],
  ]) test(hash || "nothing", () => assert.deepEqual(read(hash), { page, rest, query }));

  test("what is written is read again", () => {
    for (const [page, query, rest] of [
      ["log", { q: "50% & more? #1", channel: "a.>", tz: "utc" }, ""], ["message", {}, "a/b?c#d"], ["connections", { user: "<img src=x onerror=alert(1)>", cursor: "e30=" }, ""], ["users", { q: "ü 名 ' \"" }, ""],
    ]) assert.deepEqual(read(write(page, query, rest)), { page, query, rest });
    assert.equal(write("log", { q: "", channel: undefined }), "#/log");
  });

  test("a click on a column turns the order", () => {
    assert.equal(resort("-queued", "since", true), "-since");
    assert.equal(resort("-since", "since", true), "since");
    assert.equal(resort("since", "since", true), "-since");
    assert.equal(resort("since", "user", false), "user");
  });
});

suite("lines for a terminal", () => {
  /** What a shell makes of a line: the words, one a line. */
  const words = (text) => execFileSync("sh", ["-c", `printf '%s\\n' ${text}`], { env: { HERALD_URL: "http://h", HERALD_TOKEN: "T", HERALD_API_KEY: "K" } }).toString().split("\n").slice(0, -1);

  test("a shell expands nothing of what others wrote", () => {
    for (const text of ["it's", "$(touch /tmp/x)", "`id`", "a b; rm -rf /", "\\", '"', "$HOME", "!!", "ünï"]) assert.deepEqual(words(quote(text)), [text]);
  });

  test("follow what a connection follows", () => {
    assert.deepEqual(words(follow({ channels: ["broadcast", "orders.>", "o'r$(id)"], last_id: "mib-7", user: "" }, "https://h.example/push/")), ["curl", "-N",
      "https://h.example/push/sse?channel=broadcast&channel=orders.%3E&channel=o'r%24(id)", "-H", "Last-Event-ID: mib-7"]);
    assert.deepEqual(words(follow({ channels: ["a"], user: "ann" })), ["curl", "-N", "http://h/sse?channel=a", "-H", "Authorization: Bearer T"]);
  });

  test("publish", () => {
    assert.deepEqual(words(publish(`{"data":"it's $(id)"}`, "http://h:5000/")), ["curl", "http://h:5000/v1/messages", "-H", "X-API-KEY: K", "-H", "Content-Type: application/json", "-d", `{"data":"it's $(id)"}`]);
  });
});

suite("a message to publish", () => {
  const typed = { channel: "orders.eu", event: "", data: "", ttl: "", id: "", ephemeral: false };
  for (const [name, change, want] of [
    ["JSON goes as it stands", { data: '{"n": 9007199254740993, "x": 1.10}' }, '{"channel":"orders.eu","data":{"n": 9007199254740993, "x": 1.10}}'],
    ["anything else goes as text", { data: "it is {\n" }, '{"channel":"orders.eu","data":"it is {\\n"}'],
    ["nothing is an empty text", {}, '{"channel":"orders.eu","data":""}'],
    ["every field", { data: "1", event: "made", ttl: "60", id: "i-1", ephemeral: true }, '{"channel":"orders.eu","data":1,"event":"made","ephemeral":true,"ttl":60,"id":"i-1"}'],
    ["a ttl that is no number is the server's to refuse", { data: "1", ttl: "1,5" }, '{"channel":"orders.eu","data":1,"ttl":"1,5"}'],
  ]) test(name, () => assert.equal(body({ ...typed, ...change }), want));
});

suite("Server-Sent Events in pieces", () => {
  const text = ': hello\r\n\r\nevent: message\r\ndata: {"a":1}\r\n\r\ndata: x\ndata:  y\n\nevent: dropped\ndata: {"count":2}\n\nevent: none\n\nid: 7\rdata\r\rdata: not yet';
  const want = [["message", '{"a":1}'], ["message", "x\n y"], ["dropped", '{"count":2}'], ["message", ""]];
  for (const size of [1, 2, 3, 7, 1000]) {
    test(`of ${size}`, () => {
      const got = [];
      const read = reader((event, data) => got.push([event, data]));
      for (let i = 0; i < text.length; i += size) read(text.slice(i, i + size));
      assert.deepEqual(got, want);
    });
  }
});

suite("figures", () => {
  test("numbers", () => {
    assert.deepEqual([0, 1234567, null, undefined, Number.NaN].map(format.number), ["0", "1,234,567", "–", "–", "–"]);
    assert.deepEqual([0, 0.25, 3.14, 99.96, 1834.2, null].map(format.rate), ["0", "0.25", "3.1", "100", "1,834", "–"]);
    assert.deepEqual([0, 1023, 1024, 64 * 1024, 1.5 * 2 ** 30].map(format.bytes), ["0 B", "1,023 B", "1.0 KiB", "64.0 KiB", "1.5 GiB"]);
    assert.deepEqual([0.42, 12.4, 999, 1500, 12_000].map(format.millis), ["0.4 ms", "12 ms", "999 ms", "1.5 s", "12 s"]);
    assert.deepEqual([0, 0.2, 59, 61, 3600, 86_400, 90_061, 864_000].map(format.duration), ["0 ms", "200 ms", "59 s", "1 min 1 s", "1 h", "1 d", "1 d 1 h", "10 d"]);
    assert.equal(format.count(1, "message"), "1 message");
    assert.equal(format.count(0, "message"), "0 messages");
  });

  test("times", () => {
    const at = "2026-11-28T23:05:09.007Z";
    assert.equal(format.time(at, "utc", "full"), "2026-11-28 23:05:09.007 UTC");
    assert.equal(format.time(at, "utc", "short", new Date("2026-11-28T01:00:00Z")), "23:05:09");
    assert.equal(format.time(at, "utc", "short", new Date("2026-11-29T01:00:00Z")), "2026-11-28 23:05:09");
    assert.equal(format.time("", "utc"), "–");
    assert.equal(format.time("<b>", "local"), "<b>");
    const local = format.time(at, "local", "full");
    assert.equal(new Date(local.replace(" ", "T")).toISOString(), at);
  });
});

suite("somebody else’s words in a sentence", () => {
  test("keep their direction to themselves", () => {
    assert.equal(format.quoted("10.0.0.7"), "10.0.0.7");
    assert.equal(format.quoted("محمد"), "\u2068محمد\u2069");
    assert.equal(format.quoted("\u202eeb\u2069 ot"), "\u2068eb ot\u2069");
  });
});

suite("charts", () => {
  test("labels of one axis differ", () => {
    assert.deepEqual(labels(["00:00:00", "00:00:00", "00:00:01", "00:00:01"]), ["00:00:00", "", "00:00:01", ""]);
    for (const [show, least] of [[format.number, 1], [format.rate, 0.01], [format.millis, 0.1], [format.duration, 0.001]]) {
      assert.equal(steps(least)[0], least);
      for (const step of steps(least).slice(0, 12)) {
        const axis = Array.from({ length: 4 }, (_, i) => show(i * step));
        assert.equal(new Set(axis).size, 4, axis.join(", "));
      }
    }
    assert.equal(clockSteps(false)[0], 1);
    assert.equal(clockSteps(true)[0], 60, "without seconds no label is in the same minute as another");
  });

  test("a value that no line touches is a point", () => {
    assert.deepEqual(lone([1, null, 2, 3, null, 4]), [0, 5]);
    assert.deepEqual(lone([null, 0]), [1]);
    assert.deepEqual(lone([undefined, 0, undefined]), [1]);
    assert.deepEqual(lone([1, 2]), []);
    assert.deepEqual(lone([]), []);
  });
});
