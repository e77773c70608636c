package faults

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes TCP on to a target, and can spoil it as networks do: cut it,
// hold every byte where it is, delay, narrow. What it passes on is what was
// sent: like TCP itself it may stop, but loses nothing from the middle.
// Safe for concurrent use.
type proxy struct {
	addr   string
	target string
	listen net.Listener
	wg     sync.WaitGroup // accept and both directions of each connection

	mu     sync.Mutex
	change *sync.Cond            // of mu; the state changed
	conns  map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
	refuse bool                  // guarded by mu; newcomers are hung up on
	frozen bool                  // guarded by mu
	holds  bool                  // guarded by mu; what the target sends is held where it is
	delay  time.Duration         // guarded by mu; each piece is held so long
	rate   int                   // guarded by mu; bytes a second, each way; 0: no limit
}

// newProxy listens on a free port until the test ends.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, listen: l, conns: map[net.Conn]struct{}{}}
	p.change = sync.NewCond(&p.mu)
	p.wg.Go(p.accept) // ends when the listener is closed
	t.Cleanup(p.close)
	return p
}

func (p *proxy) close() {
	_ = p.listen.Close()
	p.set(func() { p.closed = true })
	p.cut()
	p.wg.Wait()
}

// set changes the state and wakes who waits for it.
func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.change.Broadcast()
}

// cut ends every connection there is.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // both directions notice
	}
	p.change.Broadcast()
}

// freeze holds every byte where it is, and newcomers too; thaw lets all go on.
func (p *proxy) freeze() { p.set(func() { p.frozen = true }) }
func (p *proxy) thaw()   { p.set(func() { p.frozen = false }) }

// shape delays each piece and bounds the rate; zeros end that.
func (p *proxy) shape(delay time.Duration, bytesPerSecond int) {
	p.set(func() { p.delay, p.rate = delay, bytesPerSecond })
}

func (p *proxy) accept() {
	for {
		in, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(in) })
	}
}

// serve connects one newcomer with the target, and ends with the first
// direction that does.
func (p *proxy) serve(in net.Conn) {
	defer func() { _ = in.Close() }()
	if !p.add(in) {
		return
	}
	defer p.remove(in)
	out, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !p.add(out) {
		return
	}
	defer p.remove(out)
	back := make(chan struct{})
	go func() { // ends when either side is closed; waited for below
		defer close(back)
		p.pump(in, out, true)
	}()
	p.pump(out, in, false)
	<-back
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		p.change.Wait()
	}
	if p.closed || p.refuse {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// pump moves bytes one way until either side is closed; back says that they are the target's.
func (p *proxy) pump(dst, src net.Conn, back bool) {
	defer func() { _ = dst.Close() }()
	defer func() { _ = src.Close() }()
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			time.Sleep(p.due(n, back))
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF, or a cut
		}
	}
}

// due waits while the proxy is frozen and returns how long n bytes take.
func (p *proxy) due(n int, back bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for (p.frozen || p.holds && back) && !p.closed {
		p.change.Wait()
	}
	d := p.delay
	if p.rate > 0 {
		d += time.Duration(n) * time.Second / time.Duration(p.rate)
	}
	return d
}

// An echo behind the proxy shows each of its faults.
func TestProxy(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = echo.Close() })
	wg.Go(func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c) // until the proxy hangs up
				_ = c.Close()
			})
		}
	})
	p := newProxy(t, echo.Addr().String())
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	// round sends a word and reports whether it came back within a time, and after which.
	round := func(c net.Conn, within time.Duration) (bool, time.Duration) {
		begin := time.Now()
		_, err := c.Write([]byte("word"))
		_ = c.SetReadDeadline(begin.Add(within))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 4))
		}
		return err == nil, time.Since(begin)
	}
	c := dial()
	if ok, _ := round(c, time.Minute); !ok {
		t.Fatal("nothing passes")
	}
	p.shape(50*time.Millisecond, 0)
	if ok, took := round(c, time.Minute); !ok || took < 100*time.Millisecond {
		t.Errorf("delayed by 50ms each way: got %v after %s, want at least 100ms", ok, took)
	}
	p.shape(0, 40)
	if ok, took := round(c, time.Minute); !ok || took < 200*time.Millisecond {
		t.Errorf("4 bytes at 40 a second each way: got %v after %s, want at least 200ms", ok, took)
	}
	p.shape(0, 0)
	p.freeze()
	if ok, _ := round(c, 50*time.Millisecond); ok {
		t.Error("a word passed while frozen")
	}
	p.thaw()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Errorf("the frozen word: %v, want it after the thaw", err)
	}
	p.set(func() { p.refuse = true })
	p.cut()
	if ok, _ := round(c, time.Minute); ok {
		t.Error("a word passed after the cut")
	}
	if ok, _ := round(dial(), time.Minute); ok {
		t.Error("a newcomer was served while refusing")
	}
	p.set(func() { p.refuse = false })
	if ok, _ := round(dial(), time.Minute); !ok {
		t.Error("nothing passes after the fault is over")
	}
}
