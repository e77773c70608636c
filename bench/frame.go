//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
)

// RFC 6455 section 5.2, as far as these clients and servers need it: whole,
// unfragmented frames.
const (
	opText = 1
	opPing = 9
	opPong = 10
)

// frames calls do with each frame that p completes. The payload is valid during the call.
func (c *client) frames(p []byte, do func(opcode byte, payload []byte)) {
	if len(c.rest) > 0 {
		p = append(c.rest, p...)
	}
	for {
		payload, size, ok := splitFrame(p)
		if !ok {
			break
		}
		do(p[0]&0xf, payload)
		p = p[size:]
	}
	c.rest = append([]byte(nil), p...)
}

// splitFrame returns the first frame's payload and its size with the header;
// not ok: it is not all there.
func splitFrame(p []byte) (payload []byte, size int, ok bool) {
	if len(p) < 2 {
		return nil, 0, false
	}
	header, n := 2, int(p[1]&0x7f)
	switch {
	case n == 126 && len(p) >= 4:
		header, n = 4, int(binary.BigEndian.Uint16(p[2:]))
	case n == 127 && len(p) >= 10:
		header, n = 10, int(binary.BigEndian.Uint64(p[2:]))
	case n >= 126:
		return nil, 0, false
	}
	if len(p) < header+n {
		return nil, 0, false
	}
	return p[header : header+n], header + n, true
}

// textFrame is a server's.
func textFrame(payload []byte) []byte {
	return append(appendHeader(make([]byte, 0, len(payload)+10), opText, len(payload), 0), payload...)
}

// maskedFrame is a client's, masked by zeros.
func maskedFrame(opcode byte, payload string) []byte {
	b := appendHeader(make([]byte, 0, len(payload)+14), opcode, len(payload), 0x80)
	return append(append(b, 0, 0, 0, 0), payload...)
}

func appendHeader(b []byte, opcode byte, n int, mask byte) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case n < 126:
		return append(b, mask|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
}

// stampKey stands before the publisher's time, nanoseconds since 1970, in each
// message; in the text of a text, as Pusher's clients get data, with a backslash in it. Counting it counts messages also
// where a server puts several into one frame.
var stampKey = []byte(`"ts`)

// eachStamp calls do with each stamp and returns how many there are.
func eachStamp(b []byte, do func(ns int64)) (n int) {
	for {
		i := bytes.Index(b, stampKey)
		if i < 0 {
			return n
		}
		b = bytes.TrimLeft(b[i+len(stampKey):], `\":`)
		var ns int64
		for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
			ns, b = ns*10+int64(b[0]-'0'), b[1:]
		}
		do(ns)
		n++
	}
}
