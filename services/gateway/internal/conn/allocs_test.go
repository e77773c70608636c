package conn

import "testing"

// How often a delivery to an idle plain connection may allocate.
const (
	parkedAllocs   = 1 // the queue
	blockingAllocs = 4 // the queue, and three in syscall.RawConn.Write
)

// A message that many clients get costs no memory for each, as long as they
// keep up.
func TestDeliveryAllocs(t *testing.T) {
	for form, most := range map[string]float64{"parked": parkedAllocs, "blocking": blockingAllocs} { // in turn: everything that allocates meanwhile counts
		s := newServer(t, Config{Blocking: form == "blocking"}, "tcp", false)
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
		b := TextFrame([]byte("a message that is the same for everybody"))
		idle(t, c)
		const runs = 200
		got := testing.AllocsPerRun(runs, func() {
			c.Send(b)
			c.Flush()
		})
		if got > most {
			t.Errorf("%s: %v allocations for a delivery, want at most %v", form, got, most)
		}
		idle(t, c)
		_ = p.nc.Close()
		<-done
	}
}
