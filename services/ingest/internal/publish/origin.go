package publish

import (
	"net/url"
	"strconv"
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

// msgID is the Nats-Msg-Id: sender, channel and idempotency key with slashes
// between, such as "shop/orders.eu/order-17". Sender and channel are percent-
// encoded as segments of a URL path, so that the header stays ASCII and no
// two triples give the same id; plain names stay as they are. A header's key
// is extended by a space, which no key has, and the place. It is empty
// without a key. place is the publication's place in an array (from 0) or stream
// (its line), or Whole.
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
