package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/auth"
)

// rules are what an administrator may change while the gateway runs. They are
// replaced as a whole, and never changed.
type rules struct {
	cfg       Config
	origins   allowedOrigins // pages of other hosts that may connect
	anonymous auth.Principal // what anybody may follow
}

// anybody is the principal of a client without a token.
var anybody = &auth.Principal{}

// settingsPatience bounds how long clients wait for settings that were changed before
// this gateway began.
const settingsPatience = 5 * time.Second

// newRules makes the rules of a valid configuration.
func newRules(cfg Config) *rules {
	origins, _ := parseAllowed(cfg.AllowedOrigins) // Validate has read them
	return &rules{cfg: cfg, origins: origins, anonymous: auth.Principal{Channels: cfg.AnonymousChannels}}
}

// apply makes settings act that were changed while the gateway runs: on who connects
// or subscribes from now on, and on who is connected: see enforce. Only the limit of an
// address has nobody leave.
func (s *Service) apply(cfg Config) {
	s.rules.Store(newRules(cfg))
	s.ips.limit(cfg.MaxPerIP, cfg.LimitDryRun)
	s.shares.unlimited.Store(cfg.PerAddress() == 0)
	s.sockets.LimitAddresses(cfg.PerAddress())
	select {
	case s.changed <- struct{}{}:
	default: // enforce is about to begin anew
	}
}

// Errors that clients meet when the rules have changed.
var (
	errPage  = errors.New("pages of this origin may no longer connect")
	errRules = errors.New("what you may follow has changed; come back")
)

// runEnforce enforces the rules each time that they have changed, until ctx ends.
func (s *Service) runEnforce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
		if err := s.enforce(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("clients may follow what they no longer may: the change of a setting was not enforced",
				"err", err)
		}
	}
}

// enforce ends what clients have and new ones would not get: subscriptions that neither
// their token nor the anonymous channels cover, and connections of pages that may no
// longer connect. A client that arrives meanwhile either is seen here, or sees the new
// rules itself, since it checks them again behind its place in the shard's inbox: see
// session.countIn and session.join.
func (s *Service) enforce(ctx context.Context) error {
	type loss struct {
		c     *session
		names []string
		page  *refusal // nil: the connection stays
	}
	var losses []loss
	err := s.hub.Look(ctx, func(seen *hub.Seen) {
		c := sessionOf(seen)
		if c == nil {
			return
		}
		if r := s.judgePage(c.page); r != nil {
			// In the shard, and of one that follows something, the client's words do not change.
			if seen.Subscriptions() > 0 {
				c.pushControl(complaint(r.code.String(), "", r.err))
			}
			losses = append(losses, loss{c: c, page: r})
			return
		}
		var names []string
		for i := range seen.Subscriptions() {
			if name := seen.Name(i); !c.may(name) {
				names = append(names, name)
			}
		}
		if names != nil {
			losses = append(losses, loss{c: c, names: names})
		}
	})
	if err != nil {
		return err
	}
	closed, dropped := 0, 0
	for _, l := range losses {
		if l.page != nil {
			closed++
			l.c.refusedSession(*l.page)
			l.c.conn.Close(l.page.code)
			continue
		}
		dropped++
		l.c.dropForbidden(l.names)
	}
	if len(losses) > 0 {
		s.log.Info("a changed setting took something away from clients", "closed", closed, "unsubscribed", dropped)
	}
	return nil
}

// mayAll reports whether the client may follow all of these names.
func (c *session) mayAll(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !c.may(name) })
}

// dropForbidden ends the subscriptions among these that the client may not have, and tells
// it. A client that cannot send, and so cannot subscribe to anything else, is closed when
// none is left. It may be called while the client is served.
func (c *session) dropForbidden(names []string) {
	for _, name := range names {
		if c.may(name) || !c.drop(name) {
			continue
		}
		last := c.subscriptions() == 0
		c.sub.Unsubscribe([]string{name}, func() {
			c.pushControl(proto.Unsubscribed{Type: proto.FrameUnsubscribed, Channel: name,
				Reason: proto.ErrorForbidden})
			if c.words.changed != nil {
				c.words.changed(c)
			}
			if last && c.words == inEvents {
				c.conn.Close(proto.CloseForbidden)
			}
		})
	}
}

// pageNumbers are the origins of pages that only a setting allows, each once, so that a
// session keeps a number of two bytes. Safe for concurrent use.
type pageNumbers struct {
	mu    sync.Mutex
	by    map[string]uint16 // guarded by mu
	names []string          // guarded by mu; by number, less one
}

const (
	ownPage  = 0      // a page that no setting allows: see page.own
	somePage = 0xffff // one more than are told apart
	// maxPages bounds those that are told apart: where every origin may connect,
	// strangers can invent more.
	maxPages = 1000
)

func (n *pageNumbers) number(p page) uint16 {
	if p.own {
		return ownPage
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	number, known := n.by[p.origin]
	switch {
	case known:
		return number
	case len(n.names) == maxPages || len(p.origin) > maxOriginBytes:
		return somePage
	case n.by == nil:
		n.by = map[string]uint16{}
	}
	name := strings.Clone(p.origin) // not the request's memory
	n.names = append(n.names, name)
	n.by[name] = uint16(len(n.names))
	return n.by[name]
}

// judgePage is why pages of this number may not connect; nil: they may. Those that are
// not told apart have to connect again, unless all pages may, and are judged by name then.
func (s *Service) judgePage(number uint16) *refusal {
	allowed := &s.rules.Load().origins
	switch {
	case number == ownPage || allowed.all:
		return nil
	case number == somePage:
		return &refusal{code: proto.CloseReconnect, err: errRules}
	}
	s.pages.mu.Lock()
	name := s.pages.names[number-1]
	s.pages.mu.Unlock()
	if may, _ := allowed.judge(name); may {
		return nil
	}
	return &refusal{code: proto.CloseOrigin, err: errPage}
}
