package httpx

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c := tryDial(t, s)
	if c == nil {
		t.Fatal("the server resets the connection")
	}
	return c
}

// tryDial connects; nil: the server has hung up at once.
func tryDial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// ask sends one request and returns the answer, whose body is read; nil: the
// server hung up.
func ask(t *testing.T, c net.Conn, header string) *http.Response {
	t.Helper()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

func open(s *Server) int {
	n, _ := s.Admission().Open()
	return n
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })

func TestSocketsWithin(t *testing.T) {
	for _, c := range []struct{ limit, reserve uint64 }{{1 << 20, 1024}, {20000, 1024}, {4096, 1024}, {1024, 256},
		{300, 128}, {160, 128}} {
		most, words := socketsWithin(c.limit)
		if uint64(most) != c.limit-c.reserve || words*wordsShare != int(c.reserve) {
			t.Errorf("%d descriptors: %d sockets and %d that are refused in words; want a reserve of %d", c.limit, most,
				words, c.reserve)
		}
	}
	if most := MaxSockets(10); most != leastSockets {
		t.Errorf("10 descriptors: %d sockets", most)
	}
}

// Idle sockets, half requests and refused ones count from accept on; who is
// beyond the bound hears why, and further ones are closed at once.
func TestSocketsBeyondTheBound(t *testing.T) {
	s := startServer(t, ServerConfig{MaxSockets: 10}, hello)
	s.admission.words = 5
	var inside []net.Conn
	for i := range 10 {
		c := dial(t, s)
		inside = append(inside, c)
		switch i % 3 {
		case 1:
			_, _ = io.WriteString(c, "GET / HT")
		case 2:
			if resp := ask(t, c, ""); resp == nil || resp.StatusCode != http.StatusOK { // it stays, idle
				t.Fatalf("socket %d: got %v", i, resp)
			}
		}
	}
	within(t, "all are counted", func() bool { return open(s) == 10 })
	for i := range 5 {
		resp := ask(t, dial(t, s), "")
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
			!resp.Close ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("refused socket %d: got %+v, want 503 with Retry-After and a problem", i, resp)
		}
	}
	within(t, "refused ones are gone", func() bool { return open(s) == 10 })
	for range 5 { // they hold the places for the refused, and ask nothing
		dial(t, s)
	}
	within(t, "they are counted", func() bool { return open(s) == 15 })
	if c := tryDial(t, s); c != nil {
		if resp := ask(t, c, ""); resp != nil {
			t.Errorf("beyond all places: got %s, want a closed socket", resp.Status)
		}
	}
	within(t, "a refused socket that does not ask is closed", func() bool { return open(s) == 10 })
	_ = inside[0].Close()
	within(t, "a place is given back", func() bool { return open(s) == 9 })
	if resp := ask(t, dial(t, s), ""); resp == nil || resp.StatusCode != http.StatusOK {
		t.Errorf("after one has left: got %v", resp)
	}
}

// A half TLS handshake is a socket like any other.
func TestHalfHandshakesCount(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "localhost")
	s := startServer(t, ServerConfig{MaxSockets: 2, CertFile: cert, KeyFile: key, ReadTimeout: 8 * time.Second}, hello)
	for range 2 {
		_, _ = io.WriteString(dial(t, s), "\x16\x03\x01")
	}
	within(t, "both are counted", func() bool { return open(s) == 2 })
	get := func() int {
		c := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if resp := ask(t, c, ""); resp != nil {
			return resp.StatusCode
		}
		return 0
	}
	if status := get(); status != http.StatusServiceUnavailable {
		t.Errorf("beyond the bound: got %d, want 503", status)
	}
	within(t, "half handshakes are cut off", func() bool { return open(s) == 0 })
	if status := get(); status != http.StatusOK {
		t.Errorf("after them: got %d", status)
	}
}

// One address has so many sockets; who comes by a trusted proxy counts by the
// proxy's word, and the proxy itself by none.
func TestSocketsOfOneAddress(t *testing.T) {
	t.Run("peer", func(t *testing.T) {
		s := startServer(t, ServerConfig{MaxPerAddress: 3}, hello)
		for range 3 + besides {
			dial(t, s)
		}
		within(t, "all are counted", func() bool { return open(s) == 3+besides })
		resp := ask(t, dial(t, s), "X-Forwarded-For: 192.0.2.1\r\n")
		if resp == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("got %+v, want 429 with Retry-After", resp)
		}
		for range 2 * besides {
			tryDial(t, s)
		}
		within(t, "most are closed at once", func() bool { return open(s) <= 3+2*besides })
	})
	t.Run("the largest limit that there is", func(t *testing.T) {
		s := startServer(t, ServerConfig{MaxPerAddress: math.MaxInt}, hello)
		if resp := ask(t, dial(t, s), ""); resp == nil || resp.StatusCode != http.StatusOK {
			t.Errorf("got %+v", resp)
		}
	})
	t.Run("trusted proxy", func(t *testing.T) {
		leave := make(chan struct{})
		s := startServer(t, ServerConfig{MaxPerAddress: 1, Proxies: *proxies(t, "127.0.0.1")},
			http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-leave }))
		for i := range 1 + besides {
			_, _ = io.WriteString(dial(t, s), fmt.Sprintf("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+
				"2001:db8:1:2::%x\r\n\r\n", i))
		}
		count := func() int {
			s.admission.mu.Lock()
			defer s.admission.mu.Unlock()
			return s.admission.addresses[netip.MustParsePrefix("2001:db8:1:2::/64")]
		}
		within(t, "all are counted", func() bool { return count() == 1+besides })
		if resp := ask(t, dial(t, s), "X-Forwarded-For: 2001:db8:1:2:ffff::\r\n"); resp == nil ||
			resp.StatusCode != http.StatusTooManyRequests || resp.Close {
			t.Errorf("the same /64: got %+v, want 429, and the proxy's connection kept", resp)
		}
		close(leave)
		if resp := ask(t, dial(t, s), "X-Forwarded-For: 2001:db8:1:3::\r\n"); resp == nil ||
			resp.StatusCode != http.StatusOK {
			t.Errorf("another /64: got %+v", resp)
		}
		within(t, "requests that ended do not count", func() bool { return count() == 0 })
	})
}

// Requests over HTTP/2 share a socket, and count one by one.
func TestStreamsOfOneAddress(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "localhost")
	leave, arrived := make(chan struct{}), make(chan struct{})
	s := startServer(t, ServerConfig{MaxPerAddress: 1, CertFile: cert, KeyFile: key},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-leave
		}))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	get := func() int {
		resp, err := client.Get("https://" + s.Addr().String())
		if err != nil {
			t.Error(err)
			return 0
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("got %s", resp.Proto)
		}
		return resp.StatusCode
	}
	var under sync.WaitGroup
	for range besides { // and the socket
		under.Go(func() {
			if status := get(); status != http.StatusOK {
				t.Errorf("below the bound: got %d", status)
			}
		})
		<-arrived
	}
	if status := get(); status != http.StatusTooManyRequests {
		t.Errorf("beyond the bound: got %d, want 429", status)
	}
	close(leave)
	under.Wait()
}

// The handler may word a refusal itself, and a hijacked connection keeps its
// place until Leave.
func TestWordsAndHandOver(t *testing.T) {
	var s *Server
	taken := make(chan net.Conn, 1)
	s = startServer(t,
		ServerConfig{MaxSockets: 1, Words: func(r *http.Request) bool { return r.Header.Get("Own") != "" }},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if Refused(r) != nil {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			s.Admission().Keep(r, netip.MustParseAddr("127.0.0.1"))
			taken <- nc
		}))
	_, _ = io.WriteString(dial(t, s), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	nc := <-taken
	_ = nc.Close() // as when its descriptor was duplicated
	if n := open(s); n != 1 {
		t.Fatalf("%d sockets are counted, want the hijacked one", n)
	}
	if resp := ask(t, dial(t, s), "Own: words\r\n"); resp == nil || resp.StatusCode != http.StatusTeapot ||
		!resp.Close {
		t.Errorf("own words: got %+v", resp)
	}
	if resp := ask(t, dial(t, s), ""); resp == nil || resp.StatusCode != proto.ProblemUnavailable.Status {
		t.Errorf("others: got %+v", resp)
	}
	s.Admission().Release(netip.MustParseAddr("127.0.0.1"))
	within(t, "nothing is counted", func() bool { return open(s) == 0 })
	if len(s.admission.addresses) != 0 {
		t.Errorf("addresses are left: %v", s.admission.addresses)
	}
}

// A socket that is not used again after an answer is closed.
func TestIdleSocketsEnd(t *testing.T) {
	s := startServer(t, ServerConfig{IdleTimeout: 100 * time.Millisecond}, hello)
	c := dial(t, s)
	if resp := ask(t, c, ""); resp == nil {
		t.Fatal("no answer")
	}
	within(t, "the idle socket is closed", func() bool { return open(s) == 0 })
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestAddressGroup(t *testing.T) {
	for ip, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "::1": "::/64"} {
		if got := AddressGroup(netip.MustParseAddr(ip)).String(); got != want {
			t.Errorf("%s: got %s, want %s", ip, got, want)
		}
	}
	if !strings.Contains(AddressGroup(netip.Addr{}).String(), "invalid") { // a group of its own, and no panic
		t.Error("the zero address has a prefix")
	}
}
