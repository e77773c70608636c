package gateway

import (
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/internal/pusher"
)

// comingBack is how long a gateway without others beside it stays for clients of the Pusher protocol that it told to
// come back at once (4200): they are there within a few round trips, and are told to come a second later.
const comingBack = 300 * time.Millisecond

// goodbyeWait bounds the write of a goodbye to a client that was never let in.
const goodbyeWait = 5 * time.Second

// postpones answers a client that comes while this gateway stops or starts, and reports whether it did. The
// client is let in and closed with 4100, after which clients come back in a second ("4100-4199: … the connection SHOULD
// be re-established after backing off"). Because pusher-js takes a handshake that fails for a host that is down, and
// tries nothing for 15 seconds, then 30, then 60. Where there are other gateways the handshake is refused: a balancer
// then takes it to one of them, and the client notices nothing.
func (s *Service) postpones(w http.ResponseWriter, r *http.Request) bool {
	reason, away := s.away()
	if !away || !s.sharing.alone() || !s.pageOf(r).allowed {
		return false
	}
	nc, _, err := ws.Upgrade(w, r, "", false, func(status int, reason error) {
		s.refuseSocket(w, r, "handshake", proto.ProblemUpgrade.With(reason.Error()))
	})
	if err != nil {
		return true // it is answered, or the client is gone
	}
	s.refused(r, reason, 0, pusher.CodeCapacity, "this gateway is "+reason+"; connect again")
	_ = nc.SetWriteDeadline(time.Now().Add(goodbyeWait)) // fails only if the socket is closed
	// A client that does not get it comes back all the same.
	_, _ = nc.Write(noApp[pusherWordsOf(r)].plain.format.Goodbye(proto.CloseOverload))
	_ = nc.Close()
	return true
}

// pusherWordsOf is the index of the wording for the protocol that a client names.
func pusherWordsOf(r *http.Request) int {
	if r.URL.Query().Get("protocol") == "5" {
		return 0
	}
	return 1
}
