// Command echo sends back what it is sent, over the same sockets as the
// gateway: a target for WebSocket conformance suites that know nothing of
// Herald. It is no part of the product, and no image has it.
//
// It serves /echo on a loopback address, with text and binary messages of up
// to 16 MiB, in one of the three forms of a connection:
//
//	go run ./internal/conn/echo                  parked on epoll, on Linux
//	go run ./internal/conn/echo -blocking        goroutines wait for sockets
//	go run ./internal/conn/echo -tls             TLS, with a certificate of this run's own
//
// The fuzzing client of the Autobahn suite reads such a spec, and is run with
// wstest -m fuzzingclient -s spec.json (wss:// for -tls, whose certificate it
// does not check):
//
//	{
//	  "servers": [{"agent": "herald", "url": "ws://127.0.0.1:9001/echo"}],
//	  "outdir": "reports",
//	  "cases": ["*"]
//	}
//
// Cases 12 and 13 are compression: permessage-deflate is negotiated, and every
// message that it makes smaller comes back compressed. Of cases 13 those in which the
// client demands a smaller window are reported as unimplemented: the offer is declined.
// Two deviations are to be expected, which the suite calls non-strict: text is
// looked at for UTF-8 when the message is whole, not byte by byte (6.4.*), and
// a message that is still waiting when its sender breaks the protocol is not
// answered (3.*, 4.*).
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Bounds of a suite, not of a gateway.
const (
	maxMessage = 16 << 20         // bytes; the largest of Autobahn's cases 9.*
	maxQueue   = 4 * maxMessage   // bytes; SendWait waits above the half
	heartbeat  = 10 * time.Minute // a ping that a case does not expect would fail it
	timeout    = 10 * time.Second // for the header of a request
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
	listen := flags.String("listen", "127.0.0.1:9001", "loopback address to listen on")
	blocking := flags.Bool("blocking", false, "have goroutines wait for sockets, also on Linux")
	secure := flags.Bool("tls", false, "serve wss with a certificate that is made for this run")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	addr, err := netip.ParseAddrPort(*listen)
	if err != nil || !addr.Addr().IsLoopback() {
		return fmt.Errorf("-listen %q is not a loopback address with a port", *listen)
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return err
	}
	scheme := "ws"
	if *secure {
		cert, err := certificate(addr.Addr())
		if err != nil {
			return errors.Join(err, l.Close())
		}
		scheme = "wss"
		l = tls.NewListener(sockets{l}, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	fmt.Fprintf(stdout, "%s://%s/echo\n", scheme, l.Addr())
	return serve(ctx, l, conn.Config{MaxQueueBytes: maxQueue, Heartbeat: heartbeat, Blocking: *blocking, Deflate: true})
}

// serve echoes until ctx ends, and closes l. It returns when every client is gone.
func serve(ctx context.Context, l net.Listener, cfg conn.Config) error {
	set := conn.NewSet(cfg, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		remote, _ := netip.ParseAddrPort(r.RemoteAddr) // only the log of a gateway would need it
		c := new(conn.Conn)
		err := set.Accept(c, w, r, remote.Addr(), r.RemoteAddr, format,
			func(status int, reason error) { http.Error(w, reason.Error(), status) })
		if err == nil {
			c.Start(client{c})
		}
	})
	server := http.Server{Handler: mux, ReadHeaderTimeout: timeout}
	running, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { set.Run(running) })
	parts.Go(func() { // ends with ctx, or with the server below
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		_ = server.Close() // nothing is left to say to those who have not shaken hands
	})
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	set.Drain(context.Background(), 0, proto.CloseGoingAway)
	set.Wait()
	stop()
	parts.Wait()
	return err
}

// client sends back what its connection brings. A reader that is too slow for
// that is waited for; an error means that it is gone.
type client struct{ c *conn.Conn }

func (l client) Arrived() {}

func (l client) Frame(b []byte, binary bool) {
	op := ws.Text
	if binary {
		op = ws.Binary
	}
	var frame []byte
	if l.c.Deflates() {
		frame = ws.EncodeDeflated(op, b)
	}
	if frame == nil {
		frame = ws.Encode(op, b)
	}
	_ = l.c.SendWait(context.Background(), frame)
}

func (l client) Ended() {}

// format is a dialect that has no words of its own, and accepts what a suite sends.
var format = &conn.Format{
	Heartbeat: conn.WebSocket.Heartbeat, Goodbye: conn.WebSocket.Goodbye, Binary: true, MaxMessageBytes: maxMessage,
}

// certificate is for one address and one day.
func certificate(addr netip.Addr) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{addr.AsSlice()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// sockets makes the connections of a listener such as the gateway's server makes, so that the Set can take the
// socket from under TLS. Nobody counts them.
type sockets struct{ net.Listener }

func (l sockets) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &httpx.Socket{Conn: nc}, nil
}
