// Package wstest makes what WebSocket clients send, for tests: correct frames
// and others, since no library checks them.
package wstest

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Fin and RSV1 are bits of a frame's first byte.
const (
	Fin  = 0x80
	RSV1 = 0x40
)

// Masked is a client's frame with this first byte: opcode and bits.
func Masked(first byte, payload []byte) []byte {
	b := ws.Encode(0, payload)
	head := len(b) - len(payload)
	b[0] = first
	b[1] |= 0x80
	key := [4]byte{1, 2, 3, 4}
	out := append(append([]byte(nil), b[:head]...), key[:]...)
	for i, x := range payload {
		out = append(out, x^key[i%4])
	}
	return out
}

// Deflate compresses a message as a client does that negotiated
// permessage-deflate.
func Deflate(s string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = io.WriteString(w, s)
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// Document is JSON of at least n bytes, such as a machine's readings: the same
// for the same n.
func Document(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"temperature", "humidity", "machine", "status", "running", "stopped", "sensor", "pressure",
		"operator", "quality"}
	type reading struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
		State string  `json:"state"`
		At    string  `json:"at"`
	}
	m := struct {
		ID      string    `json:"id"`
		Channel string    `json:"channel"`
		Event   string    `json:"event"`
		Data    []reading `json:"data"`
		Sender  string    `json:"sender"`
		Time    string    `json:"time"`
	}{"mib3k2x9-1024", "plant.7.line.3", "message", nil, "mes", "2026-11-22T16:58:36.123Z"}
	for size := 150; size < n || len(m.Data) == 0; {
		one := reading{
			fmt.Sprintf("%s-%d", words[r.IntN(len(words))], r.IntN(100)), float64(r.IntN(1e5)) / 100,
			words[r.IntN(len(words))],
			fmt.Sprintf("2026-11-22T16:%02d:%02d.%03dZ", r.IntN(60), r.IntN(60), r.IntN(1000)),
		}
		b, _ := json.Marshal(one) // plain values do not fail
		size += len(b) + 1
		m.Data = append(m.Data, one)
	}
	b, _ := json.Marshal(m)
	return b
}
