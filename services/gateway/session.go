package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/monotonic"
)

// wording is a dialect: how the clients of one protocol word the same session. What
// its functions return is one or more whole frames.
type wording struct {
	// format words heartbeat and goodbye.
	format *conn.Format
	// parse reads a client's frame; nil: these clients send none. An error closes the
	// connection with CloseInvalidPayload.
	parse func(b []byte) (proto.ClientFrame, error)
	// frame is for clients whose frames are not Herald's in other words: it does what
	// parse and session.handle do otherwise.
	frame func(c *session, b []byte)
	// maxFrames is how many frames a client may send in one second; 0: maxFrames.
	maxFrames int32
	// message words a message, once for all clients of the dialect that negotiated the same.
	message *hub.Encoding
	// deflating is the same wording with messages compressed; nil: they are, or nobody can.
	deflating *wording
	// single words a message that no other client shares.
	single *hub.Encoding
	// control words a control frame (proto.Gap, proto.Subscribed, …).
	control func(frame any) []byte
	// welcome words the first frame. last: messages older than its id follow, and after
	// them place.
	welcome func(f proto.Welcome, last bool) []byte
	// confirms has each channel of the URL answered by a subscribed frame.
	confirms bool
	// place words the id from which the client resumes from now on; it may be empty.
	place func(id string) []byte
	// moved words the id up to which the client has everything, though nothing of its
	// channels came lately; nil: the dialect has no words for that.
	moved func(id string) []byte
	// changed is called in the shard when the client follows something else than it asked for
	// when it was let in, before what is new comes; nil: that changes no words.
	changed func(c *session)
	// catchingUp is what precedes the messages that a subscription had missed, and
	// caughtUp what follows them; none: its newest message was asked for, and there is
	// none. Nil: what follows is the answer to a subscribe frame.
	catchingUp func(name string) []byte
	caughtUp   func(name string, none bool) []byte
}

func (w *wording) mostFrames() int32 {
	if w.maxFrames > 0 {
		return w.maxFrames
	}
	return maxFrames
}

// session is one client. Its connection calls it with the client's frames, and
// it brings the client up to date; the hub's shard calls it as a Sink.
type session struct {
	sub   hub.Subscriber
	words *wording
	conn  conn.Conn

	s *Service

	// Owned by whoever calls it as a conn.Client.
	asked *request // in its URL; nil once it was let in
	// monotonic.Now when it was let in; 0: it was not. Fixed by countIn, before the hub knows it
	since     int64
	who       atomic.Pointer[auth.Principal] // the console reads it, too
	anonymous bool
	counted   bool      // its socket is, beyond the request that brought it: see httpx.Admission
	fate      conn.Fate // owned by the shard: of what it delivered last
	agent     uint16    // its software: see agents; fixed
	page      uint16    // the page it comes from: see pageNumbers; fixed
	app       *app      // of a Pusher client; else nil
	frames    int32     // in the second that began at window
	held      int32     // guarded by mu; bytes of its address's share that its subscriptions take
	window    int64     // monotonic.Now

	mu       sync.Mutex // guards what a change of the rules removes while the client is served: see enforce
	followed []follow   // guarded by mu
	first    [1]follow  // where followed begins: most have one
}

const (
	// maxFollowed bounds the subscriptions of one connection; a pattern covers many
	// channels.
	maxFollowed = 1000
	// maxFrames is how many frames a client may send in one second.
	maxFrames = 50
	// maxSmallFrames is how many pings, pongs and fragments it may send besides.
	maxSmallFrames = 200
)

// principal is who the client is.
func (c *session) principal() *auth.Principal { return c.who.Load() }

// Deliver, Gap, Passed and Reset implement hub.Sink.
func (c *session) Deliver(b *hub.Batch) {
	c.fate = 0 // of what is left out, too
	if !b.Excepts(c.conn.ID()) {
		c.fate = c.conn.PushMessages(b.Encoded(c.words.message), len(b.Messages))
		return
	}
	for _, m := range b.Messages {
		if m.Except != c.conn.ID() {
			c.fate = c.conn.PushMessages(m.Encoded(c.words.message), 1)
		}
	}
}
func (c *session) Gap(since, upTo uint64, why string) {
	c.pushControl(proto.Gap{Type: proto.FrameGap, Reason: why, Since: c.id(since), ID: c.id(upTo)})
}
func (c *session) Passed(upTo uint64) {
	if c.words.moved != nil {
		c.conn.Push(c.words.moved(c.id(upTo)))
	}
}
func (c *session) Reset() { c.conn.Close(proto.CloseRestart) }

// pushControl pushes a control frame.
func (c *session) pushControl(frame any) { c.conn.Push(c.words.control(frame)) }

// answer sends the answer to what a client asked for, as a control frame, in the client's order. A
// dialect that answers otherwise than by a frame of its own (an acknowledgement) has
// another one than pushControl. Like the callbacks of package hub it may be called in
// the shard's goroutine, and must not block.
type answer func(frame any)

// Arrived makes a session, with Frame and Ended, a conn.Client. It refuses a client whose
// address has as many connections as it may have, and one whose URL asks for what it may
// not have; it counts and subscribes the others.
func (c *session) Arrived() {
	defer c.recovered()
	if r := c.countIn(); r != nil {
		c.refuse(*r)
		return
	}
	if c.asked.refused != nil {
		c.refuse(*c.asked.refused)
		return
	}
	c.enter()
	for _, f := range c.asked.subscribe {
		if c.conn.Reason() != 0 { // closed meanwhile
			break
		}
		c.subscribe(f.Channel, f.Since, c.pushControl)
	}
	c.asked = nil // an idle client holds no memory for it
}

// countIn makes the session known to the hub and counts it, unless its address has as
// many connections as it may have.
func (c *session) countIn() *refusal {
	a := c.s.ips.add(c.conn.Remote())
	if a.ok {
		c.since = monotonic.Now()
	}
	c.s.hub.Attach(&c.sub, c)
	if a.over {
		c.s.m.overLimit.Inc()
	}
	switch {
	case !a.ok:
		return &refusal{code: proto.CloseTooManyConnections,
			err: fmt.Errorf("this IP address has %d connections already", a.total)}
	case c.asked.judged != c.s.rules.Load(): // they changed since its request came; from now on enforce sees it
		if r := c.s.judgePage(c.page); r != nil {
			return r
		}
	}
	c.s.log.Info("client connected", "conn", c.conn.ID(), "remote", c.conn.Remote(), "ip_connections", a.total,
		"online", a.online)
	return nil
}

// Ended counts the client out.
func (c *session) Ended() {
	gone := make(chan struct{})
	c.sub.Detach(func() { close(gone) })
	<-gone
	c.mu.Lock()
	held := int(c.held)
	c.mu.Unlock()
	c.s.shares.release(c.conn.Remote(), held)
	if c.counted {
		c.s.sockets.Release(c.conn.Remote())
	}
	if c.app != nil {
		c.app.remove(c)
	}
	if c.since == 0 {
		return
	}
	remaining, online := c.s.ips.remove(c.conn.Remote())
	c.s.log.Info("client disconnected", "conn", c.conn.ID(), "remote", c.conn.Remote(), "ip_connections", remaining,
		"online", online,
		"reason", c.conn.Reason().String(), "took", monotonic.Since(c.since).Round(time.Millisecond))
}

// recovered closes a connection whose session panicked, so that the gateway's other
// clients stay.
func (c *session) recovered() {
	if v := recover(); v != nil {
		c.s.log.Error("a session panicked", "conn", c.conn.ID(), "err", fmt.Sprint(v), "stack", string(debug.Stack()))
		c.conn.Close(proto.CloseInternal)
	}
}

// refuse pushes an error frame that says why, and closes the connection.
func (c *session) refuse(r refusal) {
	c.refusedSession(r)
	c.pushControl(complaint(r.code.String(), r.channel, r.err))
	c.conn.Close(r.code)
}

// enter subscribes a client that is not refused to the channels in its URL, and replays
// what it missed.
func (c *session) enter() {
	c.watchExpiry()
	names, since := c.asked.channels, c.asked.since
	if r := c.hold(names...); r != nil {
		c.refuse(*r)
		return
	}
	welcome := proto.Welcome{
		Type: proto.FrameWelcome, Connection: c.conn.ID(), Heartbeat: int(c.s.cfg.Heartbeat / time.Second),
		Channels: names,
	}
	if since == "" {
		c.join(hub.Now, hub.Now, names, func(j hub.Joined) {
			welcome.ID = c.id(j.Position.Seq)
			if c.asked.greet != nil {
				c.conn.Push(c.asked.greet(welcome))
				return
			}
			c.conn.Push(append(c.words.welcome(welcome, false), c.confirm(false, welcome.ID)...))
		})
		return
	}
	p, err := c.plan(since, names)
	if err == nil {
		welcome.ID, welcome.Resumed = c.id(p.since), p.gap == ""
		if c.asked.greet == nil {
			c.conn.Push(c.words.welcome(welcome, p.last))
		}
		err = c.catchUp(p, "", nil)
	}
	if err != nil {
		c.failed(err)
	}
}

// confirm words, for a client that named channels in its URL, what a subscribe
// frame for each of them would have been answered; nil for others.
func (c *session) confirm(resumed bool, id string) []byte {
	if !c.asked.named || !c.words.confirms {
		return nil
	}
	var frames []byte
	for _, name := range c.asked.channels {
		frames = append(frames, c.words.control(subscribed(name, resumed, id))...)
	}
	return frames
}

// join joins history and live delivery of some names, waits until the shard has done so,
// and reports whether it has: see hub.Subscriber.Join for had and since. live is called
// in the shard's goroutine, between the last replayed message and the first live one; a
// frame that it pushes comes between these.
func (c *session) join(had, since uint64, names []string, live func(hub.Joined)) bool {
	answer := make(chan hub.Joined, 1)
	passed := c.s.hub.Passed() // read before Join: when Join is done, the shard has delivered everything up to there
	c.sub.Join(had, since, names, func(j hub.Joined) {
		if j.OK {
			at := j
			if passed.Epoch == j.Position.Epoch {
				at.Position.Seq = max(j.Position.Seq, passed.Seq)
			}
			live(at)
		}
		answer <- j
	})
	j := <-answer
	if j.OK {
		for _, name := range names {
			c.follow(name, min(had, j.Position.Seq))
		}
		c.dropForbidden(names) // which may have become so since they were checked
	}
	return j.OK
}

// failed closes a connection whose replay failed, with a code that has the client come
// back and resume.
func (c *session) failed(err error) {
	if errors.Is(err, conn.ErrClosed) || c.s.replaying.Err() != nil {
		return
	}
	if errors.Is(err, errRules) {
		c.refuse(refusal{code: proto.CloseReconnect, err: err})
		return
	}
	c.s.log.Warn("a client could not be brought up to date; it is told to come back", "conn", c.conn.ID(), "err", err)
	c.refuse(refusal{code: proto.CloseOverload,
		err: errors.New("the messages you missed cannot be read now; come back")})
}

// watchExpiry has the connection closed when its token expires: with the same leeway
// with which the token would be refused to a new connection. Anonymous clients have no
// token.
func (c *session) watchExpiry() {
	if !c.anonymous {
		c.conn.Expire(c.principal().Expires.Add(auth.Leeway))
	}
}

// Frame handles one frame of the client. None is binary: no format here accepts that.
func (c *session) Frame(b []byte, _ bool) {
	defer c.recovered()
	if !c.admit(len(b)) {
		return
	}
	if c.words.frame != nil {
		c.words.frame(c, b)
		return
	}
	f, err := c.words.parse(b)
	if err != nil {
		c.refuse(refusal{code: proto.CloseInvalidPayload, err: err})
		return
	}
	c.handle(f, c.pushControl)
}

// admit counts and charges for a frame of the client, and waits until its address has
// the time for it. It refuses, and reports false, when too many come.
func (c *session) admit(bytes int) bool {
	if now := monotonic.Now(); now-c.window >= int64(time.Second) {
		c.window, c.frames = now, 0
	}
	most := c.words.mostFrames()
	if c.frames++; c.frames > most {
		c.refuse(refusal{code: proto.CloseTooManyFrames, err: fmt.Errorf("more than %d frames in a second", most)})
		return false
	}
	c.pay(frameCost + time.Duration(bytes)*byteCost)
	return true
}

// handle does what a frame asks for. answer is called in the order of the frame, perhaps
// after handle has returned: in the shard, by what was last asked of it.
func (c *session) handle(f proto.ClientFrame, answer answer) {
	switch f.Type {
	case proto.FramePing:
		answer(proto.Pong{Type: proto.FramePong})
	case proto.FrameAuth:
		c.reauthenticate(f.Token, answer)
	case proto.FrameSubscribe:
		for _, name := range f.Targets() {
			c.subscribe(name, f.Since, answer)
		}
	case proto.FrameUnsubscribe:
		for _, name := range f.Targets() {
			c.unsubscribe(name, answer)
		}
	}
}
