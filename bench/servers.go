//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// candidate is one column of the table: a server, and clients that speak its protocol.
type candidate struct {
	name, title string // in jobs and errors, in the table
	dialect
	takes string // names of the steps that it takes part in; empty: all
}

// dialect is what the clients of a protocol say, in text frames, and what they wait for.
// {channel} stands for the channel, {name} for the channel without its first token, {n} for the client's number.
type dialect struct {
	Path       string // of the handshake
	Hello      string // after the handshake; empty: nothing
	Ready      string // stands in the frame that says that the client is subscribed
	Ping, Pong string // the protocol's own keepalive and its answer, beside WebSocket's; empty: none
}

// candidates stand in the table in this order; the first is the one that the
// others are compared with, the last is the bare loop.
var candidates = []*candidate{
	{"herald", "Herald", native, ""},
	{"herald-socketio", "… Socket.IO clients", socketIO, "idle fanout bursts"},
	{"herald-pusher", "… Pusher clients", dialect{
		Path: "/app/" + pusherKey + "?protocol=7", Hello: `{"event":"pusher:subscribe","data":{"channel":"{name}"}}`,
		Ready: "subscription_succeeded", Ping: `{"event":"pusher:ping"`, Pong: `{"event":"pusher:pong"}`}, "idle fanout bursts"},
	{"textbook", "textbook gorilla " + version("github.com/gorilla/websocket"), native, "idle fanout bursts storm tls ping"},
	{"centrifuge", "centrifuge " + version("github.com/centrifugal/centrifuge"), dialect{
		Path: "/ws", Hello: `{"id":1,"connect":{"data":{"channel":"{channel}"}}}`, Ready: `"connect"`, Ping: "{}", Pong: "{}"},
		"idle fanout bursts storm tls ping channels nine"},
	{"node", "Socket.IO on Node", socketIO, "idle fanout bursts"},
	{"bare", "bare write(2)", native, "idle fanout bursts"},
}

var (
	native   = dialect{Path: "/ws?channel={channel}", Ready: `"welcome"`}
	socketIO = dialect{Path: "/socket.io/?EIO=4&transport=websocket", Hello: `40{"channels":["{channel}"]}`, Ready: `40{`, Ping: "2", Pong: "3"}
)

// candidateOf is the candidate with this name.
func candidateOf(name string) *candidate {
	for _, c := range candidates {
		if c.name == name {
			return c
		}
	}
	return nil
}

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

// system is the servers of one trial.
type system struct {
	*server      // the one that is measured: its clients come here
	nats, ingest *server
	natsURL      string
	target                  // where to POST
	counted      []*process // all that a POST costs
	feed         *nats.Conn // nil: the server follows the stream by itself
}

// server is a running process, with a profiler.
type server struct {
	*process
	addr string // of its clients
	ops  string // base URL of the profiler
}

// insecure trusts the certificate that this run made.
var insecure = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// setup is how a server is started for one scenario; the job of the role serve.
type setup struct {
	As, Listen, NATS string
	Ping             time.Duration // interval of keepalives; 0: none during the measurement
	Posts            bool          // it is told by POSTs what to publish, instead of following the stream
	Key              string        // of POSTs
	TLS              bool
	Cert, CertKey    string // PEM files, for TLS
}

// launch starts the process and returns when ready is answered with 200.
func (b *bench) launch(ctx context.Context, p *process, addr, ops, ready string) (*server, error) {
	v := &server{p, addr, ops}
	if err := b.start(p); err != nil {
		return nil, err
	}
	return v, p.await(ctx, func() bool { _, err := get(ctx, ready); return err == nil })
}

// startBroker starts NATS and ingest, which declares the stream. It is ready when messages can be stored. sync is
// how often NATS forces them to disk, a duration or always, before they are acknowledged.
func (b *bench) startBroker(ctx context.Context, sync string) (s *system, err error) {
	a, err := freeAddresses(4)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	dir, err := os.MkdirTemp(b.dir, "nats-*")
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\nhttp: %q\nprof_port: %s\njetstream { store_dir: %q, sync_interval: %q }\n",
		a[0], a[1], strings.TrimPrefix(a[2], "127.0.0.1:"), dir, sync)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure NATS: %w", err)
	}
	s = &system{natsURL: "nats://" + a[0], target: target{url: "http://" + a[3], key: rand.Text()}}
	nats, err := b.launch(ctx, command("nats-server", nil, b.binary["nats-server"], "-c", config), "", "http://"+a[2], "http://"+a[1]+"/healthz")
	if err != nil {
		return nil, err
	}
	ingest, err := b.launch(ctx, command("ingest", []string{"HERALD_API_KEY=" + s.key}, b.binary["ingest"],
		"-listen", a[3], "-nats", s.natsURL, "-log-level", "warn"), "", "", s.url+"/readyz")
	s.nats, s.ingest, s.counted = nats, ingest, []*process{nats.process, ingest.process}
	return s, err
}

// startSystem starts a candidate for a scenario, and what it needs.
func (b *bench) startSystem(ctx context.Context, c *candidate, s scenario) (*system, error) {
	if s.without == "split" {
		return b.startSingle(ctx)
	}
	sys, err := b.startBroker(ctx, cmp.Or(s.sync, "2m"))
	if err != nil || s.without == "gateway" {
		return sys, err
	}
	u := setup{As: c.name, NATS: sys.natsURL, Posts: s.posts, Key: sys.key, TLS: s.tls, Cert: b.cert, CertKey: b.certKey}
	if s.pings {
		u.Ping = b.pingEvery
	}
	switch {
	case strings.HasPrefix(c.name, "herald"):
		sys.server, err = b.startGateway(ctx, c, u)
	case c.name == "node":
		return sys, b.startNode(ctx, sys)
	default:
		sys.server, err = b.startPeer(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	if sys.counted = append(sys.counted, sys.process); s.posts && u.As == "centrifuge" {
		sys.counted = []*process{sys.nats.process, sys.process}
		sys.url = "http://" + sys.addr
	}
	return sys, nil
}

// startGateway starts Herald's gateway as it ships, but without a limit of connections per address, as all
// clients come from a few, and without heartbeats that are not measured.
func (b *bench) startGateway(ctx context.Context, c *candidate, s setup) (*server, error) {
	if c.name == "herald-pusher" {
		add := command("herald", []string{"HERALD_APP_SECRET=" + rand.Text()}, b.binary["herald"],
			"apps", "add", "bench", "-id", "1", "-key", pusherKey, "-prefix", "public", "-nats", s.NATS)
		if out, err := add.cmd.Output(); err != nil {
			return nil, fmt.Errorf("make an app: %w: %s%s", err, out, add.tail())
		}
	}
	args, scheme := []string{"-max-connections-per-ip", "0", "-heartbeat", cmp.Or(s.Ping, time.Hour).String()}, "http://"
	if s.TLS {
		args, scheme = append(args, "-tls-cert", s.Cert, "-tls-key", s.CertKey), "https://"
	}
	return b.startShipped(ctx, s.NATS, scheme, args...)
}

// pusherKey is the key of the app that Pusher's clients use.
const pusherKey = "278d425bdf160c739803"

// startShipped starts a gateway with its default settings and these.
func (b *bench) startShipped(ctx context.Context, natsURL, scheme string, args ...string) (*server, error) {
	a, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	args = append([]string{"-listen", a[0], "-ops-listen", a[1], "-nats", natsURL, "-log-level", "warn"}, args...)
	return b.launch(ctx, command("gateway", nil, b.binary["gateway"], args...), a[0], "http://"+a[1], scheme+a[0]+"/readyz")
}

// startSingle starts the single binary as it ships.
func (b *bench) startSingle(ctx context.Context) (*system, error) {
	a, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "single-*")
	if err != nil {
		return nil, err
	}
	to := target{url: "http://" + a[0], key: rand.Text()}
	v, err := b.launch(ctx, command("herald", []string{"HERALD_API_KEY=" + to.key}, b.binary["herald"],
		"-listen", a[0], "-data", dir, "-log-level", "warn"), a[0], "", to.url+"/readyz")
	if err != nil {
		return nil, err
	}
	return &system{server: v, target: to, counted: []*process{v.process}}, nil
}

// startPeer starts a server of peers.go.
func (b *bench) startPeer(ctx context.Context, s setup) (*server, error) {
	a, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	s.Listen = a[0]
	base := "http://" + a[0]
	if s.TLS {
		base = "https://" + a[0]
	}
	p := b.role("serve", s)
	p.name = s.As
	return b.launch(ctx, p, a[0], base, base+"/readyz")
}

// The server on Node, and what npm needs to install it.
//
//go:embed socketio
var socketIOFiles embed.FS

// installNode makes ready the Socket.IO server; without Node or npm, the table says why it is not in it.
func (b *bench) installNode(ctx context.Context) error {
	if err := os.CopyFS(b.dir, socketIOFiles); err != nil {
		return fmt.Errorf("files of the Socket.IO server: %w", err)
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--silent", "--no-audit", "--no-fund")
	npm.Dir = filepath.Join(b.dir, "socketio")
	if out, err := npm.CombinedOutput(); err != nil {
		b.result.withoutNode = fmt.Sprintf("npm ci: %v %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	return ctx.Err()
}

// startNode starts the Socket.IO server. It reads its messages, a JSON line each, from a pipe, into which this
// process writes what it receives from NATS.
func (b *bench) startNode(ctx context.Context, sys *system) error {
	a, err := freeAddresses(1)
	if err != nil {
		return err
	}
	p := command("node", nil, "node", "--expose-gc", filepath.Join(b.dir, "socketio", "server.js"), strings.TrimPrefix(a[0], "127.0.0.1:"))
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	if sys.server, err = b.launch(ctx, p, a[0], "http://"+a[0], "http://"+a[0]+"/readyz"); err != nil {
		return err
	}
	if sys.feed, err = nats.Connect(sys.natsURL); err != nil {
		return err
	}
	return followStream(sys.feed, func(_ string, message []byte) {
		_, _ = in.Write(append(message, '\n')) // the clients' counts show a message that is lost
	})
}

func get(ctx context.Context, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := insecure.Do(req)
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

// heap is what the runtime of the process says of its memory, in bytes.
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
		if stats, err = get(ctx, v.ops+path); err != nil {
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
