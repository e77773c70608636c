package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
)

// A client is recovered exactly when nothing is missing: whoever shows a pid that is not its own, or has
// expired, or an offset behind which something is missing, is not.
func TestSocketIORecoveredOnlyWhole(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens, func(c *Config) { c.ReplayMessages = 5 })
	orders := func(subject string, patterns ...string) string {
		return fmt.Sprintf(`"channels":["orders"],"token":%q`, token(t, subject, time.Hour, patterns...))
	}
	s := g.session(4, "", asBrowser)
	s.send("40{" + orders("u", "orders") + "}")
	pid := s.connected()
	s.place()
	b.publish("orders", `1`)
	_, offset := s.message()
	session := socketio.Session{Channels: []string{"orders"}, Subject: "u"}
	signed := func(s *socketio.Signer, at time.Time) string { return s.Sign(session, at) }
	cursor, err := proto.ParseCursor(offset)
	if err != nil {
		t.Fatal(err)
	}
	future := proto.Cursor{Epoch: cursor.Epoch, Seq: cursor.Seq + 1<<20}.String()
	for _, c := range []struct {
		name, pid, offset, more string
		recovered               bool
	}{
		{"its own", pid, offset, orders("u", "orders"), true},
		{"its own, once more", pid, offset, orders("u", "orders"), true},
		{"a token of the same subject that covers more", pid, offset, orders("u", "orders", "other.>"), true},
		{"another subject's", pid, offset, orders("v", "orders"), false},
		{"that of a client with other channels", pid, offset,
			strings.Replace(orders("u", "*"), `["orders"]`, `["orders","public.a"]`, 1), false},
		{"that of an anonymous client", pid, offset, `"channels":["public.a"]`, false},
		{"one that ends soon", signed(g.pids.Load(), time.Now().Add(time.Minute-socketio.PIDAge)), offset,
			orders("u", "orders"), true},
		{"one that has ended", signed(g.pids.Load(), time.Now().Add(-socketio.PIDAge)), offset, orders("u", "orders"),
			false},
		{"one that is signed with another key", signed(socketio.NewSigner(make([]byte, secretBytes)), time.Now()),
			offset, orders("u", "orders"), false},
		{"an empty one", "", offset, orders("u", "orders"), false},
		{"one that is cut off", pid[:len(pid)-1], offset, orders("u", "orders"), false},
		{"an offset of another epoch", pid, "zzzzzzzz-1024", orders("u", "orders"), false},
		{"an offset of the future", pid, future, orders("u", "orders"), false},
		{"an offset that is no id", pid, "last", orders("u", "orders"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := *g
			g.t = t
			s := g.session(4, "", asBrowser)
			s.send(fmt.Sprintf(`40{"pid":%q,"offset":%q,%s}`, c.pid, c.offset, c.more))
			got := s.next()
			for strings.HasPrefix(got, `42["herald:gap"`) {
				got = s.next()
			}
			m := connectedForm.FindStringSubmatch(got)
			if m == nil || m[1] == "" {
				t.Fatalf("got %s", got)
			}
			if recovered := m[1] == c.pid; recovered != c.recovered {
				t.Errorf("recovered: %v, want %v", recovered, c.recovered)
			}
			s.place()
		})
	}

	t.Run("a token that covers less is refused, and says which channel", func(t *testing.T) {
		s := g.session(4, "", asBrowser)
		s.send(fmt.Sprintf(`40{"pid":%q,"offset":%q,%s}`, pid, offset, orders("u", "other")))
		s.matches(`^44\{.*"data":\{"error":"forbidden","channel":"orders"\}\}$`)
	})
	t.Run("another namespace changes nothing", func(t *testing.T) {
		s := g.session(4, "", asBrowser)
		s.send("40/admin,{}")
		s.matches(`^44/admin,`)
		s.send(fmt.Sprintf(`40{"pid":%q,"offset":%q,%s}`, pid, offset, orders("u", "orders")))
		if got := s.connected(); got != pid {
			t.Errorf("got the pid %s", got)
		}
	})
	t.Run("more was missed than is sent", func(t *testing.T) {
		g.reached(b.publishMany(2*chunk, "orders"))
		s := g.session(4, "", asBrowser)
		s.send(fmt.Sprintf(`40{"pid":%q,"offset":%q,%s}`, pid, offset, orders("u", "orders")))
		gaps := 0
		got := s.next()
		for ; strings.HasPrefix(got, "42"); got = s.next() {
			if strings.HasPrefix(got, `42["herald:gap",{"type":"gap","reason":"limit"`) {
				gaps++
			}
		}
		if m := connectedForm.FindStringSubmatch(got); m == nil || m[1] == pid || gaps != 1 {
			t.Errorf("got %s after %d gaps", got, gaps)
		}
	})
}

// What a client emits ends recovery only if it follows something else then.
func TestSocketIORecoveryEnds(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens)
	auth := fmt.Sprintf(`{"channels":["public.a","orders"],"token":%q}`, token(t, "u", time.Hour, "orders"))
	for _, c := range []struct {
		name, emit string
		answers    int // events before the next message
		ends       bool
	}{
		{"subscribe to what it follows", `["subscribe","public.a"]`, 1, false},
		{"subscribe to what it may not follow", `["subscribe",["secret","a b"]]`, 1, false},
		{"subscribe to nothing that is understood", `["subscribe"]`, 1, false},
		{"unsubscribe from what it does not follow", `["unsubscribe","public.b"]`, 1, false},
		{"an event that is none", `["shout","public.b"]`, 1, false},
		{"a fresh token for the same", fmt.Sprintf(`["auth",%q]`, token(t, "u", time.Hour, "orders")), 1, false},
		{"subscribe to more", `["subscribe",["public.a","public.b"]]`, 2, true},
		{"unsubscribe", `["unsubscribe","public.a"]`, 2, true},
		{"a fresh token for less", fmt.Sprintf(`["auth",%q]`, token(t, "u", time.Hour, "other")), 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := g.session(4, "", asBrowser)
			s.t = t
			s.send("40" + auth)
			s.connected()
			s.place()
			s.send("421" + c.emit)
			ended := false
			for range c.answers {
				ended = s.next() == `42["herald:place",""]` || ended
			}
			s.send(`422["unsubscribe","never"]`)
			if got := s.next(); got != `432[{"channel":"never"}]` || ended != c.ends {
				t.Errorf("recovery has ended: %v, want %v; then it got %s", ended, c.ends, got)
			}
		})
	}
}

// A client of a channel where nothing happens does not grow old: its offset moves on with the stream, and
// it is recovered when what it had before is no longer kept.
func TestSocketIOPlacesMoveOn(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.Heartbeat = patient })
	const quiet = `"channels":["public.quiet"]`
	s := g.session(4, "", asBrowser)
	s.send("40{" + quiet + "}")
	pid := s.connected()
	s.place()
	plain, _ := g.io("{"+quiet+"}", nil) // has no use for a place
	first := make(chan string, 1)
	go func() { first <- plain.alive() }() // ends with the message below, or patience
	b.publishMany(10, "public.busy")
	last := b.place(10)
	for place := ""; place != last && !t.Failed(); {
		place, _ = strings.CutPrefix(s.alive(), `42["herald:place","`)
		place, _ = strings.CutSuffix(place, `"]`)
	}
	b.purge(10)
	s = g.session(4, "", asBrowser)
	s.send(fmt.Sprintf(`40{"pid":%q,"offset":%q,%s}`, pid, last, quiet))
	if got := s.alive(); !strings.Contains(got, fmt.Sprintf(`"pid":%q`, pid)) {
		t.Errorf("got %s, want the pid %s", got, pid)
	}
	b.publish("public.quiet", `1`)
	if got := <-first; got != `42["message",1]` {
		t.Errorf("a client without a place got %s", got)
	}
}
