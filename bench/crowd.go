//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/rpc"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tally is what clients received since the last reset.
type Tally struct {
	Connected, Dead int   // now; closed by the server
	Messages, Least int64 // received by all clients, and by the one that received least
	Frame           int64 // size of the last frame with a message
	Pings           int64
	Latency         *histogram // from publisher to socket
}

// newTally is that of no client; the least of none is more than any client's.
func newTally() Tally { return Tally{Least: math.MaxInt64, Latency: new(histogram)} }

func (t *Tally) add(o Tally) {
	t.Connected, t.Dead = t.Connected+o.Connected, t.Dead+o.Dead
	t.Messages, t.Pings = t.Messages+o.Messages, t.Pings+o.Pings
	t.Least, t.Frame = min(t.Least, o.Least), max(t.Frame, o.Frame)
	t.Latency.merge(o.Latency)
}

// crowd is all clients of one measurement, spread over as many processes as
// the limit of open files wants.
type crowd struct {
	n     int
	parts []*part
}

// part is one process of clients.
type part struct {
	*process
	calls *rpc.Client
}

// startClients starts the processes; connect connects the clients.
func (b *bench) startClients(g group) (*crowd, error) {
	c := &crowd{n: g.N}
	for most, done, first := socketsOfAProcess(), 0, g.First; done < c.n; done += most {
		g.First, g.N = first+done, min(most, c.n-done)
		job, _ := json.Marshal(g) // a struct of plain values
		p := &part{process: command("clients", nil, b.self, "clients", string(job))}
		in, err1 := p.cmd.StdinPipe()
		out, err2 := p.cmd.StdoutPipe()
		if err := errors.Join(err1, err2, b.start(p.process)); err != nil {
			return nil, err
		}
		p.calls = rpc.NewClient(struct {
			io.Reader
			io.WriteCloser
		}{out, in})
		c.parts = append(c.parts, p)
	}
	return c, nil
}

// call calls a method of clients in all processes at once and adds up their answers.
func (c *crowd) call(ctx context.Context, method, query string) (Tally, error) {
	answers := make([]Tally, len(c.parts))
	var all errgroup.Group
	for i, p := range c.parts {
		all.Go(func() error {
			call := p.calls.Go("clients."+method, query, &answers[i], make(chan *rpc.Call, 1))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-call.Done:
			}
			if call.Error != nil {
				return fmt.Errorf("clients: %s: %w: %s", method, call.Error, p.tail())
			}
			return nil
		})
	}
	sum, err := newTally(), all.Wait()
	for _, a := range answers {
		if err == nil {
			sum.add(a)
		}
	}
	return sum, err
}

// connect connects all clients at once.
func (c *crowd) connect(ctx context.Context, query string) error {
	t, err := c.call(ctx, "Connect", query)
	if err == nil && t.Connected != c.n {
		err = fmt.Errorf("clients: %d of %d are connected", t.Connected, c.n)
	}
	return err
}

// deliveryTimeout is how long a crowd may receive nothing before that is an error.
const deliveryTimeout = 15 * time.Second

// await waits until each client has received so many messages.
func (c *crowd) await(ctx context.Context, messages int) (Tally, error) {
	return c.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Least >= int64(messages) })
}

// receive publishes a load of which each client gets so many messages, and waits until each has them. It counts from
// the load on, and fails when a message came twice.
func (c *crowd) receive(ctx context.Context, t target, l load, each int) (Tally, error) {
	if _, err := c.call(ctx, "Reset", ""); err != nil {
		return Tally{}, err
	}
	if _, err := t.publish(ctx, l); err != nil {
		return Tally{}, err
	}
	got, err := c.await(ctx, each)
	if want := int64(each * c.n); err == nil && got.Messages != want {
		err = fmt.Errorf("%d clients received %d messages, want %d, each once", c.n, got.Messages, want)
	}
	return got, err
}

// until waits for a condition. It fails when the server closes a client, or when the clients received nothing for
// so long. It asks every 5 ms, and less often the more clients there are, since counting them takes time from the server.
func (c *crowd) until(ctx context.Context, patience time.Duration, done func(*Tally) bool) (Tally, error) {
	last, since := int64(-1), time.Now()
	for {
		t, err := c.call(ctx, "Count", "")
		if err == nil && t.Dead > 0 {
			err = fmt.Errorf("the server closed %d of %d clients", t.Dead, c.n)
		}
		if err != nil || done(&t) {
			return t, err
		}
		if now := t.Messages + t.Pings; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return t, fmt.Errorf("%d clients received %d messages in all, one of them only %d, and %d pings, and no more came for %s",
				c.n, t.Messages, t.Least, t.Pings, patience)
		}
		if err := pause(ctx, max(5*time.Millisecond, time.Duration(c.n)*time.Microsecond)); err != nil {
			return t, err
		}
	}
}
