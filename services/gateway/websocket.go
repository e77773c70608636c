package gateway

import (
	"net/http"
	"net/netip"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// serveWebSocket admits one client. What concerns the page (its origin) or
// the gateway (draining) is refused before the handshake; everything else is
// told after it, since a browser shows a page no HTTP answer to a handshake.
func (s *Service) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	page, ok := s.admitSocket(w, r)
	if !ok {
		return
	}
	if err := checkSubprotocols(r); err != nil {
		s.refuseSocket(w, r, "handshake", proto.ProblemInvalidParameter.With(err.Error()))
		return
	}
	remote := s.clientIP(r)
	s.wait(s.shares.pay(remote, costOf(r)), func() bool { return r.Context().Err() != nil })
	sess := s.newSession(r, page, s.frames.plain)
	if s.acceptSocket(w, r, sess, remote, httpx.NewID()) {
		sess.words = s.frames.of(&sess.conn)
		sess.conn.Start(sess)
	}
}

// admitSocket refuses, before the handshake, what concerns the gateway or the page.
func (s *Service) admitSocket(w http.ResponseWriter, r *http.Request) (page, bool) {
	if reason, away := s.away(); away {
		s.refuseSocket(w, r, reason, proto.ProblemUnavailable.With("this gateway is "+reason+"; connect again"))
		return page{}, false
	}
	p := s.pageOf(r)
	if !p.allowed {
		s.refuseOrigin(w, r, p)
	}
	return p, p.allowed
}

// acceptSocket does the handshake, with the session's wording, and reports whether
// there is a client now. The caller then starts its connection.
func (s *Service) acceptSocket(w http.ResponseWriter, r *http.Request, sess *session, remote netip.Addr,
	id string) bool {
	err := s.conns.Accept(&sess.conn, w, r, remote, id, sess.words.format, func(status int, reason error) {
		if status == http.StatusServiceUnavailable {
			s.refuseSocket(w, r, "stopping", proto.ProblemUnavailable.With("this gateway is stopping; connect again"))
			return
		}
		s.refuseSocket(w, r, "handshake", proto.ProblemUpgrade.With(reason.Error()))
	})
	if err != nil {
		return false // refuse has answered, or the client is gone
	}
	if s.sockets != nil {
		s.sockets.Keep(r, sess.conn.Remote()) // Ended gives the place back
		sess.counted = true
	}
	return true
}

func (s *Service) refuseSocket(w http.ResponseWriter, r *http.Request, reason string, p *proto.Problem) {
	s.refused(r, reason, p.Status, 0, p.Error())
	httpx.WriteProblem(w, r, s.log, p)
}
