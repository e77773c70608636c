package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/socket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchangeable lets go of its socket beneath TLS.
type exchangeable struct{ net.Conn }

func (s *exchangeable) Exchange(nc net.Conn) (old net.Conn) {
	old, s.Conn = s.Conn, nc
	return old
}

// pair is a socket of one form, and the client's end of its connection.
type pair struct {
	t      *testing.T
	sk     socket.Socket
	client net.Conn
	owner  *owner // of a polled socket
}

// owner passes on what a poller reports.
type owner struct{ events chan socket.Event }

func (o *owner) Ready(e socket.Event, scratch []byte) {
	if len(scratch) < socket.BufferBytes {
		panic("no memory to read into")
	}
	o.events <- e
}

// ready waits for an event that the condition holds for.
func (p *pair) ready(what string, is func(socket.Event) bool) {
	p.t.Helper()
	patience := time.After(time.Minute)
	for {
		select {
		case e := <-p.owner.events:
			if is(e) {
				return
			}
		case <-patience:
			p.t.Fatalf("no event: %s", what)
		}
	}
}

const certificateOf = "example.com" // httptest's

// forms runs a test with each form of socket, whose kernel buffers are small.
func forms(t *testing.T, test func(t *testing.T, p *pair)) {
	for _, name := range []string{"parked", "sealed", "blocking", "blocking TLS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS != "linux" && (name == "parked" || name == "sealed") {
				name = map[string]string{"parked": "blocking", "sealed": "blocking TLS"}[name] // what these are there
			}
			secure := name == "sealed" || name == "blocking TLS"
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = server.(*net.TCPConn).SetWriteBuffer(16 << 10)
			if secure {
				cert := httptest.NewUnstartedServer(nil)
				cert.StartTLS()
				config := &tls.Config{Certificates: cert.TLS.Certificates}
				cert.Close()
				beneath := client
				// the test server's own certificate
				tc := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: certificateOf})
				ts := tls.Server(&exchangeable{server}, config)
				shaken := make(chan error, 1)
				go func() { shaken <- tc.Handshake() }() // ends with the handshake
				if err := errors.Join(ts.Handshake(), <-shaken); err != nil {
					t.Fatal(err)
				}
				client, server = tc, ts
				t.Cleanup(func() { _ = beneath.Close() })
			}
			_ = client.SetDeadline(time.Now().Add(time.Minute))
			p := &pair{t: t, client: client}
			if name == "blocking" || name == "blocking TLS" {
				p.sk = socket.Wait(server)
				t.Cleanup(p.sk.Close)
				test(t, p)
				return
			}
			var pollers socket.Pollers
			if err := pollers.Start(2); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { pollers.Run(ctx) })
			t.Cleanup(func() { stop(); running.Wait() })
			sk := pollers.Adopt(new(socket.Parked), server)
			if sk == nil {
				t.Fatal("the pollers do not adopt it")
			}
			t.Cleanup(sk.Close)
			p.sk, p.owner = sk, &owner{events: make(chan socket.Event, 10000)}
			if _, err := sk.Watch(p.owner); err != nil {
				t.Fatal(err)
			}
			test(t, p)
		})
	}
}

// write writes all of b, as an owner does.
func (p *pair) write(b []byte) {
	p.t.Helper()
	for kept := false; len(b) > 0 || kept; {
		n, full, err := p.sk.Write(b)
		if err != nil {
			p.t.Fatalf("write: %v", err)
		}
		b, kept = b[n:], full
		if !full {
			continue
		}
		if p.owner != nil {
			p.ready("room", func(e socket.Event) bool { return e.Writable })
			continue
		}
		n, err = p.sk.(socket.DeadlineWriter).WriteBy(b, time.Now().Add(time.Minute))
		if err != nil {
			p.t.Fatalf("write after %d bytes: %v", n, err)
		}
		b, kept = b[n:], false
	}
}

// read reads n bytes, as an owner does.
func (p *pair) read(n int) []byte {
	p.t.Helper()
	buf := make([]byte, n)
	got := 0
	for got < n {
		k, err := p.sk.(io.Reader).Read(buf[got:])
		got += k
		switch {
		case err == socket.ErrNothing && got < n:
			p.ready("something to read", func(e socket.Event) bool { return e.Readable })
		case err != nil && err != socket.ErrNothing:
			p.t.Fatalf("read after %d bytes: %v", got, err)
		}
	}
	return buf
}

// Bytes go both ways, in order, many more than the kernel keeps for a client that does
// not read for a while; no Write blocks.
func TestBothWays(t *testing.T) {
	forms(t, func(t *testing.T, p *pair) {
		sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<15)
		if n, full, err := p.sk.Write(nil); n != 0 || err != nil {
			t.Fatalf("nothing: got %d, %t, %v", n, full, err)
		}
		got := make(chan []byte, 1)
		go func() { // ends with what is sent
			b := make([]byte, len(sent))
			n, err := io.ReadFull(p.client, b)
			if err != nil {
				t.Errorf("the client reads: %v", err)
			}
			got <- b[:n]
		}()
		p.write(sent)
		if !bytes.Equal(<-got, sent) {
			t.Error("the client reads something else")
		}
		go func() { // ends with the client
			_, _ = p.client.Write(sent)
		}()
		if !bytes.Equal(p.read(len(sent)), sent) {
			t.Error("the server reads something else")
		}
	})
}

// A client that does not read fills the socket: Write says so and does not block, and
// there is room again when the client has read.
func TestFull(t *testing.T) {
	forms(t, func(t *testing.T, p *pair) {
		sent := make([]byte, 8<<20)
		for i := range sent {
			sent[i] = byte(i >> 8)
		}
		begin := time.Now()
		n, full, err := p.sk.Write(sent)
		if err != nil || !full || n == len(sent) || time.Since(begin) > time.Minute {
			t.Fatalf("got %d of %d, full %t, %v after %s", n, len(sent), full, err, time.Since(begin))
		}
		got := make(chan []byte, 1)
		go func() { // ends with what is sent
			b := make([]byte, len(sent))
			k, _ := io.ReadFull(p.client, b)
			got <- b[:k]
		}()
		p.write(sent[n:])
		if !bytes.Equal(<-got, sent) {
			t.Error("the client reads something else")
		}
	})
}

// A write that makes no progress ends with its deadline, which does not outlive it.
func TestWriteBy(t *testing.T) {
	forms(t, func(t *testing.T, p *pair) {
		w, ok := p.sk.(socket.DeadlineWriter)
		if !ok {
			return // polled: its owner has a timer
		}
		if n, err := w.WriteBy([]byte("first"), time.Now().Add(2*time.Second)); n != 5 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		time.Sleep(2100 * time.Millisecond) // a deadline that still holds is over now
		if n, err := w.WriteBy([]byte("second"), time.Now().Add(time.Minute)); n != 6 || err != nil {
			t.Fatalf("after the first one's deadline: got %d, %v", n, err)
		}
		var ne net.Error
		if _, err := w.WriteBy(make([]byte, 16<<20), time.Now().Add(100*time.Millisecond)); !errors.As(err, &ne) ||
			!ne.Timeout() {
			t.Errorf("to a client that does not read: got %v, want a timeout", err)
		}
	})
}

// Each side learns that the other sends nothing more, and can send itself until then.
func TestCloseWrite(t *testing.T) {
	forms(t, func(t *testing.T, p *pair) {
		p.write([]byte("last"))
		if err := p.sk.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(p.client); err != nil || string(b) != "last" {
			t.Errorf("the client reads %q, %v; want the end after the last word", b, err)
		}
		if _, err := p.client.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if got := p.read(6); string(got) != "answer" {
			t.Errorf("got %q", got)
		}
		if err := p.client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for {
			_, err := p.sk.(io.Reader).Read(make([]byte, 10))
			if err == io.EOF {
				return
			}
			if err != socket.ErrNothing {
				t.Fatalf("got %v, want the end", err)
			}
			p.ready("the end", func(e socket.Event) bool { return e.Readable })
		}
	})
}

// What pollers cannot watch stays the caller's, as it was.
func TestNotAdopted(t *testing.T) {
	var none, some socket.Pollers
	_ = some.Start(1) // fails if the system has none
	ctx, stop := context.WithCancel(context.Background())
	stop()
	defer some.Run(ctx)
	one, other := net.Pipe()
	defer func() { _, _ = one.Close(), other.Close() }()
	for name, nc := range map[string]net.Conn{
		"a pipe": one, "TLS over it": tls.Server(&exchangeable{one}, &tls.Config{}),
		"TLS that does not let go": tls.Server(one, &tls.Config{}),
	} {
		if sk := some.Adopt(new(socket.Parked), nc); sk != nil {
			t.Errorf("%s: adopted", name)
		}
	}
	if sk := none.Adopt(new(socket.Parked), one); sk != nil {
		t.Error("adopted without pollers")
	}
	go func() { _, _ = other.Write([]byte("x")) }() // ends with the read below
	if n, err := one.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("the pipe is not as it was: %v", err)
	}
}
