package conn

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/prometheus/client_golang/prometheus"
)

// Config bounds every connection of a set.
type Config struct {
	// MaxQueueBytes is what may wait for one client.
	MaxQueueBytes int
	// MaxMessageBytes is what one message of a client may have; 0:
	// proto.MaxFrameBytes.
	MaxMessageBytes int32
	// Heartbeat is after how long a silence a client is pinged, in whole
	// seconds.
	Heartbeat time.Duration
	// Blocking has goroutines wait for sockets on Linux, too, as they do on
	// other systems.
	Blocking bool
	// Deflate lets WebSocket clients that offer it have messages compressed,
	// and compress their own: see Conn.Deflates.
	Deflate bool
}

// Format is how clients of one kind are told what is not a message. Both are
// whole frames.
type Format struct {
	Heartbeat []byte // sent to the silent
	Goodbye   func(proto.CloseCode) []byte
}

// Set is all connections of a gateway. Run keeps their heartbeats; Drain says
// goodbye to all of them; Wait, after Drain, returns when the last has ended.
type Set struct {
	cfg Config
	m   *metrics
	// The constants of these names; tests shorten them before the first client.
	writeStall, closeWait time.Duration

	pollers []*poller     // none: goroutines wait for every socket
	turn    atomic.Uint64 // of the pollers
	clock   atomic.Int64  // Unix nanoseconds when Run ticked last: to ask for the time costs as much as the rest of a delivery outside the kernel

	wg sync.WaitGroup // connections and handshakes under way, with their goroutines

	mu     sync.Mutex
	slots  [][]*Conn // guarded by mu; the wheel of heartbeats and expiries: one slot is looked at each second
	next   int       // guarded by mu; the slot of the next connection
	count  int       // guarded by mu
	opened int       // guarded by mu; ever
	full   bool      // guarded by mu; Drain has begun: nobody is added
}

// NewSet makes an empty set. The wheel turns twice per heartbeat, so that
// nobody is silent for much longer than that: see beat.
func NewSet(cfg Config, reg prometheus.Registerer) *Set {
	s := &Set{
		cfg: cfg, m: newMetrics(reg), writeStall: writeStall, closeWait: closeWait,
		slots: make([][]*Conn, max(1, int(cfg.Heartbeat/(2*time.Second)))),
	}
	s.clock.Store(time.Now().UnixNano())
	if !cfg.Blocking {
		s.pollers, _ = newPollers(runtime.GOMAXPROCS(0)) // where there are none, goroutines do
	}
	return s
}

func (s *Set) begin(c *Conn, id string, remote netip.Addr, format *Format) {
	c.id, c.remote, c.set, c.format = id, remote, s, format
	now := time.Now().UnixNano()
	c.lastIn.Store(now)
	c.lastOut = now
}

// Wait returns when every goroutine of every connection has ended.
func (s *Set) Wait() { s.wg.Wait() }

// Len is how many connections are open.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// reserve counts in a connection to be, so that Wait waits for it, unless the
// set is draining. It comes before the handshake, which is written like
// everything else: perhaps by a goroutine.
func (s *Set) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.full {
		s.wg.Add(1)
	}
	return !s.full
}

// add takes in a connection that has a place reserved. It reports whether the
// set has begun to drain meanwhile.
func (s *Set) add(c *Conn) (draining bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.slot = int32(s.next)
	s.next = (s.next + 1) % len(s.slots)
	c.place = int32(len(s.slots[c.slot]))
	s.slots[c.slot] = append(s.slots[c.slot], c)
	s.count++
	s.opened++
	s.m.open.Inc()
	s.m.opened.Inc()
	return s.full
}

func (s *Set) remove(c *Conn) {
	c.mu.Lock()
	code := c.code
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[c.slot]
	last := len(slot) - 1
	slot[c.place] = slot[last]
	slot[c.place].place = c.place
	slot[last] = nil
	s.slots[c.slot] = slot[:last]
	s.count--
	s.m.open.Dec()
	s.m.closed.WithLabelValues(code.String()).Inc()
}

// Run waits for the sockets, and looks at one slot of the wheel each second, so
// that the pings are spread evenly. It returns when ctx ends, which must not be
// before Wait has returned: nobody hears the clients after that.
func (s *Set) Run(ctx context.Context) {
	var polling sync.WaitGroup
	for _, p := range s.pollers {
		polling.Go(func() { p.run(ctx) })
	}
	defer polling.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	round := s.round()
	for i := 0; ; i = (i + 1) % len(s.slots) {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.clock.Store(now.UnixNano())
			for _, c := range s.snapshot(i) {
				c.beat(now, round, s.cfg.Heartbeat)
			}
		}
	}
}

// Opened is how many connections there have been.
func (s *Set) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// Expire closes the connection with CloseTokenExpired at that time; the newest
// call counts. The wheel looks after it, so that a timer exists only shortly
// before.
func (c *Conn) Expire(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = at.UnixNano()
	c.expireWithin(c.set.round())
}

// expireWithin sets a timer if the connection ends before this time is over.
func (c *Conn) expireWithin(d time.Duration) {
	if c.ends == 0 || c.closing || c.dead {
		return
	}
	if left := time.Until(time.Unix(0, c.ends)); left <= d+tickSlack {
		time.AfterFunc(left, c.expire)
	}
}

func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().UnixNano() >= c.ends {
		c.close(proto.CloseTokenExpired)
	}
}

// round is the time in which the wheel looks at every connection.
func (s *Set) round() time.Duration { return time.Duration(len(s.slots)) * time.Second }

func (s *Set) snapshot(slot int) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.slots[slot]...)
}

// tickSlack is by how much one look may come too early or late.
const tickSlack = 500 * time.Millisecond

// deafBeats is after how many heartbeat intervals without a word from a client
// it is pinged although messages go out to it all the time: the kernel takes
// those, and so does any proxy, long after the client has vanished.
const deafBeats = 4

// beat sends a heartbeat to a connection that will have been silent in both
// directions for the interval by the next look at it, a round of the wheel
// later, or from which nothing has come for deafBeats; and closes one that has
// left a ping unanswered for the interval. By a stream nothing comes in: only
// what goes out counts.
func (c *Conn) beat(now time.Time, round, heartbeat time.Duration) {
	c.mu.Lock()
	in, out := c.lastIn.Load(), c.lastOut
	c.expireWithin(round)
	c.mu.Unlock()
	since := func(t int64) time.Duration { return time.Duration(now.UnixNano() - t) }
	heard := out
	if !c.oneWay {
		heard = max(in, out)
	}
	switch {
	case c.pinged != 0 && in < c.pinged && !c.oneWay:
		if c.busy.Load() {
			c.pinged = now.UnixNano() // it has the interval from when it is read again
		} else if since(c.pinged) >= heartbeat-tickSlack {
			c.Close(proto.CloseHeartbeat)
		}
	case since(heard)+round >= heartbeat+tickSlack, !c.oneWay && since(in) >= deafBeats*heartbeat:
		c.pinged = now.UnixNano()
		c.Push(c.format.Heartbeat)
	default:
		c.pinged = 0
	}
}

// Drain says goodbye to every connection, evenly spread over the window, so
// that the clients do not all come back in the same second; from now on
// nobody is accepted. It returns when all were told; when ctx ends, the rest
// is told at once.
func (s *Set) Drain(ctx context.Context, window time.Duration, code proto.CloseCode) {
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	var all []*Conn
	for i := range s.slots {
		all = append(all, s.snapshot(i)...)
	}
	begin := time.Now()
	for i, c := range all {
		at := begin.Add(window * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(at); wait > 5*time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				window = 0 // tell the rest at once
			}
		}
		c.Close(code)
	}
}
