package proto

import "strings"

// The one stream and its subjects. Herald stores packs under SubjectPacks; who
// publishes to NATS by himself stores under SubjectStored and the channel. NATS
// republishes what it stored below SubjectLive, where ephemeral messages go
// directly.
//
// Packs have one subject for all channels because NATS republishes a message
// together with the sequence of the one before on the same subject, which it has
// to find first: on this subject that is always the newest, which is in memory.
const (
	Stream           = "HERALD"
	SubjectPacks     = "herald.pack"
	SubjectStored    = "herald.msg."
	SubjectLive      = "herald.live."
	SubjectLivePacks = SubjectLive + "pack"
	// SubjectLiveStored and a channel is where NATS republishes what was stored under SubjectStored.
	SubjectLiveStored = SubjectLive + "msg."
)

// ChannelOf is the channel of a subject below SubjectStored or SubjectLiveStored; ok
// is false for any other subject.
func ChannelOf(subject string) (channel string, ok bool) {
	if channel, ok = strings.CutPrefix(subject, SubjectLiveStored); ok {
		return channel, true
	}
	return strings.CutPrefix(subject, SubjectStored)
}

// Headers that Herald itself puts on a NATS message.
const (
	// HeaderChannels names the channels of a pack by their hashes, so that what a
	// pack holds can be known without its body; see Pack.AppendChannels.
	HeaderChannels = "Herald-Channels"
)

// Headers of a message that is in no pack; in a pack each line says as much.
const (
	// HeaderSource is the publisher's IP address, for the log only: clients never see it.
	HeaderSource = "Herald-Source"
	// HeaderAccepted is when the message was accepted, Unix time in
	// microseconds, decimal: the start of the end-to-end latency.
	HeaderAccepted = "Herald-Accepted"
	// HeaderTraceparent is the W3C trace context of the POST, passed through.
	HeaderTraceparent = "traceparent"
	// HeaderExcept is the connection that does not get the message.
	HeaderExcept = "Herald-Except"
	// HeaderExpires is until when the message is kept, Unix time in milliseconds,
	// decimal.
	HeaderExpires = "Herald-Expires"
)
