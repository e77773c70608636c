package engineio

import (
	"net/http"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Step is what happens to a WebSocket at another node that asks for a session of this
// one. That node does the handshake, tells each step (Server.Step), and from Upgraded on is the
// session's only client: its GETs and POSTs have Query.Relay, and the body of such a POST
// is one packet as it came.
type Step string

// The steps, in their order. Ended may come at any time.
const (
	Probing  Step = "probing"  // a client has opened a WebSocket
	Probed   Step = "probed"   // it has sent its probe, which will be answered
	Upgraded Step = "upgraded" // it has sent the upgrade packet
	Ended    Step = "ended"    // it is gone
)

// relayLease is how long another node may take from Probing to Upgraded; it ends a probe
// before that itself.
const relayLease = UpgradeTimeout + 5*time.Second

// Step has a session take part in a step. Any status but 200 means that the WebSocket is to
// be closed; the session goes on polling then, if there is one.
func (s *Server) Step(q Query, step Step) Response {
	p := s.find(q.SID)
	if p == nil {
		return UnknownSID.Response()
	}
	ok := false
	switch step {
	case Probing:
		if ok = p.beginProbe(q.Version); ok {
			p.lease(q.Relay)
		}
	case Probed:
		if ok = p.leases(q.Relay); ok {
			p.probeAnswered()
		}
	case Upgraded:
		ok = p.relayTo(q)
	case Ended:
		p.relayEnded(q.Relay)
		ok = true
	}
	if !ok {
		return BadRequest.Response()
	}
	return accepted
}

// relaying is the WebSocket at another node that a session has to do with.
type relaying struct {
	by     string      // Query.Relay; empty: none
	uses   bool        // after Upgraded
	frames bool        // after Upgraded: Query.Frames
	timer  *time.Timer // ends a probe that no step follows; nil after it
}

// lease notes who probes.
func (p *poll) lease(relay string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.relay = relaying{by: relay, timer: time.AfterFunc(relayLease, func() { p.leaseOver(relay) })}
}

func (p *poll) leases(relay string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.relay.by == relay && !p.relay.uses && !p.ended
}

func (p *poll) leaseOver(relay string) {
	if p.leases(relay) {
		p.relayEnded(relay)
	}
}

// relayTo makes that WebSocket the session's only client. The session reads the upgrade packet, as it does when the
// WebSocket is here.
func (p *poll) relayTo(q Query) bool {
	p.mu.Lock()
	if p.ended || p.relay.by != q.Relay || p.relay.uses {
		p.mu.Unlock()
		return false
	}
	p.relay.timer.Stop()
	p.relay.uses = true
	p.repeats.end()
	p.endPolling()
	p.upgrades = false // GETs wait again
	p.relay.frames = q.Frames
	if q.Frames && q.Deflates {
		p.conn.Deflate()
	}
	p.in = appendClientFrame(p.in, []byte{Upgrade}, false)
	p.mu.Unlock()
	p.ready(socket.Event{Readable: true})
	return true
}

// relayed is the answer to a GET of another node: the frames as they were written.
func (p *poll) relayed() Response {
	r := Response{Status: http.StatusOK, Frames: true}
	for _, c := range p.out {
		r.Body = append(r.Body, c.data...)
	}
	return r
}

// EachFrame calls each with the frames of a Response with Frames, until it returns an error. packet is of a frame with
// one that ends the session or says nothing, Close or Noop; 0: the frame is for the client.
func (r Response) EachFrame(each func(frame []byte, packet byte) error) error {
	for b := r.Body; len(b) > 0; {
		op, payload, rest := ws.Cut(b)
		frame, packet := b[:len(b)-len(rest)], byte(0)
		if op == ws.Text && b[0]&deflatedBit == 0 && len(payload) == 1 && (payload[0] == Close || payload[0] == Noop) {
			packet = payload[0]
		}
		if err := each(frame, packet); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// relayEnded ends the probe, or the session that the WebSocket was all of.
func (p *poll) relayEnded(relay string) {
	p.mu.Lock()
	if p.relay.by != relay {
		p.mu.Unlock()
		return
	}
	used := p.relay.uses
	if !used {
		p.relay.timer.Stop()
		p.relay = relaying{}
		p.probing, p.upgrades = false, false
	}
	p.mu.Unlock()
	if used {
		p.breakOff()
	}
}

// foreign reports whether a request is not of the session's only client. mu is held.
func (p *poll) foreign(q Query) bool {
	return p.websocket != nil || p.relay.uses != (q.Relay != "") || q.Relay != "" && q.Relay != p.relay.by
}
