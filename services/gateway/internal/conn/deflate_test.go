package conn

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

const opDeflatedBinary = opWholeBinary | rsv1

// deflate is a client's compression of a message.
func deflate(s string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = io.WriteString(w, s)
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), flushed)
}

// The examples of RFC 7692 section 7.2.3, and what else may come.
func TestInflate(t *testing.T) {
	long := strings.Repeat("x", proto.MaxFrameBytes)
	for _, c := range []struct {
		name, in, out string
		code          proto.CloseCode
	}{
		{"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", 0},
		{"that looks back to another message", "\xf2\x00\x11\x00\x00", "", proto.CloseInvalidPayload},
		{"no compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello", 0},
		{"a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello", 0},
		{"a last block, and nothing after it", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello", 0},
		{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello", 0},
		{"empty", "\x00", "", 0},
		{"empty by flate", deflate(""), "", 0},
		{"no bytes", "", "", proto.CloseInvalidPayload},
		{"something after a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "", proto.CloseInvalidPayload},
		{"a wrong byte after a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x01", "", proto.CloseInvalidPayload},
		{"cut off", "\xf2\x48\xcd\xc9", "", proto.CloseInvalidPayload},
		{"cut off without compression", "\x00\x05\x00\xfa\xff\x48\x65", "", proto.CloseInvalidPayload},
		{"a block type that does not exist", "\x06", "", proto.CloseInvalidPayload},
		{"not compressed", `{"type":"ping"}`, "", proto.CloseInvalidPayload},
		{"the longest", deflate(long), long, 0},
		{"a byte too long", deflate(long + "x"), "", proto.CloseTooBig},
		{"a bomb", deflate(strings.Repeat("\x00", 16<<20)), "", proto.CloseTooBig},
	} {
		if out, code := inflate([]byte(c.in)); string(out) != c.out || code != c.code {
			t.Errorf("%s: got %.20q (%d bytes), %v; want %.20q (%d bytes), %v", c.name, out, len(out), code, c.out, len(c.out), c.code)
		}
	}
}

// A message that is cut off anywhere is not taken for a shorter one. (Without
// compression, four bytes from the end, any inflater takes what the message
// travelled without for its last bytes: but 0xff is in no text.)
func TestInflateCutOff(t *testing.T) {
	for _, level := range []int{flate.HuffmanOnly, flate.BestSpeed, flate.BestCompression} {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, level)
		_, _ = w.Write(document(1000))
		_ = w.Flush()
		whole := bytes.TrimSuffix(b.Bytes(), []byte(flushed))
		if _, code := inflate(whole); code != 0 {
			t.Fatalf("level %d: got %v", level, code)
		}
		for n := range whole {
			if out, code := inflate(whole[:n]); code == 0 {
				t.Errorf("level %d: %d of %d bytes inflate to %d", level, n, len(whole), len(out))
			}
		}
	}
}

// document is JSON of at least n bytes, such as a machine's readings.
func document(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"temperature", "humidity", "machine", "status", "running", "stopped", "sensor", "pressure", "operator", "quality"}
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
	for {
		m.Data = append(m.Data, reading{
			fmt.Sprintf("%s-%d", words[r.IntN(len(words))], r.IntN(100)), float64(r.IntN(1e5)) / 100, words[r.IntN(len(words))],
			fmt.Sprintf("2026-11-22T16:%02d:%02d.%03dZ", r.IntN(60), r.IntN(60), r.IntN(1000)),
		})
		if b, err := json.Marshal(m); err != nil || len(b) >= n {
			return b
		}
	}
}

// A frame that is compressed is what RFC 7692 says, whoever inflates it, and
// shorter than the message.
func TestDeflatedFrame(t *testing.T) {
	r := random(t)
	var running sync.WaitGroup
	for range 4 {
		docs := [][]byte{document(200), document(1000), document(10000), document(64 << 10), bytes.Repeat([]byte("a"), 1<<20)}
		for range 20 {
			docs = append(docs, document(r.IntN(20000)))
		}
		running.Go(func() {
			for _, doc := range docs {
				f := DeflatedFrame(doc)
				p := &peer{t: t, br: bufio.NewReader(bytes.NewReader(f))}
				op, payload, err := p.read()
				if err != nil || op != opDeflated || len(payload) >= len(doc) {
					t.Errorf("%d bytes: got frame %#02x of %d bytes, %v", len(doc), op, len(payload), err)
				}
				got, err := io.ReadAll(flate.NewReader(strings.NewReader(string(payload) + afterMessage)))
				if err != nil || !bytes.Equal(got, doc) {
					t.Errorf("%d bytes inflate to %d, %v", len(doc), len(got), err)
				}
			}
		})
	}
	running.Wait()
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, b := range [][]byte{nil, []byte("{}"), noise} {
		if f := DeflatedFrame(b); f != nil {
			t.Errorf("%d bytes that do not get smaller: got a frame of %d", len(b), len(f))
		}
	}
}

// What compressing and inflating leave behind is what they return.
func TestDeflateAllocs(t *testing.T) {
	doc := document(1000)
	in := []byte(deflate(string(doc)))
	const most = 10 // a compressor of its own makes 18; the race detector empties pools now and then
	if n := testing.AllocsPerRun(200, func() { DeflatedFrame(doc) }); n > most {
		t.Errorf("compressing allocates %v times", n)
	}
	if n := testing.AllocsPerRun(200, func() { _, _ = inflate(in) }); n > most {
		t.Errorf("inflating allocates %v times", n)
	}
}

// Compressed, in fragments, with pings between them, mixed with plain ones.
func TestDeflatedMessages(t *testing.T) {
	forms(t, Config{Deflate: true}, func(t *testing.T, s *server) {
		s.frame = func(c *Conn, b []byte) { c.Send(TextFrame(append([]byte("echo "), b...))); c.Flush() }
		p, c, _ := s.connectOffering("permessage-deflate")
		p.send(opDeflated, "\xf2\x48\xcd\xc9\xc9\x07\x00")
		p.want(opText, "echo Hello")
		p.send(opText, "plain")
		p.want(opText, "echo plain")
		p.send(opDeflated, "\x00")
		p.want(opText, "echo ")
		// Two fragments as in RFC 7692 section 7.2.3.1, and a ping.
		p.write(masked(opDeflated&^finBit, []byte("\xf2\x48\xcd")))
		p.send(opPing, "in between")
		p.write(masked(opContinuation|finBit, []byte("\xc9\xc9\x07\x00")))
		p.want(opPong, "in between")
		p.want(opText, "echo Hello")
		// A plain one in fragments right after, byte by byte.
		for _, b := range slices.Concat(masked(opText&^finBit, []byte("a")), masked(opContinuation|finBit, []byte("b"))) {
			p.write([]byte{b})
		}
		p.want(opText, "echo ab")
		long := string(document(proto.MaxFrameBytes/2 - 500))
		in := deflate(long)
		for i := range len(in) {
			if op := byte(opContinuation); i == len(in)-1 {
				p.write(masked(op|finBit, []byte(in[i:])))
			} else {
				if i == 0 {
					op = opDeflated &^ finBit
				}
				p.write(masked(op, []byte(in[i:i+1])))
			}
		}
		p.want(opText, "echo "+long)
		// To the client: what is compressed stands between what is not.
		c.Send(TextFrame([]byte("one")))
		c.Send(DeflatedFrame([]byte(long)))
		c.Send(TextFrame([]byte("two")))
		c.Flush()
		p.want(opText, "one")
		p.want(opDeflated, string(DeflatedFrame([]byte(long))[4:]))
		p.want(opText, "two")
		eventually(t, "nothing is kept", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.inbox == nil && c.waiting == 0 && c.parser.kept == nil && c.queue == nil
		})
	})
}

// What a client does wrong ends with the code that RFC 7692 and 6455 have for it.
func TestDeflateBroken(t *testing.T) {
	hello := []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")
	for _, c := range []struct {
		name  string
		offer string
		in    []byte
		code  proto.CloseCode
	}{
		{"not negotiated", "permessage-deflate; server_max_window_bits=9", masked(opDeflated, hello), proto.CloseProtocolError},
		{"a compressed ping", "permessage-deflate", masked(opPing|rsv1, hello), proto.CloseProtocolError},
		{"a compressed goodbye", "permessage-deflate", masked(opClose|rsv1, nil), proto.CloseProtocolError},
		{"a compressed continuation", "permessage-deflate", slices.Concat(masked(opDeflated&^finBit, hello[:3]), masked(finBit|rsv1, hello[3:])), proto.CloseProtocolError},
		{"continuation of nothing", "permessage-deflate", masked(finBit|rsv1, hello), proto.CloseProtocolError},
		{"text within a message", "permessage-deflate", slices.Concat(masked(opDeflated&^finBit, hello[:3]), masked(opDeflated, hello[3:])), proto.CloseProtocolError},
		{"RSV2", "permessage-deflate", masked(opDeflated|0x20, hello), proto.CloseProtocolError},
		{"RSV3 alone", "permessage-deflate", masked(opText|0x10, hello), proto.CloseProtocolError},
		{"an unknown opcode", "permessage-deflate", masked(finBit|rsv1|3, hello), proto.CloseProtocolError},
		{"binary", "permessage-deflate", masked(opDeflatedBinary, hello), proto.CloseUnsupported},
		{"corrupt", "permessage-deflate", masked(opDeflated, []byte(`{"type":"ping"}`)), proto.CloseInvalidPayload},
		{"cut off", "permessage-deflate", masked(opDeflated, hello[:4]), proto.CloseInvalidPayload},
		{"with an earlier message's window", "permessage-deflate", slices.Concat(masked(opDeflated, hello), masked(opDeflated, []byte("\xf2\x00\x11\x00\x00"))), proto.CloseInvalidPayload},
		{"a bomb", "permessage-deflate", masked(opDeflated, []byte(deflate(strings.Repeat("x", 4<<20)))), proto.CloseTooBig},
		{"longer than a message may be", "permessage-deflate", masked(opDeflated, make([]byte, proto.MaxFrameBytes+1)), proto.CloseTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			forms(t, Config{Deflate: true}, func(t *testing.T, s *server) {
				p, _, _ := s.connectOffering(c.offer)
				p.write(c.in)
				if _, code, _ := p.untilClose(); code != uint16(c.code) {
					t.Errorf("got %d, want %v", code, c.code)
				}
				_ = p.nc.Close() // what is said after a goodbye is not heard
				if code := s.ended(); code != c.code {
					t.Errorf("it ended with %v, want %v", code, c.code)
				}
			})
		})
	}
}

// Many messages that inflate to a thousand times their size, for a client that
// is busy: what waits is what was sent, and reading pauses as for plain ones.
func TestManyBombs(t *testing.T) {
	s := newServer(t, Config{Deflate: true}, "tcp", false)
	held, over := make(chan struct{}), make(chan struct{})
	s.frame = func(c *Conn, _ []byte) { <-held; c.Close(proto.CloseTooManyFrames) } // as a session does
	p, c, _ := s.connectOffering("permessage-deflate")
	burst := bytes.Repeat(masked(opDeflated, []byte(deflate(strings.Repeat("x", proto.MaxFrameBytes)))), 500)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() { // ends with the connection
		defer close(over)
		for {
			if _, err := p.nc.Write(burst); err != nil {
				return
			}
		}
	}()
	eventually(t, "it reads no further", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.paused
	})
	c.mu.Lock()
	if c.waiting > maxInbox+2*coalesce {
		t.Errorf("%d bytes wait", c.waiting)
	}
	waiting := len(c.inbox)
	c.mu.Unlock()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > waiting*proto.MaxFrameBytes/2 {
		t.Errorf("%d messages that inflate to %d bytes each take %d", waiting, proto.MaxFrameBytes, grown)
	}
	close(held)
	_ = p.nc.Close()
	<-over
	s.ended()
}

// gorilla's client, which has its own inflater and its own idea of the
// handshake, gets and sends all sizes.
func TestDeflateGorilla(t *testing.T) {
	forms(t, Config{Deflate: true}, func(t *testing.T, s *server) {
		s.frame = func(c *Conn, b []byte) { c.Send(TextFrame(b)); c.Flush() }
		d := websocket.Dialer{EnableCompression: true, NetDial: func(string, string) (net.Conn, error) { return s.dial().nc, nil }}
		ws, resp, err := d.Dial("ws://test/", nil)
		if err != nil || resp.Header.Get("Sec-WebSocket-Extensions") != accepted {
			t.Fatalf("got %v, %v", resp, err)
		}
		c := <-s.conns
		r := random(t)
		for range 50 {
			doc := document(200 + r.IntN(proto.MaxFrameBytes/2))
			if err := ws.WriteMessage(websocket.TextMessage, doc); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, doc) {
				t.Fatalf("echo of %d bytes: got %d, %v", len(doc), len(got), err)
			}
			c.Send(DeflatedFrame(doc))
			c.Flush()
			if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, doc) {
				t.Fatalf("%d bytes compressed: got %d, %v", len(doc), len(got), err)
			}
		}
		c.Close(proto.CloseGoingAway)
		var closed *websocket.CloseError
		if _, _, err := ws.ReadMessage(); !errors.As(err, &closed) || closed.Code != int(proto.CloseGoingAway) {
			t.Errorf("got %v", err)
		}
	})
}
