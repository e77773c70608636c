package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the command and returns the URL that it prints.
func start(t *testing.T, args ...string) *url.URL {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stdout, printed := io.Pipe()
	done := make(chan error, 1)
	// ends with stop
	go func() { done <- run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), printed, os.Stderr) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string // of the error; empty: none
	}{
		{"help", []string{"-h"}, ""},
		{"unknown flag", []string{"-port", "1"}, "not defined: -port"},
		{"every address", []string{"-listen", ":9001"}, "loopback"},
		{"a name", []string{"-listen", "localhost:9001"}, "loopback"},
		{"another address", []string{"-listen", "192.0.2.1:9001"}, "loopback"},
		{"no port", []string{"-listen", "127.0.0.1"}, "loopback"},
	} {
		err := run(context.Background(), c.args, io.Discard, io.Discard)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// First bytes of frames: RFC 6455 section 5.2.
const (
	fin          = 0x80
	continuation = 0x0
	text         = 0x1
	bin          = 0x2
	closing      = 0x8
	ping         = 0x9
	pong         = 0xa
)

// header is all of a frame before its mask and payload.
func header(first byte, n int, mask byte) []byte {
	switch {
	case n < 126:
		return []byte{first, mask | byte(n)}
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16([]byte{first, mask | 126}, uint16(n))
	}
	return binary.BigEndian.AppendUint64([]byte{first, mask | 127}, uint64(n))
}

// out is a frame of a client, in is one of a server.
func out(first byte, payload string) []byte {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := append(header(first, len(payload), 0x80), key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func in(first byte, payload string) []byte {
	return append(header(first, len(payload), 0), payload...)
}

// coded is the payload of a close frame.
func coded(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// peer is a client that takes nothing on trust.
type peer struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

func dial(t *testing.T, u *url.URL) *peer {
	t.Helper()
	return dialOffering(t, u, "", false)
}

// dialOffering offers an extension, and checks whether it is accepted.
func dialOffering(t *testing.T, u *url.URL, offer string, accepted bool) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if u.Scheme == "wss" {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the certificate is of this run
	}
	_ = nc.SetDeadline(time.Now().Add(5 * time.Minute))
	p := &peer{t, nc, bufio.NewReader(nc)}
	if _, err := io.WriteString(nc, "GET "+u.Path+" HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: "+
		"websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: "+offer+
		"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	if answer := resp.Header.Get("Sec-WebSocket-Extensions"); (answer != "") != accepted {
		t.Fatalf("%q is answered by %q", offer, answer)
	}
	return p
}

// exchange writes pieces of at most chop bytes, and reads meanwhile what must
// come back, byte for byte.
func (p *peer) exchange(send []byte, chop int, want []byte) {
	p.t.Helper()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		if chop == 0 {
			chop = max(1, len(send))
		}
		for len(send) > 0 {
			n := min(chop, len(send))
			if _, err := p.nc.Write(send[:n]); err != nil {
				return // the server may hang up on what is wrong; what it says is read below
			}
			send = send[n:]
		}
	})
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.br, got)
	if err != nil || !bytes.Equal(got, want) {
		at := 0
		for at < n && got[at] == want[at] {
			at++
		}
		p.t.Fatalf("got %d bytes, %v; want %d; they differ at %d: got %.40q, want %.40q", n, err, len(want), at,
			got[at:n], want[at:])
	}
}

// goodbye reads a close frame of any reason.
func (p *peer) goodbye() (code int) {
	p.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.br, head); err != nil || head[0] != fin|closing || head[1] < 2 || head[1] > 125 {
		p.t.Fatalf("got % x, %v; want a close frame with a code", head, err)
	}
	payload := make([]byte, head[1])
	if _, err := io.ReadFull(p.br, payload); err != nil {
		p.t.Fatal(err)
	}
	return int(binary.BigEndian.Uint16(payload))
}

// end checks that nothing comes any more. Who has said something after its own
// goodbye may be hung up on by a reset.
func (p *peer) end(rude bool) {
	p.t.Helper()
	rest, err := io.ReadAll(p.br)
	if len(rest) > 0 || err != nil && !(rude && errors.Is(err, syscall.ECONNRESET)) {
		p.t.Fatalf("at the end: got %.40q, %v", rest, err)
	}
}
