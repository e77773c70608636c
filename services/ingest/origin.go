package ingest

import (
	"net/http"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/tracing"
)

// origin is where the messages of one request come from.
type origin struct {
	auth.Grant
	publish.Origin
}

func (s *Service) origin(r *http.Request, g auth.Grant) (*origin, error) {
	key, err := httpx.Single(r, "Idempotency-Key")
	if err != nil {
		return nil, err
	}
	o := &origin{Grant: g, Origin: publish.Origin{Sender: g.Name, Key: key}}
	if len(r.Header["Idempotency-Key"]) > 0 { // also if it is empty: who sends one believes in it
		if err := proto.CheckKey(o.Key); err != nil {
			return nil, proto.ProblemInvalidParameter.With("Idempotency-Key: " + err.Error())
		}
	}
	if len(r.Header["X-Forwarded-For"]) > 0 && !s.cfg.TrustedProxies.Proxied(r) {
		s.forwarded.Do(func() {
			s.log.Warn("a peer that is no trusted proxy sends X-Forwarded-For: if it is yours, name it in "+
				"HERALD_TRUSTED_PROXIES (-trusted-proxies); until then the log has its address for every "+
				"publisher behind it", "remote", r.RemoteAddr)
		})
	}
	o.Source = s.cfg.TrustedProxies.ClientAddr(r)
	if s.tracer != nil {
		o.Traceparent = tracing.Traceparent(r.Context())
	} else if t := r.Header.Get("traceparent"); tracing.TraceID(t) != "" {
		o.Traceparent = t
	}
	return o, nil
}
