//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// candidate is one column of the table: a server, and clients that speak its protocol.
type candidate struct {
	name, title string // in jobs and errors, in the table
	dialect
	steps string // names of those that measure it; empty: all
}

// dialect is what the clients of a protocol say, in text frames, and what they wait for. {channel} stands for the
// channel, {name} for the channel without its first token.
type dialect struct {
	Path       string // of the handshake
	Hello      string // after the handshake; empty: nothing
	Ready      string // stands in the frame that says that the client is subscribed
	Ping, Pong string // the protocol's own keepalive and its answer, beside WebSocket's; empty: none
}

var (
	native   = dialect{Path: "/ws?channel={channel}", Ready: `"welcome"`}
	socketIO = dialect{Path: "/socket.io/?EIO=4&transport=websocket",
		Hello: `40{"channels":["{channel}"]}`, Ready: `40{`, Ping: "2", Pong: "3"}
	pusher = dialect{Path: "/app/" + pusherKey + "?protocol=7",
		Hello: `{"event":"pusher:subscribe","data":{"channel":"{name}"}}`,
		Ready: "subscription_succeeded", Ping: `{"event":"pusher:ping"`, Pong: `{"event":"pusher:pong"}`}
	centrifugal = dialect{Path: "/ws", Hello: `{"id":1,"connect":{"data":{"channel":"{channel}"}}}`,
		Ready: `"connect"`, Ping: "{}", Pong: "{}"}
)

// pusherKey is the key of the app that Pusher's clients use.
const pusherKey = "278d425bdf160c739803"

// candidates stand in the table in this order; the first is the one that the others are compared with.
var candidates = []*candidate{
	{"herald", "Herald", native, ""},
	{"herald-socketio", "… Socket.IO clients", socketIO, "idle fanout bursts"},
	{"herald-pusher", "… Pusher clients", pusher, "idle fanout bursts"},
	{"textbook", "textbook gorilla " + version("github.com/gorilla/websocket"), native,
		"idle fanout bursts storm tls ping"},
	{"centrifuge", "centrifuge " + version("github.com/centrifugal/centrifuge"), centrifugal,
		"idle fanout bursts storm tls ping channels nine"},
	{"node", "Socket.IO on Node", socketIO, "idle fanout bursts"},
	{"bare", "bare write(2)", native, "idle fanout bursts"},
}

// candidateOf is the candidate with this name; of none the first.
func candidateOf(name string) *candidate {
	return candidates[max(0, slices.IndexFunc(candidates, func(c *candidate) bool { return c.name == name }))]
}

// version is that of a module this binary is built with.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	i := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == module })
	return info.Deps[i].Version
}

// system is the servers of one trial.
type system struct {
	*server // the one that is measured: its clients come here
	nats    *server
	natsURL string
	target             // where to POST
	counted []*process // all that a POST costs
	feed    *nats.Conn // nil: the server follows the stream by itself
}

// server is a running process, with a profiler.
type server struct {
	*process
	addr string // of its clients
	ops  string // base URL of the profiler
}

// launch starts the process and returns when ready is answered with 200.
func (b *bench) launch(ctx context.Context, p *process, addr, ops, ready string) (*server, error) {
	if err := b.start(p); err != nil {
		return nil, err
	}
	return &server{p, addr, ops}, p.await(ctx, func() error { _, err := get(ctx, ready); return err })
}

// startBroker starts NATS and ingest, which declares the stream. It is ready when messages can be stored. sync is how
// often NATS forces them to disk, a duration or always, before they are acknowledged.
func (b *bench) startBroker(ctx context.Context, sync string) (s *system, err error) {
	a, err1 := freeAddresses(4)
	dir, err2 := os.MkdirTemp(b.dir, "nats-*")
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	config := fmt.Sprintf("listen: %q\nhttp: %q\nprof_port: %s\njetstream { store_dir: %q, sync_interval: %q }\n",
		a[0], a[1], port(a[2]), dir, sync)
	if err := os.WriteFile(dir+"/nats.conf", []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("configure NATS: %w", err)
	}
	s = &system{natsURL: "nats://" + a[0], target: target{a[3], rand.Text()}}
	s.nats, err = b.launch(ctx, command("nats-server", nil, b.path("nats-server"), "-c", dir+"/nats.conf"),
		"", "http://"+a[2], "http://"+a[1]+"/healthz")
	if err != nil {
		return nil, err
	}
	ingest, err := b.launch(ctx, command("ingest", []string{"HERALD_API_KEY=" + s.key}, b.path("ingest"),
		"-listen", a[3], "-nats", s.natsURL, "-log-level", "warn"), "", "", "http://"+a[3]+"/readyz")
	if err == nil {
		s.counted = []*process{s.nats.process, ingest.process}
	}
	return s, err
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// setup is how a server is started for one scenario; the job of the role serve.
type setup struct {
	As, Listen, NATS string
	Ping             time.Duration // interval of keepalives; 0: none during the measurement
	Posts            bool          // it is told by POSTs what to publish, if it can, instead of following the stream
	Key              string        // of POSTs
	Cert, CertKey    string        // PEM files; empty: no TLS
}

// startSystem starts a candidate for a scenario, and what it needs.
func (b *bench) startSystem(ctx context.Context, c *candidate, s scenario) (sys *system, err error) {
	a, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	base, ready := "http://"+a[0], "/readyz"
	var p *process
	if s.without == "split" { // the single binary as it ships
		sys = &system{target: target{a[0], rand.Text()}}
		p = command("herald", []string{"HERALD_API_KEY=" + sys.key}, b.path("allinone"),
			"-listen", a[0], "-data", b.path(fmt.Sprintf("single-%d", b.round)), "-log-level", "warn")
	} else if sys, err = b.startBroker(ctx, cmp.Or(s.sync, "2m")); err != nil || s.without == "gateway" {
		return sys, err
	}
	u := setup{As: c.name, Listen: a[0], NATS: sys.natsURL, Posts: s.posts, Key: sys.key}
	if s.pings {
		u.Ping = b.pingEvery
	}
	if s.tls {
		u.Cert, u.CertKey, base = b.path("cert.pem"), b.path("key.pem"), "https://"+a[0]
	}
	ops := base
	switch name, dialect, _ := strings.Cut(c.name, "-"); {
	case p != nil:
	case name == "herald":
		// The gateway as it ships, but without a limit of connections per address, as all clients come from a few, and
		// without heartbeats that are not measured.
		p = b.gateway(u, a[1], "-max-connections-per-ip", "0", "-heartbeat", cmp.Or(u.Ping, time.Hour).String())
		ops = "http://" + a[1]
		switch dialect {
		case "socketio":
			ready = "/socket.io/?EIO=4&transport=polling"
		case "pusher":
			add := command("herald", []string{"HERALD_APP_SECRET=" + rand.Text()}, b.path("allinone"),
				"apps", "add", "bench", "-id", "1", "-key", pusherKey, "-prefix", "public", "-nats", sys.natsURL)
			if out, err := add.cmd.CombinedOutput(); err != nil {
				return sys, fmt.Errorf("make an app: %w: %s", err, out)
			}
		}
	case name == "node":
		if p, err = b.node(sys, a[0]); err != nil {
			return sys, err
		}
	default:
		job, _ := json.Marshal(u) // a struct of plain values
		p = command(c.name, nil, b.self, "serve", string(job))
		if s.posts { // by itself, without ingest
			sys.host, sys.counted = a[0], []*process{sys.nats.process}
		}
	}
	sys.server, err = b.launch(ctx, p, a[0], ops, base+ready)
	sys.counted = append(sys.counted, p)
	return sys, err
}

// gateway is a gateway with its default settings and these.
func (b *bench) gateway(s setup, ops string, args ...string) *process {
	return command("gateway", nil, b.path("gateway"), append(args, "-listen", s.Listen, "-ops-listen", ops,
		"-nats", s.NATS,
		"-log-level", "warn", "-tls-cert", s.Cert, "-tls-key", s.CertKey)...)
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
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline",
		"--fetch-retries=0", "--silent", "--no-audit", "--no-fund")
	npm.Dir = b.path("socketio")
	if out, err := npm.CombinedOutput(); err != nil {
		b.result.withoutNode = fmt.Sprintf("npm ci: %v %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	return ctx.Err()
}

// node is the Socket.IO server. It reads its messages, a JSON line each, from a pipe, into which this process writes
// what it receives from NATS.
func (b *bench) node(sys *system, addr string) (*process, error) {
	p := command("node", nil, "node", "--expose-gc", b.path("socketio/server.js"), port(addr))
	in, err := p.cmd.StdinPipe()
	if err == nil {
		sys.feed, err = nats.Connect(sys.natsURL)
	}
	if err == nil {
		err = followStream(sys.feed, func(_ string, message []byte) {
			_, _ = in.Write(append(slices.Clone(message), '\n')) // the clients' counts show a message that is lost
		})
	}
	return p, err
}

// insecure trusts the certificate that this run made.
var insecure = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

func get(ctx context.Context, url string) (string, error) {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) // the URL is one of this run's
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

// memory is what a process takes, in bytes.
type memory struct {
	resident float64
	live     float64 // heap and stacks in use
	kept     float64 // resident, but held by the runtime for later
}

// weigh collects garbage, waits for quiet, in which the runtime gives memory back, and returns what is there then. The
// runtime keeps a little for later: that counts, as it does for whoever runs it.
func (v *server) weigh(ctx context.Context, quiet time.Duration) (m memory, err error) {
	heap := func(query string) (live, kept float64) {
		stats, e := get(ctx, v.ops+"/debug/pprof/heap?debug=1"+query)
		value := func(name string) (bytes float64) {
			_, after, _ := strings.Cut(stats, "# "+name+" = ") // of stacks: in use / of the system
			if _, miss := fmt.Sscan(after, &bytes); e == nil && miss != nil {
				e = fmt.Errorf("the heap profile of %s has no %s", v.name, name)
			}
			return bytes
		}
		live, kept = value("HeapInuse")+value("Stack"), value("HeapIdle")-value("HeapReleased")
		err = errors.Join(err, e)
		return live, kept
	}
	heap("&gc=1") // what a finalizer kept is freed by the second
	m.live, _ = heap("&gc=1")
	err = errors.Join(err, pause(ctx, quiet))
	_, m.kept = heap("")
	resident, e := rssOf(v.pid())
	m.resident = resident
	return m, errors.Join(err, e)
}
