package conn

import (
	"context"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/prometheus/client_golang/prometheus"
)

// Config bounds every connection of a set.
type Config struct {
	// MaxQueueBytes is how many bytes may wait for one client.
	MaxQueueBytes int
	// Heartbeat is after how long a silence a client is sent a heartbeat, in whole
	// ticks.
	Heartbeat time.Duration
	// HeartbeatWait is how long a client may send nothing after a heartbeat; 0: Heartbeat.
	HeartbeatWait time.Duration
	// Tick is how often one slot of the wheel is looked at, and so how exact heartbeats are;
	// 0: 1 s. Only a set with heartbeats below two seconds needs a shorter one.
	Tick time.Duration
	// MaxSmallFrames is how many control frames and fragments a WebSocket client may
	// send in one second before it is closed with CloseTooManyFrames; 0: no bound.
	MaxSmallFrames int
	// WriteStall is how long a socket may have no room at all before its client is closed
	// as slow; 0: 10 s. The queue's bound usually ends a slow client sooner.
	WriteStall time.Duration
	// CloseWait is how long a client may take to read what is queued before a goodbye, and
	// to answer it; 0: 2 s.
	CloseWait time.Duration
	// Blocking has goroutines wait for sockets on Linux, too, as they do on other systems.
	Blocking bool
	// Deflate lets WebSocket clients that offer it receive compressed messages, and send
	// them: see Conn.Deflates.
	Deflate bool
}

// What Config's zero values mean.
const (
	defaultWriteStall = 10 * time.Second
	defaultCloseWait  = 2 * time.Second
	defaultTick       = time.Second
)

// Set is all connections of a gateway. Run keeps their heartbeats; Drain says goodbye
// to all of them; Wait, after Drain, returns when the last has ended.
type Set struct {
	cfg     Config
	m       *metrics
	pollers socket.Pollers // may be none: then goroutines wait for every socket
	polls   bool           // fixed; there are pollers
	began   time.Time      // fixed; see now
	// now at Run's last tick: to ask for the time costs as much as the rest of a delivery outside the kernel
	clock atomic.Int64

	wg sync.WaitGroup // connections and handshakes under way, with their goroutines

	// Of all connections; changed by Conn.setQueued.
	queued atomic.Int64 // bytes that wait
	behind atomic.Int64 // connections for which some do

	mu       sync.Mutex
	formats  map[string]int // guarded by mu; open connections by the name of their format
	slots    [][]*Conn      // guarded by mu; the wheel of heartbeats and expiries: one slot is looked at each tick
	next     int            // guarded by mu; the slot of the next connection
	count    int            // guarded by mu
	draining bool           // guarded by mu; Drain has begun: nobody is accepted
}

// NewSet makes an empty set. The wheel turns twice per heartbeat interval, so that
// nobody is silent for much longer than that: see beat.
func NewSet(cfg Config, reg prometheus.Registerer) *Set {
	if cfg.WriteStall == 0 {
		cfg.WriteStall = defaultWriteStall
	}
	if cfg.CloseWait == 0 {
		cfg.CloseWait = defaultCloseWait
	}
	if cfg.Tick == 0 {
		cfg.Tick = defaultTick
	}
	if cfg.HeartbeatWait == 0 {
		cfg.HeartbeatWait = cfg.Heartbeat
	}
	s := &Set{cfg: cfg, began: time.Now(), m: newMetrics(reg), formats: map[string]int{},
		slots: make([][]*Conn, max(1, int(cfg.Heartbeat/(2*time.Second))))}
	s.clock.Store(s.now())
	if !cfg.Blocking {
		s.polls = s.pollers.Start(runtime.GOMAXPROCS(0)) == nil // if there are none, goroutines wait
	}
	return s
}

// now is the time since the set was made, in nanoseconds: not the time of day, so that
// setting the clock neither closes connections nor keeps dead ones.
func (s *Set) now() int64 { return int64(time.Since(s.began)) }

// Wait returns when every goroutine of every connection has ended.
func (s *Set) Wait() { s.wg.Wait() }

// Len is how many connections are open.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Formats is how many connections are open by the name of their format.
func (s *Set) Formats() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.formats)
}

// Behind is how many bytes wait for clients, and for how many clients.
func (s *Set) Behind() (bytes int64, clients int) { return s.queued.Load(), int(s.behind.Load()) }

// reserve counts in a connection to be, so that Wait waits for it, and reports whether
// it did: not while the set drains. It is called before the handshake, which Wait must
// wait for, too.
func (s *Set) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.wg.Add(1)
	}
	return !s.draining
}

// register puts a connection on the wheel. It reports whether the set drains by now.
func (s *Set) register(c *Conn) (draining bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.slot = int32(s.next)
	s.next = (s.next + 1) % len(s.slots)
	c.place = int32(len(s.slots[c.slot]))
	s.slots[c.slot] = append(s.slots[c.slot], c)
	s.count++
	s.formats[c.format.Name]++
	s.m.open.Inc()
	s.m.opened.Inc()
	return s.draining
}

// remove removes a connection from the wheel: the last one of its slot moves to its place.
func (s *Set) remove(c *Conn) {
	code := c.Reason()
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[c.slot]
	last := len(slot) - 1
	slot[c.place] = slot[last]
	slot[c.place].place = c.place
	slot[last] = nil
	s.slots[c.slot] = slot[:last]
	s.count--
	s.formats[c.format.Name]--
	s.m.open.Dec()
	s.m.closed.WithLabelValues(code.String()).Inc()
}

// Run watches the sockets, and looks at one slot of the wheel each tick, so that
// heartbeats are spread evenly. It returns when ctx ends, which must not be before Wait
// has returned: nothing is read from the clients after that.
func (s *Set) Run(ctx context.Context) {
	var polling sync.WaitGroup
	polling.Go(func() { s.pollers.Run(ctx) })
	defer polling.Wait()
	tick := time.NewTicker(s.cfg.Tick)
	defer tick.Stop()
	round := s.round()
	for i := 0; ; i = (i + 1) % len(s.slots) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := s.now()
			s.clock.Store(now)
			for _, c := range s.snapshot(i) {
				c.beat(now, round)
			}
		}
	}
}

// round is the time in which the wheel looks at every connection once.
func (s *Set) round() time.Duration { return time.Duration(len(s.slots)) * s.cfg.Tick }

func (s *Set) snapshot(slot int) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.slots[slot]...)
}

// Drain says goodbye to every connection, evenly spread over the window, so that the
// clients do not all come back in the same second; from now on nobody is accepted. It
// returns when every goodbye is queued; when ctx ends, the rest is queued at once.
func (s *Set) Drain(ctx context.Context, window time.Duration, code proto.CloseCode) {
	s.mu.Lock()
	s.draining = true
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
				window = 0 // the rest at once
			}
		}
		c.Close(code)
	}
}
