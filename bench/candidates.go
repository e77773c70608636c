//go:build linux

package main

import (
	"context"
	"crypto/tls"
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
	name  string // in jobs and errors
	title string // in the table
	can   ability
	hello string // text frame by which a client asks for {channel}, where the URL does not name it
}

// ability is a set of what a candidate can do; steps need some.
type ability uint8

const (
	speaksTLS ability = 1 << iota
	reads             // notices what clients do: answers, and that they are gone
	resumes           // sends clients that come back what they missed
)

// candidates stand in the table in this order; the first is the one that the
// others are compared with, the last is the bare loop.
var candidates = []*candidate{
	{name: "herald", title: "Herald", can: speaksTLS | reads | resumes},
	{name: "textbook", title: "textbook gorilla " + version("github.com/gorilla/websocket"), can: speaksTLS | reads},
	{name: "centrifuge", title: "centrifuge " + version("github.com/centrifugal/centrifuge"), can: speaksTLS | reads,
		hello: `{"id":1,"connect":{"data":{"channel":"{channel}"}}}`},
	{name: "bare", title: "bare write(2)"},
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

// setup is how a candidate is started for one measurement; the job of the role serve.
type setup struct {
	As, Listen, NATS string
	Ping             time.Duration // interval of keepalives; 0: none during the measurement
	TLS              bool
	Cert, Key        string // PEM files, for TLS
}

// server is a running process to measure, with a profiler.
type server struct {
	*process
	of   *candidate // nil: none of the table
	addr string
	ops  string // base URL of the profiler
	http *http.Client
}

// shipped are arguments of a gateway that runs with its default settings.
func (b *bench) shipped(addr, ops string) []string {
	return []string{"-listen", addr, "-ops-listen", ops, "-nats", b.broker.url, "-log-level", "warn"}
}

// startCandidate starts the candidate and waits until it is ready. Herald is the gateway as it ships, but
// without a limit of connections per address, as all clients come from a few, and without heartbeats that are not measured.
func (b *bench) startCandidate(ctx context.Context, c *candidate, s setup) (*server, error) {
	a, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	s.As, s.Listen, s.NATS, s.Cert, s.Key = c.name, a[0], b.broker.url, b.cert, b.key
	if c != candidates[0] {
		v := newServer(b.role("serve", s), a[0], scheme(s.TLS)+a[0])
		v.of = c
		return v, b.startServer(ctx, v, v.ops)
	}
	heartbeat := s.Ping
	if heartbeat == 0 {
		heartbeat = time.Hour
	}
	args := append(b.shipped(a[0], a[1]), "-max-connections-per-ip", "0", "-heartbeat", heartbeat.String())
	if s.TLS {
		args = append(args, "-tls-cert", b.cert, "-tls-key", b.key)
	}
	v := newServer(command(c.name, nil, b.binary["gateway"], args...), a[0], "http://"+a[1])
	v.of = c
	return v, b.startServer(ctx, v, scheme(s.TLS)+a[0])
}

func scheme(secure bool) string {
	if secure {
		return "https://"
	}
	return "http://"
}

func newServer(p *process, addr, ops string) *server {
	// The certificate is one that this run made.
	return &server{process: p, addr: addr, ops: ops, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
}

// startServer returns when the process answers at base that it is ready.
func (b *bench) startServer(ctx context.Context, v *server, base string) error {
	if err := b.start(v.process); err != nil {
		return err
	}
	return v.await(ctx, func() bool { _, err := v.get(ctx, base+"/readyz"); return err == nil })
}

func (v *server) get(ctx context.Context, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(b), err
}

// heap is what the Go runtime of the process says of its memory, in bytes.
type heap struct {
	live float64 // heap and stacks in use
	kept float64 // resident, but held by the runtime for later
}

// heap reads the runtime's figures, after garbage collection if wanted.
func (v *server) heap(ctx context.Context, collect bool) (h heap, err error) {
	path, times := "/debug/pprof/heap?debug=1", 1
	if collect {
		path, times = path+"&gc=1", 2 // what a finalizer kept is freed by the second
	}
	var stats string
	for range times {
		if stats, err = v.get(ctx, v.ops+path); err != nil {
			return h, fmt.Errorf("%s: memory of the runtime: %w", v.name, err)
		}
	}
	value := func(name string) (bytes float64) {
		_, after, ok := strings.Cut(stats, "# "+name+" = ")
		bytes, e := strconv.ParseFloat(strings.Fields(after + " ?")[0], 64) // of stacks: in use / of the system
		if !ok || e != nil {
			err = fmt.Errorf("%s: the heap profile has no %s", v.name, name)
		}
		return bytes
	}
	return heap{value("HeapInuse") + value("Stack"), value("HeapIdle") - value("HeapReleased")}, err
}

// settle collects garbage, waits while the runtime still gives back a hundredth
// of the memory within quiet, and returns what is resident then. The runtime
// keeps a little for later: that counts, as it does for whoever runs it.
func (v *server) settle(ctx context.Context, quiet time.Duration) (float64, error) {
	if _, err := v.heap(ctx, true); err != nil {
		return 0, err
	}
	least, err := rssOf(v.pid())
	begin := time.Now()
	for since := begin; err == nil && time.Since(since) < quiet && time.Since(begin) < 10*quiet; {
		time.Sleep(quiet / 5)
		var now float64
		if now, err = rssOf(v.pid()); now < least*0.99 {
			least, since = now, time.Now()
		}
	}
	return least, err
}

// group is n clients of the channel, or of one channel each if it contains {n}.
func (v *server) group(n int, channel string, secure bool) group {
	g := group{N: n, PerAddress: portsOfAnAddress, Addr: v.addr, Path: "/ws?channel=" + channel, TLS: secure}
	if v.of != nil && v.of.hello != "" {
		g.Path, g.Hello = "/ws", strings.ReplaceAll(v.of.hello, "{channel}", channel)
	}
	return g
}
