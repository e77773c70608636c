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
	if o.Key != "" {
		if err := proto.CheckKey(o.Key); err != nil {
			return nil, proto.ProblemInvalidParameter.With("Idempotency-Key: " + err.Error())
		}
	}
	if addr := s.cfg.TrustedProxies.ClientIP(r); addr.IsValid() {
		o.Source = addr.String()
	}
	if s.tracer != nil {
		o.Traceparent = tracing.Traceparent(r.Context())
	} else if t := r.Header.Get("traceparent"); tracing.TraceID(t) != "" {
		o.Traceparent = t
	}
	return o, nil
}
