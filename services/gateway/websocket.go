package gateway

import (
	"net/http"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// serveWebSocket admits one client. What concerns the page (its origin) or
// the gateway (draining) is refused before the handshake; everything else is
// told after it, since a browser shows a page no HTTP answer to a handshake.
func (s *Service) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	refuse := func(reason string, p *proto.Problem) {
		s.m.refused.WithLabelValues(reason).Inc()
		httpx.WriteProblem(w, r, s.log, p)
	}
	if reason, away := s.away(); away {
		refuse(reason, proto.ProblemUnavailable.With("this gateway is "+reason+"; connect again"))
		return
	}
	page := s.pageOf(r)
	if !page.allowed {
		s.refuseOrigin(w, r, page)
		return
	}
	if err := checkSubprotocols(r); err != nil {
		refuse("handshake", proto.ProblemInvalidParameter.With(err.Error()))
		return
	}
	remote := s.clientIP(r)
	s.wait(s.shares.pay(remote, costOf(r)), func() bool { return r.Context().Err() != nil })
	sess := s.newSession(r, page, inFrames)
	err := s.conns.Accept(&sess.conn, w, r, remote, httpx.NewID(), inFrames.format, func(status int, reason error) {
		if status == http.StatusServiceUnavailable {
			refuse("stopping", proto.ProblemUnavailable.With("this gateway is stopping; connect again"))
			return
		}
		refuse("handshake", proto.ProblemUpgrade.With(reason.Error()))
	})
	if err != nil {
		return // refuse has answered, or the client is gone
	}
	if s.sockets != nil {
		s.sockets.HandOver(r, sess.conn.Remote()) // Ended gives the place back
		sess.counted = true
	}
	sess.words = s.frames.of(&sess.conn)
	sess.conn.Start(sess)
}
