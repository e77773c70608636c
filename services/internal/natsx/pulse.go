package natsx

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// StreamLate is after how long without a sign of life from the stream a
// service is not ready, and looks for another server. A cluster elects a
// leader within 10 s.
const StreamLate = 15 * time.Second

// Pulse watches whether the stream answers. A server that is cut off from its
// cluster answers everything else, so that the connection looks well while
// nothing is stored and nothing comes.
//
// Alive and Err are safe for concurrent use; Missed belongs to one goroutine.
type Pulse struct {
	nc    *nats.Conn
	log   *slog.Logger
	alive atomic.Int64 // Unix nanoseconds
	moved time.Time    // when another server was last looked for
}

// NewPulse begins with a sign of life.
func NewPulse(nc *nats.Conn, log *slog.Logger) *Pulse {
	p := &Pulse{nc: nc, log: log}
	p.Alive()
	return p
}

// Alive notes a sign of life: an answer of the stream, or a message from it.
func (p *Pulse) Alive() { p.alive.Store(time.Now().UnixNano()) }

func (p *Pulse) silent() time.Duration {
	return time.Since(time.Unix(0, p.alive.Load())).Round(time.Second)
}

// Err is why a service that needs the stream is not ready.
func (p *Pulse) Err() error {
	if silent := p.silent(); silent >= StreamLate {
		return fmt.Errorf("stream %s has not answered for %s", proto.Stream, silent)
	}
	return nil
}

// Missed notes that the stream did not answer, with the reason, and moves the
// connection to another server if that lasts and another is known. A
// connection that is lost looks for one by itself. It does not block.
func (p *Pulse) Missed(err error) {
	silent := p.silent()
	if !p.nc.IsConnected() || silent < StreamLate || time.Since(p.moved) < StreamLate {
		return
	}
	p.moved = time.Now()
	if len(p.nc.Servers()) < 2 {
		p.log.Warn("the stream does not answer, and no other NATS server is known", "silent", silent, "err", err)
		return
	}
	p.log.Warn("the stream does not answer; trying another NATS server", "server", p.nc.ConnectedUrlRedacted(), "silent", silent, "err", err)
	if err := p.nc.ForceReconnect(); err != nil {
		p.log.Warn("could not leave the NATS server", "err", err)
	}
}
