package conn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// cutter is a socket that takes only so many bytes at a time, and then says
// that it is full.
type cutter struct {
	quick
	first, then int // bytes of the first write, and of each that follows; 0: all
	calls       int
}

func (q *cutter) writeNow(b []byte) (n int, full bool, err error) {
	most := q.then
	if q.calls++; q.calls == 1 {
		most = q.first
	} else if most == 0 {
		most = len(b)
	}
	n, full, err = q.quick.writeNow(b[:min(most, len(b))])
	return n, full || n < len(b), err
}

// collect reads exactly as many bytes as are wanted. Meanwhile the client says
// pong now and then: whatever arrives has a poller look whether the socket has
// room again, which it has, since only the cutter said that it has not.
func (p *peer) collect(n int) []byte {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
				if _, err := p.nc.Write(masked(opPong, nil)); err != nil {
					return // the server has hung up
				}
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	got := make([]byte, n)
	k, err := io.ReadFull(p.br, got)
	if err != nil {
		p.t.Fatalf("after %q: %v", got[:k], err)
	}
	return got
}

// quickForms are those whose socket can be full for a Conn: blocking TLS is
// written to by a goroutine that waits.
func quickForms(t *testing.T, test func(t *testing.T, s *server)) {
	for _, form := range []string{"parked", "blocking", "TLS"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			test(t, newForm(t, Config{}, form))
		})
	}
}

// A few frames, and all of them.
func someFrames() (frames [][]byte, all []byte) {
	frames = [][]byte{TextFrame([]byte("first")), TextFrame(bytes.Repeat([]byte("s"), 130)), TextFrame(nil), TextFrame([]byte("last"))}
	return frames, slices.Concat(frames...)
}

// The socket is full at every byte of some frames, and a ping comes meanwhile:
// its answer cuts into none of them.
func TestFullAtEveryByte(t *testing.T) {
	quickForms(t, func(t *testing.T, s *server) {
		frames, all := someFrames()
		p, c := s.connect()
		socket := c.quick
		for k := range len(all) + 1 {
			c.mu.Lock()
			c.quick = &cutter{quick: socket, first: k}
			for _, b := range frames {
				c.send(b)
			}
			c.flush()
			c.mu.Unlock()
			p.send(opPing, "p")
			want := append(slices.Clone(all), frame(opPong, []byte("p"))...)
			if got := p.collect(len(want)); !bytes.Equal(got, want) {
				t.Fatalf("full after %d bytes: got %q, want %q", k, got, want)
			}
			idle(t, c)
		}
	})
}

// The goodbye comes while the socket is full, at every byte of some frames. Of
// a slow consumer's queue only what has begun goes out before it.
func TestGoodbyeAtEveryByte(t *testing.T) {
	quickForms(t, func(t *testing.T, s *server) {
		frames, all := someFrames()
		for _, code := range []proto.CloseCode{proto.CloseGoingAway, proto.CloseSlowConsumer} {
			for k := range len(all) + 1 {
				p, c := s.connect()
				c.mu.Lock()
				c.quick = &cutter{quick: c.quick, first: k}
				for _, b := range frames {
					c.send(b)
				}
				c.flush()
				c.close(code)
				c.mu.Unlock()
				var want []byte
				for _, b := range frames {
					if code == proto.CloseSlowConsumer && len(want) >= k {
						break
					}
					want = append(want, b...)
				}
				want = append(want, closeFrame(code)...)
				if got := p.collect(len(want)); !bytes.Equal(got, want) {
					t.Fatalf("closed with %v after %d bytes: got %q, want %q", code, k, got, want)
				}
				p.goodbye(uint16(code))
				p.end()
				if got := s.ended(); got != code {
					t.Fatalf("closed with %v after %d bytes: it ended with %v", code, k, got)
				}
			}
		}
	})
}

// A socket that takes a few bytes at a time, while pings come: the answers
// stand behind the frames, whole, and so does the goodbye.
func TestFewBytesAtATime(t *testing.T) {
	quickForms(t, func(t *testing.T, s *server) {
		frames, all := someFrames()
		for _, each := range []int{1, 2, 3, 7, 64, 129} {
			p, c := s.connect()
			c.mu.Lock()
			c.quick = &cutter{quick: c.quick, first: each, then: each}
			for _, b := range frames {
				c.send(b)
			}
			c.flush()
			c.mu.Unlock()
			want := slices.Clone(all)
			for i := range 5 {
				p.send(opPing, fmt.Sprint(i))
				want = append(want, frame(opPong, fmt.Append(nil, i))...)
			}
			if got := p.collect(len(want)); !bytes.Equal(got, want) {
				t.Fatalf("%d at a time: got %q, want %q", each, got, want)
			}
			c.Close(proto.CloseRestart)
			want = closeFrame(proto.CloseRestart)
			if got := p.collect(len(want)); !bytes.Equal(got, want) {
				t.Fatalf("%d at a time: got goodbye %q, want %q", each, got, want)
			}
			p.goodbye(1012)
			p.end()
			s.ended()
		}
	})
}

// Others may have sent without a Flush yet when a replay has to wait: it waits
// for the client, not for them.
func TestSendWaitFlushes(t *testing.T) {
	forms(t, Config{MaxQueueBytes: 1000}, func(t *testing.T, s *server) {
		p, c := s.connect()
		waiting, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		c.Send(TextFrame(make([]byte, 900)))
		if err := c.SendWait(waiting, TextFrame([]byte("replayed"))); err != nil {
			t.Fatal(err)
		}
		p.want(opText, string(make([]byte, 900)))
		p.want(opText, "replayed")
	})
}
