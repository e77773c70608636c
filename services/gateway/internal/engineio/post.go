package engineio

import (
	"context"
	"errors"
	"net/http"

	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// errClosing stops Split after a close packet.
var errClosing = errors.New("the client closes the session")

// accepted answers a POST.
var accepted = Response{Status: http.StatusOK, Body: []byte("ok")}

// send hands the packets of a POST to the session, and answers when it has read them.
func (s *poll) send(ctx context.Context, q Query, body []byte, binary bool) Response {
	s.mu.Lock()
	switch {
	case q.Turn != "" && q.Turn == s.repeats.post && !s.posting:
		s.mu.Unlock()
		return accepted
	case s.ended || s.leaves || s.foreign(q):
		s.mu.Unlock()
		return BadRequest.Response()
	case s.posting: // protocol v4, "Sending data": at most one
		s.mu.Unlock()
		s.breakOff()
		return BadRequest.Response()
	}
	s.posting = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.posting = false
		s.mu.Unlock()
	}()
	var frames []byte
	var err error
	if q.Relay != "" {
		frames = appendClientFrame(nil, body, binary)
	} else {
		frames, err = s.frames(body, binary)
	}
	if err != nil && err != errClosing {
		s.breakOff()
		return BadRequest.Response()
	}
	s.mu.Lock()
	s.leaves = s.leaves || err == errClosing
	read := make(chan struct{})
	s.in, s.read = frames, read
	s.mu.Unlock()
	s.ready(socket.Event{Readable: true})
	select {
	case <-read:
		s.mu.Lock()
		s.repeats.post = q.Turn
		s.mu.Unlock()
		return accepted
	case <-ctx.Done():
		return BadRequest.Response()
	}
}

// frames are the packets of a POST. errClosing: the last one is a close packet.
func (s *poll) frames(body []byte, binary bool) (frames []byte, err error) {
	packets := 0
	err = s.version.Split(body, binary, func(b []byte, binary bool) error {
		if packets++; packets > maxPackets {
			return ErrPacket
		}
		frames = appendClientFrame(frames, b, binary)
		if !binary && b[0] == Close {
			return errClosing
		}
		return nil
	})
	return frames, err
}

// maxPackets bounds the packets of one POST: each costs more memory than its bytes.
const maxPackets = 256

// appendClientFrame appends a frame as clients send them, with a mask of zeroes.
func appendClientFrame(b, payload []byte, binary bool) []byte {
	const fin, masked = 0x80, 0x80
	op := byte(ws.Text)
	if binary {
		op = byte(ws.Binary)
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, fin|op, masked|byte(n))
	case n <= 0xffff:
		b = append(b, fin|op, masked|126, byte(n>>8), byte(n))
	default:
		b = append(b, fin|op, masked|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
