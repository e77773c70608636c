//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
)

// way is how messages are published.
type way struct {
	title string
	each  int    // messages of a request
	kind  string // content type
	share int    // one in so many of the deliveries that a measurement has
}

// ways are by the names that the role of post knows them by, and in this order.
var (
	wayNames = []string{"single", "array", "ndjson"}
	ways     = map[string]way{
		"single": {"one POST, stored and acknowledged: CPU of ingest and NATS", 1, "application/json", 10},
		"array":  {"a message of an array of 100, the same", 100, "application/json", 2},
		"ndjson": {"a message of an NDJSON stream, the same", 1000, "application/x-ndjson", 2},
	}
)

// posters is how many requests are under way at a time.
const posters = 32

// post is the role of a process that publishes over HTTP. The key is in the
// environment. It fails unless each message is answered as stored.
func post(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	f := flag.NewFlagSet("post", flag.ContinueOnError)
	target := f.String("url", "", "where to")
	as := f.String("as", "single", "single, array or ndjson")
	messages := f.Int("messages", 1, "how many")
	if err := f.Parse(args); err != nil {
		return err
	}
	w, ok := ways[*as]
	if !ok {
		return fmt.Errorf("post: no way %q", *as)
	}
	to, err := url.Parse(*target)
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	var left atomic.Int64
	left.Store(int64(*messages / w.each))
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
	var one, b []byte
	one = fmt.Appendf(one, `{"channel":%q,"data":%s}`, everybody, data(0))
	switch {
	case w.each == 1:
		return one
	case w.kind == "application/json":
		return fmt.Appendf(b, "[%s]", bytes.Join(slicesOf(one, w.each), []byte(",")))
	default:
		return append(bytes.Join(slicesOf(one, w.each), []byte("\n")), '\n')
	}
}

func slicesOf(b []byte, n int) [][]byte {
	s := make([][]byte, n)
	for i := range s {
		s[i] = b
	}
	return s
}

// send makes requests over one connection until none is left. It writes them
// as they are: http.Client costs more than what it would measure, and a server
// that waits for its load burns time of its own. The error says if not all of a
// request was stored.
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
		to.Path, to.Host, os.Getenv("HERALD_API_KEY"), w.kind, len(body), body)
	for in := bufio.NewReader(c); left.Add(-1) >= 0 && ctx.Err() == nil; {
		if err := w.exchange(c, in, request); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// exchange is one request and its answer. The answer of a stream comes while
// the request still goes out.
func (w way) exchange(c net.Conn, in *bufio.Reader, request []byte) error {
	wrote := make(chan error, 1)
	if len(request) <= 4096 { // fits into any socket
		_, err := c.Write(request)
		wrote <- err
	} else {
		go func() { // waited for below
			_, err := c.Write(request)
			wrote <- err
		}()
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		_ = c.Close() // ends the writing
		return fmt.Errorf("publish: %w", errors.Join(err, <-wrote))
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		_ = c.Close()
		return fmt.Errorf("publish: read the answer: %w", errors.Join(err, <-wrote))
	}
	if err := <-wrote; err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if n := bytes.Count(answer, []byte(`"status":"`+proto.StatusStored+`"`)); resp.StatusCode != http.StatusOK || n != w.each {
		return fmt.Errorf("publish: %s, %d of %d stored: %.200s", resp.Status, n, w.each, answer)
	}
	return nil
}

// ingest measures what it costs to store messages: with ingest and NATS as two
// processes, and in the single binary, which gives them to its gateway and its
// log as well. Nothing is compared with it: the other servers store nothing.
func ingest(ctx context.Context, b *bench) error {
	single, url, err := b.startSingle(ctx)
	if err != nil {
		return err
	}
	defer single.kill()
	for _, name := range wayNames {
		w := ways[name]
		messages := max(1, b.deliver/w.share/w.each) * w.each
		for _, to := range []struct {
			title, url string
			servers    []*process
		}{
			{w.title, b.broker.ingest, []*process{b.broker.front, b.broker.nats}},
			{"… in the single binary, its gateway and log included", url, []*process{single}},
		} {
			used, _, err := b.spent(to.servers, nil, func() error { return b.post(ctx, to.url, name, messages) })
			if err != nil {
				return err
			}
			each := used.sum() / float64(messages) * 1e6
			b.result.record(to.title, perCore, candidates[0], b.round, each)
			fmt.Fprintf(b.log, "  %-10s %s: %.1f µs\n", "ingest", to.title, each)
		}
	}
	return nil
}

// startSingle runs the single binary on a folder of its own, with the key that
// ingest has too, and returns when it is ready. The caller kills it.
func (b *bench) startSingle(ctx context.Context) (p *process, url string, err error) {
	port, err := freePort()
	if err != nil {
		return nil, "", fmt.Errorf("start the single binary: %w", err)
	}
	data := filepath.Join(b.dir, fmt.Sprintf("single-%d", b.round))
	p, err = startProcess("herald", nil, nil, []string{"HERALD_API_KEY=" + b.broker.apiKey}, b.single,
		"-listen", "127.0.0.1:"+port, "-data", data, "-log-level", "warn")
	if err != nil {
		return nil, "", err
	}
	url = "http://127.0.0.1:" + port
	if err := p.awaitReady(ctx, url); err != nil {
		p.kill()
		return nil, "", err
	}
	return p, url, nil
}

// post runs the load in a process of its own.
func (b *bench) post(ctx context.Context, url, name string, messages int) error {
	p, err := startProcess("post", nil, nil, []string{"HERALD_API_KEY=" + b.broker.apiKey}, b.self,
		"post", "-url", url+"/v1/messages", "-as", name, "-messages", fmt.Sprint(messages))
	if err != nil {
		return err
	}
	defer p.kill()
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
