package natsx

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StreamLate is after how long without a sign of life from the stream a
// service is not ready, and looks for another server. A cluster elects a
// leader within 10 s.
const StreamLate = 15 * time.Second

// Pulse watches whether the stream answers. A server that is cut off from its
// cluster answers everything else, so that the connection looks well while
// nothing is stored and nothing comes.
//
// Safe for concurrent use.
type Pulse struct {
	// Late is StreamLate, unless a test shortens it before the first use.
	Late time.Duration

	nc    *nats.Conn
	log   *slog.Logger
	alive atomic.Int64 // monotonic.Now
	moved atomic.Int64 // monotonic.Now, when another server was last looked for
}

// NewPulse begins with a sign of life.
func NewPulse(nc *nats.Conn, log *slog.Logger) *Pulse {
	p := &Pulse{Late: StreamLate, nc: nc, log: log}
	p.Alive()
	return p
}

// Alive notes a sign of life: a message from the stream, or an
// acknowledgement.
func (p *Pulse) Alive() { p.alive.Store(monotonic.Now()) }

// Answered notes an answer about the stream or a consumer, and reports whether
// it may be believed; see Believable. Only then is it a sign of life.
func (p *Pulse) Answered(cluster *jetstream.ClusterInfo) bool {
	if err := Believable(cluster); err != nil {
		p.Missed(err)
		return false
	}
	p.Alive()
	return true
}

// Believable says why an answer about the stream may be out of date: most of
// its servers must stand behind it. One that is cut off goes on answering by
// itself, at first as the leader it was, then without one (nats-server 2.15.2,
// found by the fault suite). cluster is nil where there is a single server.
func Believable(cluster *jetstream.ClusterInfo) error {
	if cluster == nil {
		return nil
	}
	if cluster.Leader == "" {
		return errors.New("the stream has no leader")
	}
	together := 1
	for _, r := range cluster.Replicas {
		if !r.Offline && r.Active < StreamLate {
			together++
		}
	}
	if together <= (1+len(cluster.Replicas))/2 {
		return fmt.Errorf("the stream's leader %s is alone", cluster.Leader)
	}
	return nil
}

func (p *Pulse) silent() time.Duration {
	return monotonic.Since(p.alive.Load())
}

// Err is why a service that needs the stream is not ready.
func (p *Pulse) Err() error {
	if silent := p.silent(); silent >= p.Late {
		return fmt.Errorf("stream %s has not answered for %s", proto.Stream, silent.Round(time.Second))
	}
	return nil
}

// Missed notes that the stream did not answer, with the reason, and moves the
// connection to another server if that lasts and another is known. A
// connection that is lost looks for one by itself. It does not block.
func (p *Pulse) Missed(err error) {
	silent, moved := p.silent(), p.moved.Load()
	if !p.nc.IsConnected() || silent < p.Late || monotonic.Since(moved) < p.Late {
		return
	}
	if !p.moved.CompareAndSwap(moved, monotonic.Now()) {
		return // another goroutine does it
	}
	if len(p.nc.Servers()) < 2 {
		p.log.Warn("the stream does not answer, and no other NATS server is known", "silent", silent.Round(time.Second),
			"err", err)
		return
	}
	p.log.Warn("the stream does not answer; trying another NATS server", "server", p.nc.ConnectedUrlRedacted(),
		"silent", silent.Round(time.Second), "err", err)
	if err := p.nc.ForceReconnect(); err != nil {
		p.log.Warn("could not leave the NATS server", "err", err)
	}
}
