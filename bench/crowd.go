//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// crowd is all clients of one measurement, spread over as many processes as
// the limit of open files wants.
type crowd struct {
	n      int
	squads []*soldiers
}

// soldiers is one process of clients, and the line to it.
type soldiers struct {
	*process
	orders  *json.Encoder
	answers *json.Decoder
	close   func()
}

// samples is about how many clients of a crowd are read, unless all are.
const samples = 16

// muster starts the processes; connect connects the clients.
func (b *bench) muster(s squad, all bool) (*crowd, error) {
	c := &crowd{n: s.n}
	s.every = max(1, s.n/samples)
	if all || b.plan.every {
		s.every = 1
	}
	most := openFiles() - spareFiles
	for done := 0; done < s.n; done += most {
		part := s
		part.first, part.n = s.first+done, min(most, s.n-done)
		p, err := b.enlist(part)
		if err != nil {
			c.dismiss()
			return nil, err
		}
		c.squads = append(c.squads, p)
	}
	return c, nil
}

func (b *bench) enlist(s squad) (*soldiers, error) {
	in, orders, err1 := os.Pipe()
	answers, out, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("start clients: %w", err)
	}
	p, err := startProcess("clients", in, out, nil, b.self, s.args()...)
	_, _ = in.Close(), out.Close() // the child has its own
	shut := func() { _, _ = orders.Close(), answers.Close() }
	if err != nil {
		shut()
		return nil, err
	}
	return &soldiers{process: p, orders: json.NewEncoder(orders), answers: json.NewDecoder(answers), close: shut}, nil
}

// joined is one crowd of several.
func joined(crowds ...*crowd) *crowd {
	all := &crowd{}
	for _, c := range crowds {
		all.n, all.squads = all.n+c.n, append(all.squads, c.squads...)
	}
	return all
}

// dismiss ends the clients.
func (c *crowd) dismiss() {
	for _, s := range c.squads {
		s.kill()
		s.close()
	}
}

// obey gives all processes the same order at once and adds up their answers.
func (c *crowd) obey(o order) (tally, error) {
	answers, errs := make([]answer, len(c.squads)), make([]error, len(c.squads))
	var wg sync.WaitGroup
	for i, s := range c.squads {
		wg.Go(func() {
			answers[i].Tally = newTally()
			err := s.orders.Encode(o)
			if err == nil {
				err = s.answers.Decode(&answers[i])
			}
			switch {
			case err != nil:
				if errors.Is(err, io.EOF) {
					err = errors.New("the process ended")
				}
				errs[i] = fmt.Errorf("clients: %s: %w: %s", o.Do, err, s.tail())
			case answers[i].Err != "":
				errs[i] = fmt.Errorf("clients: %s: %s", o.Do, answers[i].Err)
			}
		})
	}
	wg.Wait()
	sum := newTally()
	for _, a := range answers {
		sum.add(a.Tally)
	}
	return sum, errors.Join(errs...)
}

func (t *tally) add(o tally) {
	t.Connected += o.Connected
	t.Dead += o.Dead
	t.Read += o.Read
	t.Messages += o.Messages
	t.Pings += o.Pings
	t.Latency.merge(o.Latency)
	if o.LeastMessages >= 0 && (t.LeastMessages < 0 || o.LeastMessages < t.LeastMessages) {
		t.LeastMessages, t.ReadBytes = o.LeastMessages, o.ReadBytes
	}
	if o.LeastBytes >= 0 && (t.LeastBytes < 0 || o.LeastBytes < t.LeastBytes) {
		t.LeastBytes = o.LeastBytes
	}
}

// complete reports whether each client has got each message: those that are
// read have counted them, and none of the others has got noticeably fewer bytes
// (a server that puts several messages into one frame saves a few).
func (t *tally) complete(messages int64) bool {
	return t.LeastMessages >= messages && (t.LeastBytes < 0 || float64(t.LeastBytes) >= 0.97*float64(t.ReadBytes))
}

// connect lets all come at once and returns how long that took.
func (c *crowd) connect(query string) (time.Duration, error) {
	begin := time.Now()
	t, err := c.obey(order{Do: "connect", Query: query})
	took := time.Since(begin)
	if err == nil && t.Connected != c.n {
		err = fmt.Errorf("clients: %d of %d are connected", t.Connected, c.n)
	}
	return took, err
}

// deliveryTimeout is how long a crowd may get nothing new before that is a failure.
const deliveryTimeout = 15 * time.Second

// await waits until each client has got so many messages, and fails when
// one is hung up on, or nothing comes any more.
func (c *crowd) await(ctx context.Context, messages int64) (tally, error) {
	return c.until(ctx, func(t *tally) bool { return t.complete(messages) })
}

// until is await for any condition. It asks every 5 ms, and less often the more
// clients there are, since counting them takes time from the server.
func (c *crowd) until(ctx context.Context, done func(*tally) bool) (tally, error) {
	last, since := int64(-1), time.Now()
	pause := max(5*time.Millisecond, time.Duration(c.n)*time.Microsecond)
	for {
		t, err := c.obey(order{Do: "count"})
		switch {
		case err != nil:
			return t, err
		case t.Dead > 0:
			return t, fmt.Errorf("the server hung up on %d of %d clients", t.Dead, c.n)
		case done(&t):
			return t, nil
		}
		if now := t.Messages + t.LeastBytes; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > deliveryTimeout {
			return t, fmt.Errorf("%d clients got %d messages in all, one of them only %d, and no more came for %s", c.n, t.Messages, t.LeastMessages, deliveryTimeout)
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// pinged waits until the clients have got so many pings.
func (c *crowd) pinged(ctx context.Context, pings int64, within time.Duration) (tally, error) {
	for begin := time.Now(); ; {
		t, err := c.obey(order{Do: "count"})
		switch {
		case err != nil || t.Pings >= pings:
			return t, err
		case t.Dead > 0:
			return t, fmt.Errorf("the server hung up on %d clients that answered its pings", t.Dead)
		case time.Since(begin) > within:
			return t, fmt.Errorf("%d pings came within %s, want %d", t.Pings, within, pings)
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
