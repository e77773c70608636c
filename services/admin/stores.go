package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stores are what the console keeps in JetStream.
type stores struct {
	users    *users.Store
	sessions *sessionStore
	audit    *audit.Log
	mark     string // of the deployment: see markOf
	replicas int
}

const (
	// storesEvery is how often the buckets are tried until NATS answers.
	storesEvery = 500 * time.Millisecond
	// storesTimeout bounds one try.
	storesTimeout = 10 * time.Second
	// slowTries is how many tries may take too long before that is told as a fault: each finds what the one
	// before has made, and a machine with other work is slow, not broken.
	slowTries = 6
	// doubtEvery is how often it is looked at most whether the buckets are there: every call of a page may fail.
	doubtEvery = time.Second
)

// prepare opens what the console keeps in JetStream, and makes the first user. After that it does the same again where
// somebody has deleted a part of it: it waits until a call fails, and looks then.
func (s *Service) prepare(ctx context.Context) {
	for lost := ""; ; {
		again := retry.Policy{
			Pause: storesEvery,
			Where: s.nc.IsConnected, // an outage is logged by the connection itself
			Log:   func(err error) { s.log.Warn("the console cannot open its buckets yet; trying again", "err", err) },
			Every: s.hindrance(),
		}
		if again.Until(ctx, s.open) != nil { // ctx ended
			return
		}
		s.fault.Store(nil)
		if lost != "" {
			s.audit(ctx, &call{user: "(herald)"}, intent{action: "console.remade", target: lost})
		}
		for lost = ""; lost == ""; lost = s.lost(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-s.doubted:
			}
			if retry.Pause(ctx, doubtEvery) != nil {
				return
			}
		}
	}
}

// hindrance returns what is told why the buckets cannot be opened, at each try that fails.
func (s *Service) hindrance() func(error) {
	slow := 0
	return func(err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			if slow++; slow < slowTries {
				return // it is still starting
			}
		}
		s.fault.Store(&err)
	}
}

// open opens the stores, or makes what is not there.
func (s *Service) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storesTimeout)
	defer cancel()
	st, err := s.openStores(ctx)
	if err != nil {
		return err
	}
	st.users.OnFailure(s.doubt)
	st.sessions.cache.OnFailure(s.doubt)
	user, password, err := st.users.First(ctx, s.clock())
	if err != nil {
		return err
	}
	if password != "" {
		s.log.Info("first user of the console made", "user", user)
		s.deps.Announce(user, password)
	}
	s.stores.Store(st)
	return nil
}

// doubt has prepare look whether the stores are there. It never blocks.
func (s *Service) doubt() {
	select {
	case s.doubted <- struct{}{}:
	default: // it will look
	}
}

// lost looks whether somebody has deleted what the console keeps in JetStream, says so in the log, and returns the
// name of the first part that is gone or was made anew by another process; empty: none, as far as NATS answers.
func (s *Service) lost(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, storesTimeout)
	defer cancel()
	for _, name := range []string{audit.Stream, "KV_" + users.Bucket, "KV_" + sessionBucket} {
		stream, err := s.js.Stream(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			err = fmt.Errorf("somebody deleted the stream %s while the console ran; it is made anew, without what was "+
				"in it", name)
			s.fault.Store(&err)
			s.log.Error(err.Error(), "stream", name)
			return name
		case err == nil && name == "KV_"+sessionBucket && markOf(stream.CachedInfo()) != s.stores.Load().mark:
			return name
		}
	}
	return ""
}
