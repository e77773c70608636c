package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// owners notices that a gateway is gone whose answers are waited for here. NATS says that
// nobody listens when a request is sent, and nothing to those that were sent before: they
// would wait as long as a heartbeat takes, and their clients with them.
type owners struct {
	nc      *nats.Conn
	running *sync.WaitGroup // of hops

	mu    sync.Mutex
	known map[string]*watched // guarded by mu; by node
	ended bool                // guarded by mu; no further watch begins: running is waited for
}

// watched is a gateway that somebody waits for.
type watched struct {
	ctx     context.Context // ends when the gateway is gone, or nobody waits for it any more
	end     context.CancelFunc
	waiting int // guarded by owners.mu
}

// watchPace is how often a gateway is asked for a sign of life while somebody waits for
// it: once, however many wait.
const watchPace = time.Second

// watch returns a context that ends when this gateway is gone. The caller calls leave when
// it waits no more.
func (o *owners) watch(node string) (gone context.Context, leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.known[node]
	if w == nil && o.ended {
		return context.Background(), func() {}
	}
	if w == nil {
		w = &watched{}
		w.ctx, w.end = context.WithCancel(context.Background())
		o.known[node] = w
		o.running.Go(func() { o.follow(node, w) }) // ends with the last session of that gateway
	}
	w.waiting++
	return w.ctx, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if w.waiting--; w.waiting == 0 {
			o.forget(node, w)
		}
	}
}

// finish has no further watch begin. Those that there are end when nobody waits.
func (o *owners) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// forget ends the watch. mu is held.
func (o *owners) forget(node string, w *watched) {
	w.end()
	if o.known[node] == w {
		delete(o.known, node)
	}
}

// follow asks a gateway for signs of life. That none comes, for whatever other reason, does
// not mean that it is gone.
func (o *owners) follow(node string, w *watched) {
	ask, _ := json.Marshal(hop{Alive: true}) // a plain struct always marshals
	pace := time.NewTicker(watchPace)
	defer pace.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-pace.C:
		}
		ctx, cancel := context.WithTimeout(w.ctx, watchPace) // a gateway that was killed may have received the question
		_, err := o.nc.RequestWithContext(ctx, hopSubject(node), ask)
		cancel()
		if errors.Is(err, nats.ErrNoResponders) {
			o.mu.Lock()
			o.forget(node, w)
			o.mu.Unlock()
			return
		}
	}
}
