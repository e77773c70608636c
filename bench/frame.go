//go:build linux

package main

import "encoding/binary"

// RFC 6455 section 5.2, as far as these clients and servers need it: whole,
// unfragmented frames.
const (
	opText = 1
	opPing = 9
	opPong = 10
)

// walker finds the frames in what comes over one connection.
type walker struct {
	frames int
	rest   []byte // the begin of a frame whose end has not come yet
}

// feed calls do with each frame that p completes. The payload is valid during the call.
func (w *walker) feed(p []byte, do func(opcode byte, payload []byte)) {
	if len(w.rest) > 0 {
		p = append(w.rest, p...)
	}
	for {
		payload, size, ok := splitFrame(p)
		if !ok {
			break
		}
		w.frames++
		do(p[0]&0xf, payload)
		p = p[size:]
	}
	w.rest = append([]byte(nil), p...)
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
func maskedFrame(opcode byte, payload []byte) []byte {
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
