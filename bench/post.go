//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
)

// way is a way to publish over HTTP, a row of the table; the job of the role post.
type way struct {
	Title    string
	Each     int    // messages of a request
	Kind     string // content type
	Share    int    // one in so many of the deliveries that a measurement has
	URL      string
	Requests int64
}

var (
	singlePosts = way{Title: "one POST, stored and acknowledged: CPU of ingest and NATS", Each: 1, Kind: "application/json", Share: 10}
	arrays      = way{Title: "a message of an array of 100, the same", Each: 100, Kind: "application/json", Share: 2}
	ndjson      = way{Title: "a message of an NDJSON stream, the same", Each: 1000, Kind: "application/x-ndjson", Share: 2}
)

// ingest measures what it costs to store messages: with ingest and NATS as two
// processes, and in the single binary, which passes them to its gateway and its
// log as well. Nothing is compared with it: the other servers store nothing.
func (b *bench) ingest(ctx context.Context) error {
	a, err := freeAddresses(1)
	if err != nil {
		return fmt.Errorf("start the single binary: %w", err)
	}
	key := "HERALD_API_KEY=" + b.broker.apiKey
	single := command("herald", []string{key}, b.binary["herald"], "-listen", a[0],
		"-data", filepath.Join(b.dir, fmt.Sprintf("single-%d", b.round)), "-log-level", "warn")
	if err := b.start(single); err != nil {
		return err
	}
	defer b.kill(single)
	if err := single.awaitReady(ctx, "http://"+a[0]); err != nil {
		return err
	}
	for _, w := range []way{singlePosts, arrays, ndjson} {
		w.Requests = int64(max(1, b.deliver/w.Share/w.Each))
		for _, to := range []struct {
			title, url string
			servers    []*process
		}{
			{w.Title, b.broker.ingest, []*process{b.broker.front, b.broker.nats}},
			{"… in the single binary, its gateway and log included", "http://" + a[0], []*process{single}},
		} {
			w.URL = to.url + "/v1/messages"
			used, _, err := b.cost(func() error { return b.post(ctx, w, key) }, to.servers)
			if err != nil {
				return err
			}
			each := used[0].sum() / float64(w.Requests*int64(w.Each)) * 1e6
			b.result.record(to.title, perCore, candidates[0], b.round, each)
			fmt.Fprintf(b.log, "  %-10s %s: %s\n", "ingest", to.title, perCore(each))
		}
	}
	return nil
}

// post publishes from a process of its own.
func (b *bench) post(ctx context.Context, w way, key string) error {
	p := b.role("post", w, key)
	if err := b.start(p); err != nil {
		return err
	}
	defer b.kill(p)
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Minute):
		return errors.New("post: not done within two minutes")
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("post: %s", p.tail())
	}
	return nil
}

// posters is how many requests are under way at a time.
const posters = 32

// post is the role of a process that publishes over HTTP. The key is in the
// environment. It fails unless each message is answered as stored.
func post(ctx context.Context, job string, _ io.Reader, _ io.Writer) error {
	var w way
	if err := json.Unmarshal([]byte(job), &w); err != nil {
		return fmt.Errorf("post: %w", err)
	}
	to, err := url.Parse(w.URL)
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	var left atomic.Int64
	left.Store(w.Requests)
	errs := make([]error, posters)
	var wg sync.WaitGroup
	for i := range posters {
		wg.Go(func() { errs[i] = w.send(ctx, to, &left) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// body is one request's.
func (w way) body() []byte {
	one := fmt.Appendf(nil, `{"channel":%q,"data":%s}`, everybody, data(0))
	all := slices.Repeat([][]byte{one}, w.Each)
	switch {
	case w.Each == 1:
		return one
	case w.Kind == "application/json":
		return fmt.Appendf(nil, "[%s]", bytes.Join(all, []byte(",")))
	default:
		return append(bytes.Join(all, []byte("\n")), '\n')
	}
}

// send makes requests over one connection until none is left. It writes them
// as they are: http.Client costs more than what it would measure, and a server
// that waits for its load spends time of its own.
func (w way) send(ctx context.Context, to *url.URL, left *atomic.Int64) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Host)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	body := w.body()
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nX-API-KEY: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		to.Path, to.Host, os.Getenv("HERALD_API_KEY"), w.Kind, len(body), body)
	for in := bufio.NewReader(c); left.Add(-1) >= 0 && ctx.Err() == nil; {
		if err := w.exchange(c, in, request); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return ctx.Err()
}

// exchange is one request and its answer. The answer of a stream comes while
// the request is still being written.
func (w way) exchange(c net.Conn, in *bufio.Reader, request []byte) error {
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
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		_ = c.Close() // ends the writing
	}
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if n := bytes.Count(answer, []byte(`"status":"`+proto.StatusStored+`"`)); resp.StatusCode != http.StatusOK || n != w.Each {
		return fmt.Errorf("%s, %d of %d stored: %.200s", resp.Status, n, w.Each, answer)
	}
	return nil
}
