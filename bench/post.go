//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// target is where to POST messages.
type target struct {
	url string // base URL
	key string
}

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

// publish posts the load. It fails unless each message is answered as accepted, and
// returns an answer.
func (t target) publish(ctx context.Context, l load) (string, error) {
	l.each = max(1, l.each)
	var next atomic.Int64
	var answer atomic.Pointer[string]
	all, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for range cmp.Or(l.connections, 4) {
		all.Go(func() error { return t.send(ctx, l, begin, &next, &answer) })
	}
	if err := all.Wait(); err != nil {
		return "", fmt.Errorf("publish: %w", err)
	}
	return *answer.Load(), nil
}

// send makes requests over one connection until none is left. It writes them
// as they are: http.Client costs more than what it would measure, and a server
// that waits for its load spends time of its own.
func (t target) send(ctx context.Context, l load, begin time.Time, next *atomic.Int64, answer *atomic.Pointer[string]) error {
	to, err := url.Parse(t.url)
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", to.Host, time.Minute)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	kind := map[bool]string{false: "application/json", true: "application/x-ndjson"}[l.lines]
	for in := bufio.NewReader(c); ; {
		first := int(next.Add(int64(l.each))) - l.each
		if first >= l.messages {
			return nil
		}
		due := begin
		if l.perSecond > 0 {
			due = begin.Add(time.Duration(float64(first) / l.perSecond * float64(time.Second)))
		}
		if err := errors.Join(pause(ctx, time.Until(due)), c.SetDeadline(time.Now().Add(time.Minute))); err != nil {
			return err
		}
		n := min(l.each, l.messages-first)
		body := l.body(first, n)
		if _, err := fmt.Fprintf(c, "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nX-API-KEY: %s\r\n"+
			"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			to.Host, t.key, kind, len(body), body); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		said, err := io.ReadAll(resp.Body)
		// "stored" is Herald's word for a message, "published" that of the server that stores none.
		done := bytes.Count(said, []byte(`"status":"stored"`)) + bytes.Count(said, []byte(`"status":"published"`))
		if err != nil || resp.StatusCode != http.StatusOK || done != n {
			return fmt.Errorf("%s, %d of %d accepted: %.200s: %w", resp.Status, done, n, said, err)
		}
		text := string(said)
		answer.Store(&text)
	}
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
