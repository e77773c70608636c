// Command echo serves what the conformance suites of the Engine.IO and Socket.IO
// protocols expect of a server, by the gateway's own transport and parsers. It is no
// part of the product, and no image has it. The README of package engineio says how
// to run the suites against it.
//
//	/engine.io/   echoes every message, text or binary
//	/socket.io/   has the namespaces / and /custom: see socket
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// maxPayload is what the suites expect.
const maxPayload = 1_000_000

// The wheel of heartbeats. A session has to be gone pingInterval and pingTimeout after
// its beginning, so that pings come early: on a busy machine a tick may be late.
const (
	early = 100 * time.Millisecond
	tick  = 5 * time.Millisecond
)

const (
	maxQueue = 4 * maxPayload
	timeout  = 10 * time.Second // for the header of a request
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and prints the URL first.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Uint("port", 3000, "port to listen on, of this machine's loopback addresses")
	// The suites wait for just as long as the defaults.
	var t times
	flags.DurationVar(&t.pingInterval, "ping-interval", 300*time.Millisecond, "time between two pings of the server")
	flags.DurationVar(&t.pingTimeout, "ping-timeout", 200*time.Millisecond, "time in which a ping has to be answered")
	flags.DurationVar(&t.connect, "connect-timeout", time.Second,
		"time in which a client has to enter a namespace of Socket.IO")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case *port > 65535:
		return fmt.Errorf("-port %d is no port", *port)
	case t.pingInterval < 2*early || t.pingTimeout < 2*early:
		return fmt.Errorf("-ping-interval and -ping-timeout are at least %s", 2*early)
	}
	four, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.FormatUint(uint64(*port), 10)))
	if err != nil {
		return err
	}
	listeners := []net.Listener{four}
	_, chosen, _ := net.SplitHostPort(four.Addr().String()) // an address always splits
	// localhost may be this one first, where there is IPv6.
	if six, err := net.Listen("tcp", net.JoinHostPort("::1", chosen)); err == nil {
		listeners = append(listeners, six)
	}
	fmt.Fprintf(stdout, "http://localhost:%s\n", chosen)
	return serve(ctx, listeners, t)
}

// times is how long clients may take.
type times struct{ pingInterval, pingTimeout, connect time.Duration }

// serve echoes until ctx ends, and closes the listeners. It returns when every client is
// gone.
func serve(ctx context.Context, listeners []net.Listener, t times) error {
	set := conn.NewSet(conn.Config{
		MaxQueueBytes: maxQueue, Heartbeat: t.pingInterval - early, HeartbeatWait: t.pingTimeout, Tick: tick,
		Deflate: true,
	}, nil)
	e := echo{conns: set, engine: engineio.NewServer(engineio.Config{
		Conns: set, Node: "echo", PingInterval: t.pingInterval, PingTimeout: t.pingTimeout, MaxPayload: maxPayload,
	})}
	mux := http.NewServeMux()
	mux.HandleFunc("/engine.io/", e.handler(func(c *client) conn.Client { return c }))
	mux.HandleFunc("/socket.io/", e.handler(func(c *client) conn.Client {
		return &socket{client: c,
			within: t.connect}
	}))
	server := http.Server{Handler: mux, ReadHeaderTimeout: timeout}
	running, stop := context.WithCancel(context.Background())
	var parts, serving sync.WaitGroup
	parts.Go(func() { set.Run(running) })
	var mu sync.Mutex
	var failed error // guarded by mu
	ctx, end := context.WithCancel(ctx)
	defer end()
	for _, l := range listeners {
		serving.Go(func() { // ends with server.Close
			defer end()
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	<-ctx.Done()
	set.Drain(context.Background(), 0, proto.CloseGoingAway)
	_ = server.Close() // nothing is left to say to those who are not clients
	set.Wait()
	serving.Wait()
	stop()
	parts.Wait()
	return failed
}

// echo is what all clients have in common.
type echo struct {
	conns  *conn.Set
	engine *engineio.Server
}

// client is an Engine.IO session that sends back what it is sent.
type client struct {
	conn     conn.Conn
	version  engineio.Version
	sid      string
	polls    bool
	greeting []byte
}

// handler serves the requests of clients, which of makes of their sessions.
func (e echo) handler(of func(*client) conn.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*") // the suites run in browsers, too
		e.engine.Handle(w, r, r.URL.Query(), engineio.Hooks{V3: true, Pass: e.engine.Serve,
			Upgrade: func(q engineio.Query) {
				e.engine.Probe(w, r, q, func(response engineio.Response) { response.Write(w, false, "") }, nil)
			}, Begin: func(q engineio.Query) {
				c := &client{version: q.Version, sid: e.engine.NewSID(), polls: !q.WebSocket}
				c.greeting = e.engine.Greeting(c.sid, c.polls)
				remote, _ := netip.ParseAddrPort(r.RemoteAddr) // only the log of a gateway would need it
				format := formats[q.Version]
				if !q.WebSocket {
					response, err := e.engine.Begin(r.Context(), q, c.sid, &c.conn, remote.Addr(), c.sid, format, of(c))
					if err != nil {
						response = engineio.Refusal(http.StatusServiceUnavailable, int(engineio.BadRequest),
							err.Error())
					}
					response.Write(w, false, q.Script)
					return
				}
				err := e.conns.Accept(&c.conn, w, r, remote.Addr(), c.sid, format, func(status int, reason error) {
					engineio.Refusal(status, int(engineio.BadRequest), reason.Error()).Write(w, false, "")
				})
				if err == nil {
					c.conn.Start(of(c))
				}
			}})
	}
}

// v3Pause is before the greeting over a WebSocket in revision 3: the suite begins to
// listen for it only after the handshake, and misses one that comes with it.
const v3Pause = 10 * time.Millisecond

// Arrived makes it a conn.Client.
func (c *client) Arrived() {
	if c.version == engineio.V3 && !c.polls {
		time.Sleep(v3Pause)
	}
	c.push(ws.Text, c.greeting)
}

// Frame makes it a conn.Client.
func (c *client) Frame(b []byte, binary bool) {
	switch p, ok := c.receive(b, binary); {
	case ok && p.Binary:
		c.push(ws.Binary, b)
	case ok:
		c.push(ws.Text, b)
	}
}

// receive returns a message, if there is one.
func (c *client) receive(b []byte, binary bool) (engineio.Packet, bool) {
	p, ok, err := c.version.Receive(&c.conn, b, binary)
	if err != nil {
		c.conn.Close(proto.CloseInvalidPayload)
	}
	return p, ok
}

func (c *client) push(op ws.Opcode, b []byte) { c.conn.Push(ws.Encode(op, b)) }

// Ended makes it a conn.Client.
func (c *client) Ended() {}

func format(v engineio.Version) *conn.Format {
	f := v.Format()
	f.Goodbye = func(code proto.CloseCode) []byte { return ws.EncodeClose(uint16(code), code.String()) }
	f.MaxMessageBytes = maxPayload
	return &f
}

var formats = map[engineio.Version]*conn.Format{engineio.V3: format(engineio.V3), engineio.V4: format(engineio.V4)}
