package keystore

import (
	"context"
	"log/slog"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/retry"
)

// fileEvery is how often the file of an EnvKey is read.
const fileEvery = time.Second

// EnvKey is the key of HERALD_API_KEY in a service's ring. One that came from a
// file follows it: a new key there counts within a second or two, and the one
// before no longer does. One goroutine at a time may use it.
type EnvKey struct {
	Secret string // empty: there is none
	File   string // that Secret came from; empty: none
	Log    *slog.Logger
}

// Admit adds the key to the ring, and reports whether there is one that
// counts; see Store.Environment.
func (e *EnvKey) Admit(ctx context.Context, s *Store, ring *auth.Ring) (bool, error) {
	if e.Secret == "" {
		return false, nil
	}
	k, stored, err := s.Environment(ctx, e.Secret, time.Now())
	if err != nil {
		return false, err
	}
	if stored {
		e.Log.Warn("HERALD_API_KEY is a key that was made with herald keys: it may do what that key may, "+
			"and nothing if it was revoked; unset it here", "key", k.ID)
		return false, nil
	}
	return true, ring.Put(k)
}

// Follow reads the key's file until ctx ends, and replaces the key in the ring
// when it changes. What cannot be used changes nothing and is reported once.
func (e *EnvKey) Follow(ctx context.Context, s *Store, ring *auth.Ring) {
	if e.File == "" {
		return
	}
	tick := time.NewTicker(fileEvery)
	defer tick.Stop()
	var failed retry.Row
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := e.reread(ctx, s, ring)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failed.End()
		case failed.New(err):
			e.Log.Warn("the API key's file cannot be used now; the key that was read before stays, and the file "+
				"is tried again", "file", e.File, "err", err)
		}
		if changed {
			e.Log.Info("API key read again", "file", e.File)
		}
	}
}

func (e *EnvKey) reread(ctx context.Context, s *Store, ring *auth.Ring) (changed bool, err error) {
	secret, err := config.ReadSecret(e.File)
	if err != nil || secret == e.Secret {
		return false, err
	}
	if err := auth.CheckSecret("the key in it", secret); err != nil {
		return false, err
	}
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	before, stored, err := s.Environment(ask, e.Secret, time.Now())
	if err != nil {
		return false, err
	}
	next := &EnvKey{Secret: secret, Log: e.Log}
	if _, err := next.Admit(ask, s, ring); err != nil {
		return false, err
	}
	if !stored { // else it is in the ring because the bucket has it
		ring.Delete(before.ID)
	}
	e.Secret = secret
	return true, nil
}
