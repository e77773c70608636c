package faults

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// stream is one connection to a gateway, whatever the protocol.
type stream interface {
	// next is the next frame, as JSON of PROTOCOL.md. It ends with an error
	// when the connection does, or is silent for too long; closeCode reads it.
	next() ([]byte, error)
	// send sends a client frame; errUnsupported where the protocol has none.
	send(frame any) error
	// heartbeat is after how many silent seconds the gateway gives a sign of life.
	heartbeat(seconds int)
	close()
}

// dialer connects to the gateway at host:port.
type dialer func(ctx context.Context, gateway string, query url.Values) (stream, error)

// dialTimeout is from the first packet to the welcome frame.
const dialTimeout = 10 * time.Second

// closeError is a goodbye with a code, in whatever form the protocol has.
type closeError proto.CloseCode

func (e closeError) Error() string { return "closed: " + proto.CloseCode(e).String() }

// closeCode is why a stream ended; 1006 without a goodbye (RFC 6455 section 7.4.1).
func closeCode(err error) proto.CloseCode {
	var ws *websocket.CloseError
	var other closeError
	switch {
	case errors.As(err, &ws):
		return proto.CloseCode(ws.Code)
	case errors.As(err, &other):
		return proto.CloseCode(other)
	}
	return websocket.CloseAbnormalClosure
}

// socket is a stream over WebSocket.
type socket struct {
	ws      *websocket.Conn
	patient time.Duration // silence that is bearable
}

// dialWebSocket has buffers as small as thousands of clients want.
func dialWebSocket(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialSocket(ctx, gateway, query, 0)
}

// receiveBytes is the kernel's buffer of a client that is to be slow: no more
// than some dozen messages wait there.
const receiveBytes = 32 << 10

func dialSlow(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialSocket(ctx, gateway, query, receiveBytes)
}

// dialerOf is a dialer whose sockets have a receive buffer of so many bytes; 0: as many as the kernel likes.
func dialerOf(buffer int) websocket.Dialer {
	nd := net.Dialer{}
	if buffer > 0 {
		nd.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer)
			})
			return errors.Join(err, failed)
		}
	}
	return websocket.Dialer{NetDialContext: nd.DialContext, HandshakeTimeout: dialTimeout, ReadBufferSize: 1 << 10,
		WriteBufferSize: 512}
}

func dialSocket(ctx context.Context, gateway string, query url.Values, buffer int) (stream, error) {
	d := dialerOf(buffer)
	ws, resp, err := d.DialContext(ctx, "ws://"+gateway+"/ws?"+query.Encode(), nil)
	if err != nil {
		if resp != nil && resp.StatusCode == http.StatusServiceUnavailable {
			return nil, closeError(proto.CloseOverload)
		}
		return nil, err
	}
	s := &socket{ws: ws, patient: dialTimeout}
	ws.SetPingHandler(func(data string) error {
		s.extend()
		return ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(s.patient))
	})
	return s, nil
}

// fails on a closed socket, as the next read does
func (s *socket) extend() { _ = s.ws.SetReadDeadline(time.Now().Add(s.patient)) }

func (s *socket) heartbeat(seconds int) {
	s.patient = 2*time.Duration(seconds)*time.Second + time.Second
}

func (s *socket) next() ([]byte, error) {
	s.extend()
	_, b, err := s.ws.ReadMessage()
	return b, err
}

func (s *socket) send(frame any) error {
	_ = s.ws.SetWriteDeadline(time.Now().Add(dialTimeout)) // as in extend
	return s.ws.WriteJSON(frame)
}

func (s *socket) close() { _ = s.ws.UnderlyingConn().Close() } // no goodbye: the network is gone
