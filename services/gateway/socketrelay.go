package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/internal/httpx"
)

// relay is a WebSocket here of a session that another gateway has: a conn.Client, whose
// packets go there as POSTs, and to which the answers to GETs come back. The
// session polls, and the relay is its only client. So it has the bounds of both:
// the owner is asked for more when the client has read, and a packet of the client is
// handled before the next is read. A relay costs a goroutine here and one there, as a
// client that polls does, where a WebSocket at its owner costs none.
type relay struct {
	s       *Service
	conn    conn.Conn
	q       engineio.Query
	release func() // gives the place of the socket back; nil: nobody counts sockets

	ctx context.Context // ends with the connection
	cut context.CancelFunc

	// Owned by whoever calls it as a conn.Client.
	probes    int
	timer     *time.Timer   // ends a probe that takes too long
	receiving chan struct{} // closed when receive has returned; nil: before the upgrade
}

// relayFormat has no heartbeat: those of the session come from its owner.
var relayFormat = &conn.Format{Binary: true, Subprotocol: proto.Subprotocol,
	Goodbye: func(code proto.CloseCode) []byte {
		return ws.EncodeClose(uint16(code), code.String())
	}}

// upgradeSocketIO serves the WebSocket that a session which polls goes over to.
func (s *Service) upgradeSocketIO(w http.ResponseWriter, r *http.Request, q engineio.Query) {
	refuse := func(response engineio.Response) { response.Write(w, false, "") }
	if p := httpx.Refused(r); p != nil { // no room for one more socket: the client goes on polling
		refuse(engineio.Refusal(p.Status, int(engineio.Forbidden), p.Detail))
		return
	}
	if !s.hops.elsewhere(q.SID) {
		s.engine.Probe(w, r, q, refuse, s.handOver(r))
		return
	}
	if s.draining.Load() { // the client goes on polling, through another gateway
		refuse(engineio.Refusal(http.StatusServiceUnavailable, int(engineio.BadRequest), "this gateway is stopping"))
		return
	}
	q.Relay, q.Turn = httpx.NewID(), "" // a relay repeats nothing
	l := &relay{s: s, q: q}
	begun := s.hops.step(r.Context(), q, engineio.Probing)
	if begun.IsUnknown() {
		s.wait(s.shares.pay(s.clientIP(r), costOf(r)), func() bool { return r.Context().Err() != nil })
	}
	if begun.Status != http.StatusOK && begun.Status != http.StatusBadRequest || begun.IsUnknown() {
		refuse(begun)
		return
	}
	l.ctx, l.cut = context.WithCancel(context.Background())
	err := s.conns.Accept(&l.conn, w, r, s.clientIP(r), q.Relay, relayFormat, func(status int, reason error) {
		refuse(engineio.Refusal(status, int(engineio.BadRequest), reason.Error()))
	})
	if err != nil {
		l.cut()
		l.step(engineio.Ended)
		return
	}
	if handOver := s.handOver(r); handOver != nil {
		l.release = handOver()
	}
	l.q.Frames, l.q.Deflates = true, l.conn.Deflates()
	if begun.Status != http.StatusOK { // protocol v4, "WebSocket": a further one is closed
		l.q.Relay = ""
		l.conn.Close(proto.CloseGoingAway)
	}
	l.conn.Start(l)
}

// Arrived makes it a conn.Client.
func (l *relay) Arrived() {
	// stopped by Frame or Ended
	l.timer = time.AfterFunc(engineio.UpgradeTimeout, func() { l.conn.Close(proto.CloseHeartbeat) })
}

// Frame makes it a conn.Client.
func (l *relay) Frame(b []byte, binary bool) {
	switch {
	case l.receiving != nil:
		if r := l.s.hops.pass(l.ctx, l.q, http.MethodPost, b, binary); r.Status != http.StatusOK {
			l.conn.Close(proto.CloseGoingAway)
		}
	case !binary && string(b) == "2probe" && l.probes < engineio.MaxProbes && l.step(engineio.Probed):
		l.probes++
		l.conn.Push(engineText([]byte("3probe")))
	case !binary && string(b) == string(engineio.Upgrade) && l.step(engineio.Upgraded):
		l.timer.Stop()
		l.receiving = make(chan struct{})
		go l.receive() // Ended waits for it
	default:
		l.conn.Close(proto.CloseInvalidPayload) // the session goes on polling
	}
}

// Ended makes it a conn.Client.
func (l *relay) Ended() {
	l.timer.Stop()
	l.cut()
	if l.receiving != nil {
		<-l.receiving
	}
	if l.release != nil {
		l.release()
	}
	l.step(engineio.Ended)
}

func (l *relay) step(step engineio.Step) (ok bool) {
	if l.q.Relay == "" { // the owner knows nothing of it
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepWait)
	defer cancel()
	return l.s.hops.step(ctx, l.q, step).Status == http.StatusOK
}

// stepWait bounds the wait for the owner of a session, which answers a step at once.
const stepWait = 5 * time.Second

var errSessionEnds = errors.New("the session ends")

// receive passes what the owner has to say on to the client, until either is gone.
func (l *relay) receive() {
	defer close(l.receiving)
	for {
		r := l.s.hops.pass(l.ctx, l.q, http.MethodGet, nil, false)
		if r.Status != http.StatusOK {
			l.conn.Close(proto.CloseGoingAway)
			return
		}
		if l.forward(r) != nil {
			l.conn.Close(proto.CloseGoingAway)
			return
		}
	}
}

// forward sends the client what the owner has answered: frames for it or, by an owner of an earlier version, a payload.
func (l *relay) forward(r engineio.Response) error {
	if r.Frames {
		return r.EachFrame(func(frame []byte, packet byte) error { return l.send(frame, packet) })
	}
	return l.q.Version.Split(r.Body, r.Binary, func(b []byte, binary bool) error {
		if binary {
			return l.send(ws.Encode(ws.Binary, b), 0)
		}
		return l.send(ws.Encode(ws.Text, b), b[0])
	})
}

// send passes a frame on, unless it is for the WebSocket's own end. packet is its type, 0: a message's.
func (l *relay) send(frame []byte, packet byte) error {
	switch packet {
	case engineio.Noop:
		return nil
	case engineio.Close:
		return errSessionEnds
	}
	return l.conn.SendWait(l.ctx, frame)
}
