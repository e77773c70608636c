package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
)

// client follows channels as the JavaScript library does: it keeps the newest
// id, and when the connection is lost it comes back to another gateway, after
// a random pause, with since. It writes down what it got.
type client struct {
	name string
	dial dialer

	// Owned by the goroutine of run.
	visit int // which gateway is next

	mu       sync.Mutex
	gateways []string           // guarded by mu; host:port
	follows  map[string]*follow // guarded by mu; a nil one is asked for and not confirmed yet
	over     []follow           // guarded by mu; subscriptions that were given up
	leaving  map[string]*follow // guarded by mu; of them those whose end is not confirmed
	id       proto.Cursor       // guarded by mu; the newest; zero until the first welcome
	conn     stream             // guarded by mu; nil unless welcomed
	got      []receipt          // guarded by mu
	gaps     []string           // guarded by mu
	faults   []string           // guarded by mu; what a client should never meet
	codes    map[string]int     // guarded by mu; how connections ended
	online   time.Time          // guarded by mu; since when it wants to be connected
	held     chan struct{}      // guarded by mu; not nil: it does not read until it is closed

	cancel context.CancelFunc // of the current run; nil while it is away
	done   chan struct{}      // closed when run has ended
}

func newClient(name string, gateways []string, dial dialer, patterns ...string) *client {
	c := &client{
		name: name, gateways: gateways, dial: dial, visit: rand.N(len(gateways)),
		follows: map[string]*follow{}, leaving: map[string]*follow{}, codes: map[string]int{},
	}
	for _, p := range patterns {
		c.follows[p] = nil
	}
	return c
}

// Pauses between attempts: full jitter, as in the JavaScript library, but
// shorter, so that a suite with many faults ends the same day.
const (
	firstDelay = 200 * time.Millisecond
	maxDelay   = 2 * time.Second
	// steady is how long a connection must have lasted for the next pause to
	// be a short one again.
	steady = 2 * time.Second
)

// start goes online, for the first time or after stop. Both are for one
// goroutine, the scenario's.
func (c *client) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	c.online = time.Now()
	c.mu.Unlock()
	c.cancel, c.done = cancel, make(chan struct{})
	go c.run(ctx, c.done) // stop waits for it
}

// stop goes away without a goodbye, as a client that lost its network. It
// keeps its id and what it follows.
func (c *client) stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
		c.cancel = nil
	}
}

func (c *client) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for attempt := 0; ; attempt++ {
		begin := time.Now()
		code := c.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.codes[code.String()]++
		if !code.ComeBack() {
			c.faults = append(c.faults, fmt.Sprintf("told to stay away: %d %s", code, code))
		}
		c.mu.Unlock()
		if !code.ComeBack() {
			return
		}
		if time.Since(begin) > steady {
			attempt = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(min(firstDelay<<min(attempt, 10), maxDelay))):
		}
	}
}

// move gives the client other gateways from its next connection on. One that
// has connected once, to the first of them, goes to the second next.
func (c *client) move(gateways ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gateways = gateways
}

// received is how many messages the client got.
func (c *client) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// ended is how many connections have.
func (c *client) ended() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, times := range c.codes {
		n += times
	}
	return n
}

// connection is one, from dialling to its end; the code says why it ended.
func (c *client) connection(ctx context.Context) proto.CloseCode {
	c.mu.Lock()
	gateway := c.gateways[c.visit%len(c.gateways)]
	c.mu.Unlock()
	c.visit++
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s, err := c.dial(dialling, gateway, c.query())
	if err != nil {
		return closeCode(err)
	}
	defer s.close()
	defer context.AfterFunc(ctx, s.close)()
	defer c.lost()
	for {
		c.hold(ctx)
		b, err := s.next()
		if err != nil {
			return closeCode(err)
		}
		c.receive(s, b)
	}
}

// query is what the URL asks for: everything followed, from the newest id on.
func (c *client) query() url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := url.Values{}
	for p, f := range c.follows {
		q.Add("channel", p)
		if f != nil { // one id resumes all: a subscription younger than it gets more
			f.mayAfter = min(f.mayAfter, c.id.Seq)
		}
	}
	if len(c.follows) == 0 {
		q.Set("channel", "") // none yet
	}
	if c.id != (proto.Cursor{}) {
		q.Set("since", c.id.String())
	}
	return q
}

// lost ends what ends with a connection.
func (c *client) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	for p := range c.leaving {
		c.unsubscribed(p)
	}
}

// hold waits while the client is told not to read.
func (c *client) hold(ctx context.Context) {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
}

// frame is any frame of a gateway.
type frame struct {
	Type      string
	ID        string
	Channel   string
	Data      struct{ N uint64 }
	Heartbeat int
	Since     string
	Reason    string
	Code      string
	Detail    string
}

// parse reads a frame. Messages as PROTOCOL.md writes them down, members in
// that order, are looked at only where it matters: there are tens of thousands
// a second, with kilobytes of padding.
func parse(b []byte) (f frame, err error) {
	if rest, ok := bytes.CutPrefix(b, []byte(`{"id":"`)); ok {
		id, rest, _ := bytes.Cut(rest, []byte(`"`))
		if _, n, ok := bytes.Cut(rest, []byte(`"data":{"n":`)); ok {
			n, _, _ = bytes.Cut(n, []byte(`,`))
			f.ID = string(id)
			f.Data.N, err = strconv.ParseUint(string(n), 10, 64)
			return f, err
		}
	}
	return f, json.Unmarshal(b, &f)
}

func (c *client) receive(s stream, b []byte) {
	at := time.Now()
	f, err := parse(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	var id proto.Cursor
	if err == nil && f.ID != "" {
		id, err = proto.ParseCursor(f.ID)
	}
	switch {
	case err != nil:
		c.faults = append(c.faults, fmt.Sprintf("cannot read %.200s: %v", b, err))
	case f.Type == "":
		c.newer(id)
		c.got = append(c.got, receipt{seq: id.Seq, n: f.Data.N, at: at.UnixNano(), online: c.online.UnixNano()})
	case f.Type == proto.FrameWelcome:
		s.heartbeat(f.Heartbeat)
		c.welcomed(s, id)
	case f.Type == proto.FramePosition:
		c.newer(id)
	case f.Type == proto.FrameSubscribed:
		c.confirm(f.Channel, id.Seq)
	case f.Type == proto.FrameUnsubscribed:
		c.unsubscribed(f.Channel)
	case f.Type == proto.FrameGap:
		c.gaps = append(c.gaps, fmt.Sprintf("gap (%s) after %s up to %s", f.Reason, f.Since, f.ID))
		c.newer(id)
	case f.Type == proto.FrameError && f.Code != proto.CloseOverload.String():
		c.faults = append(c.faults, fmt.Sprintf("error frame %s: %s", f.Code, f.Detail))
	}
}
