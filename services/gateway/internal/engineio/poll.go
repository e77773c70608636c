package engineio

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// poll is the socket of a session that polls, or did: see the package comment. Its
// owner is a conn.Conn, which holds its own lock when it calls the methods of
// socket.Polled.
type poll struct {
	// Fixed.
	server  *Server
	conn    *conn.Conn
	sid     string
	version Version
	b64     bool // V3: no payloads of bytes

	mu       sync.Mutex
	owner    socket.Owner  // guarded by mu; nil until Watch
	in       []byte        // guarded by mu; frames that are not read yet
	read     chan struct{} // guarded by mu; closed when in is empty; nil: nobody waits for that
	get      *exchange     // guarded by mu; the GET that is open; nil: none
	repeats  repeats       // guarded by mu
	gathers  bool          // guarded by mu; what waits is being written: the response is sent after all of it
	out      []content     // guarded by mu; of the response
	outBytes int           // guarded by mu
	posting  bool          // guarded by mu; a POST is under way
	probing  bool          // guarded by mu; a WebSocket has asked for the session
	upgrades bool          // guarded by mu; it was answered: no GET is to stay open
	relay    relaying      // guarded by mu; a WebSocket at another node
	// leaves: the client said that it closes. A GET that crosses that packet is still answered.
	leaves bool // guarded by mu
	// goodbye: it is for the next response. JavaScript clients handle a close packet before
	// the messages that come with it, and then mistake those for messages of their next
	// session, which brings them again.
	goodbye bool // guarded by mu
	ended   bool // guarded by mu; nothing comes in any more
	closed  bool // guarded by mu

	websocket socket.Polled // guarded by mu; after the upgrade
	parked    socket.Parked // memory of websocket
	release   func()        // guarded by mu; gives back the place of the WebSocket; nil: nothing
}

// exchange is a GET that waits for its response.
type exchange struct {
	answer chan Response // one is sent
	late   bool          // fixed; it came after the probe was answered
}

// maxResponse is from how many bytes on a response gets no further packet. A single one
// may be longer.
const maxResponse = 256 << 10

// Watch makes *poll a socket.Polled.
func (s *poll) Watch(o socket.Owner) (readable bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = o
	return len(s.in) > 0 || s.ended, nil
}

// Write makes packets of the frames in b, for the response to the open GET. It takes all
// of b or, if there is no GET or its response is full, nothing.
func (s *poll) Write(b []byte) (n int, full bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.websocket != nil:
		return s.websocket.Write(b)
	case s.closed:
		return 0, false, net.ErrClosed
	case len(b) == 0:
		return 0, false, nil
	case s.get == nil || s.outBytes >= maxResponse:
		return 0, true, nil
	}
	for rest := b; len(rest) > 0; {
		op, payload, after := ws.Cut(rest)
		whole := rest[:len(rest)-len(after)]
		rest = after
		switch {
		case op == ws.Text && s.relay.frames, op == ws.Binary && s.relay.frames:
			s.addBytes(append([]byte(nil), whole...), false)
		case op == ws.Text, op == ws.Binary:
			s.addBytes(append([]byte(nil), payload...), op == ws.Binary)
		case op == ws.Close: // the connection's goodbye
			if s.goodbye = len(s.out) > 0; !s.goodbye {
				s.end()
			}
		}
	}
	if !s.gathers && len(s.out) > 0 {
		s.respond()
	}
	return len(b), false, nil
}

// end puts the goodbye into the response.
func (s *poll) end() {
	s.forget()
	if s.leaves {
		s.add(Noop)
	} else {
		s.add(Close)
	}
	s.goodbye, s.ended = false, true
}

// add puts a packet without data into the response.
func (s *poll) add(packet byte) {
	if s.relay.frames {
		s.addBytes(frame(string(packet)), false)
	} else {
		s.addBytes([]byte{packet}, false)
	}
}

func (s *poll) addBytes(b []byte, binary bool) {
	s.out = append(s.out, content{b, binary})
	s.outBytes += len(b)
}

// respond answers the open GET with what there is.
func (s *poll) respond() {
	var response Response
	if s.relay.frames {
		response = s.relayed()
	} else {
		payload, binary := s.version.join(s.out, s.b64)
		response = Response{Status: http.StatusOK, Binary: binary, Body: payload}
	}
	s.repeats.answered(response)
	s.get.answer <- response
	s.get, s.out, s.outBytes = nil, nil, 0
}

// Read makes *poll a socket.Polled: what came by POST, as frames.
func (s *poll) Read(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = copy(b, s.in)
	if s.in = s.in[n:]; len(s.in) == 0 {
		s.in = nil
		s.wake()
	}
	switch {
	case len(s.in) > 0:
		return n, nil
	case s.websocket != nil && n == 0:
		return s.websocket.Read(b)
	case s.websocket != nil:
		return n, nil
	case s.ended:
		return n, io.EOF
	}
	return n, socket.ErrNothing
}

// wake has a POST answered whose packets were read, or never will be.
func (s *poll) wake() {
	if s.read != nil {
		close(s.read)
		s.read = nil
	}
}

// CloseWrite makes *poll a socket.Polled.
func (s *poll) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.websocket != nil {
		return s.websocket.CloseWrite()
	}
	return nil
}

// Close makes *poll a socket.Polled.
func (s *poll) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.ended, s.in = true, true, nil
	s.forget()
	s.wake()
	if s.websocket != nil {
		s.websocket.Close()
	}
	if s.get != nil {
		if len(s.out) == 0 {
			s.add(Close)
		}
		s.respond()
	}
	if s.release != nil {
		s.release()
	}
	s.repeats.end()
}

// forget removes the session from the server's table: from now on its sid is unknown.
func (s *poll) forget() {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.sessions[s.sid] == s {
		delete(s.server.sessions, s.sid)
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// ready calls the owner, without mu.
func (s *poll) ready(e socket.Event) {
	s.mu.Lock()
	owner := s.owner
	s.mu.Unlock()
	if owner == nil {
		return // Watch is told
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	owner.Ready(e, *buf)
}

// breakOff ends the session: the client broke the protocol, or has hung up.
func (s *poll) breakOff() {
	s.mu.Lock()
	s.ended = true
	s.forget()
	if s.get != nil {
		s.add(Close)
		s.respond()
	}
	s.wake()
	s.mu.Unlock()
	s.ready(socket.Event{Readable: true, Ending: true})
}

// receive answers a GET, when there is something to say. ctx ends when the client hangs
// up.
func (s *poll) receive(ctx context.Context, q Query) Response {
	s.mu.Lock()
	switch again := q.Turn != "" && q.Turn == s.repeats.get; {
	case s.ended || s.foreign(q):
		s.mu.Unlock()
		return BadRequest.Response()
	case again && s.get != nil: // whoever waits for the first has lost its connection
		s.get.answer <- BadRequest.Response()
		s.get = nil
	case again && s.repeats.response != nil:
		defer s.mu.Unlock()
		return *s.repeats.response
	case s.get != nil: // protocol v4, "Receiving data": at most one
		s.mu.Unlock()
		s.breakOff()
		return BadRequest.Response()
	}
	s.repeats.begin(q.Turn)
	get := s.open()
	get.late = s.upgrades
	s.gathers = true
	s.mu.Unlock()
	s.ready(socket.Event{Writable: true})
	s.mu.Lock()
	s.gathers = false
	if s.get == get {
		if s.goodbye && len(s.out) == 0 {
			s.end()
		}
		switch {
		case len(s.out) > 0:
			s.respond()
		case get.late:
			time.AfterFunc(lateWait, func() { s.dismiss(get) })
		}
	}
	s.mu.Unlock()
	return s.await(ctx, get)
}

// lateWait is how long a GET that comes after the probe was answered waits for the upgrade.
// The upgrade packet may have been sent before it, by another way. The reference server
// looks for such a GET as often.
const lateWait = 100 * time.Millisecond

// dismiss ends this GET, if it is still open, so that the client can go over to the
// WebSocket.
func (s *poll) dismiss(get *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.get == get && !s.gathers {
		s.add(Noop)
		s.respond()
	}
}

// open makes a GET the one that is open. mu is held, or nobody else knows s.
func (s *poll) open() *exchange {
	s.get = &exchange{answer: make(chan Response, 1)}
	return s.get
}

// await waits for the response to an open GET.
func (s *poll) await(ctx context.Context, get *exchange) Response {
	select {
	case response := <-get.answer:
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		if ended { // this was the goodbye: the client is known to have it
			s.ready(socket.Event{Readable: true, Ending: true})
		}
		return response
	case <-ctx.Done():
		if !s.hungUp(get) {
			s.breakOff() // what would be written now might get lost
		}
		return BadRequest.Response()
	}
}
