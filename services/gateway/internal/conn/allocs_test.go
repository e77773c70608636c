package conn_test

import (
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// How often a delivery to an idle connection allocates, by its form.
var deliveryAllocs = map[string]float64{
	"parked":   0,
	"TLS":      1, // under the race detector, where a sync.Pool throws away some of what it is given; else 0
	"blocking": 3, // in syscall.RawConn.Write
}

// A message that many clients get costs no memory for each, as long as they
// keep up.
func TestDeliveryAllocs(t *testing.T) {
	for form, most := range deliveryAllocs { // in turn: everything that allocates meanwhile counts
		s := newForm(t, conn.Config{}, form)
		p, c := s.connect()
		done := make(chan struct{})
		go func() { // ends with the connection
			defer close(done)
			buf := make([]byte, 64<<10)
			for {
				if _, err := p.nc.Read(buf); err != nil {
					return
				}
			}
		}()
		b := textFrame([]byte("a message that is the same for everybody"))
		idle(t, c)
		const runs = 200
		got := testing.AllocsPerRun(runs, func() { c.Push(b) })
		for try := 0; got > most && try < 20; try++ { // what runs in the background allocates, too
			idle(t, c)
			got = testing.AllocsPerRun(runs, func() { c.Push(b) })
		}
		if got > most {
			t.Errorf("%s: %v allocations for a delivery, want at most %v", form, got, most)
		}
		idle(t, c)
		_ = p.nc.Close()
		<-done
	}
}
