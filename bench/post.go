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
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
// returns the last answer of a connection.
func (t target) publish(ctx context.Context, l load) (answer string, err error) {
	l.each, l.connections = max(1, l.each), cmp.Or(l.connections, 4)
	var next atomic.Int64
	begin := time.Now()
	answers, errs := make([]string, l.connections), make([]error, l.connections)
	var wg sync.WaitGroup
	for i := range l.connections {
		wg.Go(func() { answers[i], errs[i] = t.send(ctx, l, begin, &next) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("publish: %w", err)
	}
	return cmp.Or(answers...), nil
}

// send makes requests over one connection until none is left. It writes them
// as they are: http.Client costs more than what it would measure, and a server
// that waits for its load spends time of its own.
func (t target) send(ctx context.Context, l load, begin time.Time, next *atomic.Int64) (answer string, err error) {
	host := strings.TrimPrefix(t.url, "http://")
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	kind := "application/json"
	if l.lines {
		kind = "application/x-ndjson"
	}
	var body, request []byte
	for in := bufio.NewReader(c); ; {
		first := int(next.Add(int64(l.each))) - l.each
		if first >= l.messages || ctx.Err() != nil {
			return answer, ctx.Err()
		}
		if l.perSecond > 0 {
			if err := pause(ctx, time.Until(begin.Add(time.Duration(float64(first)/l.perSecond*float64(time.Second))))); err != nil {
				return "", err
			}
		}
		n := min(l.each, l.messages-first)
		body = l.appendBody(body[:0], first, n)
		request = fmt.Appendf(request[:0], "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nX-API-KEY: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			host, t.key, kind, len(body), body)
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return "", err
		}
		if answer, err = exchange(c, in, request, n); err != nil {
			return "", err
		}
	}
}

// appendBody appends the body of one request.
func (l load) appendBody(b []byte, first, n int) []byte {
	begin, between, end := "[", ",", "]"
	switch {
	case l.lines:
		begin, between, end = "", "\n", "\n"
	case l.each == 1:
		begin, end = "", ""
	}
	b = append(b, begin...)
	for i := first; i < first+n; i++ {
		if i > first {
			b = append(b, between...)
		}
		b = append(append(append(append(b, `{"channel":"`...), l.channel(i)...), `","data":`...), data(i)...)
		b = append(b, '}')
	}
	return append(b, end...)
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

// exchange is one request of n messages and its answer. The answer of a stream comes while
// the request is still being written.
func exchange(c net.Conn, in *bufio.Reader, request []byte, n int) (answer string, err error) {
	wrote := make(chan error, 1)
	write := func() {
		_, err := c.Write(request)
		wrote <- err
	}
	if len(request) <= 4096 { // fits into any socket
		write()
	} else {
		go write() // waited for below
	}
	resp, err := http.ReadResponse(in, nil)
	var said []byte
	if err == nil {
		said, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		_ = c.Close() // ends the writing
	}
	if err := errors.Join(err, <-wrote); err != nil {
		return "", err
	}
	// "stored" is Herald's word for a message, "published" that of the server that stores none.
	if done := bytes.Count(said, []byte(`"status":"stored"`)) + bytes.Count(said, []byte(`"status":"published"`)); resp.StatusCode != http.StatusOK || done != n {
		return "", fmt.Errorf("%s, %d of %d accepted: %.200s", resp.Status, done, n, said)
	}
	return string(said), nil
}
