package pusher

// SubjectChannels is where ingest asks every gateway which channels of an app have
// subscribers: plain NATS, a ChannelsQuery as JSON, answered by a ChannelsAnswer.
const SubjectChannels = "herald.gateway.channels"

// MaxListed is how many channels a gateway names at most.
const MaxListed = 5000

// ChannelsQuery asks for some channels of an app by their names, or for all that
// begin with a prefix.
type ChannelsQuery struct {
	App    string   `json:"app"`
	Names  []string `json:"names,omitempty"` // nil: all with the prefix
	Prefix string   `json:"prefix,omitempty"`
}

// ChannelsAnswer is how many subscriptions each has at one gateway; channels without
// any are not there.
type ChannelsAnswer struct {
	Channels map[string]int `json:"channels"`
	More     bool           `json:"more,omitempty"` // there are others
	// Gateways is how many gateways this one knows, itself included; 0: it cannot say, or is of a version that does
	// not.
	Gateways int `json:"gateways,omitempty"`
}
