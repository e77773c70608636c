//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// target is where to POST messages.
type target struct{ host, key string }

// load is messages to publish, all of them by POST.
type load struct {
	messages    int
	each        int                // messages of a request; 0: one
	lines       bool               // NDJSON instead of a JSON array
	connections int                // that post, each waiting for its answer; 0: four
	perSecond   float64            // messages; 0: as fast as answers come
	channel     func(i int) string // of the i-th message
}

// to is a load of messages to one channel, in one request.
func to(channel string, messages int) load {
	return load{messages: messages, each: messages, channel: func(int) string { return channel }}
}

// publish posts the load. It fails unless each message is answered as accepted, and returns an answer.
func (t target) publish(ctx context.Context, l load) (answer string, err error) {
	l.each = max(1, l.each)
	var next atomic.Int64
	var last atomic.Value
	all, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for range cmp.Or(l.connections, 4) {
		all.Go(func() error {
			c, err := net.DialTimeout("tcp", t.host, time.Minute)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			in := bufio.NewReader(c)
			for {
				first := int(next.Add(int64(l.each))) - l.each
				if first >= l.messages {
					return nil
				}
				if l.perSecond > 0 {
					due := begin.Add(time.Duration(float64(first) / l.perSecond * float64(time.Second)))
					if err := pause(ctx, time.Until(due)); err != nil {
						return err
					}
				}
				said, err := t.post(ctx, c, in, l, first, min(l.each, l.messages-first))
				if err != nil {
					return err
				}
				last.Store(said)
			}
		})
	}
	if err := all.Wait(); err != nil {
		return "", fmt.Errorf("publish: %w", err)
	}
	return last.Load().(string), nil
}

// post makes one request. It writes it as it is: http.Client costs more than what it would measure, and a server that
// waits for its load spends time of its own.
func (t target) post(ctx context.Context, c net.Conn, in *bufio.Reader, l load, first, n int) (string, error) {
	kind := map[bool]string{false: "application/json", true: "application/x-ndjson"}[l.lines]
	body := l.body(first, n)
	err1 := errors.Join(ctx.Err(), c.SetDeadline(time.Now().Add(time.Minute)))
	_, err2 := fmt.Fprintf(c, "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nX-API-KEY: %s\r\nContent-Type: %s\r\n"+
		"Content-Length: %d\r\n\r\n%s", t.host, t.key, kind, len(body), body)
	resp, err3 := http.ReadResponse(in, nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	said := string(b)
	// "stored" is Herald's word for a message, "published" that of the server that stores none.
	done := strings.Count(said, `"status":"stored"`) + strings.Count(said, `"status":"published"`)
	if err != nil || resp.StatusCode != http.StatusOK || done != n {
		return "", fmt.Errorf("%s, %d of %d accepted: %.200s: %w", resp.Status, done, n, said, err)
	}
	return said, nil
}

// body is one request's.
func (l load) body(first, n int) []byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = fmt.Appendf(nil, `{"channel":%q,"data":%s}`, l.channel(first+i), data(first+i))
	}
	switch {
	case l.lines:
		return append(bytes.Join(all, []byte("\n")), '\n')
	case l.each == 1:
		return all[0]
	}
	return fmt.Appendf(nil, "[%s]", bytes.Join(all, []byte(",")))
}

// dataBytes is the size of the data of each message.
const dataBytes = 128

// data is one message's: JSON with the time, in nanoseconds since 1970, filled up to dataBytes.
func data(i int) []byte {
	b := fmt.Appendf(make([]byte, 0, dataBytes), `{"ts":%d,"n":%d,"d":"`, time.Now().UnixNano(), i)
	for n := byte(0); len(b) < dataBytes-2; n++ {
		b = append(b, 'a'+n%26)
	}
	return append(b, `"}`...)
}

// crowd is all clients of one measurement, spread over as many processes as the limit of open files wants.
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
func (c *crowd) call(ctx context.Context, method, query string) (sum Tally, err error) {
	calls, answers := make([]*rpc.Call, len(c.parts)), make([]Tally, len(c.parts))
	for i, p := range c.parts {
		calls[i] = p.calls.Go("clients."+method, query, &answers[i], make(chan *rpc.Call, 1))
	}
	sum = newTally()
	for i, call := range calls {
		select {
		case <-ctx.Done():
			return sum, ctx.Err()
		case <-call.Done:
		}
		if call.Error != nil {
			return sum, fmt.Errorf("clients: %s: %w: %s", method, call.Error, c.parts[i].tail())
		}
		sum.add(answers[i])
	}
	return sum, nil
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
func (c *crowd) receive(ctx context.Context, t target, l load, each int) (got Tally, err error) {
	if _, err = c.call(ctx, "Reset", ""); err == nil {
		_, err = t.publish(ctx, l)
	}
	if err == nil {
		got, err = c.await(ctx, each)
	}
	if want := int64(each * c.n); err == nil && got.Messages != want {
		err = fmt.Errorf("%d clients received %d messages, want %d, each once", c.n, got.Messages, want)
	}
	return got, err
}

// until waits for a condition. It fails when the server closes a client, or when the clients received nothing for so
// long. It asks every 5 ms, and less often the more clients there are, since counting them takes time from the server.
func (c *crowd) until(ctx context.Context, patience time.Duration, done func(*Tally) bool) (Tally, error) {
	last, since := int64(-1), time.Now()
	for {
		t, err := c.call(ctx, "Count", "")
		if now := t.Messages + t.Pings; now != last {
			last, since = now, time.Now()
		}
		switch {
		case err == nil && t.Dead > 0:
			err = fmt.Errorf("the server closed %d of %d clients", t.Dead, c.n)
		case err == nil && !done(&t) && time.Since(since) > patience:
			err = fmt.Errorf(
				"%d clients received %d messages in all, one of them only %d, and %d pings, and no more came for %s",
				c.n, t.Messages, t.Least, t.Pings, patience)
		}
		if err != nil || done(&t) {
			return t, err
		}
		if err := pause(ctx, max(5*time.Millisecond, time.Duration(c.n)*time.Microsecond)); err != nil {
			return t, err
		}
	}
}
