package logger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/nats-io/nats.go/jetstream"
)

// askTimeout bounds one question to NATS.
const askTimeout = 5 * time.Second

// newRing is a ring with the key of the environment, if there is one.
func (s *Service) newRing() (*auth.Ring, error) {
	ring := &auth.Ring{}
	if s.envKey == nil {
		return ring, nil
	}
	if err := ring.Put(*s.envKey); err != nil {
		return nil, fmt.Errorf("HERALD_API_KEY: %w", err)
	}
	return ring, nil
}

// keepKeys follows the key bucket until ctx ends.
func (s *Service) keepKeys(ctx context.Context) {
	for complained := false; ; {
		err := s.watchKeys(ctx)
		if ctx.Err() != nil {
			return
		}
		if !complained && s.nc.IsConnected() { // else the connection says so itself
			complained = true
			s.log.Warn("the API keys cannot be watched yet; trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// watchKeys fills a new ring from the bucket and follows it until ctx ends or
// the watch breaks. The bucket is ingest's to make: it knows on how many
// servers. A new ring each time, as an old one could hold keys of a bucket
// that is gone.
func (s *Service) watchKeys(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := s.js.KeyValue(ask, keystore.Bucket); err != nil {
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return errors.New("their bucket is not there; ingest makes it")
		}
		return fmt.Errorf("look for key bucket %s: %w", keystore.Bucket, err)
	}
	keys, err := keystore.Open(ask, s.js, 1)
	if err != nil {
		return err
	}
	ring, err := s.newRing()
	if err != nil {
		return err
	}
	return keys.Watch(ctx, ring, s.log, func() {
		s.keys.Store(ring)
		s.keysLoaded.Store(true)
	})
}

// authenticate finds the key of a request. Errors are problems: unauthorized,
// or unavailable while no key but that of the environment is known yet.
func (s *Service) authenticate(r *http.Request) (auth.Grant, error) {
	secret, err := httpx.APIKey(r)
	if err != nil {
		return auth.Grant{}, err
	}
	loaded := s.keysLoaded.Load()
	g, err := s.keys.Load().Authenticate(secret, time.Now())
	switch {
	case err == nil:
		return g, nil
	case !loaded && errors.Is(err, auth.ErrUnknownKey):
		return auth.Grant{}, proto.ProblemUnavailable.With("the API keys are not loaded yet")
	}
	return auth.Grant{}, proto.ProblemUnauthorized.With(err.Error())
}
