//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
)

// RFC 6455 section 5.2, as far as these clients and servers need it: whole,
// unfragmented frames.
const opText, opPing, opPong = 1, 9, 10

// frames calls do with each frame that p completes. The payload is valid during the call.
func (c *client) frames(p []byte, do func(opcode byte, payload []byte)) {
	if len(c.rest) > 0 {
		p = append(c.rest, p...)
	}
	for len(p) >= 2 {
		header, n := 2, int(p[1]&0x7f)
		switch {
		case n == 126 && len(p) >= 4:
			header, n = 4, int(binary.BigEndian.Uint16(p[2:]))
		case n == 127 && len(p) >= 10:
			header, n = 10, int(binary.BigEndian.Uint64(p[2:]))
		case n >= 126:
			header = len(p) // and more
		}
		if len(p) < header+n {
			break
		}
		do(p[0]&0xf, p[header:header+n])
		p = p[header+n:]
	}
	c.rest = append([]byte(nil), p...) // nil of nothing
}

// frame is a server's, or a client's, which is masked, here by zeros.
func frame(opcode byte, masked bool, payload []byte) []byte {
	b, n := append(make([]byte, 0, len(payload)+14), 0x80|opcode), len(payload)
	switch {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

// stampKey stands before the publisher's time, nanoseconds since 1970, in each message; where data is a text within
// JSON, as Pusher's clients get it, with a backslash. Counting it counts messages also where a server puts several
// into one frame.
var stampKey = []byte(`"ts`)

// eachStamp calls do with each stamp and returns how many there are.
func eachStamp(b []byte, do func(ns int64)) (n int64) {
	for i := bytes.Index(b, stampKey); i >= 0; i = bytes.Index(b, stampKey) {
		b = bytes.TrimLeft(b[i+len(stampKey):], `\":`)
		var ns int64
		for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
			ns, b = ns*10+int64(b[0]-'0'), b[1:]
		}
		do(ns)
		n++
	}
	return n
}
