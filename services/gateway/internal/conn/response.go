package conn

import (
	"net/http"
	"net/netip"
	"sync"

	"github.com/herald-push/herald/services/gateway/internal/socket"
)

// response is an HTTP response whose handler waits for the goodbye.
type response struct {
	*socket.Response
	once  sync.Once
	ended chan struct{} // closed when the goodbye is queued, or the socket is closed
}

// end has Respond return when everything is written.
func (s *response) end() { s.once.Do(func() { close(s.ended) }) }

// Close makes *response a socket.Socket.
func (s *response) Close() {
	s.end()
	s.Response.Close()
}

// Respond makes c, a zero Conn, the connection of an HTTP response that does not end,
// and calls the Client's Arrived and Ended in this goroutine, the handler's. It returns
// when the connection is closed and w is not used any more. ErrClosed means that the
// set drains, and that nothing was written. The caller has set the headers; the status
// is 200. Nothing comes in, so a client that vanished is noticed by a write that fails
// or a queue that fills.
func (s *Set) Respond(c *Conn, w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, format *Format,
	client Client) error {
	if !s.reserve() {
		return ErrClosed
	}
	st := &response{Response: socket.Respond(w), ended: make(chan struct{})}
	c.oneWay = true
	s.add(c, st, remote, id, format)
	c.client = client
	c.client.Arrived()
	select {
	case <-r.Context().Done():
	case <-st.ended:
		if c.flushed() {
			st.Finish(s.cfg.CloseWait)
		}
	}
	c.stop()
	st.Finish(s.cfg.CloseWait) // for the end of the body
	c.finish()
	return nil
}

// stop closes the connection and waits until nobody writes to it.
func (c *Conn) stop() {
	for {
		c.mu.Lock()
		c.kill()
		if !c.full {
			c.mu.Unlock()
			return
		}
		unblocked := c.wait()
		c.mu.Unlock()
		<-unblocked
	}
}
