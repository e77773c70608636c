package conn

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// webSocket is how WebSocket clients are told what is not a message.
var webSocket = &Format{Heartbeat: pingFrame, Goodbye: closeFrame}

// handshakeTimeout bounds the answer to a handshake.
const handshakeTimeout = 5 * time.Second

// Accept does the WebSocket handshake and makes c, a zero Conn, its connection.
// An error means that there is no client: refuse has answered, with 503 while
// the set drains, or the socket is gone. The caller has checked the origin, and
// must call Start: when Accept returns, the HTTP handler should return too, so
// that its stack and buffers are freed.
//
// gorilla/websocket does the handshake. The frames are our own business from
// there on: its reader holds a buffer and a goroutine for as long as there is
// a client, and its pings would keep both. Its compression is off as well: it
// answers the first offer of permessage-deflate without a look at its
// parameters, so that a client may be promised what it is not given.
func (s *Set) Accept(c *Conn, w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, refuse func(status int, reason error)) error {
	if !s.reserve() {
		refuse(http.StatusServiceUnavailable, ErrClosed)
		return ErrClosed
	}
	u := websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout,
		Subprotocols:     []string{proto.Subprotocol},
		CheckOrigin:      func(*http.Request) bool { return true },
		Error:            func(_ http.ResponseWriter, _ *http.Request, status int, reason error) { refuse(status, reason) },
	}
	var answer http.Header
	if s.cfg.Deflate {
		if extension := negotiate(r.Header["Sec-Websocket-Extensions"]); extension != "" {
			// gorilla refuses to be given this header in the spelling of
			// net/http, lest it contradict its own answer: here there is none.
			answer = http.Header{"Sec-WebSocket-Extensions": {extension}}
		}
	}
	ws, err := u.Upgrade(w, r, answer)
	if err != nil {
		s.wg.Done() // not reserved any more
		return err
	}
	s.begin(c, id, remote, webSocket)
	c.deflates = answer != nil
	c.parser.inflates = c.deflates
	c.parser.most = s.cfg.MaxMessageBytes
	s.attach(c, ws.NetConn())
	if s.add(c) {
		c.Close(proto.CloseGoingAway) // Drain did not see it
	}
	return nil
}

// attach gives a connection its socket in the cheapest form that it allows.
func (s *Set) attach(c *Conn, nc net.Conn) {
	if len(s.pollers) > 0 {
		p := s.pollers[s.turn.Add(1)%uint64(len(s.pollers))]
		if d := p.adopt(&c.socket, nc); d != nil {
			c.wire, c.quick, c.poller, c.working = d, d, p, true // until Start has called Arrived
			return
		}
	}
	c.wire = blocking{nc}
	if raw := nonBlocking(nc); raw != nil {
		p := plain{blocking{nc}, raw}
		c.wire, c.quick = p, p
	}
}
