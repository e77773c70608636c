package hub

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// However many ask at the same moment, a costly encoding runs once; and it may
// ask for another that is not costly.
func TestCostlyEncoding(t *testing.T) {
	var runs atomic.Int32
	cheap := NewEncoding(0, func(m *Message) []byte { return append([]byte("cheap "), m.Body...) })
	costly := NewCostlyEncoding(1, func(m *Message) []byte {
		runs.Add(1)
		time.Sleep(time.Millisecond) // so that the others come meanwhile
		return append([]byte("costly "), m.Encoded(cheap)...)
	})
	for n := range 20 {
		m := &Message{Body: []byte("message")}
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				if got := string(m.Encoded(costly)); got != "costly cheap message" {
					t.Errorf("got %q", got)
				}
			})
		}
		asking.Wait()
		if got := int(runs.Load()); got != n+1 {
			t.Fatalf("%d messages were encoded %d times", n+1, got)
		}
		if again := m.Encoded(costly); &again[0] != &m.Encoded(costly)[0] {
			t.Error("not everybody gets the same bytes")
		}
	}
}

// A derived encoding is made of the bytes of another one: of those that are there, or of some that
// are not kept.
func TestDerivedEncoding(t *testing.T) {
	runs := 0
	plain := NewEncoding(0, func(m *Message) []byte { runs++; return append([]byte("plain "), m.Body...) })
	derived := NewDerivedEncoding(1, plain, func(b []byte) []byte {
		if string(b) == "plain incompressible" {
			return nil
		}
		return append([]byte("derived "), b...)
	})
	for _, body := range []string{"message", "incompressible"} {
		for _, first := range []*Encoding{plain, derived} {
			runs = 0
			m := &Message{Body: []byte(body)}
			m.Encoded(first)
			got, want := m.Encoded(derived), "derived plain message"
			if body == "incompressible" {
				want = "plain incompressible"
				if p := m.Encoded(plain); &p[0] != &got[0] {
					t.Errorf("%s: there are two of the same bytes", body)
				}
			}
			if string(got) != want || runs != 1 {
				t.Errorf("%s: got %q after %d runs, want %q after one", body, got, runs, want)
			}
			if kept := m.encoded[0].Load() != nil; first == derived && body == "message" && kept {
				t.Error("what nobody asked for is kept")
			}
		}
	}
}
