package gateway

import (
	"fmt"
	"testing"
	"time"
)

// Connection state recovery: the client shows the pid that it was given and the offset of the
// last event, and was recovered if it is given the same pid again.
func TestSocketIORecovery(t *testing.T) {
	b := newBroker(t)
	first, second := b.socketio(withTokens), b.socketio(withTokens)
	auth := func(pid, offset, more string) string {
		return fmt.Sprintf(`{"pid":%q,"offset":%q%s}`, pid, offset, more)
	}
	s, pid := first.io("", asBrowser)
	seed := s.place()
	b.publish("broadcast", `1`)
	_, one := s.message()
	b.publish("broadcast", `2`)
	second.reached(b.publish("broadcast", `3`))

	t.Run("at another gateway nothing is missing, and it comes first", func(t *testing.T) {
		s := second.session(4, "", asBrowser)
		s.send("40" + auth(pid, one, ""))
		s.message()
		_, three := s.message()
		if got := s.connected(); got != pid {
			t.Errorf("got the pid %s, want the client's own %s", got, pid)
		}
		if place := s.place(); place != three && place != b.place(3) { // behind the message, or behind its pack
			t.Errorf("its place is %s, want %s", place, three)
		}
	})
	t.Run("a client without a message has a place, too", func(t *testing.T) {
		s := second.session(4, "", asBrowser)
		s.send("40" + auth(pid, seed, ""))
		for range 3 {
			s.message()
		}
		if got := s.connected(); got != pid {
			t.Errorf("got the pid %s, want %s", got, pid)
		}
	})
	for name, c := range map[string]string{
		"an invented pid":        auth("x", one, ""),
		"a changed pid":          auth("_"+pid[1:], one, ""),
		"other channels":         auth(pid, one, `,"channels":["public.a"]`),
		"another subject":        auth(pid, one, fmt.Sprintf(`,"token":%q`, token(t, "u", time.Hour, "other"))),
		"an offset that is none": auth(pid, "no offset", ""),
		"no offset":              fmt.Sprintf(`{"pid":%q}`, pid),
	} {
		t.Run(name+" begins anew", func(t *testing.T) {
			s := second.session(4, "", asBrowser)
			s.send("40" + c)
			if got := s.connected(); got == pid || got == "" {
				t.Errorf("got the pid %q", got)
			}
			s.place()
		})
	}
	t.Run("permission is checked again", func(t *testing.T) {
		with := func(patterns ...string) string {
			return fmt.Sprintf(`,"channels":["orders"],"token":%q`, token(t, "u", time.Hour, patterns...))
		}
		s := first.session(4, "", asBrowser)
		s.send("40{" + with("orders")[1:] + "}")
		pid := s.connected()
		place := s.place()
		s = second.session(4, "", asBrowser)
		s.send("40" + auth(pid, place, with("other")))
		s.matches(`^44\{.*forbidden`)
	})
	t.Run("with a gap it is not recovered, and is told", func(t *testing.T) {
		b.publishMany(10, "elsewhere")
		b.purge(5)
		third := b.socketio(withTokens)
		s := third.session(4, "", asBrowser)
		s.send("40" + auth(pid, one, ""))
		s.matches(`^42\["herald:gap",\{"type":"gap","reason":"expired".*\},"[^"]+"\]$`)
		if got := s.connected(); got == pid || got == "" {
			t.Errorf("got the pid %q", got)
		}
		s.place()
	})
	t.Run("other subscriptions than those of the pid end recovery", func(t *testing.T) {
		s, pid := first.io("", asBrowser)
		s.place()
		s.send(`421["subscribe","public.a"]`)
		if place := s.place(); place != "" {
			t.Errorf("the place is %q, want none", place)
		}
		s.matches(`^431`)
		b.publish("broadcast", `5`)
		s.matches(`^42\["message",\{"data":5\},\{[^}]*\}\]$`) // no offset
		s = second.session(4, "", asBrowser)
		s.send("40" + auth(pid, "", ""))
		if got := s.connected(); got == pid {
			t.Error("it was recovered, without public.a")
		}
	})
}
