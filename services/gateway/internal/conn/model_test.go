package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/socket"
)

// model is what one client must hear: the texts that were sent to it, in this
// order. How many of them depends on how it ends.
type model struct {
	c *conn.Conn

	order sync.Mutex // held while something is sent, so that the order is known; before mu

	mu      sync.Mutex
	texts   [][]byte        // guarded by mu; payloads
	atClose int             // guarded by mu; texts that were sent before Close; -1: nobody has called it
	code    proto.CloseCode // guarded by mu; of Close
}

// send sends one text as one of the senders would.
func (m *model) send(r *rand.Rand) {
	size := sizes[r.IntN(len(sizes))] + r.IntN(3)
	payload := noise[r.IntN(len(noise)-size):][:size]
	b := textFrame(payload)
	m.order.Lock()
	defer m.order.Unlock()
	m.mu.Lock()
	m.texts = append(m.texts, payload) // after a goodbye it goes nowhere
	m.mu.Unlock()
	if r.IntN(4) == 0 {
		_ = m.c.SendWait(context.Background(), b)
		return
	}
	m.c.Push(b)
	if r.IntN(3) > 0 {
	}
}

// sizes are of payloads, up to two bytes less than one sends: around where the
// length takes more bytes, and where writes are cut or copied together.
var sizes = []int{0, 1, 5, 20, 100, 124, 300, 1000, 4000, socket.BufferBytes - 6, socket.BufferBytes, 40000, 65534}

// noise is what payloads are cut out of: no two places of it are alike.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

// close is the server's goodbye.
func (m *model) close(code proto.CloseCode) {
	m.order.Lock()
	defer m.order.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.c.Close(code)
	if m.atClose < 0 {
		m.atClose, m.code = len(m.texts), code
	}
}

// habits are a client's.
type habits struct {
	sip    int           // bytes it reads at a time; 0: as many as there are
	pause  time.Duration // after every eighth read
	pings  int
	leaves int // after so many texts it says goodbye; 0: never
	drops  int // after so many texts it hangs up; 0: never
}

// sipper reads slowly.
type sipper struct {
	io.Reader
	most  int
	pause time.Duration
	reads int
}

func (s *sipper) Read(b []byte) (int, error) {
	if s.reads++; s.reads%8 == 0 {
		time.Sleep(s.pause)
	}
	if s.most > 0 {
		b = b[:min(len(b), s.most)]
	}
	return s.Reader.Read(b)
}

// TestModel holds every byte that clients receive against a model: random
// senders, frames, pings, readers and ends. A client hears a beginning of what
// was sent, in whole frames; all of it, if the server said goodbye, for
// whatever reason but slowness, to a client that listens.
func TestModel(t *testing.T) {
	// nobody who reads is cut off
	forms(t, conn.Config{MaxQueueBytes: 256 << 10, CloseWait: time.Minute}, func(t *testing.T, s *server) {
		const clients = 18
		seed := random(t)
		var models []*model
		var running, sending sync.WaitGroup
		for i := range clients {
			r := rand.New(rand.NewPCG(seed.Uint64(), uint64(i)))
			p, c := s.connect()
			m := &model{c: c, atClose: -1}
			models = append(models, m)
			h := habits{pings: r.IntN(20)}
			switch r.IntN(6) {
			case 0:
				h.sip, h.pause = 2000+r.IntN(6000), time.Duration(r.IntN(200))*time.Microsecond
			case 1:
				h.pause = time.Duration(r.IntN(3)) * time.Millisecond
			case 2:
				h.leaves = 1 + r.IntN(60)
			case 3:
				h.drops = 1 + r.IntN(60)
			}
			for k := range 2 {
				r := rand.New(rand.NewPCG(r.Uint64(), uint64(k)))
				sending.Go(func() {
					for range 50 {
						m.send(r)
						if r.IntN(8) == 0 {
							time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond) // a pace, not a wait
						}
						if r.IntN(400) == 0 {
							m.close(proto.CloseBadRequest)
						}
					}
				})
			}
			running.Go(func() {
				if err := m.listen(p, h); err != nil {
					t.Errorf("client %d, %+v: %v", i, h, err)
				}
			})
		}
		sending.Wait()
		var closing sync.WaitGroup
		for _, m := range models {
			closing.Go(func() { m.close(proto.CloseRestart) })
		}
		closing.Wait()
		running.Wait()
		for range clients {
			s.ended()
		}
	})
}

// listen is the client. It returns what is wrong.
func (m *model) listen(p *peer, h habits) error {
	defer func() { _ = bare(p.nc).Close() }()
	p.br.Reset(&sipper{Reader: p.nc, most: h.sip, pause: h.pause})
	p.patience(60 * time.Second)
	var mu sync.Mutex
	left := false // guarded by mu; it has said goodbye
	say := func(op byte, payload []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if left {
			return conn.ErrClosed
		}
		left = op == opClose
		_, err := p.nc.Write(masked(op, payload))
		return err
	}
	var pinging sync.WaitGroup
	defer pinging.Wait()
	pinging.Go(func() {
		for i := range h.pings {
			if say(opPing, fmt.Append(nil, i)) != nil {
				return // the connection is over
			}
		}
	})
	texts, pongs, first := 0, 0, false // first: it said goodbye before it heard one
	for {
		op, payload, err := p.read()
		if err != nil {
			if m.c.Reason() == proto.CloseSlowConsumer || first {
				return nil // cut off: by the stall of a write, or after its own goodbye
			}
			return fmt.Errorf("after %d texts and %d pongs: %w", texts, pongs, err)
		}
		switch op {
		case opPong:
			if string(payload) != fmt.Sprint(pongs) {
				return fmt.Errorf("pong %q, want %d", payload, pongs)
			}
			pongs++
		case opText:
			m.mu.Lock()
			want := m.texts[min(texts, len(m.texts)-1)]
			beyond := texts >= len(m.texts)
			m.mu.Unlock()
			if beyond || !bytes.Equal(payload, want) {
				return fmt.Errorf("text %d has %d bytes, want %d; beyond what was sent: %t", texts, len(payload),
					len(want), beyond)
			}
			texts++
		case opClose:
			_ = say(opClose, payload[:2]) // fails if the server is through with it, or it has said goodbye
			return m.over(p, payload, texts, first)
		}
		switch texts {
		case 0:
		case h.drops:
			return nil
		case h.leaves:
			if !first {
				if first = true; say(opClose, []byte("\x03\xe9")) != nil {
					return errors.New("it cannot say goodbye")
				}
			}
		}
	}
}

// over checks the server's goodbye, and that nothing follows.
func (m *model) over(p *peer, payload []byte, texts int, first bool) error {
	code := proto.CloseCode(binary.BigEndian.Uint16(payload))
	if rest, err := io.ReadAll(p.br); len(rest) > 0 || err != nil {
		return fmt.Errorf("after goodbye %v: %d bytes, %w", code, len(rest), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case code == proto.CloseSlowConsumer, first && code == proto.CloseGoingAway: // its own code
		return nil
	case code != m.code || texts != m.atClose:
		return fmt.Errorf("goodbye %v after %d texts; want %v after %d", code, texts, m.code, m.atClose)
	}
	return nil
}
