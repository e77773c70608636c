package conn

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// Accept does the WebSocket handshake. An error means that there is no client:
// refuse has answered, with 503 while the set drains, or the socket is gone.
// The caller has checked the origin, and must call Go: when Accept returns,
// the HTTP handler should return too, so that its stack and buffers are freed.
func (s *Set) Accept(w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, refuse func(status int, reason error)) (*Conn, error) {
	if !s.reserve() {
		refuse(http.StatusServiceUnavailable, ErrClosed)
		return nil, ErrClosed
	}
	c := s.newConn(id, remote)
	c.goodbye, c.heartbeat = closeFrame, pingFrame
	u := websocket.Upgrader{
		// Clients send little: small buffers, and none for writing, since
		// frames come ready-made and gorilla's own are built in the pool's.
		ReadBufferSize:  512,
		WriteBufferSize: 512,
		WriteBufferPool: &controlBuffers,
		CheckOrigin:     func(*http.Request) bool { return true },
		Error:           func(_ http.ResponseWriter, _ *http.Request, status int, reason error) { refuse(status, reason) },
	}
	ws, err := u.Upgrade(&hijacker{ResponseWriter: w, conn: c}, r, nil)
	if err != nil {
		s.wg.Done() // not reserved any more
		return nil, err
	}
	ws.SetReadLimit(proto.MaxFrameBytes)
	c.ws = ws
	if s.add(c) {
		c.Close(proto.CloseGoingAway) // Drain did not see it
	}
	return c, nil
}

var controlBuffers sync.Pool

// hijacker puts Conn between gorilla and the socket.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, brw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn.nc, h.conn.raw = nc, nonBlocking(nc)
	return socket{h.conn}, brw, nil
}

// Serve returns when the connection is over, and says why it ended. Each text
// frame that comes is given to frame, which may keep nothing of it and may
// call Close; a stream brings none. It must be called once, by the function
// given to Go or Stream.
func (c *Conn) Serve(frame func([]byte)) proto.CloseCode {
	defer c.set.remove(c)
	if c.oneWay {
		return c.serveStream()
	}
	for {
		kind, r, err := c.ws.NextReader()
		if err != nil {
			return c.ended(err)
		}
		if kind != websocket.TextMessage {
			c.Close(proto.CloseUnsupported)
			continue // until the client answers the goodbye, or closeWait
		}
		b, err := io.ReadAll(r) // bounded by the read limit
		if err != nil {
			return c.ended(err)
		}
		if !c.isClosing() {
			frame(b)
		}
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing || c.dead
}

// ended ends a connection that cannot be read from any more, for the reason
// that the error gives unless there is one already. A client that said goodbye
// gets it back; one that broke the protocol is told so.
func (c *Conn) ended(err error) proto.CloseCode {
	var closed *websocket.CloseError
	var network net.Error
	c.mu.Lock()
	answered, broken := false, false
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure: // which stands for the end of the file
		answered = true
		if c.setCode(proto.CloseNormal); !c.closing && !c.dead {
			c.leave(echo(closed.Code))
		}
	case errors.Is(err, websocket.ErrReadLimit):
		broken = true
		c.close(proto.CloseTooBig)
	case closed != nil, errors.As(err, &network), errors.Is(err, ErrClosed), errors.Is(err, io.EOF):
		c.setCode(proto.CloseNormal)
	default:
		broken = true
		c.close(proto.CloseProtocolError)
	}
	c.mu.Unlock()
	if (answered || broken) && c.flushed() {
		c.linger(broken)
	}
	return c.end()
}

// linger says that nothing more is coming. What a client that broke the
// protocol still sends is thrown away, up to closeWait: closing a socket with
// unread input sends a reset, which would take the goodbye with it (RFC 1122
// section 4.2.2.13).
func (c *Conn) linger(discard bool) {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	if discard && c.nc.SetReadDeadline(time.Now().Add(c.set.closeWait)) == nil {
		_, _ = io.Copy(io.Discard, c.nc) // ends with the deadline at the latest
	}
}
