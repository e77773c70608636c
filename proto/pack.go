package proto

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"time"
)

// A pack is one NATS message that holds 1 to MaxPackMessages Herald messages,
// so that many share one acknowledgement and one fsync. Its body is text, one
// message a line:
//
//	{"channel":"orders.eu",…,"time":"…"}⇥a1795366716123456 s203.0.113.7↵
//	{"channel":"orders.us",…,"time":"…"}⇥x1795370316000 a57↵
//
// Before the tab stands what subscribers get, without the id (Message.AppendBody).
// After it stands what only Herald reads, the private part: fields of one letter
// and a value, with a space between two, in this order:
//
//	x  when the message expires, Unix time in milliseconds; without it never
//	a  when ingest accepted the message, Unix time in microseconds; from the
//	   second line on the difference to the first line's
//	s  the publisher's IP address; without it that of the first line
//	t  the W3C trace context of the POST; without it that of the first line
//	e  the connection that does not get the message, each line for itself
//
// s and t without a value mean that there is none. A pack is stored whole or
// not at all.
const (
	// MaxPackMessages is how many messages a pack has at most: as many as the
	// last ten bits of an id's number can tell apart.
	MaxPackMessages = 1 << PlaceBits
	// MaxPackBytes is how long the body of a pack of two or more messages is at
	// most. A message that is longer by itself is a pack of one.
	MaxPackBytes = 256 << 10
)

// PlaceBits is how many of the last bits of a number are the place in the pack.
const PlaceBits = 10

// Number is the number in the id of a message: pack is the stream sequence of
// its pack, place its place there, from 0.
func Number(pack uint64, place int) uint64 { return pack<<PlaceBits | uint64(place) }

// PackOf is the stream sequence of the pack that a number is of.
func PackOf(number uint64) uint64 { return number >> PlaceBits }

// PlaceOf is the place in its pack of the message that a number is of.
func PlaceOf(number uint64) int { return int(number & (1<<PlaceBits - 1)) }

// EndOf is the highest number that a message of the pack can have: the place
// at which everything up to and including the pack is known.
func EndOf(pack uint64) uint64 { return Number(pack, 1<<PlaceBits-1) }

// Private is what only Herald may know of a message. Clients never get it.
type Private struct {
	Source      string    // the publisher's IP address; empty if unknown
	Accepted    time.Time // when ingest accepted the message, to the microsecond
	Traceparent string    // W3C trace context of the POST, or empty
	Expires     time.Time // zero: never
	Except      string    // the connection that does not get it; empty: none
}

// maxPrivateBytes bounds Source, Traceparent and Except, which have 55 at most.
const maxPrivateBytes = 64

// Pack is a pack that is being filled. Its zero value is empty. The memory of
// one that was Reset is used again.
type Pack struct {
	body     []byte
	n        int
	accepted int64 // of the first message, Unix microseconds
	source   string
	trace    string

	hashes []uint32 // of the channels and their prefixes, each once
	seen   seen
}

// Reset empties the pack.
func (p *Pack) Reset() {
	p.body, p.n, p.hashes = p.body[:0], 0, p.hashes[:0]
	p.seen.reset()
}

// Len is how many messages the pack holds.
func (p *Pack) Len() int { return p.n }

// Body is the body of the NATS message, valid until the next Add or Reset.
func (p *Pack) Body() []byte { return p.body }

// HasRoom reports whether a pack of at most maxBytes has room for one more
// message. An empty pack has room for any.
func (p *Pack) HasRoom(m *Message, maxBytes int) bool {
	return p.n == 0 || p.n < MaxPackMessages && len(p.body)+lineBytes(m) <= maxBytes
}

// lineBytes is how long the line of a message is at most.
func lineBytes(m *Message) int {
	const members, private = 64, 3*maxPrivateBytes + 48
	return len(m.Channel) + len(m.Event) + len(m.Data) + len(m.Sender) + len(m.Time) + members + private
}

// Add appends a message and returns its place. The message must have been
// checked (Publication.Check), and has no ID; nothing of it is kept. The caller
// sees to it that the pack has room.
func (p *Pack) Add(m *Message, private Private) (place int) {
	begin := len(p.body)
	b := m.AppendBody(p.body)
	for i := bytes.IndexByte(b[begin:], '\n'); i >= 0; i = bytes.IndexByte(b[begin:], '\n') {
		b[begin+i] = ' ' // white space of JSON, in which a line break is nothing else
	}
	b = append(b, '\t')
	if !private.Expires.IsZero() {
		b = append(b, 'x')
		b = strconv.AppendInt(b, private.Expires.UnixMilli(), 10)
		b = append(b, ' ')
	}
	accepted := micros(private.Accepted)
	b = append(b, 'a')
	b = strconv.AppendInt(b, accepted-p.acceptedBefore(), 10)
	source, trace := printable(private.Source), printable(private.Traceparent)
	if p.n == 0 {
		p.accepted, p.source, p.trace = accepted, "", ""
	}
	b = appendField(b, 's', source, p.source)
	b = appendField(b, 't', trace, p.trace)
	b = appendField(b, 'e', printable(private.Except), "")
	if p.n == 0 {
		p.source, p.trace = source, trace
	}
	p.body = append(b, '\n')
	p.hashes = p.seen.add(p.hashes, m.Channel)
	p.n++
	return p.n - 1
}

func (p *Pack) acceptedBefore() int64 {
	if p.n == 0 {
		return 0
	}
	return p.accepted
}

func appendField(b []byte, name byte, value, first string) []byte {
	if value == first {
		return b
	}
	return append(append(b, ' ', name), value...)
}

// printable is s, or nothing where s could not stand in a private part. No
// IP address and no trace context is like that.
func printable(s string) string {
	if len(s) > maxPrivateBytes {
		return ""
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

// Holds reports whether the pack may hold a message of the channel with this
// hash. It is never wrong when it says no.
func (p *Pack) Holds(channelHash uint32) bool { return p.seen.has(channelHash) }

// AppendChannels appends the value of HeaderChannels: the hash of each channel
// in the pack and of each of its prefixes, four characters each, sorted.
func (p *Pack) AppendChannels(b []byte) []byte {
	slices.Sort(p.hashes)
	for _, h := range p.hashes {
		b = base64.RawURLEncoding.AppendEncode(b, []byte{byte(h >> 16), byte(h >> 8), byte(h)})
	}
	return b
}

// Hashes of channels have 24 bits: four characters of base64. Two channels in
// sixteen million share one, so a hash tells where to look, never what is there.
const (
	hashBits = 24
	// maxPrefixes is how many prefixes of a channel are named in HeaderChannels:
	// those of its first four tokens. A pattern with more literal tokens is looked
	// for by its first four.
	maxPrefixes = 4
)

// FNV-1a with 64 bits, folded.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fold(h uint64) uint32 { return uint32(h^h>>hashBits^h>>(2*hashBits)) & (1<<hashBits - 1) }

// ChannelHash is the hash by which HeaderChannels names a channel.
func ChannelHash[T string | []byte](channel T) uint32 {
	h := uint64(fnvOffset)
	for i := 0; i < len(channel); i++ {
		h = (h ^ uint64(channel[i])) * fnvPrime
	}
	return fold(h)
}

// PatternHash is the hash that HeaderChannels of a pack has if the pack holds a
// message of a channel that the pattern matches: that of the channel where the
// pattern is one, else that of the longest prefix of literal tokens. ok is false
// where the pattern begins with a wildcard: then no hash tells.
func PatternHash(pattern string) (hash uint32, ok bool) {
	h := uint64(fnvOffset)
	for i, tokens := 0, 0; i < len(pattern); i++ {
		c := pattern[i]
		if c == '*' || c == '>' {
			return hash, ok
		}
		h = (h ^ uint64(c)) * fnvPrime
		if c == '.' && tokens < maxPrefixes {
			tokens++
			hash, ok = fold(h), true
		}
	}
	return fold(h), true
}

// ReadChannels appends the hashes that a HeaderChannels names to hashes. ok is
// false where the value is not one; then nobody knows what the pack holds.
func ReadChannels(hashes []uint32, value string) (_ []uint32, ok bool) {
	if value == "" || len(value)%4 != 0 {
		return hashes, false
	}
	for i := 0; i < len(value); i += 4 {
		var b [3]byte
		if _, err := base64.RawURLEncoding.Decode(b[:], []byte(value[i:i+4])); err != nil {
			return hashes, false
		}
		hashes = append(hashes, uint32(b[0])<<16|uint32(b[1])<<8|uint32(b[2]))
	}
	return hashes, true
}

// seen is the set of the hashes of one pack: a table with open addressing, in
// which an entry counts if it bears the number of this use. The entries of
// earlier uses need not be cleared.
type seen struct {
	table []uint64 // use<<32 | hash; its length is a power of two, more than half of it free
	use   uint64
	n     int
}

const seenEntries = 256 // to begin with

func (s *seen) reset() {
	s.use++
	s.n = 0
}

// add puts the hashes of a channel and its prefixes into the set, and appends
// those that were not there to hashes.
func (s *seen) add(hashes []uint32, channel string) []uint32 {
	h, prefixes := uint64(fnvOffset), 0
	for i := 0; i < len(channel); i++ {
		h = (h ^ uint64(channel[i])) * fnvPrime
		if channel[i] == '.' && prefixes < maxPrefixes {
			prefixes++
			hashes = s.put(hashes, fold(h))
		}
	}
	return s.put(hashes, fold(h))
}

func (s *seen) put(hashes []uint32, hash uint32) []uint32 {
	if 2*s.n >= len(s.table) {
		s.grow(hashes)
	}
	if i, there := s.find(hash); !there {
		s.table[i] = s.entry(hash)
		s.n++
		hashes = append(hashes, hash)
	}
	return hashes
}

func (s *seen) has(hash uint32) bool {
	if s.n == 0 {
		return false
	}
	_, there := s.find(hash)
	return there
}

func (s *seen) entry(hash uint32) uint64 { return (s.use+1)<<32 | uint64(hash) }

// find returns where hash is, or where it would be put.
func (s *seen) find(hash uint32) (i int, there bool) {
	want := s.entry(hash)
	for i = int(hash) & (len(s.table) - 1); ; i = (i + 1) & (len(s.table) - 1) {
		switch e := s.table[i]; {
		case e == want:
			return i, true
		case e>>32 != want>>32:
			return i, false
		}
	}
}

// grow makes room for twice as many; hashes is what the set holds.
func (s *seen) grow(hashes []uint32) {
	s.table = make([]uint64, max(seenEntries, 2*len(s.table)))
	for _, h := range hashes {
		i, _ := s.find(h)
		s.table[i] = s.entry(h)
	}
}
