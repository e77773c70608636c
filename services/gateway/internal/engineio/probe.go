package engineio

import (
	"net"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// UpgradeTimeout is how long a client may take from the handshake of the WebSocket to the
// upgrade packet; the reference server has the same.
const UpgradeTimeout = 10 * time.Second

// Probe serves a WebSocket that asks for a session that polls (protocol v4, "Upgrade"): it
// answers the probe, and makes the WebSocket the session's socket once the client says
// so. It returns when that has happened or will not. refuse answers instead of the
// handshake; handOver, which may be nil, is called before the WebSocket becomes the
// session's, and what it returns when the session has ended.
func (s *Server) Probe(w http.ResponseWriter, r *http.Request, q Query, refuse func(Response),
	handOver func() (release func())) {
	p := s.find(q.SID)
	if p == nil {
		refuse(UnknownSID.Response())
		return
	}
	begun := s.cfg.Conns.Polls() && p.beginProbe(q.Version)
	end := func() {
		if begun {
			p.endProbe()
		}
	}
	nc, deflates, err := ws.Upgrade(w, r, s.cfg.Subprotocol, s.cfg.Conns.Deflates(), func(status int, reason error) {
		refuse(Refusal(status, int(BadRequest), reason.Error()))
	})
	if err != nil {
		end()
		return
	}
	if !begun { // protocol v4, "WebSocket": a further one is closed
		_ = nc.Close()
		return
	}
	rest, ok := p.probe(nc, deflates)
	ok = ok && p.upgrade(nc, deflates, rest, handOver)
	end() // first: another may try once this one is closed
	if !ok {
		_ = nc.Close() // the session goes on polling
	}
}

// beginProbe reports whether the session can be upgraded: only one WebSocket may try at a
// time.
func (p *poll) beginProbe(v Version) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probing || p.relay.uses || p.websocket != nil || p.ended || p.version != v {
		return false
	}
	p.probing = true
	return true
}

func (p *poll) endProbe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probing, p.upgrades = false, false
}

// probe reads what the client says until it asks for the upgrade, and returns what it
// has sent after that. All frames of a probe are short. They may be compressed if deflates.
func (p *poll) probe(nc net.Conn, deflates bool) (rest []byte, ok bool) {
	if nc.SetDeadline(time.Now().Add(UpgradeTimeout)) != nil {
		return nil, false
	}
	buf := make([]byte, 0, 512)
	for answers := 0; ; {
		n, err := nc.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return nil, false
		}
		buf = buf[:len(buf)+n]
		for len(buf) >= probeHead {
			size := int(buf[1] &^ 0x80)
			first := buf[0]
			compressed := deflates && first&deflatedBit != 0
			if compressed {
				first &^= deflatedBit
			}
			if first != 0x80|byte(ws.Text) || buf[1]&0x80 == 0 || size > maxProbe {
				return nil, false // fragmented, not masked, too long, or no text
			}
			if len(buf) < probeHead+size {
				break
			}
			packet := buf[probeHead:][:size]
			for i := range packet {
				packet[i] ^= buf[2+i%4]
			}
			buf = buf[probeHead+size:]
			if compressed {
				var code proto.CloseCode
				if packet, code = ws.Inflate(packet, maxProbe); code != 0 {
					return nil, false
				}
			}
			switch string(packet) {
			case "2probe":
				if answers++; answers > MaxProbes || p.answerProbe(nc) != nil {
					return nil, false
				}
			case string(Upgrade):
				return buf, nc.SetDeadline(time.Time{}) == nil
			default:
				return nil, false
			}
		}
		if len(buf) == cap(buf) { // only after many probes: what is left of them is short
			buf = append(make([]byte, 0, 512), buf...)
		}
	}
}

const (
	probeHead   = 2 + 4 // of a short frame with a mask (RFC 6455 section 5.2)
	deflatedBit = 0x40  // RSV1 of its first byte (RFC 7692 section 6)
	maxProbe    = 32    // bytes of a frame of a probe: 2probe, perhaps compressed
	MaxProbes   = 3     // of one WebSocket; clients send one
)

// answerProbe answers a probe, and has the client go over to the WebSocket.
func (p *poll) answerProbe(nc net.Conn) error {
	if _, err := nc.Write(frame("3probe")); err != nil {
		return err
	}
	p.probeAnswered()
	return nil
}

// probeAnswered ends the open GET, and those that follow.
func (p *poll) probeAnswered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upgrades = true
	if p.get != nil && !p.gathers {
		p.add(Noop)
		p.respond()
	}
}

// endPolling ends the GET that is open when the session goes over to a WebSocket. mu is
// held.
func (p *poll) endPolling() {
	switch {
	case p.get != nil && p.get.late && len(p.out) == 0: // it was sent after the upgrade packet
		p.get.answer <- BadRequest.Response()
		p.get = nil
	case p.get != nil:
		p.add(Noop)
		p.respond()
	}
}

// upgrade makes a WebSocket the session's socket, unless the session has ended. rest is
// what came over it already. The session reads the upgrade packet, too.
func (p *poll) upgrade(nc net.Conn, deflates bool, rest []byte, handOver func() func()) bool {
	p.mu.Lock()
	if p.ended || p.owner == nil {
		p.mu.Unlock()
		return false
	}
	sk := p.server.cfg.Conns.Poll(&p.parked, nc)
	if sk == nil {
		p.mu.Unlock()
		return false
	}
	if handOver != nil {
		p.release = handOver()
	}
	p.websocket = sk
	p.in = append(appendClientFrame(p.in, []byte{Upgrade}, false), rest...)
	if deflates {
		p.conn.Deflate()
	}
	p.endPolling()
	owner := p.owner
	p.mu.Unlock()
	if _, err := sk.Watch(owner); err != nil {
		p.breakOff()
		return true
	}
	p.ready(socket.Event{Readable: true, Writable: true, Ending: true})
	return true
}
