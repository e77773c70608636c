package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apps are the apps of the Pusher protocol: all that are in the bucket (known), and
// those of them that have clients at this gateway (running).
type apps struct {
	s      *Service
	known  *pusher.Apps
	loaded atomic.Bool // known has what the bucket has
	tried  atomic.Bool // the bucket could not be opened triesOfApps times: the gateway is ready without apps

	mu      sync.Mutex
	running map[string]*app // guarded by mu; by id
}

// app is one app, for as long as it is not revoked. What stands in it cannot change:
// its keys are asked for in apps.known.
type app struct {
	id, prefix string
	words      [2]frames       // the wording of protocol 5, and of later protocols
	principal  *auth.Principal // of every client
	known      *pusher.Apps

	mu       sync.Mutex
	clients  map[*session]string // guarded by mu; the key of each
	channels map[string]int      // guarded by mu; subscriptions by the channel's Pusher name
	revoked  bool                // guarded by mu
	judged   *pusher.Entry       // guarded by mu; that endKeys looked at last
	nextEnd  time.Time           // guarded by mu; when the next of its keys ends; zero: none does
}

// retryApps is how often the bucket of apps is tried until it is there.
const retryApps = 250 * time.Millisecond

// triesOfApps is how often a gateway that has everything else tries before it is ready without
// the apps: where ingest has never started there is no bucket of them.
const triesOfApps = 20

// run keeps the apps equal to the bucket, and answers who asks for their channels,
// until ctx ends.
func (a *apps) run(ctx context.Context) {
	// Subscribe fails only when the connection to NATS is closed.
	if sub, err := a.s.deps.NATS.Subscribe(pusher.SubjectChannels, a.answer); err == nil {
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	}
	var ending sync.WaitGroup
	ending.Go(func() { a.endKeys(ctx) })
	defer ending.Wait()
	tries := 0
	again := retry.Policy{Pause: retryApps,
		Log: func(err error) { a.s.log.Debug("the apps cannot be watched yet; trying again", "err", err) },
		Every: func(error) {
			if a.s.deps.NATS.IsConnected() {
				tries++
			}
			a.tried.Store(tries >= triesOfApps)
		}}
	again.Forever(ctx, a.watch)
}

// watch opens the bucket and follows it until ctx ends or the watch breaks.
func (a *apps) watch(ctx context.Context) error {
	js, err := jetstream.New(a.s.deps.NATS)
	if err != nil {
		return err
	}
	ask, cancel := context.WithTimeout(ctx, streamWait)
	store, err := keystore.OpenApps(ask, js)
	cancel()
	if err != nil {
		return err
	}
	return store.Watch(ctx, a.known, a.s.log, func() { a.loaded.Store(true) }, a.changed)
}

// changed closes the clients of an app that was revoked, or that is another one with
// the same id.
func (a *apps) changed(id string) {
	a.mu.Lock()
	app := a.running[id]
	e := a.known.ByID(id)
	if app == nil || e != nil && e.Prefix == app.prefix {
		a.mu.Unlock()
		return
	}
	delete(a.running, id)
	a.mu.Unlock()
	app.mu.Lock()
	defer app.mu.Unlock()
	app.revoked = true
	for c := range app.clients {
		c.conn.Close(proto.CloseForbidden)
	}
}

// of is the app of a known one.
func (a *apps) of(e *pusher.Entry) *app {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.running[e.ID]
	if found == nil {
		found = &app{
			id: e.ID, prefix: e.Prefix, known: a.known, clients: map[*session]string{}, channels: map[string]int{},
			principal: &auth.Principal{Name: e.Name, Channels: []string{e.Pattern()}},
		}
		found.words = pusherWords(&pusher.App{ID: e.ID, Prefix: e.Prefix}, a.s.deflate)
		a.running[e.ID] = found
	}
	return found
}

// add adds a client with its key. If the app was revoked or the key ended after the client had found it, the client
// is closed.
func (a *app) add(c *session, key string) {
	k := keyOf(a.known.ByKey(key, time.Now()), key)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked || k == nil {
		a.clients[c] = ""
		c.conn.Close(proto.CloseForbidden)
		return
	}
	a.clients[c] = k.Key // not key, which keeps the URL in memory
}

// keyOf finds a key of an app; nil: it has none of this name. e may be nil.
func keyOf(e *pusher.Entry, key string) *pusher.Key {
	if e != nil {
		for i := range e.Keys {
			if e.Keys[i].Key == key {
				return &e.Keys[i]
			}
		}
	}
	return nil
}

// endKeysPace is how often it is looked at whether keys have ended, which they do after a grace of hours.
const endKeysPace = time.Second

// endKeys closes the clients of keys that have ended since they connected, until ctx ends.
func (a *apps) endKeys(ctx context.Context) {
	tick := time.NewTicker(endKeysPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.mu.Lock()
		running := slices.Collect(maps.Values(a.running))
		a.mu.Unlock()
		for _, app := range running {
			if e := a.known.ByID(app.id); e != nil { // else it is revoked, which closes all
				app.endKeys(e, time.Now())
			}
		}
	}
}

// endKeys closes the clients whose key is none of e's any more. Clients are looked at only where that may have changed.
func (a *app) endKeys(e *pusher.Entry, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.judged == e && (a.nextEnd.IsZero() || now.Before(a.nextEnd)) {
		return
	}
	a.judged, a.nextEnd = e, time.Time{}
	for _, k := range e.Keys {
		if k.Valid(now) && !k.Expires.IsZero() && (a.nextEnd.IsZero() || k.Expires.Before(a.nextEnd)) {
			a.nextEnd = k.Expires
		}
	}
	for c, key := range a.clients {
		if k := keyOf(e, key); k == nil || !k.Valid(now) {
			c.conn.Close(proto.CloseForbidden)
		}
	}
}

// remove removes a client and its subscriptions from the counts.
func (a *app) remove(c *session) {
	for _, name := range c.names() {
		a.count(name, -1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.clients, c)
}

// count adds to the subscriptions of a Herald channel.
func (a *app) count(channel string, n int) {
	name, _ := (&pusher.App{Prefix: a.prefix}).ChannelName(channel)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.channels[name] += n; a.channels[name] <= 0 {
		delete(a.channels, name)
	}
}

// answer tells an ingest which channels of an app have subscribers here.
func (a *apps) answer(msg *nats.Msg) {
	var q pusher.ChannelsQuery
	if json.Unmarshal(msg.Data, &q) != nil || msg.Reply == "" {
		return
	}
	a.mu.Lock()
	app := a.running[q.App]
	a.mu.Unlock()
	out := pusher.ChannelsAnswer{Channels: map[string]int{}, Gateways: a.s.sharing.gateways()}
	if app != nil {
		app.mu.Lock()
		defer app.mu.Unlock()
		if q.Names != nil {
			for _, name := range q.Names {
				if n := app.channels[name]; n > 0 {
					out.Channels[name] = n
				}
			}
		} else {
			for name, n := range app.channels {
				if !strings.HasPrefix(name, q.Prefix) {
					continue
				}
				if len(out.Channels) == pusher.MaxListed {
					out.More = true
					break
				}
				out.Channels[name] = n
			}
		}
	}
	b, err := proto.Marshal(out)
	if err == nil {
		err = msg.Respond(b)
	}
	if err != nil { // who asked goes on without
		a.s.log.Warn("could not tell which channels of an app have subscribers", "app", q.App, "err", err)
	}
}
