package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// outside looks at a public address from outside, through whatever proxies stand
// before Herald: does a WebSocket get through, does an event stream, does
// anything hold messages back, does anything end idle connections?
type outside struct {
	*patient
	client
	idle time.Duration // for how long idle connections are watched

	base    *url.URL
	channel string // of this probe alone, one that anybody may follow
}

// begins is how long Herald's first words may take.
const begins = 10 * time.Second

func (p *outside) examine(ctx context.Context) (err error) {
	if p.base, err = p.client.base(); err != nil {
		return err
	}
	if p.idle < time.Second {
		return fmt.Errorf("idle: %s; want at least 1s", p.idle)
	}
	p.channel = "public.herald-doctor." + strings.ToLower(rand.Text())
	ws := p.webSocket(ctx)
	sse := p.events(ctx)
	defer ws.hangUp()
	defer sse.hangUp()
	if ws != nil || sse != nil {
		p.message(ctx, ws, sse)
		p.watch(ctx, ws, sse)
	}
	if p.ill > 0 {
		return fmt.Errorf("things that are wrong: %d", p.ill)
	}
	return nil
}

// line is one open connection: what it received, and how it ended.
type line struct {
	name  string
	close func()
	done  chan struct{} // closed when nothing more comes

	mu     sync.Mutex
	texts  []arrival // guarded by mu; messages and events
	pings  int       // guarded by mu; heartbeats
	last   time.Time // guarded by mu; when anything came
	end    time.Time // guarded by mu; when it ended
	ending error     // guarded by mu; why
}

// arrival is a text with the time at which it came.
type arrival struct {
	text string
	at   time.Time
}

func newLine(name string, closing func()) *line {
	return &line{name: name, close: closing, done: make(chan struct{}), last: time.Now()}
}

func (l *line) came(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
	if text == "" {
		l.pings++
		return
	}
	l.texts = append(l.texts, arrival{text, l.last})
}

func (l *line) ended(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end, l.ending = time.Now(), err
	close(l.done)
}

// hangUp closes it and waits for the reader.
func (l *line) hangUp() {
	if l != nil {
		l.close()
		<-l.done
	}
}

// has waits until a text that contains what has come; false: it did not.
func (l *line) has(ctx context.Context, what string, within time.Duration) (at time.Time, ok bool) {
	late := time.After(within)
	for over := false; ; {
		l.mu.Lock()
		for _, a := range l.texts {
			if strings.Contains(a.text, what) {
				l.mu.Unlock()
				return a.at, true
			}
		}
		l.mu.Unlock()
		if over {
			return time.Time{}, false
		}
		select {
		case <-ctx.Done():
			over = true
		case <-l.done:
			over = true // after one more look at what came before the end
		case <-late:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// said is the beginning of what came, for a person.
func (l *line) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.texts {
		return fmt.Sprintf("%.200s", onOneLine(a.text))
	}
	return "nothing"
}

// webSocket opens one as a page of that address would; nil: it does not get
// through.
func (p *outside) webSocket(ctx context.Context) *line {
	u := p.base.JoinPath("/ws")
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u.RawQuery = url.Values{"channel": {p.channel}}.Encode()
	secure, err := p.tls()
	if err != nil {
		p.wrong("Correct -ca.", "%v", err)
		return nil
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: begins, TLSClientConfig: secure,
		EnableCompression: true}
	began := time.Now()
	conn, resp, err := handshake(ctx, &dialer, u.String(), http.Header{"Origin": {p.base.Scheme + "://" + p.base.Host}})
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && resp != nil:
		p.refused(u, resp)
		return nil
	case err != nil:
		p.wrong("Look at the address, at DNS and firewall, and at the certificate.", "WebSocket: %v",
			unreachable(u, err))
		return nil
	}
	l := newLine("WebSocket", func() { _ = conn.Close() })
	conn.SetPingHandler(func(data string) error {
		l.came("")
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(5*time.Second))
	})
	go func() { // ends with the connection; hangUp waits for it
		for {
			_, b, err := conn.ReadMessage()
			if err != nil {
				l.ended(err)
				return
			}
			l.came(string(b))
		}
	}()
	if _, ok := l.has(ctx, `"type":"welcome"`, begins); !ok {
		p.wrong("Is it Herald that answers at /ws?",
			"WebSocket: it opens, and no welcome comes within %s; what came: %s", begins, l.said())
		l.hangUp()
		return nil
	}
	p.fine("WebSocket gets through to Herald, in %s", time.Since(began).Round(time.Millisecond))
	return l
}

// refused explains a handshake that was answered with an ordinary HTTP answer.
func (p *outside) refused(u *url.URL, resp *http.Response) {
	err := refusal(u, resp)
	var problem *proto.Problem
	switch {
	case errors.As(err, &problem) && problem.Type == proto.ProblemOrigin.Type:
		p.wrong("Let the proxy pass on the host that the browser asked for (nginx: proxy_set_header Host "+
			"$http_host), or name the origin with -allowed-origins.",
			"WebSocket: Herald refuses a page of %s itself: %v", origin(p.base), err)
	case errors.As(err, &problem):
		p.wrong("Let the proxy pass on Upgrade and Connection (nginx: proxy_http_version 1.1; "+
			"proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade).",
			"WebSocket: Herald was reached, and no WebSocket was asked for by then: %v", err)
	case passes(resp.StatusCode):
		p.wrong("Start Herald, or correct the proxy's address of it.", "WebSocket: %v", err)
	default:
		p.wrong("Let the proxy pass /ws on to Herald, with Upgrade and Connection.", "WebSocket: %v", err)
	}
}

// events opens an event stream; nil: it does not get through.
func (p *outside) events(ctx context.Context) *line {
	u := p.base.JoinPath("/sse")
	u.RawQuery = url.Values{"channel": {p.channel}}.Encode()
	web, err := p.web()
	if err != nil {
		return nil // said already
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		p.wrong("Correct -url.", "SSE: %v", err)
		return nil
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip") // as a browser does; a proxy that compresses shows itself
	began := time.Now()
	slow := time.AfterFunc(begins, cancel)
	resp, err := web.Do(req)
	if err != nil {
		cancel()
		if !slow.Stop() {
			p.wrong("Switch buffering off for /sse (nginx: proxy_buffering off).",
				"SSE: not even the head of the answer comes within %s; the proxy waits for its end", begins)
			return nil
		}
		p.wrong("Look at the address, at DNS and firewall, and at the certificate.", "SSE: %v", unreachable(u, err))
		return nil
	}
	slow.Stop()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		defer cancel()
		defer func() { _ = resp.Body.Close() }() // only read from
		p.wrong("Let the proxy pass /sse on to Herald.", "SSE: %s with %q, not an event stream", resp.Status,
			resp.Header.Get("Content-Type"))
		return nil
	}
	l := newLine("SSE", func() { cancel(); _ = resp.Body.Close() })
	go func() { // ends with the answer; hangUp waits for it
		for lines := bufio.NewReader(resp.Body); ; {
			text, err := lines.ReadString('\n')
			if text = strings.TrimSpace(text); text == ":" || strings.HasPrefix(text, ":") {
				l.came("")
			} else if text != "" {
				l.came(text)
			}
			if err != nil {
				l.ended(err)
				return
			}
		}
	}()
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" {
		p.wrong("Switch compression off for /sse: a compressor holds events back.",
			"SSE: the proxy compresses it (%s), though Herald forbids that (no-transform)", encoding)
		l.hangUp()
		return nil
	}
	if _, ok := l.has(ctx, `"type":"welcome"`, begins); !ok {
		p.wrong("Switch buffering off for /sse (nginx: proxy_buffering off).",
			"SSE: the head of the answer comes, and no welcome within %s: the proxy holds it back; what came: %s",
			begins, l.said())
		l.hangUp()
		return nil
	}
	p.fine("SSE gets through to Herald, in %s", time.Since(began).Round(time.Millisecond))
	return l
}

// message publishes one that nobody else sees, and looks when it arrives.
func (p *outside) message(ctx context.Context, lines ...*line) {
	if p.Key == "" {
		p.fine("with HERALD_API_KEY the doctor also sends a message through, to a channel of its own")
		return
	}
	began := time.Now()
	body, err := json.Marshal(map[string]any{"channel": p.channel, "data": "herald doctor", "ephemeral": true})
	if err != nil {
		p.wrong("This is a fault of Herald.", "message: %v", err)
		return
	}
	sending, cancel := context.WithTimeout(ctx, begins)
	defer cancel()
	resp, err := p.do(sending, http.MethodPost, "/v1/messages", nil, "application/json", body)
	if err != nil {
		p.wrong("Is /v1/ passed on to Herald, and is the key one of this deployment, for public.>?", "message: %v", err)
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // what it says is in its status
	_ = resp.Body.Close()
	for _, l := range lines {
		if l == nil {
			continue
		}
		if at, ok := l.has(ctx, `"herald doctor"`, begins); ok {
			p.fine("%s: a message arrives %s after it was sent", l.name, at.Sub(began).Round(time.Millisecond))
		} else {
			p.wrong("Switch buffering off (nginx: proxy_buffering off).",
				"%s: a message does not arrive within %s: something holds it back", l.name, begins)
		}
	}
}

// watch keeps the connections open without messages, and sees who ends them.
func (p *outside) watch(ctx context.Context, lines ...*line) {
	fmt.Fprintf(p.out, "      watching idle connections for %s…\n", p.idle)
	over := time.After(p.idle)
	for _, l := range lines {
		if l == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-over:
			over = closed() // for the next line, too
			p.fine("%s: idle for %s and still open; heartbeats that came: %d", l.name, p.idle, l.heartbeats())
		case <-l.done:
			p.wrong("Raise the proxy's time-out for idle connections (nginx: proxy_read_timeout; a load "+
				"balancer: idle timeout), or lower -heartbeat below it.",
				"%s: ended after %s of silence: %v", l.name, l.silence(), l.why())
		}
	}
}

func closed() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

func (l *line) heartbeats() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pings
}

// silence is how long nothing had come when the line ended.
func (l *line) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.Sub(l.last).Round(100 * time.Millisecond)
}

func (l *line) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ending
}
