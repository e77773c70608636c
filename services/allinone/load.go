package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/schollz/progressbar/v3"
)

// What one load may ask for. It is meant to try a machine, not to break one.
const (
	maxLoadConnections = 10_000
	maxLoadRate        = 20_000  // messages a second
	maxLoadDeliveries  = 500_000 // a second: messages times connections
	maxLoadDuration    = 10 * time.Minute
	// loadDialers is how many connections are opened at the same time.
	loadDialers = 32
	// loadSettles is how long the last messages may take to arrive.
	loadSettles = 10 * time.Second
)

var loadCommand = command{
	name: "load", does: "try a machine: a bounded load, and how fast messages arrived",
	about: `
Opens WebSocket connections, publishes at a steady rate, and shows how long messages took from the publisher to the
clients, as percentiles and as a plot. It is bounded: 10,000 connections, 20,000 messages a second, 500,000
deliveries a second, ten minutes. It loads the machine it runs on; -elsewhere says that another one is yours.
Its messages stay in the stream and in the log, as all others do.`,
	examples: []string{
		"herald load",
		"herald load -connections 1000 -rate 50 -duration 30s",
	},
	start: func(c *call) task {
		l := &load{client: client{URL: defaultURL}, std: c.std, channel: "public.load", connections: 100, rate: 100,
			duration: 10 * time.Second, size: 100}
		return task{
			settings: append(l.keySettings(),
				config.Setting{Env: "HERALD_TOKEN", Help: "JWT for a channel that anonymous clients may not follow",
					Secret: true, Into: &l.token},
				config.Setting{Flag: "channel", Help: "where the messages go", Into: &l.channel},
				config.Setting{Flag: "connections", Help: "clients that follow the channel", Into: &l.connections},
				config.Setting{Flag: "rate", Help: "messages a second", Into: &l.rate},
				config.Setting{Flag: "duration", Help: "how long messages are published", Into: &l.duration},
				config.Setting{Flag: "size", Help: "of a message's data, in bytes", Kind: config.Bytes, Into: &l.size},
				config.Setting{Flag: "elsewhere", Help: "the machine of -url is mine, and may be loaded",
					Into: &l.elsewhere},
			),
			run: l.run,
		}
	},
}

// load is one load and what came of it.
type load struct {
	client
	std               streams
	token, channel    string
	connections, rate int
	size              int64
	duration          time.Duration
	elsewhere         bool

	mark      string                // begins the data of this load's messages
	began     time.Time             // of the publishing
	took      time.Duration         // the publishing
	sent      []atomic.Int64        // when message i was written, since began
	answered  int                   // messages that have a result
	refused   int                   // of these, that were not stored
	deliver   atomic.Int64          // messages that clients got
	lost      atomic.Int64          // connections that ended
	latencies histogram             // of the deliveries
	why       atomic.Pointer[error] // of the first connection that ended
}

func (l *load) run(ctx context.Context, words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("load takes no arguments, only settings: %q", words)
	}
	base, err := l.check()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mark = "load-" + rand.Text() + "-"
	l.sent = make([]atomic.Int64, int(l.duration.Seconds()*float64(l.rate)))
	bar := l.bar()
	clients, err := l.connect(ctx, base)
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	if err != nil {
		return cmp.Or(context.Cause(ctx), err) // Ctrl-C breaks the dials that are under way
	}
	var readers sync.WaitGroup
	for _, c := range clients {
		readers.Go(func() { l.follow(c) }) // ends when the connection is closed
	}
	err = l.publish(ctx, bar)
	if l.took = l.duration; l.answered < len(l.sent) {
		l.took = time.Since(l.began).Round(time.Millisecond)
	}
	if err == nil {
		l.settle()
	}
	cut := interrupted(ctx)
	if err != nil && cut != nil && errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w; no results of the last messages came within %s", cut, lastResults)
	}
	cancel()
	for _, c := range clients {
		_ = c.Close()
	}
	readers.Wait()
	if bar != nil {
		_ = bar.Finish()
		fmt.Fprintln(l.std.err)
	}
	if err != nil && l.answered == 0 {
		return err
	}
	var nothing error
	if l.answered == 0 {
		nothing = errors.New("nothing was published")
	}
	return cmp.Or(err, l.report(), cut, nothing) // one that was cut short has a report, too
}

// check refuses what is beyond the bounds, and where to.
func (l *load) check() (*url.URL, error) {
	base, err := l.base()
	if err != nil {
		return nil, err
	}
	if err := proto.CheckChannel(l.channel); err != nil {
		return nil, err
	}
	switch {
	case l.connections < 1 || l.connections > maxLoadConnections:
		return nil, fmt.Errorf("connections: want 1 to %d", maxLoadConnections)
	case l.rate < 1 || l.rate > maxLoadRate:
		return nil, fmt.Errorf("rate: want 1 to %d messages a second", maxLoadRate)
	case l.connections*l.rate > maxLoadDeliveries:
		return nil, fmt.Errorf("%d connections times %d messages a second are more than %d deliveries a second; "+
			"lower one of them", l.connections, l.rate, maxLoadDeliveries)
	case l.duration < time.Second || l.duration > maxLoadDuration:
		return nil, fmt.Errorf("duration: want 1s to %s", maxLoadDuration)
	case l.size < 1 || l.size > proto.MaxMessageBytes-128:
		return nil, fmt.Errorf("size: want 1 to %d bytes", proto.MaxMessageBytes-128)
	case !l.elsewhere && !thisMachine(base.Hostname()):
		return nil, fmt.Errorf("%s is not this machine: a load is for a machine of your own; -elsewhere "+
			"says that it is", base.Hostname())
	}
	return base, nil
}

// thisMachine reports whether a host of a URL is this one, by a loopback address.
func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// bar is shown on a terminal only.
func (l *load) bar() *progressbar.ProgressBar {
	if !isTerminal(l.std.err) {
		return nil
	}
	return progressbar.NewOptions(len(l.sent), progressbar.OptionSetWriter(l.std.err), progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetDescription(fmt.Sprintf("%d connections", l.connections)))
}

// connect opens all connections, and waits until each is welcome. It returns those
// that are open, also beside an error.
func (l *load) connect(ctx context.Context, base *url.URL) (clients []*websocket.Conn, err error) {
	u := base.JoinPath("/ws")
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u.RawQuery = url.Values{"channel": {l.channel}}.Encode()
	header := http.Header{}
	if l.token != "" {
		header.Set("Authorization", "Bearer "+l.token)
	}
	secure, err := l.tls()
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{HandshakeTimeout: 30 * time.Second, TLSClientConfig: secure, ReadBufferSize: 4096,
		WriteBufferSize: 256}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards clients and err
	var dialers sync.WaitGroup
	var next atomic.Int64
	for range min(loadDialers, l.connections) {
		dialers.Go(func() {
			for next.Add(1) <= int64(l.connections) && ctx.Err() == nil {
				c, fault := l.dial(ctx, &dialer, u, header)
				mu.Lock()
				if fault != nil && err == nil {
					err = fmt.Errorf("connection %d of %d: %w", len(clients)+1, l.connections, fault)
					cancel()
				}
				if c != nil {
					clients = append(clients, c)
				}
				mu.Unlock()
			}
		})
	}
	dialers.Wait()
	return clients, err
}

func (l *load) dial(ctx context.Context, dialer *websocket.Dialer, u *url.URL, header http.Header) (*websocket.Conn,
	error) {
	c, resp, err := handshake(ctx, dialer, u.String(), header)
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && resp != nil:
		return nil, refusal(u, resp)
	case err != nil:
		return nil, unreachable(u, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, b, err := c.ReadMessage()
	var first struct{ Type, Detail string }
	switch {
	case err != nil:
		return c, fmt.Errorf("no welcome: %w", err)
	case json.Unmarshal(b, &first) != nil || first.Type != proto.FrameWelcome && first.Detail == "":
		return c, fmt.Errorf("what answers is not Herald: %.200q", b)
	case first.Type != proto.FrameWelcome:
		return c, errors.New(first.Detail)
	}
	_ = c.SetReadDeadline(time.Time{})
	return c, nil
}

// follow measures what one client gets, until its connection ends.
func (l *load) follow(c *websocket.Conn) {
	mark := []byte(`"` + l.mark)
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.lost.Add(1)
				l.why.CompareAndSwap(nil, &err)
			}
			return
		}
		_, rest, ours := bytes.Cut(b, mark)
		digits, _, _ := bytes.Cut(rest, []byte("-"))
		n, err := strconv.Atoi(string(digits))
		if !ours || err != nil || n < 0 || n >= len(l.sent) {
			continue // another's message, or a control frame
		}
		l.latencies.add(time.Since(l.began) - time.Duration(l.sent[n].Load()))
		l.deliver.Add(1)
	}
}

// publish writes the messages as one stream of NDJSON, each when it is due. When ctx
// ends it writes no more, and reads the results of those that it wrote.
func (l *load) publish(ctx context.Context, bar *progressbar.ProgressBar) error {
	under, cancel := outlast(ctx)
	defer cancel()
	body, to := io.Pipe()
	var writer sync.WaitGroup
	l.began = time.Now()
	writer.Go(func() { // ends when body is closed, below at the latest
		padding := strings.Repeat("x", int(l.size))
		for i := range l.sent {
			due := l.began.Add(time.Duration(float64(i) / float64(l.rate) * float64(time.Second)))
			if wait := time.Until(due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				case <-under.Done():
				}
			}
			if ctx.Err() != nil || under.Err() != nil {
				break
			}
			l.sent[i].Store(int64(time.Since(l.began)))
			data := l.mark + strconv.Itoa(i) + "-" + padding
			data = data[:max(int(l.size), len(data)-len(padding))]
			if _, err := fmt.Fprintf(to, "{\"channel\":%q,\"data\":%q}\n", l.channel, data); err != nil {
				return
			}
		}
		_ = to.Close()
	})
	defer writer.Wait()
	defer func() { _ = body.Close() }()
	defer cancel()
	resp, err := l.stream(under, http.MethodPost, "/v1/messages", nil, "application/x-ndjson", body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	return l.results(resp.Body, bar)
}
