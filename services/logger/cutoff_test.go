package logger

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

// A NATS server that is cut off: its connections are well, and nobody answers
// for the consumer.
type (
	deafJS struct {
		jetstream.JetStream
		deaf *atomic.Bool
	}
	deafStream struct {
		jetstream.Stream
		deaf *atomic.Bool
	}
	deafConsumer struct {
		jetstream.Consumer
		deaf *atomic.Bool
	}
)

func (d deafJS) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := d.JetStream.Stream(ctx, name)
	return deafStream{s, d.deaf}, err
}

func (d deafStream) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := d.Stream.CreateConsumer(ctx, cfg)
	return deafConsumer{c, d.deaf}, err
}

func (d deafConsumer) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	if d.deaf.Load() {
		return nil, context.DeadlineExceeded
	}
	return d.Consumer.Info(ctx)
}

// While nobody answers for the consumer the logger is not ready, though its
// connection is well. With one server it stays and waits; where another one is
// known it goes there.
func TestCutOffServer(t *testing.T) {
	for _, more := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d other servers", more), func(t *testing.T) {
			w := newWorld(t)
			for range more {
				w.others = append(w.others, natstest.Start(t).URL)
			}
			w.late = 500 * time.Millisecond
			var deaf atomic.Bool
			w.broker = func(js jetstream.JetStream) jetstream.JetStream { return deafJS{js, &deaf} }
			r := w.startReady()
			here := r.nc.ConnectedUrl()
			deaf.Store(true)
			if more > 0 {
				r.eventually("another server", func() bool { return r.nc.IsConnected() && r.nc.ConnectedUrl() != here })
				return
			}
			r.eventually("not ready", func() bool {
				err := r.ops.Ready(context.Background())
				return err != nil && strings.Contains(err.Error(), "has not answered")
			})
			if r.nc.Stats().Reconnects != 0 {
				t.Error("it left the only server")
			}
			deaf.Store(false)
			r.eventually("ready again", func() bool { return r.ops.Ready(context.Background()) == nil })
		})
	}
}
