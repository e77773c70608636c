//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"sync"
	"time"
)

// Tally is what clients received since the last reset.
type Tally struct {
	Connected     int        // now
	Dead          int        // closed by the server
	Messages      int64      // received by all clients that parse
	LeastMessages int64      // received by one of those; -1 with none
	ParsedBytes   int64      // received by that one
	LeastBytes    int64      // received by one of those that only count bytes; -1 with none
	Pings         int64      // to those that parse
	Latency       *histogram // of those that parse, from publisher to socket
}

func newTally() Tally { return Tally{LeastMessages: -1, LeastBytes: -1, Latency: new(histogram)} }

func (t *Tally) add(o Tally) {
	t.Connected += o.Connected
	t.Dead += o.Dead
	t.Messages += o.Messages
	t.Pings += o.Pings
	t.Latency.merge(o.Latency)
	t.least(o)
}

// least keeps the figures of the clients that received least.
func (t *Tally) least(o Tally) {
	if o.LeastMessages >= 0 && (t.LeastMessages < 0 || o.LeastMessages < t.LeastMessages) {
		t.LeastMessages, t.ParsedBytes = o.LeastMessages, o.ParsedBytes
	}
	if o.LeastBytes >= 0 && (t.LeastBytes < 0 || o.LeastBytes < t.LeastBytes) {
		t.LeastBytes = o.LeastBytes
	}
}

// complete reports whether each client has received each message: those that parse
// have counted them, and none of the others has noticeably fewer bytes
// (a server that puts several messages into one frame saves a few).
func (t *Tally) complete(messages int64) bool {
	return t.LeastMessages >= messages && (t.LeastBytes < 0 || float64(t.LeastBytes) >= 0.97*float64(t.ParsedBytes))
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
func (b *bench) startClients(g group, all bool) (*crowd, error) {
	c := &crowd{n: g.N}
	g.Every = max(1, g.N/b.samples)
	if all {
		g.Every = 1
	}
	for most, done, first := socketsOfAProcess(), 0, g.First; done < c.n; done += most {
		g.First, g.N = first+done, min(most, c.n-done)
		p := &part{process: b.role("clients", g)}
		in, err1 := p.cmd.StdinPipe()
		out, err2 := p.cmd.StdoutPipe()
		if err := errors.Join(err1, err2, b.start(p.process)); err != nil {
			return nil, fmt.Errorf("start clients: %w", err)
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
	answers, errs := make([]Tally, len(c.parts)), make([]error, len(c.parts))
	var wg sync.WaitGroup
	for i, p := range c.parts {
		wg.Go(func() {
			call := p.calls.Go("clients."+method, query, &answers[i], make(chan *rpc.Call, 1))
			select {
			case <-ctx.Done():
				errs[i] = ctx.Err()
			case <-call.Done:
				if call.Error != nil {
					errs[i] = fmt.Errorf("clients: %s: %w: %s", method, call.Error, p.tail())
				}
			}
		})
	}
	wg.Wait()
	sum := newTally()
	if err := errors.Join(errs...); err != nil {
		return sum, err
	}
	for _, a := range answers {
		sum.add(a)
	}
	return sum, nil
}

// connect connects all clients at once and returns how long that took.
func (c *crowd) connect(ctx context.Context, query string) (time.Duration, error) {
	begin := time.Now()
	t, err := c.call(ctx, "Connect", query)
	took := time.Since(begin)
	if err == nil && t.Connected != c.n {
		err = fmt.Errorf("clients: %d of %d are connected", t.Connected, c.n)
	}
	return took, err
}

// deliveryTimeout is how long a crowd may receive nothing before that is an error.
const deliveryTimeout = 15 * time.Second

// await waits until each client has received so many messages.
func (c *crowd) await(ctx context.Context, messages int64) (Tally, error) {
	return c.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.complete(messages) })
}

// receive publishes a load of which each client gets so many messages, and waits until each has them. It counts from the load on.
func (c *crowd) receive(ctx context.Context, t target, l load, each int) (Tally, error) {
	if _, err := c.call(ctx, "Reset", ""); err != nil {
		return Tally{}, err
	}
	if _, err := t.publish(ctx, l); err != nil {
		return Tally{}, err
	}
	return c.await(ctx, int64(each))
}

// until waits for a condition. It fails when the server closes a client, or when the clients received nothing for
// so long. It asks every 5 ms, and less often the more clients there are, since counting them takes time from the server.
func (c *crowd) until(ctx context.Context, patience time.Duration, done func(*Tally) bool) (Tally, error) {
	last, since := int64(-1), time.Now()
	for {
		t, err := c.call(ctx, "Count", "")
		switch {
		case err != nil:
			return t, err
		case t.Dead > 0:
			return t, fmt.Errorf("the server closed %d of %d clients", t.Dead, c.n)
		case done(&t):
			return t, nil
		}
		if now := t.Messages + t.LeastBytes + t.Pings; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return t, fmt.Errorf("%d clients received %d messages in all, one of them only %d, and %d pings, and no more came for %s",
				c.n, t.Messages, t.LeastMessages, t.Pings, patience)
		}
		if err := pause(ctx, max(5*time.Millisecond, time.Duration(c.n)*time.Microsecond)); err != nil {
			return t, err
		}
	}
}
