//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// fanout is a server to compare with: it takes clients at GET /ws and pushes
// to those of a channel. A client is greeted with a first frame once it will get
// everything that is published from then on.
type fanout interface {
	http.Handler
	// publish is called by one goroutine, in order. body is not changed later.
	publish(channel string, body []byte)
}

// fanouts make the comparisons; ping is the interval of keepalives, 0 for none.
var fanouts = map[string]func(ping time.Duration) (fanout, error){
	textbookName:   newTextbook,
	centrifugeName: newCentrifuge,
	bareName:       newBare,
}

// serve is the role of a process that is a server to compare with. It takes
// its messages as the gateway does: from one subscription to all that the
// stream republishes.
func serve(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	name := f.String("as", "", "which one")
	addr := f.String("listen", "127.0.0.1:0", "address")
	url := f.String("nats", "", "NATS server")
	ping := f.Duration("ping", 0, "keepalive interval")
	cert := f.String("cert", "", "certificate file (PEM); over TLS")
	key := f.String("key", "", "private key file (PEM)")
	if err := f.Parse(args); err != nil {
		return err
	}
	make, ok := fanouts[*name]
	if !ok {
		return fmt.Errorf("serve: no server %q", *name)
	}
	server, err := make(*ping)
	if err != nil {
		return fmt.Errorf("serve %s: %w", *name, err)
	}
	nc, err := nats.Connect(*url)
	if err != nil {
		return fmt.Errorf("serve %s: %w", *name, err)
	}
	defer nc.Close()
	if _, err := nc.Subscribe(proto.SubjectLive+">", func(m *nats.Msg) {
		if channel, ok := proto.ChannelOf(m.Subject); ok {
			server.publish(channel, m.Data)
			return
		}
		for lines := proto.ReadPack(m.Data); m.Subject == proto.SubjectLivePacks && lines.Next(); {
			server.publish(string(lines.Channel()), lines.Message())
		}
	}); err != nil {
		return fmt.Errorf("serve %s: %w", *name, err)
	}
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("serve %s: %w", *name, err)
	}
	return listen(ctx, *addr, *cert, *key, server)
}

// listen serves until ctx ends.
func listen(ctx context.Context, addr, cert, key string, server fanout) error {
	mux := http.NewServeMux()
	mux.Handle("GET /ws", server)
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var ended atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		ended.Store(true)
		_ = s.Close()
	})
	defer stop()
	if cert != "" {
		err = s.ServeTLS(l, cert, key)
	} else {
		err = s.Serve(l)
	}
	if ended.Load() {
		return nil
	}
	return err
}

// welcome is the first frame of the servers that have no greeting of their own.
const welcome = `{"type":"welcome"}`
