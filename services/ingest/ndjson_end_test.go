package ingest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
)

// A stream may last longer than any timeout of the server, as long as it
// flows; one that stands still is cut off, without a last line.
func TestStreamStall(t *testing.T) {
	t.Parallel() // it waits more than it works
	r := start(t, startNATS(t))
	r.stall = 2 * time.Second // a busy machine may stop for some time
	line := `{"channel":"a","data":1}` + "\n"
	d := r.open(t, line)
	for begin := time.Now(); time.Since(begin) < 4*r.stall; time.Sleep(r.stall / 4) {
		d.write(line)
		d.read()
	}
	d.read()
	begin := time.Now()
	d.write(line[:10]) // half a line is none
	rest, _ := io.ReadAll(d.out)
	if took := time.Since(begin); len(rest) != 0 || took < r.stall/2 || took > 20*r.stall {
		t.Errorf("cut off after %s with %q, want about %s and nothing", took, rest, r.stall)
	}
}

// A client that sends and never reads is cut off too, and what it holds up
// is bounded.
func TestStreamNeverRead(t *testing.T) {
	r := start(t, startNATS(t))
	r.stall = 300 * time.Millisecond
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-API-KEY: %s\r\nContent-Type: "+
		"application/x-ndjson\r\nContent-Length: 10000000000\r\n\r\n", envKey)
	lines := []byte(strings.Repeat("{}\n", 10_000)) // the answers are eighty times as long
	wrote := 0
	for begin := time.Now(); ; {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := conn.Write(lines)
		wrote += n
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatalf("still connected after %s", time.Since(begin))
			}
			break // cut off
		}
	}
	if wrote > 64<<20 {
		t.Errorf("%d bytes were taken from a client that reads nothing", wrote)
	}
}

// A key that is revoked while its stream runs ends it.
func TestStreamRevoked(t *testing.T) {
	r := start(t, startNATS(t))
	secret := addKey(t, "shop", keystore.Options{Channels: []string{">"}}, r)
	line := `{"channel":"a","data":1}` + "\n"
	d := r.open(t, line, "X-API-KEY: "+secret)
	if res := d.read(); res.Status != proto.StatusStored {
		t.Fatalf("got %+v", res)
	}
	if _, err := r.keys().Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	r.awaitKey(secret, false)
	begin := time.Now()
	for {
		d.write(line)
		res := d.read()
		if res.Status == proto.StatusFailed {
			if res.Problem == nil || res.Problem.Type != proto.ProblemUnauthorized.Type {
				t.Errorf("problem: got %+v", res.Problem)
			}
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the stream goes on with a revoked key")
		}
	}
	if rest, _ := io.ReadAll(d.out); len(rest) != 0 {
		t.Errorf("after that: got %q, want nothing", rest)
	}
}

// The socket of a stream that was cut off closes soon, whatever its client
// does, and what is left of the body is not taken for another request.
func TestStreamCutOffIsClosed(t *testing.T) {
	r := start(t, startNATS(t))
	secret := addKey(t, "guest", keystore.Options{Channels: []string{">"}, Expires: time.Now().Add(5 * time.Second)}, r)
	in, conn := r.raw(t, strings.Replace(head("/v1/messages", "application/x-ndjson", "Transfer-Encoding: chunked\r\n"),
		envKey, secret, 1))
	var last string
	for !strings.Contains(last, "unauthorized") {
		if _, err := io.WriteString(conn, "19\r\n{\"channel\":\"a\",\"data\":1}\n\r\n"); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", last, err)
		}
		last = line
	}
	begin := time.Now()
	_, _ = io.WriteString(conn, "1000\r\n\r\n")
	time.AfterFunc(lingerTimeout+100*time.Millisecond, func() { // where the next request would be looked for
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
	})
	rest, _ := io.ReadAll(in)
	if took := time.Since(begin); took > 45*time.Second {
		t.Errorf("closed after %s, want about %s", took, lingerTimeout)
	}
	if strings.Contains(string(rest), "HTTP/1.1") || strings.Contains(string(rest), "done") {
		t.Errorf("after the last result: got %q, want nothing", rest)
	}
}

// When the service stops, a stream's results come to their end, without a
// last line, and the service does not wait for its client.
func TestStreamDrain(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.Drain = time.Minute })
	d := r.open(t, "{\"channel\":\"a\",\"data\":1}\n")
	d.read() // it waits for the next line now
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > 45*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if rest, _ := io.ReadAll(d.out); len(rest) != 0 {
		t.Errorf("after the stop: got %q, want nothing", rest)
	}
}
