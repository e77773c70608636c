package conn_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// A few frames, and all of them.
func someFrames() (frames [][]byte, all []byte) {
	frames = [][]byte{textFrame([]byte("first")), textFrame(bytes.Repeat([]byte("s"), 130)), textFrame(nil),
		textFrame([]byte("last"))}
	return frames, slices.Concat(frames...)
}

// fullAt runs a test for each number of bytes after which the socket is full, one that
// keeps nothing and one that keeps what there is no room for.
func fullAt(t *testing.T, last int, test func(s *server, f *fake, k int)) {
	for _, keeps := range []bool{false, true} {
		s := newServer(t, conn.Config{Blocking: true, CloseWait: time.Hour}, "tcp", false)
		for k := range last + 1 {
			test(s, &fake{room: k, keeps: keeps}, k)
		}
	}
}

// The socket is full at every byte of some frames, and a ping comes meanwhile: its
// answer cuts into none of them.
func TestFullAtEveryByte(t *testing.T) {
	frames, all := someFrames()
	want := string(append(slices.Clone(all), ws.Encode(ws.Pong, []byte("p"))...))
	fullAt(t, len(all), func(s *server, f *fake, k int) {
		c := s.attach(f)
		for _, b := range frames {
			c.Push(b)
		}
		f.say(masked(opPing, []byte("p")))
		if got := f.got(); got != string(all[:k]) {
			t.Fatalf("room for %d bytes: got %q, want %q", k, got, all[:k])
		}
		f.give(-1)
		if got := f.got(); got != want || c.Queued() != 0 {
			t.Fatalf("full after %d bytes: got %q and %d queued, want %q", k, got, c.Queued(), want)
		}
		f.hangUp()
		s.ended()
	})
}

// The goodbye comes while the socket is full, at every byte of some frames. Of a slow
// consumer's queue only what is partly written goes out before it.
func TestGoodbyeAtEveryByte(t *testing.T) {
	frames, all := someFrames()
	for _, code := range []proto.CloseCode{proto.CloseGoingAway, proto.CloseSlowConsumer} {
		fullAt(t, len(all), func(s *server, f *fake, k int) {
			c := s.attach(f)
			for _, b := range frames {
				c.Push(b)
			}
			c.Close(code)
			var want []byte
			for _, b := range frames {
				// A socket that keeps what it accepts has accepted one frame more.
				if code == proto.CloseSlowConsumer && (len(want) > k || len(want) == k && !f.keeps) {
					break
				}
				want = append(want, b...)
			}
			want = append(want, closeFrame(code)...)
			f.give(-1)
			if got := f.got(); got != string(want) {
				t.Fatalf("closed with %v after %d bytes, keeps %t: got %q, want %q", code, k, f.keeps, got, want)
			}
			f.say(masked(opClose, []byte("\x03\xe8")))
			if got := s.ended(); got != code {
				t.Fatalf("closed with %v after %d bytes: it ended with %v", code, k, got)
			}
		})
	}
}

// A socket that accepts a few bytes at a time, while pings come: the answers stand
// behind the frames, whole, and so does the goodbye.
func TestFewBytesAtATime(t *testing.T) {
	s := newServer(t, conn.Config{Blocking: true, CloseWait: time.Hour}, "tcp", false)
	frames, all := someFrames()
	for _, each := range []int{1, 2, 3, 7, 64, 129} {
		f := &fake{room: each}
		c := s.attach(f)
		for _, b := range frames {
			c.Push(b)
		}
		want := slices.Clone(all)
		for i := range 5 {
			f.say(masked(opPing, fmt.Append(nil, i)))
			f.give(each)
			want = append(want, ws.Encode(ws.Pong, fmt.Append(nil, i))...)
		}
		c.Close(proto.CloseRestart)
		want = append(want, closeFrame(proto.CloseRestart)...)
		for range len(want) {
			f.give(each)
		}
		if got := f.got(); got != string(want) {
			t.Fatalf("%d at a time: got %q, want %q", each, got, want)
		}
		f.hangUp()
		s.ended()
	}
}

// Small frames that wait together leave in few writes, and a large one as it is.
func TestQueuedFramesLeaveTogether(t *testing.T) {
	s := newServer(t, conn.Config{Blocking: true}, "tcp", false)
	var writes []int
	f := &fake{wrote: func(b []byte) { writes = append(writes, len(b)) }}
	c := s.attach(f)
	var want strings.Builder
	for i := range 100 {
		b := textFrame(fmt.Appendf(nil, "%0100d", i))
		if i == 50 {
			b = textFrame(make([]byte, 40_000))
		}
		want.Write(b)
		c.Push(b)
	}
	f.give(-1)
	if got := f.got(); got != want.String() {
		t.Errorf("got %d bytes, want %d", len(got), want.Len())
	}
	if len(writes) != 3 || !slices.Contains(writes, 40_004) {
		t.Errorf("got writes of %v bytes, want three, the frame of 40,004 bytes by itself", writes)
	}
}

// SendWait waits for the client, and goes on when the socket has room.
func TestSendWaitForRoom(t *testing.T) {
	s := newServer(t, conn.Config{Blocking: true, MaxQueueBytes: 1000}, "tcp", false)
	f := &fake{}
	c := s.attach(f)
	c.Push(textFrame(make([]byte, 600)))
	sent := make(chan error, 1)
	go func() { sent <- c.SendWait(context.Background(), textFrame([]byte("replayed"))) }() // ends with the room below
	select {
	case err := <-sent:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	f.give(-1)
	if err := <-sent; err != nil || !strings.HasSuffix(f.got(), "\x81\x08replayed") {
		t.Errorf("got %v, and %d bytes", err, len(f.got()))
	}
}
