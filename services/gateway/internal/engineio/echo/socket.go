package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// socket is a session that does what the suite of Socket.IO expects. Entering a namespace is
// answered by the event auth with what CONNECT carried; in the main one the event
// message is sent back as message-back, and message-with-ack is acknowledged with its
// arguments.
type socket struct {
	*client
	within  time.Duration // to enter a namespace
	entered map[string]bool
	pending *time.Timer // closes who enters no namespace; nil: not begun

	// announced waits for its binary messages.
	announced   socketio.Packet
	attachments [][]byte
}

// custom is the namespace besides the main one.
const custom = "/custom"

// lastID makes every CONNECT a sid of its own.
var lastID atomic.Int64

// Arrived makes it a conn.Client.
func (s *socket) Arrived() {
	s.client.Arrived()
	s.entered = map[string]bool{}
	s.pending = time.AfterFunc(s.within, func() { s.conn.Close(proto.CloseHeartbeat) }) // stopped by enter or Ended
	if s.version == engineio.V3 {
		s.enter(socketio.Packet{Namespace: "/"})
	}
}

// Ended makes it a conn.Client.
func (s *socket) Ended() { s.pending.Stop() }

// Frame makes it a conn.Client.
func (s *socket) Frame(b []byte, binary bool) {
	p, ok := s.receive(b, binary)
	if !ok {
		return
	}
	if err := s.message(p); err != nil {
		s.conn.Close(proto.CloseInvalidPayload)
	}
}

func (s *socket) message(m engineio.Packet) error {
	waits := s.announced.Attachments - len(s.attachments)
	if m.Binary {
		if waits == 0 {
			return fmt.Errorf("%w: a binary message that no packet has announced", socketio.ErrPacket)
		}
		s.attachments = append(s.attachments, append([]byte(nil), m.Data...))
		if waits > 1 {
			return nil
		}
		p, attachments := s.announced, s.attachments
		s.announced, s.attachments = socketio.Packet{}, nil
		return s.event(p, attachments)
	}
	p, err := socketio.Parse(m.Data)
	switch {
	case err != nil:
		return err
	case waits > 0:
		return fmt.Errorf("%w: binary messages should have come first", socketio.ErrPacket)
	case p.Type == socketio.Connect && p.Namespace != "/" && p.Namespace != custom:
		s.push(ws.Text, asMessage(socketio.Refused(p.Namespace, "Invalid namespace", nil)))
	case p.Type == socketio.Connect && !s.entered[p.Namespace]:
		s.enter(p)
	case !s.entered[p.Namespace] || p.Type == socketio.Connect:
		return fmt.Errorf("%w: type %c is not expected now", socketio.ErrPacket, p.Type)
	case p.Type == socketio.Disconnect:
		delete(s.entered, p.Namespace)
	case p.Attachments > 0:
		p.Data = append([]byte(nil), p.Data...) // it is the connection's memory
		s.announced = p
	default:
		return s.event(p, nil)
	}
	return nil
}

// enter lets the client into a namespace.
func (s *socket) enter(p socketio.Packet) {
	s.pending.Stop()
	s.entered[p.Namespace] = true
	sid := []byte(`{"sid":"` + s.sid + strconv.FormatInt(lastID.Add(1), 10) + `"}`)
	if s.version == engineio.V3 {
		sid = nil
	}
	auth := p.Data
	if len(auth) == 0 {
		auth = []byte("{}")
	}
	s.push(ws.Text, asMessage(socketio.Packet{Type: socketio.Connect, Namespace: p.Namespace, ID: socketio.NoID,
		Data: sid}.Append(nil)))
	s.send(socketio.Packet{Type: socketio.Event, Namespace: p.Namespace, ID: socketio.NoID},
		[]any{"auth", json.RawMessage(auth)}, nil)
}

// event answers an event, which is whole.
func (s *socket) event(p socketio.Packet, attachments [][]byte) error {
	if p.Type != socketio.Event && p.Type != socketio.BinaryEvent || p.Namespace != "/" {
		return nil
	}
	name, args, err := p.Event()
	if err != nil {
		return err
	}
	answer := []any{}
	switch {
	case name == "message":
		p.ID = socketio.NoID
		answer = append(answer, "message-back")
	case name == "message-with-ack" && p.ID != socketio.NoID:
		p.Type += socketio.Ack - socketio.Event // so it is with binary data, too
	default:
		return nil
	}
	for _, arg := range args {
		answer = append(answer, arg)
	}
	s.send(p, answer, attachments)
	return nil
}

// send sends a packet with these data.
func (s *socket) send(p socketio.Packet, data []any, attachments [][]byte) {
	p.Data, _ = json.Marshal(data) // what was parsed marshals
	s.push(ws.Text, asMessage(p.Append(nil)))
	for _, a := range attachments {
		s.push(ws.Binary, s.version.Attachment(a))
	}
}

func asMessage(packet []byte) []byte { return append([]byte{engineio.Message}, packet...) }
