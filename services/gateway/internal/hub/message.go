package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Message is one message on its way to subscribers. Nobody changes it after
// Publish; all connections share it.
type Message struct {
	// Seq is the number in the message's id, which grows with the stream; 0 for an
	// ephemeral message.
	Seq     uint64
	Channel string
	// Body is the client-ready JSON with the id spliced in.
	Body []byte
	// ID is the message's id; empty for an ephemeral message.
	ID string
	// Except is the id of the connection that does not get the message; empty: none.
	// Sinks heed it.
	Except string
	// Accepted is when ingest accepted the message; zero if unknown.
	Accepted time.Time
	// Expires is until when the message is kept, Unix milliseconds; 0 is as long
	// as others.
	Expires int64
	// Written, if not nil, is called once by each shard, when what its sockets
	// take of the message at once is written, with how many of its subscribers
	// the message was for. Shards call at the same time; it must not block.
	Written func(subscribers int)

	encoded [maxEncodings]atomic.Pointer[[]byte]
	costly  sync.Mutex // held while a costly encoding is made
}

// Expired reports whether the message is not for those who come back now.
func (m *Message) Expired() bool { return m.Expires != 0 && m.Expires <= time.Now().UnixMilli() }

const maxEncodings = 16

// Encoding turns a message into the bytes that one kind of client gets. It
// runs once per message, not once per client.
type Encoding struct {
	slot   int
	encode func(*Message) []byte
	costly bool
}

// NewEncoding makes an encoding. Each in a process has its own slot, below
// maxEncodings; the caller hands them out.
func NewEncoding(slot int, encode func(*Message) []byte) *Encoding {
	if slot < 0 || slot >= maxEncodings {
		panic("hub: no such encoding slot")
	}
	return &Encoding{slot: slot, encode: encode}
}

// NewCostlyEncoding is NewEncoding for what costs more than to wait for it: a
// shard that asks while another one encodes does wait. encode may ask for an
// encoding that is not costly.
func NewCostlyEncoding(slot int, encode func(*Message) []byte) *Encoding {
	e := NewEncoding(slot, encode)
	e.costly = true
	return e
}

// NewDerivedEncoding makes a costly encoding of what another one makes of a message;
// nil, which derive may return, stands for the same bytes. Those are not kept for it.
func NewDerivedEncoding(slot int, of *Encoding, derive func(b []byte) []byte) *Encoding {
	return NewCostlyEncoding(slot, func(m *Message) []byte {
		var b []byte
		p := m.encoded[of.slot].Load()
		if p != nil {
			b = *p
		} else {
			b = of.encode(m)
		}
		if derived := derive(b); derived != nil {
			return derived
		}
		if p == nil {
			m.encoded[of.slot].CompareAndSwap(nil, &b)
			p = m.encoded[of.slot].Load()
		}
		return *p
	})
}

// Encoded is the message in this encoding: shared bytes, never to be changed.
// Two shards that ask at the same moment may both encode, unless the encoding
// is costly; the first stays.
func (m *Message) Encoded(e *Encoding) []byte {
	if p := m.encoded[e.slot].Load(); p != nil {
		return *p
	}
	return m.encode(e)
}

func (m *Message) encode(e *Encoding) []byte {
	if e.costly {
		m.costly.Lock()
		defer m.costly.Unlock()
	}
	p := m.encoded[e.slot].Load()
	if p == nil {
		b := e.encode(m)
		m.encoded[e.slot].CompareAndSwap(nil, &b)
		p = m.encoded[e.slot].Load()
	}
	return *p
}

// Batch is messages that one subscriber gets at once, in their order. A shard
// makes it and uses it again: a Sink must not keep it. What Encoded returns may
// be kept, and never changed.
type Batch struct {
	Messages []*Message

	merged [maxEncodings][]byte

	searched bool // for messages that are not for everybody
	excepts  bool // there is one
}

// Excepts reports whether the connection does not get all of the messages.
func (b *Batch) Excepts(id string) bool {
	if len(b.Messages) == 1 {
		return b.Messages[0].Except == id
	}
	if !b.searched {
		b.searched = true
		b.excepts = slices.ContainsFunc(b.Messages, func(m *Message) bool { return m.Except != "" })
	}
	return b.excepts && slices.ContainsFunc(b.Messages, func(m *Message) bool { return m.Except == id })
}

// Encoded is the messages in this encoding, one after the other, merged once
// for all subscribers that get the same ones.
func (b *Batch) Encoded(e *Encoding) []byte {
	if len(b.Messages) == 1 {
		return b.Messages[0].Encoded(e)
	}
	if b.merged[e.slot] == nil {
		size := 0
		for _, m := range b.Messages {
			size += len(m.Encoded(e))
		}
		merged := make([]byte, 0, size)
		for _, m := range b.Messages {
			merged = append(merged, m.Encoded(e)...)
		}
		b.merged[e.slot] = merged
	}
	return b.merged[e.slot]
}
