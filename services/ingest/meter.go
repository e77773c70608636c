package ingest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// maxMessages bounds one request, counted per message and channel. An NDJSON
// stream has no such bound.
const maxMessages = 100_000

// meter charges what one request publishes to the key's rate, and holds it to
// the limits of a request. It charges while the request is read, so that one
// that is refused in the end has cost what it made ingest do.
type meter struct {
	w        http.ResponseWriter // for Retry-After
	grant    auth.Grant
	maxBytes int64
	messages int   // counted so far, per channel
	charged  int   // of them; one more at the begin
	bytes    int64 // of data, counted per channel
}

// newMeter charges the request itself as one message: its first one, if it gets
// as far. The error is a problem.
func (s *Service) newMeter(w http.ResponseWriter, g auth.Grant) (*meter, error) {
	m := &meter{w: w, grant: g, maxBytes: s.current.Load().MaxRequestBytes}
	return m, m.charge(1)
}

// count adds a checked publication that stands at the pointer at. Errors are
// problems.
func (m *meter) count(p *proto.Publication, at string) error {
	n := 1
	if p.Channel == "" {
		n = len(p.Channels)
	}
	m.messages += n
	m.bytes += int64(n) * int64(len(p.Data))
	switch {
	case m.messages > maxMessages:
		return proto.ProblemTooLarge.With(
			fmt.Sprintf("more than %d messages, counted per channel; send them as application/x-ndjson",
				maxMessages)).At(at)
	case m.bytes > m.maxBytes:
		return proto.ProblemTooLarge.With(fmt.Sprintf(
			"more than %d bytes of data, counted per channel; send less at once, or a stream (application/x-ndjson)",
			m.maxBytes)).At(at)
	}
	return m.charge(m.messages - m.charged)
}

func (m *meter) charge(n int) error {
	burst := m.grant.Burst()
	if n <= 0 || burst == 0 {
		return nil
	}
	now := time.Now()
	if m.charged+n > burst {
		httpx.RetryAfter(m.w, m.grant.Refill(now))
		return proto.ProblemTooManyRequests.With(fmt.Sprintf(
			"the request has more messages, counted per channel, than the %d that the key may publish at once; "+
				"send fewer, or a stream (application/x-ndjson), which is read at the key's rate", burst))
	}
	wait, ok := m.grant.Charge(n, now)
	if ok {
		m.charged += n
		return nil
	}
	if m.charged > 0 { // all of the request has to be charged again
		wait = m.grant.Refill(now)
	}
	httpx.RetryAfter(m.w, wait)
	return proto.ProblemTooManyRequests.With("the key's rate is used up")
}
