package proto_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// packed is a message as a pack has it.
type packed struct {
	m proto.Message
	p proto.Private
}

var packTime = time.UnixMicro(1795366716123456)

func packMessage(channel, data string) proto.Message {
	return proto.Message{Channel: channel, Event: "message", Data: json.RawMessage(data), Sender: "shop",
		Time: proto.FormatTime(packTime)}
}

// somePacked are the cases that a private part has to tell apart.
func somePacked() []packed {
	const trace, other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00"
	return []packed{
		{packMessage("orders.eu", `{"n":1}`), proto.Private{Source: "203.0.113.7", Accepted: packTime,
			Traceparent: trace}},
		{packMessage("orders.eu", `"the same publisher, later"`), proto.Private{Source: "203.0.113.7",
			Accepted: packTime.Add(57 * time.Microsecond), Traceparent: trace}},
		{packMessage("user.4711.inbox", "[1,\t2]"), proto.Private{Source: "2001:db8::1",
			Accepted: packTime.Add(-3 * time.Microsecond), Traceparent: other}},
		{packMessage("a.b.c.d.e.f", `"\"time\":\"x\"}\tx1 s2"`),
			proto.Private{Accepted: packTime, Expires: time.UnixMilli(1795370316000)}},
		{packMessage("pusher.3.a", `1`), proto.Private{Source: "203.0.113.7", Accepted: packTime, Traceparent: trace,
			Except: "1234.1234"}},
		{packMessage("broadcast", `null`), proto.Private{Source: "203.0.113.7", Accepted: packTime,
			Expires: time.UnixMilli(1)}},
	}
}

func fill(pack *proto.Pack, all []packed) {
	pack.Reset()
	for i := range all {
		pack.Add(&all[i].m, all[i].p)
	}
}

// checkLines says where a pack does not read back as what it was made of.
func checkLines(t *testing.T, body []byte, all []packed) {
	t.Helper()
	n := 0
	for lines := proto.ReadPack(body); lines.Next(); n++ {
		if n == len(all) {
			t.Fatalf("the pack has more than its %d messages; the next line is %q", n, lines.Raw())
		}
		want := all[n]
		got := packed{proto.Message{}, proto.Private{Source: string(lines.Source()),
			Traceparent: string(lines.Traceparent()),
			Except:      string(lines.Except()), Accepted: time.UnixMicro(lines.Accepted())}}
		if e := lines.Expires(); e != 0 {
			got.p.Expires = time.UnixMilli(e)
		}
		if lines.Place() != n || string(lines.Channel()) != want.m.Channel ||
			string(lines.Message()) != string(want.m.AppendBody(nil)) {
			t.Errorf("message %d: got place %d, channel %q, %s; want %q, %s", n, lines.Place(), lines.Channel(),
				lines.Message(), want.m.Channel, want.m.AppendBody(nil))
		}
		if got.p != want.p {
			t.Errorf("message %d: got the private part %+v, want %+v", n, got.p, want.p)
		}
	}
	if n != len(all) {
		t.Errorf("got %d messages, want %d", n, len(all))
	}
}

func TestPackRoundTrip(t *testing.T) {
	var pack proto.Pack
	all := somePacked()
	for range 3 { // its memory is used again
		fill(&pack, all)
		if pack.Len() != len(all) || bytes.Count(pack.Body(), []byte("\n")) != len(all) {
			t.Fatalf("got %d messages in %q, want %d lines", pack.Len(), pack.Body(), len(all))
		}
		checkLines(t, pack.Body(), all)
		slices.Reverse(all)
	}
}

// The pack that PROTOCOL.md shows is the one that Herald writes.
func TestProtocolShowsAPack(t *testing.T) {
	var pack proto.Pack
	us := packMessage("orders.us", `"hi"`)
	pack.Add(&somePacked()[0].m, proto.Private{Source: "203.0.113.7", Accepted: packTime})
	pack.Add(&us, proto.Private{Source: "203.0.113.7", Accepted: packTime.Add(57 * time.Microsecond),
		Expires: time.UnixMilli(1795370316000)})
	if want := strings.ReplaceAll(string(pack.Body()), "\t", "⇥"); !strings.Contains(readFile(t, "PROTOCOL.md"),
		"```\n"+want+"```\n") {
		t.Errorf("PROTOCOL.md does not show\n%s", want)
	}
}

// A line that was kept without its pack reads as it did in it.
func TestReadLine(t *testing.T) {
	var pack proto.Pack
	all := somePacked()
	for range all {
		fill(&pack, all)
		body := append([]byte("no line of Herald's\n"), pack.Body()...)
		for i, lines := range []proto.Lines{proto.ReadPack(pack.Body()), proto.ReadPack(body)} {
			text, first := lines.Text(), int64(0)
			for lines.Next() {
				if lines.Place() == 0 {
					first = lines.Accepted()
				}
				if lines.Message() == nil {
					continue
				}
				line, channel := lines.In(text)
				alone := proto.ReadLine([]byte(line), lines.Place(), first)
				if line != string(lines.Raw()) || channel != string(lines.Channel()) {
					t.Errorf("body %d, place %d: got the line %q and channel %q, want %q", i, lines.Place(),
						line, channel, lines.Raw())
				}
				if string(alone.Channel()) != channel || string(alone.Message()) != string(lines.Message()) ||
					alone.Place() != lines.Place() ||
					alone.Accepted() != lines.Accepted() || alone.Expires() != lines.Expires() ||
					string(alone.Except()) != string(lines.Except()) {
					t.Errorf("body %d, place %d: %q does not read as it does in its pack", i, lines.Place(), line)
				}
			}
		}
		all = append(all[1:], all[0]) // each is the first one once
	}
	none := proto.OneMessage("a", []byte(`{"channel":"a"}`), proto.Private{})
	if text := none.Text(); text != "" {
		t.Errorf("a message that is no pack has the text %q", text)
	}
}

func TestPackKeepsLinesApart(t *testing.T) {
	var pack proto.Pack
	// Publication.Check leaves no line breaks; a pack depends on it no more than it must
	m := packMessage("orders.eu", "{\n\"n\":\r\n1}")
	pack.Add(&m, proto.Private{Source: "fe80::1%a\tb", Traceparent: strings.Repeat("x", 100), Accepted: packTime})
	lines := proto.ReadPack(pack.Body())
	if !lines.Next() || !json.Valid(lines.Message()) || len(lines.Source()) != 0 || len(lines.Traceparent()) != 0 {
		t.Errorf("got message %s, source %q, trace %q; want valid JSON and neither", lines.Message(), lines.Source(),
			lines.Traceparent())
	}
	if lines.Next() {
		t.Errorf("got a second message %q", lines.Raw())
	}
}

// In a pack one may stand that somebody else wrote. It keeps its place.
func TestForeignLines(t *testing.T) {
	body := "no JSON\n\n{\"channel\":\"\",\"data\":1}\ta1\n" + `{"channel":"a","data":` + "\n" +
		`{"channel":"a","event":"e","data":1,"sender":"s","time":"t"}`
	want := []string{"", "", "", "", `{"channel":"a","event":"e","data":1,"sender":"s","time":"t"}`}
	var got []string
	for lines := proto.ReadPack([]byte(body)); lines.Next(); {
		got = append(got, string(lines.Message()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPackEnds(t *testing.T) {
	lines := proto.ReadPack(bytes.Repeat([]byte("x\n"), proto.MaxPackMessages+5))
	n := 0
	for lines.Next() {
		n++
	}
	if n != proto.MaxPackMessages {
		t.Errorf("got %d messages, want the %d that ids can tell apart", n, proto.MaxPackMessages)
	}
	for empty := proto.ReadPack(nil); empty.Next(); {
		t.Errorf("an empty pack has the message %q", empty.Raw())
	}
}

func TestOneMessage(t *testing.T) {
	want := packed{packMessage("orders.eu", `{"n":1}`), proto.Private{Source: "::1", Accepted: packTime,
		Traceparent: "t", Expires: time.UnixMilli(5)}}
	lines := proto.OneMessage("orders.eu", want.m.AppendBody(nil), want.p)
	if !lines.Next() || lines.Place() != 0 || string(lines.Channel()) != "orders.eu" ||
		string(lines.Message()) != string(want.m.AppendBody(nil)) ||
		string(lines.Source()) != "::1" || lines.Accepted() != packTime.UnixMicro() ||
		string(lines.Traceparent()) != "t" || lines.Expires() != 5 {
		t.Errorf("got %q on %q", lines.Message(), lines.Channel())
	}
	if lines.Next() {
		t.Error("there is a second message")
	}
	bare := proto.OneMessage("orders.eu", []byte("{}"), proto.Private{})
	if !bare.Next() || bare.Accepted() != 0 || bare.Expires() != 0 || bare.Expired(1) || len(bare.Source()) != 0 {
		t.Errorf("without headers: accepted %d, expires %d, source %q", bare.Accepted(), bare.Expires(), bare.Source())
	}
}

func TestExpired(t *testing.T) {
	var pack proto.Pack
	for _, expires := range []int64{0, 1000, 1001} {
		m, p := packMessage("a", "1"), proto.Private{Accepted: packTime}
		if expires > 0 {
			p.Expires = time.UnixMilli(expires)
		}
		pack.Add(&m, p)
	}
	var got []bool
	for lines := proto.ReadPack(pack.Body()); lines.Next(); {
		got = append(got, lines.Expired(1000))
	}
	if want := []bool{false, true, false}; !slices.Equal(got, want) {
		t.Errorf("at 1000: got %v, want %v", got, want)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		pack  uint64
		place int
		want  uint64
	}{{0, 0, 0}, {1, 0, 1 << proto.PlaceBits}, {7, 1<<proto.PlaceBits - 1, 8<<proto.PlaceBits - 1},
		{1 << 53, 0, 1 << (53 + proto.PlaceBits)}} {
		n := proto.Number(c.pack, c.place)
		if n != c.want || proto.PackOf(n) != c.pack || proto.PlaceOf(n) != c.place {
			t.Errorf("pack %d, place %d: got number %d (pack %d, place %d), want %d", c.pack, c.place, n,
				proto.PackOf(n), proto.PlaceOf(n), c.want)
		}
	}
	if got, want := proto.EndOf(1), proto.Number(2, 0)-1; got != want {
		t.Errorf("the end of pack 1: got %d, want %d", got, want)
	}
}

// A pack is found by the hash of a pattern if, and nearly only if, it holds a
// message of a channel that the pattern takes in.
func TestPackIsFoundByChannelAndPattern(t *testing.T) {
	tokens := []string{"a", "b", "orders", "eu", "user", "4711", "x"}
	random := rand.New(rand.NewPCG(1, 2))
	name := func(wild bool) string {
		var b []string
		for range 1 + random.IntN(7) {
			b = append(b, tokens[random.IntN(len(tokens))])
			if wild && random.IntN(4) == 0 {
				b[len(b)-1] = "*"
			}
		}
		if wild && random.IntN(3) == 0 {
			b = append(b, ">")
		}
		return strings.Join(b, ".")
	}
	for range 20_000 {
		channel, pattern := name(false), name(true)
		var pack proto.Pack
		m := packMessage(channel, "1")
		pack.Add(&m, proto.Private{})
		hashes, ok := proto.ReadChannels(nil, string(pack.AppendChannels(nil)))
		if !ok || !slices.Contains(hashes, proto.ChannelHash(channel)) || !pack.Holds(proto.ChannelHash(channel)) {
			t.Fatalf("%q is not among the hashes %x of its pack", channel, hashes)
		}
		hash, ok := proto.PatternHash(pattern)
		if ok && proto.Match(pattern, channel) && !slices.Contains(hashes, hash) {
			t.Fatalf("a pack with %q is not found by %q", channel, pattern)
		}
		if wild := pattern[0] == '*' || pattern[0] == '>'; ok == wild {
			t.Fatalf("PatternHash(%q): got %v", pattern, ok)
		}
	}
}

func TestChannelsHeader(t *testing.T) {
	var pack proto.Pack
	for range 2 {
		pack.Reset()
		want := map[uint32]bool{proto.ChannelHash("user."): true}
		for i := range proto.MaxPackMessages {
			m := packMessage(fmt.Sprintf("user.%d", i), "1")
			pack.Add(&m, proto.Private{})
			want[proto.ChannelHash([]byte(m.Channel))] = true
		}
		header := string(pack.AppendChannels(nil))
		hashes, ok := proto.ReadChannels(nil, header)
		if !ok || len(header) != 4*len(want) || len(hashes) != len(want) || !slices.IsSorted(hashes) {
			t.Errorf("got %d hashes in %d characters (%v), want %d", len(hashes), len(header), ok, len(want))
		}
		for _, h := range hashes {
			if !want[h] {
				t.Errorf("%x is no hash of a channel of the pack", h)
			}
		}
		if pack.Holds(proto.ChannelHash("orders.eu")) {
			t.Error("the pack holds a channel that it does not have")
		}
	}
	for _, bad := range []string{"", "abc", "abcde", "ab+/", "ab==", "ab\n/"} {
		if _, ok := proto.ReadChannels(nil, bad); ok {
			t.Errorf("%q was read as a header", bad)
		}
	}
}

func TestHasRoom(t *testing.T) {
	var pack proto.Pack
	large := packMessage("a", `"`+strings.Repeat("x", proto.MaxPackBytes)+`"`)
	if !pack.HasRoom(&large, proto.MaxPackBytes) {
		t.Error("an empty pack has no room for a message larger than packs are")
	}
	small := packMessage("a", "1")
	for pack.HasRoom(&small, 10_000) {
		pack.Add(&small, proto.Private{Source: "203.0.113.7", Accepted: packTime})
	}
	if size := len(pack.Body()); size > 10_000 || size < 9_000 {
		t.Errorf("a pack of at most 10,000 bytes has %d", size)
	}
	pack.Reset()
	for pack.HasRoom(&small, proto.MaxPackBytes) {
		pack.Add(&small, proto.Private{})
	}
	if pack.Len() != proto.MaxPackMessages {
		t.Errorf("got room for %d messages, want %d", pack.Len(), proto.MaxPackMessages)
	}
}

func TestPackAllocatesNothing(t *testing.T) {
	var pack proto.Pack
	all := somePacked()
	fill(&pack, all)
	if n := testing.AllocsPerRun(100, func() { fill(&pack, all) }); n != 0 {
		t.Errorf("filling a pack again allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		for lines := proto.ReadPack(pack.Body()); lines.Next(); {
			sink += len(lines.Channel()) + len(lines.Message()) + len(lines.Source()) +
				int(lines.Expires()+lines.Accepted())
		}
	}); n != 0 {
		t.Errorf("reading a pack allocates %v times", n)
	}
}

var sink int
