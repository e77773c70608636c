package ingest

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/nats-io/nats.go"
)

// origin is where the messages of one request come from.
type origin struct {
	auth.Grant
	source      string // the publisher's IP address
	traceparent string // of the request's span, or without tracing the client's; or empty
	key         string // the header Idempotency-Key, or empty
}

// whole is the place of a message that is a request by itself.
const whole = -1

func (s *Service) origin(r *http.Request, g auth.Grant) (*origin, error) {
	o := &origin{Grant: g, key: r.Header.Get("Idempotency-Key")}
	if o.key != "" {
		if err := proto.CheckKey(o.key); err != nil {
			return nil, proto.ProblemInvalidParameter.With("Idempotency-Key: " + err.Error())
		}
	}
	if addr := s.cfg.TrustedProxies.ClientIP(r); addr.IsValid() {
		o.source = addr.String()
	}
	if s.tracer != nil {
		o.traceparent = tracing.Traceparent(r.Context())
	} else if t := r.Header.Get("traceparent"); tracing.TraceID(t) != "" {
		o.traceparent = t
	}
	return o, nil
}

// fill makes msg the NATS message of a checked publication for one of its
// channels, in the memory that msg has from an earlier use. place is the
// publication's place in an array (from 0) or stream (its line), or whole.
// keyed reports whether it has an idempotency key.
func (o *origin) fill(msg *nats.Msg, p *proto.Publication, channel string, place int, now time.Time) (keyed bool) {
	m := proto.Message{Channel: channel, Event: p.Event, Data: p.Data, Sender: o.Name, Time: proto.FormatTime(now)}
	h := natsx.Headers{MsgID: o.msgID(p.ID, channel, place), TTL: p.TTL, Source: o.source, Accepted: now, Traceparent: o.traceparent}
	natsx.Fill(msg, &m, h, p.Ephemeral)
	return h.MsgID != "" && !p.Ephemeral
}

// msgID is the Nats-Msg-Id: sender, channel and idempotency key with slashes
// between, such as "shop/orders.eu/order-17". Sender and channel are percent-
// encoded as segments of a URL path, so that the header stays ASCII and no
// two triples give the same id; plain names stay as they are. A header's key
// is extended by a space, which no key has, and the place. It is empty
// without a key.
func (o *origin) msgID(id, channel string, place int) string {
	key := id
	if key == "" && o.key != "" {
		key = o.key
		if place != whole {
			key += " " + strconv.Itoa(place)
		}
	}
	if key == "" {
		return ""
	}
	return url.PathEscape(o.Name) + "/" + url.PathEscape(channel) + "/" + key
}
