//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof" // on http.DefaultServeMux, which only these servers use
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/centrifugal/centrifuge"
	"github.com/gobwas/ws"
	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// peer is a server to compare with: it accepts clients at GET /ws and pushes to those of a channel. A client gets a
// first frame as soon as it will receive everything that is published from then on.
type peer interface {
	http.Handler
	publish(channel string, body []byte) // body is not changed later
}

// welcome is the first frame of the servers that have no greeting of their own.
const welcome = `{"type":"welcome"}`

// serve is the role of a process that is a server to compare with. It receives its messages as the gateway does, by one
// subscription to all that the stream republishes, or by POSTs.
func serve(ctx context.Context, job string) error {
	var s setup
	err := json.Unmarshal([]byte(job), &s)
	nc, err2 := nats.Connect(s.NATS)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer nc.Close()
	var p peer
	switch s.As {
	case "bare":
		p = &bare{channels: map[string][]int{}}
	case "textbook":
		p = &textbook{ping: s.Ping, channels: map[string]map[*member]struct{}{}}
	default:
		var broker centrifuge.Broker
		if s.Posts {
			broker = &natsBroker{nc: nc}
		}
		p, err = newCentrifuge(s.Ping, broker)
	}
	if s.Posts {
		http.HandleFunc("POST /v1/messages",
			func(w http.ResponseWriter, r *http.Request) { answerPost(w, r, s.Key, p.publish) })
	} else if err == nil {
		err = followStream(nc, p.publish)
	}
	if err != nil {
		return fmt.Errorf("serve %s: %w", s.As, err)
	}
	http.Handle("GET /ws", p)
	http.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	h := &http.Server{Addr: s.Listen, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = h.Close() })()
	if s.Cert != "" {
		return h.ListenAndServeTLS(s.Cert, s.CertKey)
	}
	return h.ListenAndServe()
}

// followStream calls publish, on one goroutine, with each message that the stream republishes.
func followStream(nc *nats.Conn, publish func(channel string, body []byte)) error {
	_, err := nc.Subscribe(proto.SubjectLivePacks, func(m *nats.Msg) {
		for lines := proto.ReadPack(m.Data); lines.Next(); {
			publish(string(lines.Channel()), lines.Message())
		}
	})
	return errors.Join(err, nc.Flush())
}

// answerPost is the least that a server does with a POST of one message or an array of them: it compares the key,
// parses, publishes each and answers with a status for each.
func answerPost(w http.ResponseWriter, r *http.Request, key string, publish func(channel string, body []byte)) {
	if r.Header.Get("X-API-KEY") != key {
		http.Error(w, "wrong key", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	messages := make([]struct {
		Channel string
		Data    json.RawMessage
	}, 1)
	if bytes.HasPrefix(body, []byte("[")) {
		err = errors.Join(err, json.Unmarshal(body, &messages))
	} else {
		err = errors.Join(err, json.Unmarshal(body, &messages[0]))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var answer []byte
	for _, m := range messages {
		publish(m.Channel, m.Data)
		answer = append(answer, `{"status":"published"}`...)
	}
	_, _ = w.Write(answer) // the publisher may be gone
}

// bare is no server but the least that one can cost: a loop of write(2) over the sockets of a channel, on one
// goroutine. It reads nothing, notices only when it writes that a client is gone, and waits for a slow client.
type bare struct {
	mu       sync.Mutex
	channels map[string][]int // guarded by mu; sockets
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // UpgradeHTTP has answered
	}
	defer func() { _ = c.Close() }() // the copy of the descriptor stays
	fd, err := detach(c.(*net.TCPConn))
	if err != nil {
		return
	}
	channel := r.URL.Query().Get("channel")
	b.mu.Lock()
	b.channels[channel] = append(b.channels[channel], fd)
	b.mu.Unlock()
	_, _ = c.Write(textFrame([]byte(welcome))) // it may be gone; as long as nothing is published, nobody else writes
}

func textFrame(body []byte) []byte { return ws.MustCompileFrame(ws.NewTextFrame(body)) }

// detach duplicates the descriptor of a socket; Go's poller does not know the copy.
func detach(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	e := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(e, err)
}

func (b *bare) publish(channel string, body []byte) {
	f := textFrame(body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.channels[channel] = slices.DeleteFunc(b.channels[channel], func(fd int) bool {
		gone := !writeAll(fd, f)
		if gone {
			_ = unix.Close(fd) // nothing is written to it any more
		}
		return gone
	})
}

// writeAll is one write, unless the socket is full, and reports whether the client is still there. It is raw, so that
// Go's scheduler does nothing around a write that cannot block.
func writeAll(fd int, p []byte) bool {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			p = p[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000) // then it is tried again
		default:
			return false
		}
	}
	return true
}

// textbook is the server of gorilla's chat example, which most people write: a goroutine that reads and one that writes
// for each client, a Go channel of 256 messages between hub and writer, default buffers. As there, a client whose
// channel is full is dropped.
type textbook struct {
	ping time.Duration
	up   websocket.Upgrader

	mu       sync.RWMutex
	channels map[string]map[*member]struct{} // guarded by mu
}

type member struct {
	ws   *websocket.Conn
	send chan []byte // closed when the client is out of channels
}

func (t *textbook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := t.up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	channel := r.URL.Query().Get("channel")
	m := &member{ws: ws, send: make(chan []byte, 256)}
	t.mu.Lock()
	if t.channels[channel] == nil {
		t.channels[channel] = map[*member]struct{}{}
	}
	t.channels[channel][m] = struct{}{}
	t.mu.Unlock()
	m.send <- []byte(welcome)
	go t.write(m) // ends when m.send is closed, or with the socket
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.channels[channel], m)
		close(m.send)
	}()
	ws.SetReadLimit(16 << 10)
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
	}
}

func (t *textbook) write(m *member) {
	defer func() { _ = m.ws.Close() }()
	ticker := time.NewTicker(cmp.Or(t.ping, time.Hour))
	defer ticker.Stop()
	for {
		kind, body := websocket.PingMessage, []byte(nil)
		select {
		case b, ok := <-m.send:
			if !ok {
				return
			}
			kind, body = websocket.TextMessage, b
		case <-ticker.C:
		}
		_ = m.ws.SetWriteDeadline(time.Now().Add(10 * time.Second)) // as in the example; if it fails, so does the write
		if m.ws.WriteMessage(kind, body) != nil {
			return
		}
	}
}

func (t *textbook) publish(channel string, body []byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for m := range t.channels[channel] {
		select {
		case m.send <- body:
		default:
			_ = m.ws.Close() // its reader then removes it
		}
	}
}

// onCentrifuge is a server on the library that Centrifugo is made of, with its defaults: the server subscribes a client
// when it connects, no history, no delay of writes. Its broker is in memory, as in each process of Centrifugo with an
// external broker, or NATS.
type onCentrifuge struct {
	node *centrifuge.Node
	http.Handler
}

func newCentrifuge(ping time.Duration, broker centrifuge.Broker) (peer, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return nil, err
	}
	if broker != nil {
		node.SetBroker(broker)
	}
	pings := &centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
	if ping > 0 {
		// The library wants the time-out shorter than the interval.
		pings = &centrifuge.PingPongConfig{PingInterval: ping, PongTimeout: ping * 3 / 4}
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		var asked struct{ Channel string }
		if err := json.Unmarshal(e.Data, &asked); err != nil || asked.Channel == "" {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectBadRequest
		}
		return centrifuge.ConnectReply{
			Credentials:    &centrifuge.Credentials{},
			Subscriptions:  map[string]centrifuge.SubscribeOptions{asked.Channel: {}},
			PingPongConfig: pings,
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	return &onCentrifuge{node, centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})}, nil
}

func (c *onCentrifuge) publish(channel string, body []byte) {
	_, _ = c.node.Publish(channel, body) // the clients' counts show a message that is lost
}

// natsBroker is a broker of the library on NATS as Centrifugo's is, in its raw mode: a subscription for each channel
// that has subscribers here, nothing stored. Its clients stay for as long as it, and ask for no history.
type natsBroker struct {
	centrifuge.Broker
	nc      *nats.Conn
	handler centrifuge.BrokerEventHandler
}

func (b *natsBroker) RegisterBrokerEventHandler(h centrifuge.BrokerEventHandler) error {
	b.handler = h
	return nil
}

func (b *natsBroker) Publish(channel string, data []byte, _ centrifuge.PublishOptions) (centrifuge.PublishResult,
	error) {
	return centrifuge.PublishResult{}, b.nc.Publish("centrifuge."+channel, data)
}

func (b *natsBroker) Subscribe(channels ...string) (err error) {
	for _, channel := range channels {
		_, e := b.nc.Subscribe("centrifuge."+channel, func(m *nats.Msg) {
			_ = b.handler.HandlePublication(channel, &centrifuge.Publication{Data: m.Data}, centrifuge.StreamPosition{},
				false, nil)
		})
		err = errors.Join(err, e)
	}
	return err
}

func (b *natsBroker) Unsubscribe(...string) error { return nil }
