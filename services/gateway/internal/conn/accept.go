package conn

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Accept does the WebSocket handshake and makes c, a zero Conn, the client's
// connection. On an error there is no client: refuse has answered, with 503 while the
// set drains, or the socket is gone. The caller has checked the origin, and must call
// Start. When Accept has returned, the HTTP handler should return too, so that its
// stack and buffers are freed.
func (s *Set) Accept(c *Conn, w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, format *Format,
	refuse func(status int, reason error)) error {
	if !s.reserve() {
		refuse(http.StatusServiceUnavailable, ErrClosed)
		return ErrClosed
	}
	nc, deflates, err := ws.Upgrade(w, r, format.Subprotocol, s.cfg.Deflate, refuse)
	if err != nil {
		s.wg.Done() // not reserved any more
		return err
	}
	c.deflates.Store(deflates)
	s.add(c, s.wrap(c, nc), remote, id, format)
	return nil
}

// Attach makes c, a zero Conn, the connection of a client whose socket the caller has:
// one that speaks WebSocket's frames. ErrClosed means that the set drains; the socket is
// still the caller's then. The caller must call Start.
func (s *Set) Attach(c *Conn, sk socket.Polled, remote netip.Addr, id string, format *Format) error {
	if !s.reserve() {
		return ErrClosed
	}
	s.add(c, sk, remote, id, format)
	return nil
}

// wrap returns a network connection as a socket, in the cheapest form that it allows.
func (s *Set) wrap(c *Conn, nc net.Conn) socket.Socket {
	if sk := s.pollers.Adopt(&c.parked, nc); sk != nil {
		return sk
	}
	return socket.Wait(nc)
}

// add completes a connection for which there is a reservation, and counts it in.
func (s *Set) add(c *Conn, sk socket.Socket, remote netip.Addr, id string, format *Format) {
	c.set, c.socket, c.remote, c.id, c.format = s, sk, remote, id, format
	c.decoder.MaxMessageBytes = format.MaxMessageBytes
	_, c.polled = sk.(socket.Polled)
	c.handling = c.polled // until Start has called Arrived
	now := s.now()
	c.lastIn.Store(now)
	c.lastOut = now
	if format.Steady {
		c.pinged = now // the first heartbeat comes after an interval, too
	}
	if s.register(c) {
		c.Close(proto.CloseGoingAway) // Drain has not seen it
	}
}

// Deflates reports whether permessage-deflate may be negotiated: see Conn.Deflate.
func (s *Set) Deflates() bool { return s.cfg.Deflate }

// Polls reports whether pollers watch sockets here: see Poll.
func (s *Set) Polls() bool { return s.polls }

// Poll returns nc as a socket that a poller watches, in memory of the caller's; nil if
// none can, and then nc is unchanged.
func (s *Set) Poll(memory *socket.Parked, nc net.Conn) socket.Polled {
	return s.pollers.Adopt(memory, nc)
}
