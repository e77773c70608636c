package proto

import "strings"

// The one stream and its two subject trees. A publisher stores under
// SubjectStored; NATS republishes what it stored under SubjectLive, where
// ephemeral messages go directly.
const (
	Stream        = "HERALD"
	SubjectStored = "herald.msg."
	SubjectLive   = "herald.live."
)

// StoredSubject is where a message of channel is published to be stored.
func StoredSubject(channel string) string { return SubjectStored + channel }

// LiveSubject is where the gateways hear a message of channel.
func LiveSubject(channel string) string { return SubjectLive + channel }

// ChannelOf is the channel of a stored or live subject; ok is false for any
// other subject.
func ChannelOf(subject string) (channel string, ok bool) {
	if channel, ok = strings.CutPrefix(subject, SubjectLive); ok {
		return channel, true
	}
	return strings.CutPrefix(subject, SubjectStored)
}

// Headers that Herald itself puts on a NATS message.
const (
	// HeaderSource is the publisher's IP address, for the log only: clients never see it.
	HeaderSource = "Herald-Source"
	// HeaderAccepted is when ingest accepted the message, Unix time in
	// microseconds, decimal: the start of the end-to-end latency.
	HeaderAccepted = "Herald-Accepted"
	// HeaderTraceparent is the W3C trace context of the POST, passed through.
	HeaderTraceparent = "traceparent"
)
