package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// step is what is sent, and the bytes that must come back before the next.
type step struct {
	send []byte
	want []byte
}

// testCase is one connection. Its end is the server's close frame with a code
// that is allowed, or, where the steps say all, the client's own goodbye.
type testCase struct {
	name  string // with the number of the case of the Autobahn suite that it is like
	steps []step
	chop  int   // bytes in a write; 0: all of a step
	fails []int // codes, of which the server chooses; none: it does not fail
	ended bool  // the steps have both goodbyes
	rude  bool  // they go on after the client's
}

// Every rule of RFC 6455 that a client can put to a server, in the order of
// the Autobahn suite's cases.
func TestConformance(t *testing.T) {
	cases := slices.Concat(framing(), pings(), reserved(), opcodes(), fragmentation(), utf8Cases(), closes(), limits())
	for form, args := range map[string][]string{"parked": nil, "blocking": {"-blocking"}, "TLS": {"-tls"}} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			u := start(t, args...)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					p := dial(t, u)
					for _, s := range c.steps {
						p.exchange(s.send, c.chop, s.want)
					}
					switch {
					case c.ended:
					case len(c.fails) > 0:
						code := p.goodbye()
						if !slices.Contains(c.fails, code) {
							t.Fatalf("got code %d, want one of %v", code, c.fails)
						}
						p.exchange(out(fin|closing, coded(code, "")), 0, nil)
					default:
						p.exchange(out(fin|closing, coded(1000, "")), c.chop, in(fin|closing, coded(1000, "")))
					}
					p.end(c.rude)
				})
			}
		})
	}
}

// echoed is one message that comes back as it is.
func echoed(op byte, payload string) step {
	return step{out(fin|op, payload), in(fin|op, payload)}
}

var broken = []int{1002}

func framing() (all []testCase) {
	for op, kind := range map[byte]string{text: "1.1 text", bin: "1.2 binary"} {
		for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
			payload := strings.Repeat("*", n)
			if op == bin {
				payload = strings.Repeat("\xfe", n)
			}
			all = append(all, testCase{name: fmt.Sprintf("%s of %d", kind, n), steps: []step{echoed(op, payload)}})
		}
		all = append(all, testCase{name: kind + " of 65536 in pieces of 997", chop: 997,
			steps: []step{echoed(op, strings.Repeat("*", 65536))}})
	}
	return append(all, testCase{name: "1 a length that is longer than need be", steps: []step{
		{[]byte{fin | text, 0x80 | 126, 0, 1, 0, 0, 0, 0, 'a'}, in(fin|text, "a")},
	}})
}

func pings() []testCase {
	full := strings.Repeat("\xfe", 125)
	var ten, answers []byte
	for i := range 10 {
		ten = append(ten, out(fin|ping, fmt.Sprint("payload-", i))...)
		answers = append(answers, in(fin|pong, fmt.Sprint("payload-", i))...)
	}
	answered := func(payload string) step { return step{out(fin|ping, payload), in(fin|pong, payload)} }
	return []testCase{
		{name: "2.1 empty", steps: []step{answered("")}},
		{name: "2.2 text", steps: []step{answered("Hello, world!")}},
		{name: "2.3 no text", steps: []step{answered("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}},
		{name: "2.4 125 bytes", steps: []step{answered(full)}},
		{name: "2.5 126 bytes", steps: []step{{send: out(fin|ping, full+"x")}}, fails: broken},
		{name: "2.6 125 bytes, one by one", steps: []step{answered(full)}, chop: 1},
		{name: "2.7 pong that nobody asked for", steps: []step{{send: out(fin|pong, "")}}},
		{name: "2.8 the same with a payload", steps: []step{{send: out(fin|pong, "unsolicited")}}},
		{name: "2.9 the same before a ping",
			steps: []step{{slices.Concat(out(fin|pong, "x"), out(fin|ping, "y")), in(fin|pong, "y")}}},
		{name: "2.10 ten", steps: []step{{ten, answers}}},
		{name: "2.11 ten, byte by byte", steps: []step{{ten, answers}}, chop: 1},
	}
}

func reserved() (all []testCase) {
	for bit := byte(0x10); bit <= 0x70; bit += 0x10 {
		for op, kind := range map[byte]string{text: "text", bin: "binary", ping: "ping", pong: "pong",
			closing: "close"} {
			for _, chop := range []int{0, 1} {
				all = append(all, testCase{
					name: fmt.Sprintf("3 bits %#02x, %s, in pieces of %d", bit, kind, chop),
					steps: []step{echoed(text, "before"),
						{send: slices.Concat(out(fin|bit|op, ""), out(fin|ping, "not answered"))}},
					chop: chop, fails: broken,
				})
			}
		}
	}
	return all
}

func opcodes() (all []testCase) {
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		for _, payload := range []string{"", "x"} {
			all = append(all, testCase{
				name: fmt.Sprintf("4 opcode %#x, %d bytes", op, len(payload)),
				steps: []step{echoed(text, "before"),
					{send: slices.Concat(out(fin|op, payload), out(fin|ping, "not answered"))}},
				fails: broken,
			})
		}
	}
	return all
}

func fragmentation() []testCase {
	two := []step{{slices.Concat(out(text, "fragment1"), out(fin|continuation, "fragment2")),
		in(fin|text, "fragment1fragment2")}}
	pinged := []step{{slices.Concat(out(text, "fragment1"), out(fin|ping, "p"), out(fin|continuation, "fragment2")),
		slices.Concat(in(fin|pong, "p"), in(fin|text, "fragment1fragment2"))}}
	nothing := func(first byte) []step {
		return []step{{send: slices.Concat(out(first, "nothing to continue"), out(fin|text, "x"))}}
	}
	five := slices.Concat(out(text, "1"), out(continuation, "2"), out(fin|ping, "p1"), out(continuation, "3"),
		out(continuation, "4"), out(fin|ping, "p2"), out(fin|continuation, "5"))
	fiveBack := slices.Concat(in(fin|pong, "p1"), in(fin|pong, "p2"), in(fin|text, "12345"))
	return []testCase{
		{name: "5.1 ping", steps: []step{{send: slices.Concat(out(ping, "a"), out(fin|continuation, "b"))}},
			fails: broken},
		{name: "5.2 pong", steps: []step{{send: slices.Concat(out(pong, "a"), out(fin|continuation, "b"))}},
			fails: broken},
		{name: "5 close", steps: []step{{send: out(closing, coded(1000, ""))}}, fails: broken},
		{name: "5.3 text", steps: two},
		{name: "5.5 text, byte by byte", steps: two, chop: 1},
		{name: "5.6 text with a ping within", steps: pinged},
		{name: "5.7 the same, ping answered first", steps: []step{
			{send: out(text, "fragment1")},
			{out(fin|ping, "p"), in(fin|pong, "p")},
			{out(fin|continuation, "fragment2"), in(fin|text, "fragment1fragment2")},
		}},
		{name: "5.8 the same, byte by byte", steps: pinged, chop: 1},
		{name: "5 binary",
			steps: []step{{slices.Concat(out(bin, "\xff"), out(continuation, "\xfe"), out(fin|continuation, "")),
				in(fin|bin, "\xff\xfe")}}},
		{name: "5 text after binary is text", steps: []step{echoed(bin, "\xff"), echoed(text, "x")}},
		{name: "5.9 last fragment of nothing", steps: nothing(fin | continuation), fails: broken},
		{name: "5.11 the same, byte by byte", steps: nothing(fin | continuation), fails: broken, chop: 1},
		{name: "5.12 fragment of nothing", steps: nothing(continuation), fails: broken},
		{name: "5.15 fragment after the last", steps: append(two[:1:1], nothing(continuation)...), fails: broken},
		{name: "5.18 text within a text", steps: []step{{send: slices.Concat(out(text, "a"), out(fin|text, "b"))}},
			fails: broken},
		{name: "5 binary within a text", steps: []step{{send: slices.Concat(out(text, "a"), out(fin|bin, "b"))}},
			fails: broken},
		{name: "5.19 five fragments, two pings", steps: []step{{five, fiveBack}}},
		{name: "5 the same, byte by byte", steps: []step{{five, fiveBack}}, chop: 1},
	}
}

// fragments cuts a message before every n bytes.
func fragments(op byte, payload string, n int) (b []byte) {
	for len(payload) > n {
		b = append(b, out(op, payload[:n])...)
		op, payload = continuation, payload[n:]
	}
	return append(b, out(fin|op, payload)...)
}

func utf8Cases() []testCase {
	const mixed = "Hello-µ@ßöäüàá-UTF-8!!"
	all := []testCase{
		{name: "6.1.1 empty", steps: []step{echoed(text, "")}},
		{name: "6.1.2 three empty fragments",
			steps: []step{{slices.Concat(out(text, ""), out(continuation, ""), out(fin|continuation, "")),
				in(fin|text, "")}}},
		{name: "6.1.3 the middle one not",
			steps: []step{{slices.Concat(out(text, ""), out(continuation, "middle"), out(fin|continuation, "")),
				in(fin|text, "middle")}}},
		{name: "6.2.1 whole", steps: []step{echoed(text, mixed)}},
		{name: "6.2.3 a fragment a byte", steps: []step{{fragments(text, mixed, 1), in(fin|text, mixed)}}},
		{name: "6.2.4 Greek, a fragment a byte", steps: []step{{fragments(text, "κόσμε", 1), in(fin|text, "κόσμε")}}},
	}
	for _, good := range []string{
		"\x00", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff", "\U00010000",
		"\U0010fffe", "\U0010ffff",
	} {
		all = append(all, testCase{name: fmt.Sprintf("6 good % x", good),
			steps: []step{echoed(text, good), {fragments(text, good, 1), in(fin|text, good)}}})
	}
	for _, bad := range []string{
		"κόσμε\xed\xa0\x80edited", "\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", // 6.3, 6.6: surrogate, cut off
		// 6.8 to 6.11: too high, too long
		"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xf4\x90\x80\x80",
		"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80\xbf\x80", // 6.12: continuations alone
		"\xc0 \xc1 \xc2 ", "\xe0 \xe1 ", "\xf0 \xf1 ", "\xf8 ", "\xfc ", // 6.13: beginnings alone
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xdf", "\xef\xbf", // 6.14: the last byte is missing
		"\xfe", "\xff", "\xfe\xfe\xff\xff", // 6.16
		// 6.17 to 6.19: overlong
		"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80",
		"\xed\xad\xbf", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", // 6.20, 6.21: surrogates
	} {
		for n, how := range map[int]string{len(bad): "whole", 1: "a fragment a byte"} {
			all = append(all, testCase{name: fmt.Sprintf("6 bad % x, %s", bad, how),
				steps: []step{{send: fragments(text, bad, n)}}, fails: []int{1007}})
		}
		all = append(all, testCase{name: fmt.Sprintf("6 binary % x", bad), steps: []step{echoed(bin, bad)}})
	}
	return all
}

func closes() []testCase {
	goodbye, answer := out(fin|closing, coded(1000, "")), in(fin|closing, coded(1000, ""))
	big := strings.Repeat("*", 256<<10)
	bye := func(payload, back string) []step { return []step{{out(fin|closing, payload), in(fin|closing, back)}} }
	all := []testCase{
		{name: "7.1.1 message, then close",
			steps: []step{{slices.Concat(out(fin|text, "Hello World!"), goodbye),
				slices.Concat(in(fin|text, "Hello World!"), answer)}}, ended: true},
		{name: "7.1.2 close twice", steps: []step{{slices.Concat(goodbye, goodbye), answer}}, ended: true, rude: true},
		{name: "7.1.3 ping after close", steps: []step{{slices.Concat(goodbye, out(fin|ping, "")), answer}},
			ended: true, rude: true},
		{name: "7.1.4 text after close", steps: []step{{slices.Concat(goodbye, out(fin|text, "x")), answer}},
			ended: true, rude: true},
		{name: "7.1.5 close within a message",
			steps: []step{{slices.Concat(out(text, "a"), goodbye, out(fin|continuation, "b")), answer}}, ended: true,
			rude: true},
		{name: "7.1.6 long message, close, ping",
			steps: []step{{slices.Concat(out(fin|text, big), goodbye, out(fin|ping, "")),
				slices.Concat(in(fin|text, big), answer)}}, ended: true, rude: true},
		{name: "7.1 ping, then close",
			steps: []step{{slices.Concat(out(fin|ping, "p"), goodbye), slices.Concat(in(fin|pong, "p"), answer)}},
			ended: true},
		{name: "7.3.1 without a code", steps: bye("", ""), ended: true},
		{name: "7.3.2 half a code", steps: []step{{send: out(fin|closing, "\x03")}}, fails: broken},
		{name: "7.3.3 a code", steps: bye(coded(1000, ""), coded(1000, "")), ended: true},
		{name: "7.3.4 code and reason", steps: bye(coded(1000, "Hello World!"), coded(1000, "")), ended: true},
		{name: "7.3.5 the longest reason", steps: bye(coded(1000, strings.Repeat("*", 123)), coded(1000, "")),
			ended: true},
		{name: "7.3.6 a longer one", steps: []step{{send: out(fin|closing, coded(1000, strings.Repeat("*", 124)))}},
			fails: broken},
		{name: "7.5.1 reason that is not UTF-8",
			steps: []step{{send: out(fin|closing, coded(1000, "\xce\xba\xed\xa0\x80"))}}, fails: []int{1002, 1007}},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, testCase{name: fmt.Sprint("7.7 code ", code), steps: bye(coded(code, ""), coded(code, "")),
			ended: true})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, testCase{name: fmt.Sprint("7.9 code ", code),
			steps: []step{{send: out(fin|closing, coded(code, ""))}}, fails: broken})
	}
	return all
}

func limits() (all []testCase) {
	for op, kind := range map[byte]string{text: "text", bin: "binary"} {
		for _, n := range []int{64 << 10, 256 << 10, 1 << 20} {
			all = append(all, testCase{name: fmt.Sprintf("9.1 %s of %d", kind, n),
				steps: []step{echoed(op, strings.Repeat("*", n))}})
		}
	}
	quarter := strings.Repeat("*", 256<<10)
	for _, n := range []int{64, 1 << 10, 64 << 10} {
		all = append(all, testCase{name: fmt.Sprintf("9.3 fragments of %d", n),
			steps: []step{{fragments(text, quarter, n), in(fin|text, quarter)}}})
	}
	for _, chop := range []int{64, 2 << 10} {
		all = append(all, testCase{name: fmt.Sprintf("9.5 pieces of %d", chop), chop: chop,
			steps: []step{echoed(text, quarter)}})
	}
	for _, n := range []int{0, 16, 256} {
		one := echoed(text, strings.Repeat("*", n))
		var round []step
		for range 100 {
			round = append(round, one)
		}
		all = append(all,
			testCase{name: fmt.Sprintf("9.7 a hundred of %d in turn", n), steps: round},
			testCase{name: fmt.Sprintf("9.7 a thousand of %d at once", n),
				steps: []step{{bytes.Repeat(one.send, 1000), bytes.Repeat(one.want, 1000)}}})
	}
	return append(all,
		testCase{name: "9.2 binary of 4194304", steps: []step{echoed(bin, strings.Repeat("*", 4<<20))}},
		testCase{name: "9 a longer one", steps: []step{{send: header(fin|text, maxMessage+1, 0x80)}},
			fails: []int{1009}},
		testCase{name: "9 longer than there are bytes", steps: []step{{send: header(fin|text, 1<<62, 0x80)}},
			fails: []int{1009}},
	)
}
