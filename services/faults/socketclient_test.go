package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// engine is a stream over Socket.IO. What the client keeps is its id, which it says in CONNECT as since.
type engine struct {
	url     string
	since   string
	patient time.Duration // longest silence of the gateway
	http    *http.Client
	buffer  int             // bytes that the kernel keeps of a WebSocket; 0: as many as it likes
	ws      *websocket.Conn // nil while it polls
	ctx     context.Context
	cut     context.CancelFunc
	frames  [][]byte // that came and were not given out yet
	begun   bool     // the welcome was given out
	turns   int      // requests; each has a number of its own, as with stock clients
}

func dialPolling(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialEngine(ctx, gateway, query, "polling", false)
}

func dialUpgrading(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialEngine(ctx, gateway, query, "polling", true)
}

// dialSlowSocketIO is for clients that stop reading; one that polls needs nothing for that.
func dialSlowSocketIO(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialEngineBuffered(ctx, gateway, query, "websocket", false, receiveBytes)
}

func dialSocketIO(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialEngine(ctx, gateway, query, "websocket", false)
}

func dialEngine(ctx context.Context, gateway string, query url.Values, transport string, upgrade bool) (stream, error) {
	return dialEngineBuffered(ctx, gateway, query, transport, upgrade, 0)
}

func dialEngineBuffered(ctx context.Context, gateway string, query url.Values, transport string, upgrade bool,
	buffer int) (stream, error) {
	p := &engine{
		buffer: buffer,
		url:    "http://" + gateway + "/socket.io/?EIO=4&transport=" + transport, since: query.Get("since"),
		patient: dialTimeout,
		http:    &http.Client{Transport: &http.Transport{}},
	}
	// ctx is for dialling; the requests live as long as the stream.
	p.ctx, p.cut = context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, p.cut)()
	err := p.open(ctx, query["channel"], transport == "websocket")
	if err == nil && upgrade {
		err = p.upgrade(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// open begins a session and enters the namespace.
func (p *engine) open(ctx context.Context, channels []string, webSocket bool) (err error) {
	var b []byte
	if webSocket {
		if err = p.dial(ctx); err == nil {
			b, err = p.read()
		}
	} else {
		b, err = p.do(http.MethodGet, "")
	}
	if err != nil {
		return err
	}
	var greeting struct {
		SID                       string
		PingInterval, PingTimeout time.Duration // milliseconds
	}
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("0")), &greeting); err != nil {
		return err
	}
	p.url += "&sid=" + greeting.SID
	p.patient = (greeting.PingInterval+greeting.PingTimeout)*time.Millisecond + time.Second
	auth := map[string]any{"channels": channels, "details": true}
	if p.since != "" {
		auth["since"] = p.since
	}
	connect, _ := json.Marshal(auth) // plain values always marshal
	return p.post("40" + string(connect))
}

func (p *engine) dial(ctx context.Context) error {
	d := dialerOf(p.buffer)
	ws, resp, err := d.DialContext(ctx, strings.NewReplacer("http:", "ws:", "=polling", "=websocket").Replace(p.url),
		nil)
	if err == nil {
		p.ws = ws
	} else if resp != nil && resp.StatusCode == http.StatusServiceUnavailable {
		err = closeError(proto.CloseOverload)
	}
	return err
}

// upgrade goes over to a WebSocket. No GET is open.
func (p *engine) upgrade(ctx context.Context) error {
	if err := p.dial(ctx); err != nil {
		return err
	}
	if err := p.post("2probe"); err != nil {
		return err
	}
	if b, err := p.read(); err != nil || string(b) != "3probe" {
		return fmt.Errorf("the probe was answered %q: %w", b, err)
	}
	return p.post("5")
}

func (p *engine) do(method, body string) ([]byte, error) {
	p.turns++
	ctx, cancel := context.WithTimeout(p.ctx, p.patient)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s&t=%d", p.url, p.turns), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, b)
	}
	return b, err
}

// post sends one packet.
func (p *engine) post(packet string) error {
	if p.ws == nil {
		_, err := p.do(http.MethodPost, packet)
		return err
	}
	_ = p.ws.SetWriteDeadline(time.Now().Add(dialTimeout)) // fails on a closed socket, as the write does
	return p.ws.WriteMessage(websocket.TextMessage, []byte(packet))
}

// read is the next packet, or packets.
func (p *engine) read() ([]byte, error) {
	if p.ws == nil {
		return p.do(http.MethodGet, "")
	}
	_ = p.ws.SetReadDeadline(time.Now().Add(p.patient)) // as above
	_, b, err := p.ws.ReadMessage()
	return b, err
}

func (p *engine) next() ([]byte, error) {
	for len(p.frames) == 0 {
		b, err := p.read()
		if err != nil {
			return nil, err
		}
		for packet := range strings.SplitSeq(string(b), "\x1e") {
			if err := p.packet(packet); err != nil {
				return nil, err
			}
		}
	}
	frame := p.frames[0]
	p.frames = p.frames[1:]
	return frame, nil
}

// packet turns one Engine.IO packet into frames of PROTOCOL.md.
func (p *engine) packet(packet string) error {
	switch {
	case packet == "2":
		return p.post("3")
	case packet == "6":
		return nil
	case packet == "1":
		return closeError(proto.CloseGoingAway)
	case strings.HasPrefix(packet, "42"):
		if p.since != "" {
			p.welcome(p.since) // what was missed comes before the namespace
		}
		return p.event(packet[2:])
	case strings.HasPrefix(packet, "40"):
		return nil
	}
	return fmt.Errorf("%w: packet %.200s", closeError(proto.CloseProtocolError), packet)
}

func (p *engine) welcome(id string) {
	if !p.begun {
		p.begun = true
		p.put(map[string]any{"type": proto.FrameWelcome, "heartbeat": 25, "id": id})
	}
}

func (p *engine) put(frame any) {
	b, _ := json.Marshal(frame) // plain values always marshal
	p.frames = append(p.frames, b)
}

func (p *engine) event(array string) error {
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(array), &all); err != nil {
		return err
	}
	var name string
	if err := json.Unmarshal(all[0], &name); err != nil {
		return err
	}
	switch name {
	case "herald:place":
		var id string
		if err := json.Unmarshal(all[1], &id); err != nil {
			return err
		}
		if p.begun {
			p.put(map[string]any{"type": proto.FramePosition, "id": id})
		}
		p.welcome(id)
	case "herald:gap":
		p.frames = append(p.frames, all[1])
	case "error":
		return fmt.Errorf("%w: %s", closeError(proto.CloseProtocolError), array)
	default:
		var details struct{ ID, Channel string }
		if err := json.Unmarshal(all[2], &details); err != nil {
			return err
		}
		p.put(map[string]any{"id": details.ID, "channel": details.Channel, "data": all[1]})
	}
	return nil
}

func (p *engine) send(any) error { return errUnsupported }
func (p *engine) heartbeat(int)  {}

func (p *engine) close() {
	p.cut()
	p.http.CloseIdleConnections()
	if p.ws != nil {
		_ = p.ws.UnderlyingConn().Close() // no goodbye: the network is gone
	}
}
