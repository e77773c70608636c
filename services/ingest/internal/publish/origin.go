package publish

import (
	"net/url"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// Origin is where the messages of one request come from.
type Origin struct {
	Sender      string // the API key's name
	Source      string // the publisher's IP address
	Traceparent string // of the request's span, or without tracing the client's; or empty
	Key         string // the header Idempotency-Key, or empty
}

// Whole is the place of a message that is a request by itself.
const Whole = -1

// fill makes msg the NATS message of a checked publication for one of its
// channels, in the memory that msg has from an earlier use. place is the
// publication's place in an array (from 0) or stream (its line), or Whole.
// keyed reports whether it has an idempotency key.
func (o *Origin) fill(msg *nats.Msg, p *proto.Publication, channel string, place int, now time.Time) (keyed bool) {
	m := proto.Message{Channel: channel, Event: p.Event, Data: p.Data, Sender: o.Sender, Time: proto.FormatTime(now)}
	h := natsx.Headers{MsgID: o.msgID(p.ID, channel, place), TTL: p.TTL, Source: o.Source, Accepted: now, Traceparent: o.Traceparent}
	natsx.Fill(msg, &m, h, p.Ephemeral)
	return h.MsgID != "" && !p.Ephemeral
}

// msgID is the Nats-Msg-Id: sender, channel and idempotency key with slashes
// between, such as "shop/orders.eu/order-17". Sender and channel are percent-
// encoded as segments of a URL path, so that the header stays ASCII and no
// two triples give the same id; plain names stay as they are. A header's key
// is extended by a space, which no key has, and the place. It is empty
// without a key.
func (o *Origin) msgID(id, channel string, place int) string {
	key := id
	if key == "" && o.Key != "" {
		key = o.Key
		if place != Whole {
			key += " " + strconv.Itoa(place)
		}
	}
	if key == "" {
		return ""
	}
	return url.PathEscape(o.Sender) + "/" + url.PathEscape(channel) + "/" + key
}
