package ask

import "time"

// Services that answer.
const (
	Gateway = "gateway"
	Ingest  = "ingest"
	Logger  = "logger"
)

// Questions. Settings of a service are asked for by questions of package settings.
const (
	Stats       = "stats"       // all services: GatewayStats, IngestStats, LoggerStats
	Connections = "connections" // gateway: ConnectionsQuestion, ConnectionsPage
	Channels    = "channels"    // gateway: TallyQuestion, TallyPage
	Addresses   = "addresses"   // gateway: TallyQuestion, TallyPage
	Kick        = "kick"        // gateway: KickQuestion, KickAnswer
	Refusals    = "refusals"    // gateway, ingest: RefusalsQuestion, RefusalsAnswer
	MessagePath = "message"     // all services: PathQuestion; GatewayPath, IngestPath, LoggerPath
	Publish     = "publish"     // one ingest: PublishQuestion, HTTPAnswer
	Search      = "search"      // one logger: SearchQuestion, HTTPAnswer
)

// Process is what every service says of itself, in its stats.
type Process struct {
	Service  string    `json:"service"`
	Instance string    `json:"instance"`
	Host     string    `json:"host"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Reasons  []string  `json:"reasons"`
}

// Histogram is how often something took how long since the process started. Buckets[i] counts what took at most
// Bounds[i] seconds, and what every bucket before it counts.
type Histogram struct {
	Bounds  []float64 `json:"bounds"`
	Buckets []uint64  `json:"buckets"`
	Count   uint64    `json:"count"`
}

// Since is the histogram of what came after an earlier one of the same process.
func (h Histogram) Since(earlier Histogram) Histogram {
	if len(h.Bounds) != len(earlier.Bounds) || h.Count < earlier.Count {
		return h
	}
	out := Histogram{Bounds: h.Bounds, Buckets: make([]uint64, len(h.Buckets)), Count: h.Count - earlier.Count}
	for i := range h.Buckets {
		out.Buckets[i] = h.Buckets[i] - earlier.Buckets[i]
	}
	return out
}

// Plus is both together. They must have the same bounds, as those of the same version have.
func (h Histogram) Plus(other Histogram) Histogram {
	switch {
	case len(other.Bounds) == 0:
		return h
	case len(h.Bounds) != len(other.Bounds):
		return other
	}
	out := Histogram{Bounds: h.Bounds, Buckets: make([]uint64, len(h.Buckets)), Count: h.Count + other.Count}
	for i := range h.Buckets {
		out.Buckets[i] = h.Buckets[i] + other.Buckets[i]
	}
	return out
}

// Quantile is within how many seconds the part q of everything was done, estimated within its bucket; false: nothing
// was counted.
func (h Histogram) Quantile(q float64) (seconds float64, ok bool) {
	if h.Count == 0 || len(h.Bounds) == 0 {
		return 0, false
	}
	rank, low, below := q*float64(h.Count), 0.0, uint64(0)
	for i, bound := range h.Bounds {
		if n := h.Buckets[i]; float64(n) >= rank {
			if n == below {
				return bound, true
			}
			return low + (bound-low)*(rank-float64(below))/float64(n-below), true
		}
		low, below = bound, h.Buckets[i]
	}
	return low, true // longer than the last bound
}

// GatewayStats is how a gateway does. Counters begin with its process.
type GatewayStats struct {
	Process
	Connections map[string]int `json:"connections"` // by protocol: websocket, sse, socketio, pusher
	Deliveries  uint64         `json:"deliveries"`
	Latency     Histogram      `json:"latency"` // from ingest to socket
	QueueBytes  int64          `json:"queue_bytes"`
	Slow        int            `json:"slow"` // clients for which something is queued
	Refused     uint64         `json:"refused"`
	Limit       int            `json:"limit"` // connections of an address; 0: none
}

// IngestStats is how an ingest does. Counters begin with its process.
type IngestStats struct {
	Process
	Published uint64       `json:"published"`
	Refused   uint64       `json:"refused"`
	Ack       Histogram    `json:"ack"`
	Pending   int          `json:"pending"`
	Stream    *StreamState `json:"stream"` // nil: it is not known
	MaxBytes  int64        `json:"max_bytes"`
	MaxAge    float64      `json:"max_age_seconds"`
	// Lane begins the message id of each pack that this process has stored, which tells who stored one.
	Lane string `json:"lane"`
}

// StreamState is what the stream keeps.
type StreamState struct {
	Messages uint64 `json:"messages"` // of NATS: packs
	Bytes    uint64 `json:"bytes"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// LoggerStats is how a logger does.
type LoggerStats struct {
	Process
	Lag  float64 `json:"lag_seconds"` // age of the oldest message that is not in the log; 0: all are
	Rows uint64  `json:"rows"`        // written since the process started
}

// ConnectionsQuestion asks for a page of connections. All members are optional; several must hold together.
type ConnectionsQuestion struct {
	Text     string `json:"q,omitempty"`        // is part of the id, address, user, a channel
	User     string `json:"user,omitempty"`     // is the token's sub
	Address  string `json:"address,omitempty"`  // an address, or a prefix such as 2001:db8::/64
	Protocol string `json:"protocol,omitempty"` // websocket, sse, socketio or pusher
	Channel  string `json:"channel,omitempty"`  // a channel whose messages it gets, or a pattern that it follows
	Sort     string `json:"sort,omitempty"`     // since, address, user, queued, sent or channels; - for descending
	Limit    int    `json:"limit,omitempty"`
	Cursor   string `json:"cursor,omitempty"`
}

// ConnectionOrders are the orders of connections; the first is the one where none is asked for.
var ConnectionOrders = []string{"-queued", "since", "address", "user", "sent", "channels"}

// Connection is one client.
type Connection struct {
	Gateway      string    `json:"gateway"`
	ID           string    `json:"id"`
	Address      string    `json:"address"`
	User         string    `json:"user"` // empty: anonymous
	Protocol     string    `json:"protocol"`
	Channels     []string  `json:"channels"` // the first of them
	ChannelCount int       `json:"channel_count"`
	Since        time.Time `json:"since"` // to the millisecond
	QueuedBytes  int       `json:"queued_bytes"`
	SentBytes    uint64    `json:"sent_bytes"`
	SentMessages uint64    `json:"sent_messages"`
	LastID       string    `json:"last_id"` // everything of its channels up to it was handed to the connection
	Agent        string    `json:"agent"`
}

// Key is where the connection stands in an order.
func (c *Connection) Key(by string) Key {
	k := Key{ID: c.ID}
	switch by {
	case "queued":
		k.Number = int64(c.QueuedBytes)
	case "sent":
		k.Number = int64(c.SentBytes)
	case "channels":
		k.Number = int64(c.ChannelCount)
	case "since":
		k.Number = c.Since.UnixMilli()
	case "address":
		k.Text = c.Address
	case "user":
		k.Text = c.User
	}
	return k
}

// ConnectionsPage is a gateway's part of a page.
type ConnectionsPage struct {
	Rows    []Connection `json:"rows"`
	Next    string       `json:"next"` // cursor behind the last row; empty: there are no more
	Total   int          `json:"total"`
	Matched int          `json:"matched"`
}

// TallyQuestion asks for how many clients there are by name: of a channel, or an address.
type TallyQuestion struct {
	Text   string   `json:"q,omitempty"`     // is part of the name
	Names  []string `json:"names,omitempty"` // only these, and all of them
	Sort   string   `json:"sort,omitempty"`  // count or name; rate of channels, refused of addresses; - for descending
	Limit  int      `json:"limit,omitempty"`
	Cursor string   `json:"cursor,omitempty"`
}

// Orders of tallies; the first is the one where none is asked for.
var (
	ChannelOrders = []string{"-count", "name", "rate"}
	AddressOrders = []string{"-count", "name", "refused"}
)

// Tally is the clients of one name.
type Tally struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	// Of a channel: messages a second lately, and the newest id; nil: not known.
	Rate   *float64 `json:"rate,omitempty"`
	LastID string   `json:"last_id,omitempty"`
	// Of an address: how many were refused lately.
	Refused int `json:"refused,omitempty"`
}

// Key is where the tally stands in an order.
func (t *Tally) Key(by string) Key {
	k := Key{ID: t.Name}
	switch by {
	case "count":
		k.Number = int64(t.Count)
	case "refused":
		k.Number = int64(t.Refused)
	case "rate":
		if t.Rate != nil {
			k.Number = int64(*t.Rate * 1000)
		}
	}
	return k
}

// TallyPage is a gateway's part of a page.
type TallyPage struct {
	Rows    []Tally `json:"rows"`
	Next    string  `json:"next"`
	Total   int     `json:"total"`
	Matched int     `json:"matched"`
	Limit   int     `json:"limit,omitempty"` // of an address, over all gateways; 0: none
}

// KickQuestion closes connections: one of ID, User and Address says which.
type KickQuestion struct {
	ID      string `json:"id,omitempty"`
	User    string `json:"user,omitempty"`
	Address string `json:"address,omitempty"` // an address or a prefix
	Code    int    `json:"code"`              // of proto: CloseKicked or CloseReconnect
	By      string `json:"by"`                // who does it, for the log
	Reason  string `json:"reason,omitempty"`  // likewise, and for the client
}

// KickAnswer is how many were closed.
type KickAnswer struct {
	Kicked int `json:"kicked"`
}

// RefusalsQuestion asks for the newest refusals of an instance, which keeps the last 500.
type RefusalsQuestion struct {
	Reason  string `json:"reason,omitempty"`
	Address string `json:"address,omitempty"` // an address or a prefix
}

// Refusal is one client or request that was refused.
type Refusal struct {
	Time     time.Time `json:"time"`
	Service  string    `json:"service"`
	Instance string    `json:"instance"`
	Reason   string    `json:"reason"`
	Status   int       `json:"status,omitempty"` // of HTTP, or
	Code     int       `json:"code,omitempty"`   // the close code
	Address  string    `json:"address"`
	Request  string    `json:"request"` // its id, or that of the connection
	Path     string    `json:"path"`    // without the query, which may have a token
	Detail   string    `json:"detail"`
	Origin   string    `json:"origin,omitempty"`
}

// RefusalsAnswer has the newest first.
type RefusalsAnswer struct {
	Rows []Refusal `json:"rows"`
}

// PathQuestion asks what an instance knows of a message. Asking has it keep facts of the messages to come for a minute.
type PathQuestion struct {
	ID      string `json:"id,omitempty"` // empty: of none, yet
	Channel string `json:"channel,omitempty"`
}

// GatewayPath is what a gateway knows of a message's deliveries.
type GatewayPath struct {
	// Known says that facts were kept when the message came; else all but Followers is 0.
	Known     bool       `json:"known"`
	Since     *time.Time `json:"since"`     // from when on facts are kept
	Followers int        `json:"followers"` // clients that follow the channel now
	Clients   int        `json:"clients"`   // it was for
	Sent      int        `json:"sent"`      // written to the socket at once
	Queued    int        `json:"queued"`    // for which it was enqueued
	Dropped   int        `json:"dropped"`   // that were being closed
	Slowest   float64    `json:"slowest_ms"`
}

// IngestPath is what an ingest knows of how it accepted a message.
type IngestPath struct {
	Known   bool       `json:"known"`
	Since   *time.Time `json:"since"`
	Request string     `json:"request"`
	Address string     `json:"address"`
	Time    time.Time  `json:"time"`
}

// LoggerPath is a message's row in the log.
type LoggerPath struct {
	Row   bool   `json:"row"`
	Time  string `json:"time"`  // column timestamp
	Later bool   `json:"later"` // there are rows of messages behind it, so that no row comes any more
}

// MaxPublish bounds the body of a PublishQuestion. In JSON it is a third longer, and NATS carries 1 MiB unless told
// otherwise.
const MaxPublish = 512 << 10

// PublishQuestion publishes what POST /v1/messages would, for somebody who has logged in to the console.
type PublishQuestion struct {
	Body    []byte `json:"body"`    // as it was sent: JSON
	Sender  string `json:"sender"`  // the sender of the messages
	Address string `json:"address"` // of the client
}

// SearchQuestion reads a page of the log as GET /v1/log does, in the format that Query asks for.
type SearchQuestion struct {
	Query  string `json:"query"`            // of the URL, encoded
	Cursor string `json:"cursor,omitempty"` // HeaderNext of the page before, of an export
}

// HeaderNext is the cursor of an export's next page, in the header of an HTTPAnswer; absent: there is none.
const HeaderNext = "Herald-Next"

// HTTPAnswer is the answer of an HTTP handler.
type HTTPAnswer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header"` // Content-Type, Retry-After and HeaderNext, as far as they are there
	Body   []byte            `json:"body"`
}
