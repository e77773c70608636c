package logger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/retry"
)

// askTimeout bounds one question to NATS.
const askTimeout = 5 * time.Second

// keepKeys follows the key bucket until ctx ends.
func (s *Service) keepKeys(ctx context.Context) {
	again := retry.Policy{
		Pause: time.Second,
		Where: s.nc.IsConnected, // an outage is logged by the connection itself
		Log:   func(err error) { s.log.Warn("the API keys cannot be watched yet; trying again", "err", err) },
	}
	again.Forever(ctx, s.watchKeys)
}

// watchKeys fills a new ring from the bucket and follows it until ctx ends or
// the watch breaks. The bucket is ingest's to make: it knows on how many
// servers. A new ring each time, as an old one could hold keys of a bucket
// that is gone.
func (s *Service) watchKeys(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	keys, err := keystore.Open(ask, s.js)
	if err != nil {
		return err
	}
	ring := &auth.Ring{}
	if _, err := s.envKey.Admit(ask, keys, ring); err != nil {
		return fmt.Errorf("HERALD_API_KEY: %w", err)
	}
	watch, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.envKey.Follow(watch, keys, ring) })
	return keys.Watch(watch, ring, s.log, func() {
		s.keys.Store(ring)
		s.keysLoaded.Store(true)
	})
}

// authenticate finds the key of a request, which must be one that may read the
// log. Errors are problems: unauthorized, forbidden, or unavailable while no key
// is known yet: what that of the environment may do is for the bucket to say.
func (s *Service) authenticate(r *http.Request) (auth.Grant, error) {
	secret, err := httpx.APIKey(r)
	if err != nil {
		return auth.Grant{}, err
	}
	loaded := s.keysLoaded.Load()
	g, err := s.keys.Load().Authenticate(secret, time.Now())
	switch {
	case err == nil && g.Can(auth.Log):
		return g, nil
	case err == nil:
		return g, proto.ProblemForbidden.With(fmt.Sprintf("the key %q does not have the scope log, only %s; "+
			"one that has it is made with herald keys add NAME -may log", g.Name, auth.JoinScopes(g.Scopes)))
	case !loaded && errors.Is(err, auth.ErrUnknownKey):
		return auth.Grant{}, proto.ProblemUnavailable.With("the API keys are not loaded yet")
	}
	return auth.Grant{}, proto.ProblemUnauthorized.With(err.Error())
}
