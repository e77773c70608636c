package natsx

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// Pack is a NATS message as it comes from NATS, live or fetched, about to be
// read message by message.
type Pack struct {
	Seq         uint64 // of the stream; 0: ephemeral
	Bytes       int    // of the body
	proto.Lines        // none where OpenPack fails
}

// OpenPack begins to read a live or fetched NATS message, without looking at
// its body: a pack, or a message that somebody published to the subject of its
// channel, which reads as a pack of one. The error wraps ErrForeign where it is
// neither; the result then has the sequence alone, if it is stored.
//
// A fetched message comes to an inbox, and has its subject in a header that the
// server sets. A live one is what the subject says, to which the server has held
// its publisher, whatever stands in its headers.
func OpenPack(msg *nats.Msg) (Pack, error) {
	seq, err := sequence(msg)
	if err != nil {
		return Pack{}, err
	}
	subject := msg.Subject
	if stored := last(msg.Header, nats.JSSubject); !strings.HasPrefix(subject, proto.SubjectLive) &&
		(stored == proto.SubjectPacks || strings.HasPrefix(stored, proto.SubjectStored)) {
		subject = stored
	}
	lines, err := OpenLines(subject, msg.Header, msg.Data)
	return Pack{Seq: seq, Bytes: len(msg.Data), Lines: lines}, err
}

// OpenLines is OpenPack where the subject is known and the sequence is of no
// interest, or known otherwise, as a consumer does.
func OpenLines(subject string, header nats.Header, body []byte) (proto.Lines, error) {
	if subject == proto.SubjectPacks || subject == proto.SubjectLivePacks {
		return proto.ReadPack(body), nil
	}
	channel, ok := proto.ChannelOf(subject)
	if !ok || proto.CheckChannel(channel) != nil {
		return proto.Lines{}, fmt.Errorf("%w: subject %q", ErrForeign, subject)
	}
	if !spliceable(body) {
		return proto.Lines{}, fmt.Errorf("%w: the body on %q is not a JSON object with members", ErrForeign, subject)
	}
	private := proto.Private{Source: first(header, proto.HeaderSource),
		Traceparent: first(header, proto.HeaderTraceparent), Except: first(header, proto.HeaderExcept)}
	if us := positive(first(header, proto.HeaderAccepted)); us > 0 {
		private.Accepted = time.UnixMicro(us)
	}
	if ms := positive(first(header, proto.HeaderExpires)); ms > 0 {
		private.Expires = time.UnixMilli(ms)
	}
	return proto.OneMessage(channel, body, private), nil
}

// sequence is the message's stream sequence; 0 if it is not stored.
func sequence(msg *nats.Msg) (uint64, error) {
	s := last(msg.Header, nats.JSSequence)
	if s == "" {
		return 0, nil
	}
	seq, err := strconv.ParseUint(s, 10, 64)
	if err != nil || seq == 0 {
		return 0, fmt.Errorf("%w: sequence %q", ErrForeign, s)
	}
	return seq, nil
}

// positive reads a decimal number; 0 is what is none, or not above 0.
func positive(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return max(0, n)
}
