package faults

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Everything at once, in an order that a seed decides: publishes of all
// sizes, subscriptions that come and go, clients that come and go, and every
// process killed or restarted. The model of what each client must have seen
// is the ledger, and the follows that the client writes down.
//
// A run that failed is begun again with -faults.seed: the same wishes in the
// same order. When which of them meets which is up to the machine.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed, length := *seed, *duration
	if seed == 0 {
		seed = rand.Uint64()
	}
	if length == 0 {
		length = time.Duration(times(300, 30)) * time.Second
	}
	t.Logf("go test -run TestRandom -faults.seed %d -faults.duration %s", seed, length)
	s := newSystem(t, shape{brokers: 1, ingests: 2, gateways: 3})
	names := channels(12)
	patterns := append(channels(12), "public.*", "public.>")
	pick := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		s.addClients(1, dialWebSocket, s.gatewayAddrs(), patterns[pick.IntN(len(patterns))])
	}
	moving := s.clients
	s.addDialects(3, s.gatewayAddrs(), names)
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { s.publishAtRandom(ctx, rand.New(rand.NewPCG(seed, uint64(1+i))), names) })
	}
	wg.Go(func() { moveAtRandom(ctx, rand.New(rand.NewPCG(seed, 100)), moving, patterns) })
	faults := s.failAtRandom(ctx, rand.New(rand.NewPCG(seed, 101)))
	wg.Wait()
	s.await()
	for _, c := range s.clients {
		if c.cancel == nil {
			c.start()
		}
	}
	s.settle(names)
	report(t, s.verdict(), "",
		"%d faults of all kinds at random in %s, with clients and subscriptions that come and go (seed %d)", faults,
		length, seed)
}

// pause waits about as long as asked, and reports whether ctx still lives.
func pause(ctx context.Context, r *rand.Rand, about time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(min(r.ExpFloat64(), 5) * float64(about))):
		return true
	}
}

// maxRandomBytes is close to the largest message that is allowed, 64 KiB.
const maxRandomBytes = 60_000

// publishAtRandom is one publisher: most messages are small.
func (s *system) publishAtRandom(ctx context.Context, r *rand.Rand, names []string) {
	for pause(ctx, r, 20*time.Millisecond) {
		channel, size := names[r.IntN(len(names))], int(r.ExpFloat64()*300)
		if r.IntN(100) == 0 {
			size = r.IntN(maxRandomBytes)
		}
		accept, cancel := context.WithTimeout(context.Background(), acceptWithin)
		_, err := s.publisher.publish(accept, channel, min(size, maxRandomBytes))
		cancel()
		if err != nil {
			s.ledger.fault("%v", err)
			return
		}
	}
}

// moveAtRandom lets clients subscribe, unsubscribe, go away and come back.
func moveAtRandom(ctx context.Context, r *rand.Rand, clients []*client, patterns []string) {
	for pause(ctx, r, 20*time.Millisecond) {
		c, pattern := clients[r.IntN(len(clients))], patterns[r.IntN(len(patterns))]
		switch r.IntN(5) {
		case 0, 1:
			c.subscribe(pattern)
		case 2, 3:
			c.unsubscribe(pattern)
		case 4:
			if c.cancel != nil {
				c.stop()
			} else {
				c.start()
			}
		}
	}
}

// failAtRandom kills and restarts one process after the other, and returns
// how many. Of ingests and gateways one is always left alone.
func (s *system) failAtRandom(ctx context.Context, r *rand.Rand) int {
	s.t.Helper()
	n := 0
	for ; pause(ctx, r, 1500*time.Millisecond); n++ {
		var victim *service
		kind := r.IntN(10)
		switch kind {
		case 0, 1, 2:
			victim = s.gateways[r.IntN(len(s.gateways))]
		case 3, 4:
			victim = s.ingests[r.IntN(len(s.ingests))]
		case 5, 6:
			victim = s.logger
		case 7, 8:
			victim = s.gateways[r.IntN(len(s.gateways))]
		case 9:
			victim = s.brokers[0]
		}
		if kind == 7 || kind == 8 {
			victim.stop()
		} else {
			victim.kill()
		}
		pause(ctx, r, 300*time.Millisecond)
		victim.start()
		if r.IntN(2) == 0 {
			victim.await()
		}
	}
	return n
}
