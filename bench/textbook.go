//go:build linux

package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const textbookName = "textbook"

// textbook is the server of gorilla's chat example, which most people write: a
// goroutine that reads and one that writes for each client, a Go channel of
// 256 messages between hub and writer, default buffers. As there, a client whose
// channel is full is dropped.
type textbook struct {
	ping time.Duration
	up   websocket.Upgrader

	mu    sync.RWMutex
	rooms map[string]map[*member]struct{} // guarded by mu; by channel
}

type member struct {
	ws   *websocket.Conn
	send chan []byte // closed by leave
}

func newTextbook(ping time.Duration) (fanout, error) {
	return &textbook{ping: ping, rooms: map[string]map[*member]struct{}{}}, nil
}

// writeWait is the chat example's.
const writeWait = 10 * time.Second

func (t *textbook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := t.up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	channel := r.URL.Query().Get("channel")
	m := &member{ws: ws, send: make(chan []byte, 256)}
	t.join(channel, m)
	m.send <- []byte(welcome)
	go t.write(m) // ends when leave closes m.send, or with the socket
	defer t.leave(channel, m)
	ws.SetReadLimit(16 << 10)
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
	}
}

func (t *textbook) join(channel string, m *member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.rooms[channel]
	if room == nil {
		room = map[*member]struct{}{}
		t.rooms[channel] = room
	}
	room[m] = struct{}{}
}

func (t *textbook) leave(channel string, m *member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := t.rooms[channel]; room != nil {
		delete(room, m)
		if len(room) == 0 {
			delete(t.rooms, channel)
		}
	}
	close(m.send)
}

func (t *textbook) write(m *member) {
	defer func() { _ = m.ws.Close() }()
	var tick <-chan time.Time
	if t.ping > 0 {
		ticker := time.NewTicker(t.ping)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		kind, body := websocket.PingMessage, []byte(nil)
		select {
		case b, ok := <-m.send:
			if !ok {
				return
			}
			kind, body = websocket.TextMessage, b
		case <-tick:
		}
		_ = m.ws.SetWriteDeadline(time.Now().Add(writeWait)) // then the write fails
		if m.ws.WriteMessage(kind, body) != nil {
			return
		}
	}
}

func (t *textbook) publish(channel string, body []byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for m := range t.rooms[channel] {
		select {
		case m.send <- body:
		default:
			_ = m.ws.Close() // its reader leaves
		}
	}
}
