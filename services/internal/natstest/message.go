package natstest

import (
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// Headers go with a message of NewMsg beside its body. A field without a value makes no header.
type Headers struct {
	MsgID       string // Nats-Msg-Id, by which NATS stores a repeat once
	TTL         int64  // seconds from Accepted, or from now without it; 0: the message does not expire
	Source      string // the publisher's IP
	Accepted    time.Time
	Traceparent string
	Except      string // the connection that does not get it
}

// NewMsg makes the NATS message of m by itself, not in a pack, as a backend makes one that publishes to NATS
// directly: to be stored, or, if ephemeral, for the live subject. m must have been checked, and has no ID.
func NewMsg(m *proto.Message, h Headers, ephemeral bool) *nats.Msg {
	msg := &nats.Msg{Subject: proto.SubjectStored + m.Channel, Header: nats.Header{}, Data: m.AppendBody(nil)}
	set := func(name, value string) {
		if value != "" {
			msg.Header[name] = []string{value}
		}
	}
	if ephemeral {
		msg.Subject = proto.SubjectLiveStored + m.Channel
	} else {
		set(nats.MsgIdHdr, h.MsgID)
	}
	if h.TTL > 0 && !ephemeral {
		begin := h.Accepted
		if begin.IsZero() {
			begin = time.Now()
		}
		set(proto.HeaderExpires, strconv.FormatInt(begin.Add(time.Duration(h.TTL)*time.Second).UnixMilli(), 10))
	}
	if !h.Accepted.IsZero() {
		set(proto.HeaderAccepted, strconv.FormatInt(h.Accepted.UnixMicro(), 10))
	}
	set(proto.HeaderSource, h.Source)
	set(proto.HeaderTraceparent, h.Traceparent)
	set(proto.HeaderExcept, h.Except)
	return msg
}
