package conn_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/socket"
)

// fake is a polled socket whose room is the test's to give.
type fake struct {
	mu     sync.Mutex
	out    []byte        // guarded by mu; what the client has got
	wrote  func([]byte)  // fixed; nil: nobody is told
	room   int           // guarded by mu; bytes that it accepts now; below 0: any number
	keeps  bool          // fixed; it accepts everything, like TLS, and keeps what there is no room for
	kept   []byte        // guarded by mu
	in     []byte        // guarded by mu; what the client has sent, and was not read yet
	end    bool          // guarded by mu; the client sends no more
	owner  socket.Owner  // guarded by mu
	watch  chan struct{} // closed by Watch
	half   bool          // guarded by mu; CloseWrite was called
	closed bool          // guarded by mu
}

// attach makes a fake socket the connection of a client of s.
func (s *server) attach(f *fake) *conn.Conn {
	s.t.Helper()
	f.watch = make(chan struct{})
	c := new(conn.Conn)
	format := s.format
	if format == nil {
		format = conn.WebSocket
	}
	if err := s.set.Attach(c, f, local, "test", format); err != nil {
		s.t.Fatal(err)
	}
	c.Start(&caller{s, c})
	<-s.conns
	<-f.watch
	eventually(s.t, "Arrived has returned", c.Idle)
	return c
}

func (f *fake) Write(b []byte) (n int, full bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, false, io.ErrClosedPipe
	}
	if f.keeps {
		f.kept = append(f.kept, b...)
		k := f.accept(f.kept)
		f.kept = f.kept[k:]
		return len(b), len(f.kept) > 0, nil
	}
	n = f.accept(b)
	return n, n < len(b), nil
}

// accept writes as much of b as there is room for. mu is held.
func (f *fake) accept(b []byte) (n int) {
	n = len(b)
	if f.room >= 0 {
		n = min(n, f.room)
		f.room -= n
	}
	f.out = append(f.out, b[:n]...)
	if f.wrote != nil && n > 0 {
		f.wrote(b[:n])
	}
	return n
}

func (f *fake) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(b, f.in)
	f.in = f.in[n:]
	switch {
	case len(f.in) > 0:
		return n, nil
	case f.end:
		return n, io.EOF
	}
	return n, socket.ErrNothing
}

func (f *fake) Watch(o socket.Owner) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = o
	close(f.watch)
	return len(f.in) > 0, nil
}

func (f *fake) CloseWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.half = true
	return nil
}

func (f *fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// give says that there is room for so many bytes; below 0: any number.
func (f *fake) give(room int) {
	f.mu.Lock()
	f.room = room
	owner := f.owner
	f.mu.Unlock()
	owner.Ready(socket.Event{Writable: true}, nil)
}

// say has the client send b.
func (f *fake) say(b []byte) {
	f.mu.Lock()
	f.in = append(f.in, b...)
	owner := f.owner
	f.mu.Unlock()
	owner.Ready(socket.Event{Readable: true}, make([]byte, socket.BufferBytes))
}

// hangUp has the client end what it sends.
func (f *fake) hangUp() {
	f.mu.Lock()
	f.end = true
	owner := f.owner
	f.mu.Unlock()
	owner.Ready(socket.Event{Readable: true, Ending: true}, make([]byte, socket.BufferBytes))
}

func (f *fake) got() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.out)
}

// state is what the connection has done to the socket.
func (f *fake) state() (half, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.half, f.closed
}

// The way from open to closed, by every transition of the package comment's table.
func TestPhases(t *testing.T) {
	hello, bad := masked(opText, []byte("hello")), masked(opText|0x10, nil)
	bye := masked(opClose, []byte("\x03\xe8"))
	answer, restart := "\x88\x02\x03\xe8", string(closeFrame(proto.CloseRestart))
	broken := string(closeFrame(proto.CloseProtocolError))
	type step struct {
		name         string
		do           func(c *conn.Conn, f *fake, s *server)
		got          string // that the step makes the client get
		half, closed bool   // after it
	}
	push := step{"push", func(c *conn.Conn, _ *fake, _ *server) { c.Push([]byte("x")) }, "x", false, false}
	lost := step{"push what goes nowhere", push.do, "", false, false}
	full := step{"the socket is full", func(c *conn.Conn, f *fake, _ *server) { f.give(0) }, "", false, false}
	say := func(b []byte) func(*conn.Conn, *fake, *server) {
		return func(_ *conn.Conn, f *fake, _ *server) { f.say(b) }
	}
	room := func(_ *conn.Conn, f *fake, _ *server) { f.give(-1) }
	closes := func(c *conn.Conn, _ *fake, _ *server) { c.Close(proto.CloseRestart) }
	hangsUp := func(_ *conn.Conn, f *fake, _ *server) { f.hangUp() }
	for _, c := range []struct {
		name  string
		steps []step
		code  proto.CloseCode
	}{
		{"the client hangs up", []step{push, {"hang up", hangsUp, "", false, true}}, proto.CloseNormal},
		{"the client says goodbye", []step{push, {"goodbye", say(bye), answer, false, true}}, proto.CloseNormal},
		{"it does while the socket is full", []step{
			full, {"goodbye", say(bye), "", false, false}, lost, {"room", room, answer, false, true},
		}, proto.CloseNormal},
		{"we say goodbye, and it answers", []step{
			push, {"close", closes, restart, false, false}, lost, {"a message", say(hello), "", false, false},
			{"answer", say(bye), "", false, true},
		}, proto.CloseRestart},
		{"we do, and it hangs up", []step{{"close", closes, restart, false, false},
			{"hang up", hangsUp, "", false, true}},
			proto.CloseRestart},
		{"we do, and it breaks the protocol", []step{
			{"close", closes, restart, false, false}, {"broken", say(bad), "", true, false},
			{"hang up", hangsUp, "", true, true},
		}, proto.CloseRestart},
		{"we do while the socket is full, and it answers", []step{
			full, {"close", closes, "", false, false}, {"answer", say(bye), "", false, false},
			{"room", room, restart, false, true},
		}, proto.CloseRestart},
		{"we do while the socket is full, and it hangs up", []step{
			full, {"close", closes, "", false, false}, {"hang up", hangsUp, "", false, false},
			{"room", room, restart, false, true},
		}, proto.CloseRestart},
		{"it breaks the protocol", []step{
			push, {"broken", say(bad), broken, true, false}, {"push what goes nowhere", push.do, "", true, false},
			{"more", say(hello), "", true, false}, {"hang up", hangsUp, "", true, true},
		}, proto.CloseProtocolError},
		{"it does while the socket is full", []step{
			full, {"broken", say(bad), "", false, false}, {"more", say(bye), "", false, false},
			{"room", room, broken, true, false}, {"hang up", hangsUp, "", true, true},
		}, proto.CloseProtocolError},
		{"it does, and hangs up while the socket is full", []step{
			full, {"broken", say(bad), "", false, false}, {"hang up", hangsUp, "", false, false},
			{"room", room, broken, false, true},
		}, proto.CloseProtocolError},
	} {
		for _, keeps := range []bool{false, true} {
			s := newServer(t, conn.Config{Blocking: true, CloseWait: time.Hour}, "tcp", false)
			f := &fake{room: -1, keeps: keeps}
			own := s.attach(f)
			for _, step := range c.steps {
				before := len(f.got())
				step.do(own, f, s)
				half, closed := f.state()
				if got := f.got()[before:]; got != step.got || half != step.half || closed != step.closed {
					t.Errorf("%s, %s: got %q, half closed %t, closed %t; want %q, %t, %t", c.name, step.name, got,
						half, closed, step.got, step.half, step.closed)
				}
			}
			if code := s.ended(); code != c.code {
				t.Errorf("%s: it ended with %v, want %v", c.name, code, c.code)
			}
		}
	}
}

// A client that says goodbye while its messages are still being handled is answered
// when they are: unless we say goodbye meanwhile.
func TestCloseReceived(t *testing.T) {
	for _, weToo := range []bool{false, true} {
		s := newServer(t, conn.Config{Blocking: true, CloseWait: time.Hour}, "tcp", false)
		handling, release := make(chan struct{}), make(chan struct{})
		s.frame = func(c *conn.Conn, b []byte) {
			close(handling)
			<-release
			c.Push(textFrame(b))
		}
		f := &fake{room: -1}
		c := s.attach(f)
		f.say(masked(opText, []byte("last")))
		<-handling
		f.say(masked(opClose, []byte("\x03\xe8")))
		c.Push(textFrame([]byte("live")))
		f.say(masked(opPing, nil)) // discarded
		want, code := "\x81\x04live\x81\x04last\x88\x02\x03\xe8", proto.CloseNormal
		if weToo {
			c.Close(proto.CloseRestart)
			want, code = "\x81\x04live"+string(closeFrame(proto.CloseRestart)), proto.CloseRestart
		} else if got := f.got(); got != "\x81\x04live" || c.Reason() != 0 {
			t.Errorf("before its message is handled: got %q, reason %v", got, c.Reason())
		}
		close(release)
		if got := s.ended(); got != code || f.got() != want {
			t.Errorf("we said goodbye: %t: got %q and %v, want %q and %v", weToo, f.got(), got, want, code)
		}
	}
}
