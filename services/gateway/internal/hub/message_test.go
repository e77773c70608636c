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
