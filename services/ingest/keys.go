package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/internal/settings"
)

const (
	// keysEvery is how often the bucket of keys is tried until NATS answers.
	keysEvery = 500 * time.Millisecond
	// keysTimeout bounds what is asked before the first key is known.
	keysTimeout = 5 * time.Second
	// replicateEvery is how often a bucket is tried that cannot be brought to
	// the stream's replicas.
	replicateEvery = 10 * time.Second
)

// keepKeys keeps the ring equal to the key bucket until ctx ends.
func (s *Service) keepKeys(ctx context.Context) {
	again := retry.Policy{
		Pause: keysEvery,
		Where: s.nc.IsConnected, // an outage is logged by the connection itself
		Log:   func(err error) { s.log.Warn("the API keys cannot be watched yet; trying again", "err", err) },
	}
	again.Forever(ctx, s.watchKeys)
}

// watchKeys opens the bucket, or makes it, makes the first key if nobody has any,
// and follows the bucket until ctx ends or the watch breaks.
func (s *Service) watchKeys(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	store, err := keystore.Make(ask, s.js, s.cfg.Replicas)
	if err != nil {
		return err
	}
	if _, err := settings.Make(ask, s.js, s.cfg.Replicas); err != nil {
		return err
	}
	env, err := s.envKey.Admit(ask, store, &s.ring)
	if err != nil {
		return fmt.Errorf("HERALD_API_KEY: %w", err)
	}
	if !env {
		secret, k, err := store.First(ask, time.Now())
		if err != nil {
			return err
		}
		if secret != "" {
			s.log.Info("first API key made", "key", k.ID, "name", k.Name)
			s.announce(secret)
		}
	}
	uses := keystore.NewUses(store)
	s.uses.Store(uses)
	watch, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { uses.Run(watch, s.log) })
	wg.Go(func() { s.keepReplicas(watch) })
	wg.Go(func() { s.envKey.Follow(watch, store, &s.ring) })
	return store.Remaking(s.js, s.cfg.Replicas).Watch(watch, &s.ring, s.log, func() { s.keysLoaded.Store(true) })
}

// keepReplicas brings the key bucket to the stream's replicas, and tries again until
// it succeeds: servers may still be starting. The keys are served meanwhile.
func (s *Service) keepReplicas(ctx context.Context) {
	again := retry.Policy{Pause: replicateEvery, Log: func(err error) {
		s.log.Warn("the keys are not on as many servers as the messages yet; trying again", "err", err)
	}}
	_ = again.Until(ctx, func(ctx context.Context) error { // fails only when ctx ends
		ask, cancel := context.WithTimeout(ctx, keysTimeout)
		defer cancel()
		return errors.Join(keystore.Replicate(ask, s.js, s.cfg.Replicas),
			bucket.Replicate(ask, s.js, settings.Bucket, s.cfg.Replicas))
	})
}

// may refuses what the key's scopes do not allow. The error is a problem.
func may(g auth.Grant, s auth.Scope) error {
	if g.Can(s) {
		return nil
	}
	return proto.ProblemForbidden.With(fmt.Sprintf(
		"the key %q does not have the scope %s, only %s; one that has it is made with herald keys add NAME -may %s",
		g.Name, s, auth.JoinScopes(g.Scopes), s))
}

// banner shows the first key to whoever started the service.
func banner(w io.Writer, addr net.Addr, secret string) {
	host := "localhost:8080"
	if addr != nil {
		if _, port, err := net.SplitHostPort(addr.String()); err == nil {
			host = "localhost:" + port
		}
	}
	fmt.Fprintf(w, `
Herald made its first API key. It is shown once: only its digest is kept.

    API key: %s

It may do everything: publish, read history and the log, see publishers' addresses.
Make narrower ones with: herald keys add NAME

Try it:

    curl -H 'X-API-KEY: %s' -d 'hello' http://%s/v1/channels/%s

`, secret, secret, host, proto.Broadcast)
}

// authenticate finds the key of a request, before its body is read. Errors
// are problems: unauthorized, or unavailable while no key is known yet.
func (s *Service) authenticate(r *http.Request) (auth.Grant, error) {
	if err := s.started(); err != nil {
		return auth.Grant{}, proto.ProblemUnavailable.With(err.Error())
	}
	secret, err := httpx.APIKey(r)
	if err != nil {
		return auth.Grant{}, err
	}
	now := time.Now()
	g, err := s.ring.Authenticate(secret, now)
	if err != nil {
		reason := reasonUnknown
		switch {
		case errors.Is(err, auth.ErrNoKey):
			reason = reasonMissing
		case errors.Is(err, auth.ErrExpired):
			reason = reasonExpired
		}
		s.metrics.authFailures.WithLabelValues(reason).Inc()
		return auth.Grant{}, proto.ProblemUnauthorized.With(err.Error())
	}
	if g.Name != keystore.EnvName { // that one is in no bucket
		s.uses.Load().Touch(g.KeyID, now)
	}
	return g, nil
}
