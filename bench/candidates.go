//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// candidate is one column of the table.
type candidate struct {
	name  string // on the command line and in errors
	title string // in the table
	// command is the binary and the arguments of its process.
	command func(b *bench, s setup) (binary string, args []string)
	// hello is the text frame with which a client asks for a channel, where
	// the URL does not say it.
	hello     func(channel string) string
	operators bool // has its figures on a port of their own
	secure    bool // speaks TLS
	reads     bool // notices what clients do: answers, and leaving
	resumes   bool // brings clients up to date that come back
}

// setup is how a candidate is started for one measurement.
type setup struct {
	addr, ops string
	ping      time.Duration // interval of keepalives; 0: none during the measurement
	tls       bool
}

// candidates stand in the table in this order; the first is the one that the
// others are compared with.
var candidates = []*candidate{
	{name: "herald", title: "Herald", command: heraldCommand, operators: true, secure: true, reads: true, resumes: true},
	{name: textbookName, title: "textbook gorilla " + version("github.com/gorilla/websocket"), command: comparison(textbookName), secure: true, reads: true},
	{name: centrifugeName, title: "centrifuge " + version("github.com/centrifugal/centrifuge"), command: comparison(centrifugeName), hello: centrifugeHello, secure: true, reads: true},
	{name: bareName, title: "bare write(2)", command: comparison(bareName)},
}

// bareLoop is the candidate that costs least.
func bareLoop() *candidate { return candidates[len(candidates)-1] }

// version is that of a module this binary is built with.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return ""
}

// comparison is this binary as one of the fanouts.
func comparison(name string) func(*bench, setup) (string, []string) {
	return func(b *bench, s setup) (string, []string) {
		args := []string{"serve", "-as", name, "-listen", s.addr, "-nats", b.broker.url, "-ping", s.ping.String()}
		if s.tls {
			args = append(args, "-cert", b.cert, "-key", b.key)
		}
		return b.self, args
	}
}

// server is a candidate's running process.
type server struct {
	*process
	of   *candidate
	addr string
	base string // URL
	ops  string // URL of its figures
	http *http.Client
}

// start runs the candidate and waits until it is ready.
func (c *candidate) start(ctx context.Context, b *bench, s setup) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.addr = "127.0.0.1:" + port
	if port, err = freePort(); err != nil {
		return nil, err
	}
	s.ops = "127.0.0.1:" + port
	v := &server{of: c, addr: s.addr, base: "http://" + s.addr, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}} // a certificate of this run's own
	if s.tls {
		v.base = "https://" + s.addr
	}
	v.ops = v.base
	if c.operators {
		v.ops = "http://" + s.ops
	}
	binary, args := c.command(b, s)
	if v.process, err = startProcess(c.name, nil, nil, nil, binary, args...); err != nil {
		return nil, err
	}
	if err := v.await(ctx, func() bool { return v.get(ctx, "/readyz") == nil }); err != nil {
		v.kill()
		return nil, err
	}
	return v, nil
}

func (v *server) get(ctx context.Context, path string) error {
	_, err := v.read(ctx, path)
	return err
}

func (v *server) read(ctx context.Context, path string) (body string, err error) {
	base := v.base
	if strings.HasPrefix(path, "/debug/") {
		base = v.ops
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(b), nil
}

// live is the heap and the stacks that a process uses after garbage collection,
// in bytes, whatever the runtime keeps beside them.
func (v *server) live(ctx context.Context) (bytes float64, err error) {
	var stats string
	for range 2 { // what a finalizer kept goes with the second
		if stats, err = v.read(ctx, "/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return 0, fmt.Errorf("%s: collect garbage: %w", v.name, err)
		}
	}
	return v.sum(stats, "HeapInuse", "Stack")
}

// kept is the resident memory that the runtime holds for later, in bytes.
func (v *server) kept(ctx context.Context) (bytes float64, err error) {
	stats, err := v.read(ctx, "/debug/pprof/heap?debug=1")
	if err != nil {
		return 0, fmt.Errorf("%s: memory of the runtime: %w", v.name, err)
	}
	idle, err1 := v.sum(stats, "HeapIdle")
	released, err2 := v.sum(stats, "HeapReleased")
	return idle - released, errors.Join(err1, err2)
}

// sum adds up figures of the runtime's by what a heap profile calls them.
func (v *server) sum(stats string, names ...string) (bytes float64, err error) {
	for _, name := range names {
		_, after, ok := strings.Cut(stats, "# "+name+" = ")
		value, err := strconv.ParseFloat(strings.Fields(after + " ?")[0], 64) // of stacks: in use / of the system
		if !ok || err != nil {
			return 0, fmt.Errorf("%s: the heap profile says no %s", v.name, name)
		}
		bytes += value
	}
	return bytes, nil
}

// settle collects garbage, waits while the runtime still gives back a hundredth
// of the memory within quiet, and returns what is resident then. The runtime
// keeps a little for later: that counts, as it does for whoever runs it.
func (v *server) settle(ctx context.Context, quiet time.Duration) (int64, error) {
	for range 2 { // what a finalizer kept goes with the second
		if err := v.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return 0, fmt.Errorf("%s: collect garbage: %w", v.name, err)
		}
	}
	least, err := rssOf(v.pid())
	begin := time.Now()
	for since := begin; err == nil && time.Since(since) < quiet && time.Since(begin) < 10*quiet; {
		time.Sleep(quiet / 5)
		var now int64
		if now, err = rssOf(v.pid()); now < least*99/100 {
			least, since = now, time.Now()
		}
	}
	return least, err
}

// squad is n clients of the channel, or of one channel each if it contains {n}.
func (v *server) squad(n int, channel string, secure bool) squad {
	s := squad{n: n, share: shareOfPorts, addr: v.addr, path: "/ws?channel=" + channel, tls: secure}
	if v.of.hello != nil {
		s.path, s.hello = "/ws", v.of.hello(channel)
	}
	return s
}
