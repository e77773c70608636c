package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const epoch = "test"

func at(seq uint64) proto.Cursor { return proto.Cursor{Epoch: epoch, Seq: seq} }

// start runs a hub that begins after position, until stop is called or the
// test ends.
func start(t testing.TB, cfg Config, position uint64) (h *Hub, stop func()) {
	t.Helper()
	h = New(cfg, nil)
	return h, run(t, h, position)
}

func run(t testing.TB, h *Hub, position uint64) (stop func()) {
	t.Helper()
	h.Start(at(position), false)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// random is a source whose seed is printed, so that a failure can be repeated.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// matches is what patterns mean, written as plainly as possible.
func matches(pattern, channel string) bool {
	p, c := strings.Split(pattern, "."), strings.Split(channel, ".")
	for i, token := range p {
		switch {
		case i >= len(c):
			return false
		case token == ">":
			return true
		case token != "*" && token != c[i]:
			return false
		}
	}
	return len(p) == len(c)
}

// randomName is a channel of few tokens from few letters, so that names
// overlap, or, with wildcards, a pattern.
func randomName(r *rand.Rand, wildcards bool) string {
	tokens := make([]string, 1+r.IntN(3))
	for i := range tokens {
		tokens[i] = string(rune('a' + r.IntN(3)))
		if wildcards && r.IntN(3) == 0 {
			tokens[i] = "*"
		}
	}
	if wildcards && r.IntN(3) == 0 {
		tokens[len(tokens)-1] = ">"
	}
	return strings.Join(tokens, ".")
}

// sink writes down what it is told. Only the shard touches it until the hub
// has stopped, or the test has waited for an answer.
type sink struct{ events []string }

func (s *sink) note(format string, args ...any) {
	s.events = append(s.events, fmt.Sprintf(format, args...))
}

func (s *sink) Deliver(b *Batch) {
	for _, m := range b.Messages {
		if m.Seq == 0 {
			s.note("ephemeral %s", m.Body)
		} else {
			s.note("%d", m.Seq)
		}
	}
}
func (s *sink) Gap(since, upTo uint64, _ string) { s.note("gap %d %d", since, upTo) }
func (s *sink) Passed(upTo uint64)               { s.note("passed %d", upTo) }
func (s *sink) Reset()                           { s.note("reset") }

func attach(h *Hub, sink Sink) *Subscriber {
	sub := new(Subscriber)
	h.Attach(sub, sink)
	return sub
}

// join waits for the answer.
func join(sub *Subscriber, since uint64, names ...string) Joined {
	answer := make(chan Joined, 1)
	sub.Join(since, since, names, func(j Joined) { answer <- j })
	return <-answer
}

// settle waits until the subscriber's shard has done what came before.
func settle(sub *Subscriber) { join(sub, Now) }

// offered is a message as stored makes it, to be made when somebody asks.
func offered(seq uint64, channel string) Line {
	return Line{Seq: seq, Channel: channel, Text: fmt.Sprintf("%s of %d", channel, seq),
		Cut: func(seq uint64, text string) *Message {
			channel, _, _ := strings.Cut(text, " ")
			return stored(seq, channel)
		}}
}

func stored(seq uint64, channel string) *Message {
	return &Message{Seq: seq, Channel: channel, Body: fmt.Appendf(nil, "%d", seq)}
}
