package publish

import (
	"cmp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// flight is one NATS message and its outcome: a pack, or a message with
// an idempotency key, which is alone in its pack. It is sent as often as
// necessary; its message id makes JetStream store it once.
type flight struct {
	msg     nats.Msg
	pack    proto.Pack
	keyed   bool
	channel uint32 // keyed: proto.ChannelHash
	cost    int64  // units of lane.room that it holds
	// refs counts who may still look at the flight: each of its messages' Delivery,
	// the lane until it has landed, and the one who hands it to nats.go.
	refs atomic.Int32

	// Guarded by lane.mu.
	born      time.Time // when its first message was accepted
	number    uint64    // of its reply subject and in lane.out; 0: it was not sent yet
	attempted time.Time // when the newest attempt was made
	sent      bool      // nats.go has had it at least once
	mark      mark      // where the stream stood at the newest attempt
	again     error     // why it has to be sent again; nil: it has not

	// Written before done is closed, fixed after.
	epoch     string
	seq       uint64
	duplicate bool
	err       error
	done      chan struct{} // closed when the flight has landed; of this use
}

// maxSpare bounds the memory that a flight keeps for its next use. A pack
// fits; messages that are larger than packs are must not hold theirs for ever.
const maxSpare = proto.MaxPackBytes + 64<<10

func (l *lane) newFlight(born time.Time) *flight {
	f, _ := l.spare.Get().(*flight)
	if f == nil {
		f = &flight{msg: nats.Msg{Subject: proto.SubjectPacks, Header: nats.Header{}}}
	}
	f.pack.Reset()
	f.keyed, f.channel, f.cost, f.born, f.number, f.sent, f.again = false, 0, 0, born, 0, false, nil
	f.epoch, f.seq, f.duplicate, f.err, f.done = "", 0, false, nil, make(chan struct{})
	f.refs.Store(1)
	return f
}

func (l *lane) release(f *flight) {
	if f.refs.Add(-1) == 0 && cap(f.pack.Body()) <= maxSpare {
		l.spare.Put(f)
	}
}

// seal makes the NATS message of a flight that gets no more messages.
// msgID is empty for ephemeral ones.
func (f *flight) seal(subject, msgID string, channels []byte) []byte {
	f.msg.Subject, f.msg.Data = subject, f.pack.Body()
	channels = f.pack.AppendChannels(channels[:0])
	setHeader(f.msg.Header, nats.MsgIdHdr, msgID)
	setHeader(f.msg.Header, proto.HeaderChannels, string(channels))
	return channels
}

// setHeader writes one header, in place if the name is there already. Without a
// value there is none of that name.
func setHeader(h nats.Header, name, value string) {
	switch v := h[name]; {
	case value == "":
		delete(h, name)
	case len(v) == 1:
		v[0] = value
	default:
		h[name] = []string{value}
	}
}

// stage is a pack that was not sent yet, and the messages with an idempotency
// key that must not be sent before it, because it has a message of their channel.
type stage struct {
	pack  *flight // nil: it was sent, or there is none
	after []*flight
}

// holds reports whether the stage may have a message of the channel.
func (s *stage) holds(channel uint32) bool {
	return s.pack != nil && s.pack.pack.Holds(channel) || s.followed(channel)
}

// followed reports whether a message of the channel waits until the pack is sent.
func (s *stage) followed(channel uint32) bool {
	for _, f := range s.after {
		if f.channel == channel {
			return true
		}
	}
	return false
}

// outcome is what NATS says about one attempt to store a NATS message.
// Errors are *jetstream.APIError, jetstream.ErrNoStreamResponse and
// jetstream.ErrInvalidJSAck.
type outcome struct {
	seq       uint64
	duplicate bool
	err       error
}

// byNumber compares flights by the order in which they were first sent.
func byNumber(a, b *flight) int { return cmp.Compare(a.number, b.number) }

// reply is the reply subject of a flight.
func (l *lane) reply(number uint64) string {
	var b [64]byte
	return string(strconv.AppendUint(append(b[:0], l.prefix...), number, 10))
}
