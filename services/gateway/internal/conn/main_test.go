package conn_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(crowdEnv); addr != "" {
		crowd(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

var local = netip.MustParseAddr("127.0.0.1")

// server accepts WebSocket clients on loopback, in one of the two forms.
type server struct {
	t      testing.TB
	set    *conn.Set
	http   *httptest.Server
	secure bool
	frame  func(*conn.Conn, []byte) // set before the first client; nil: frames are ignored
	format *conn.Format             // of sockets that are attached; nil: conn.WebSocket
	greet  func(*conn.Conn)         // likewise; called when a client has arrived

	conns   chan *conn.Conn      // every client as the server sees it
	codes   chan proto.CloseCode // why each has ended
	refused chan int             // statuses
}

// sndbuf makes the server's send buffers small, so that they are soon full.
const sndbuf = 16 << 10

type listener struct {
	net.Listener
	exchange bool
}

func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		err = nc.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(sndbuf)
	}
	if l.exchange {
		nc = &exchangeable{nc}
	}
	return nc, err
}

// exchangeable lets go of its socket beneath TLS.
type exchangeable struct{ net.Conn }

func (s *exchangeable) Exchange(nc net.Conn) (old net.Conn) {
	old, s.Conn = s.Conn, nc
	return old
}

// formNames are sockets that a poller waits for, those that goroutines wait
// for, and both beneath TLS.
var formNames = []string{"parked", "blocking", "TLS", "blocking TLS"}

// forms runs a test over each form.
func forms(t *testing.T, cfg conn.Config, test func(t *testing.T, s *server)) {
	for _, form := range formNames {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			test(t, newForm(t, cfg, form))
		})
	}
}

func newForm(t testing.TB, cfg conn.Config, form string) *server {
	cfg.Blocking = strings.HasPrefix(form, "blocking")
	return newServer(t, cfg, "tcp", strings.HasSuffix(form, "TLS"))
}

// newServer listens on loopback ("tcp") or on a socket file ("unix").
func newServer(t testing.TB, cfg conn.Config, network string, secure bool) *server {
	cfg.MaxQueueBytes, cfg.Heartbeat = cmp.Or(cfg.MaxQueueBytes, 1<<20), cmp.Or(cfg.Heartbeat, time.Minute)
	cfg.CloseWait = cmp.Or(cfg.CloseWait, 8*time.Second) // a busy machine may stop for seconds
	s := &server{
		t: t, set: conn.NewSet(cfg, nil), secure: secure,
		conns: make(chan *conn.Conn, 10000), codes: make(chan proto.CloseCode, 10000), refused: make(chan int, 10000),
	}
	where := map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket")}
	l, err := net.Listen(network, where[network])
	if err != nil {
		t.Fatal(err)
	}
	s.http = &httptest.Server{Listener: listener{l, secure && !cfg.Blocking}, Config: &http.Server{Handler: s}}
	if secure {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.set.Run(ctx) })
	t.Cleanup(func() {
		s.set.Drain(ctx, 0, proto.CloseGoingAway)
		s.set.Wait()
		stop()
		running.Wait()
		s.http.Close()
	})
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := new(conn.Conn)
	err := s.set.Accept(c, w, r, local, "test", conn.WebSocket, func(status int, reason error) {
		s.refused <- status
		http.Error(w, reason.Error(), status)
	})
	if err != nil {
		return
	}
	c.Start(&caller{s, c})
}

// caller is the Client of every connection of a server.
type caller struct {
	s *server
	c *conn.Conn
}

func (l *caller) Arrived() {
	l.s.conns <- l.c
	if l.s.greet != nil {
		l.s.greet(l.c)
	}
}

func (l *caller) Frame(b []byte, _ bool) {
	if l.s.frame != nil {
		l.s.frame(l.c, b)
	}
}

func (l *caller) Ended() { l.s.codes <- l.c.Reason() }

// ended waits for a connection's end and returns the reason.
func (s *server) ended() proto.CloseCode {
	s.t.Helper()
	select {
	case code := <-s.codes:
		return code
	case <-time.After(time.Minute):
		s.t.Fatal("the connection does not end")
		return 0
	}
}

// peer is a client made of bytes: what it sends and reads is not checked by
// any library.
type peer struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader
}

const handshake = "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// connect opens a client; the server's side of it is returned too.
func (s *server) connect() (*peer, *conn.Conn) {
	s.t.Helper()
	p := s.dial()
	p.write([]byte(handshake))
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("handshake: %v, %v", resp, err)
	}
	// RFC 6455 section 1.3
	if got, want := resp.Header.Get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want {
		s.t.Errorf("Sec-WebSocket-Accept: got %q, want %q", got, want)
	}
	return p, <-s.conns
}

func (s *server) dial() *peer {
	s.t.Helper()
	addr := s.http.Listener.Addr()
	nc, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		s.t.Fatal(err)
	}
	if s.secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the test server's own certificate
	}
	s.t.Cleanup(func() { _ = nc.Close() })
	p := &peer{t: s.t, nc: nc, br: bufio.NewReader(nc)}
	p.patience(time.Minute)
	return p
}

// patience is how long reads and writes may take from now on.
func (p *peer) patience(d time.Duration) { _ = p.nc.SetDeadline(time.Now().Add(d)) }

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatalf("client writes: %v", err)
	}
}

// First bytes of whole frames.
const (
	opText           = wstest.Fin | byte(ws.Text)
	opBinary         = wstest.Fin | byte(ws.Binary)
	opClose          = wstest.Fin | byte(ws.Close)
	opPing           = wstest.Fin | byte(ws.Ping)
	opPong           = wstest.Fin | byte(ws.Pong)
	opDeflated       = opText | wstest.RSV1
	opDeflatedBinary = opBinary | wstest.RSV1
)

var (
	masked   = wstest.Masked
	deflate  = wstest.Deflate
	document = wstest.Document
)

func textFrame(payload []byte) []byte { return ws.Encode(ws.Text, payload) }

func deflatedFrame(payload []byte) []byte { return ws.EncodeDeflated(ws.Text, payload) }

// closeFrame is the goodbye of conn.WebSocket.
func closeFrame(code proto.CloseCode) []byte { return conn.WebSocket.Goodbye(code) }

func (p *peer) send(op byte, payload string) { p.t.Helper(); p.write(masked(op, []byte(payload))) }

// goodbye sends a close frame.
func (p *peer) goodbye(code uint16) {
	p.t.Helper()
	p.write(masked(opClose, binary.BigEndian.AppendUint16(nil, code)))
}

// read reads one frame as strictly as RFC 6455 wants it from a server.
func (p *peer) read() (op byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.br, head); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(p.br, b[:])
		if n = uint64(binary.BigEndian.Uint16(b[:])); n < 126 {
			err = errors.Join(err, errors.New("a length of two bytes that fits into one"))
		}
	case 127:
		var b [8]byte
		_, err = io.ReadFull(p.br, b[:])
		if n = binary.BigEndian.Uint64(b[:]); n <= 0xffff {
			err = errors.Join(err, errors.New("a length of eight bytes that fits into two"))
		}
	}
	switch head[0] {
	case opText, opDeflated:
	case opClose, opPing, opPong:
		if n > 125 {
			err = errors.Join(err, errors.New("a control frame of more than 125 bytes"))
		}
	default:
		err = errors.Join(err, fmt.Errorf("first byte %#02x", head[0]))
	}
	if err == nil && n > 1<<24 {
		err = fmt.Errorf("a frame of %d bytes", n)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.br, payload)
	return head[0], payload, err
}

// want reads one frame and compares.
func (p *peer) want(op byte, payload string) {
	p.t.Helper()
	gotOp, got, err := p.read()
	if err != nil || gotOp != op || !bytes.Equal(got, []byte(payload)) {
		p.t.Fatalf("got frame %#02x %.80q, %v; want %#02x %.80q", gotOp, got, err, op, payload)
	}
}

// untilClose reads frames up to the goodbye and returns how many text frames
// came before it, and its code and reason.
func (p *peer) untilClose() (texts int, code uint16, reason string) {
	p.t.Helper()
	for {
		op, payload, err := p.read()
		switch {
		case err != nil:
			p.t.Fatalf("no goodbye after %d frames: %v", texts, err)
		case op == opText:
			texts++
		case op == opClose && len(payload) >= 2:
			return texts, binary.BigEndian.Uint16(payload), string(payload[2:])
		case op == opClose:
			p.t.Fatal("a goodbye without a code")
		}
	}
}

// end checks that nothing comes any more and that the end is orderly.
func (p *peer) end() {
	p.t.Helper()
	if b, err := io.ReadAll(p.br); err != nil || len(b) > 0 {
		p.t.Fatalf("after the goodbye: %q, %v; want the end", b, err)
	}
}

// remains are connections of which nothing may remain when they have ended: neither
// a set nor a poller may still refer to them.
type remains struct {
	mu    sync.Mutex
	conns []weak.Pointer[conn.Conn] // guarded by mu
}

func (r *remains) add(c *conn.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, weak.Make(c))
}

func (r *remains) collected(t testing.TB) {
	t.Helper()
	eventually(t, "connections that have ended are garbage", func() bool {
		runtime.GC()
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(r.conns, func(p weak.Pointer[conn.Conn]) bool { return p.Value() != nil })
	})
}

// stands waits until a count has not grown for some time.
func stands(t testing.TB, count *atomic.Int64) {
	t.Helper()
	var last int64
	var since time.Time
	eventually(t, "the client is made to wait", func() bool {
		if n := count.Load(); n != last || n == 0 {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
}

// random is a source whose seed is printed, so that a failure can be repeated.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}
