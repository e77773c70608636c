package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
)

// defaultGrace is how long the old key stays valid where nobody says; maxGrace
// bounds it.
const (
	defaultGrace = 24 * time.Hour
	maxGrace     = 366 * 24 * time.Hour
)

// keyRow is a key as the page and the audit have it: without its digest.
type keyRow struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	Channels []string     `json:"channels"`
	Scopes   []auth.Scope `json:"scopes"`
	Rate     float64      `json:"rate"`
	Created  time.Time    `json:"created,omitzero"`
	Expires  time.Time    `json:"expires,omitzero"`
	LastUse  time.Time    `json:"last_use,omitzero"`
	Expired  bool         `json:"expired"`
	Damaged  bool         `json:"damaged"`
}

func newKeyRow(k keystore.Info, now time.Time) keyRow {
	row := keyRow{ID: k.ID, Name: k.Name, Channels: k.Channels, Scopes: k.May, Rate: k.Rate, Created: k.Created,
		Expires: k.Expires, LastUse: k.LastUsed,
		Expired: !k.Expires.IsZero() && !now.Before(k.Expires), Damaged: k.Damaged}
	if row.Scopes == nil && !k.Damaged { // from before there were scopes
		row.Scopes = auth.Scopes
	}
	if row.Channels == nil {
		row.Channels = []string{}
	}
	return row
}

// keyProblem is the answer to an error of package keystore.
func keyProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keystore.ErrNotFound), errors.Is(err, keystore.ErrNoApp):
		return proto.ProblemNotFound.With(err.Error())
	case errors.Is(err, keystore.ErrExists), errors.Is(err, keystore.ErrReserved),
		errors.Is(err, keystore.ErrAppExists):
		return problemConflict.With(err.Error())
	case errors.Is(err, keystore.ErrInvalid):
		return problemInvalid.With(err.Error())
	}
	return problemNotReady(err)
}

// keys opens the bucket of the keys, which ingest makes.
func (s *Service) keys(ctx context.Context) (*keystore.Store, error) {
	store, err := keystore.Open(ctx, s.js)
	if err != nil {
		return nil, keyProblem(err)
	}
	return store, nil
}

func (s *Service) getKeys(w http.ResponseWriter, r *http.Request, _ *call) error {
	store, err := s.keys(r.Context())
	if err != nil {
		return err
	}
	list, err := store.List(r.Context())
	if err != nil {
		return keyProblem(err)
	}
	rows := make([]keyRow, len(list))
	for i, k := range list {
		rows[i] = newKeyRow(k, s.clock())
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"rows": rows})
	return nil
}

// keyAnswer is a key that was made: its secret is in this answer, and nowhere
// else.
type keyAnswer struct {
	Key     keyRow `json:"key"`
	Secret  string `json:"secret"`
	Warning string `json:"warning,omitempty"`
}

// postKey makes a key.
func (s *Service) postKey(w http.ResponseWriter, r *http.Request, c *call) error {
	var in struct {
		Name     string   `json:"name"`
		Channels []string `json:"channels"`
		Scopes   []string `json:"scopes"`
		Rate     float64  `json:"rate"`
		Expires  string   `json:"expires"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	now := s.clock()
	may := []auth.Scope{auth.Publish}
	var err error
	if in.Scopes != nil {
		if may, err = auth.ParseScopes(in.Scopes); err != nil {
			return problemInvalid.With("scopes: " + strings.TrimPrefix(err.Error(), "may: ")) // a flag's name
		}
	}
	expires, err := endOf(in.Expires, now)
	if err != nil {
		return problemInvalid.With("expires: " + err.Error())
	}
	if in.Rate < 0 {
		return problemInvalid.With("rate: want messages a second, or 0 for no limit")
	}
	if _, err := auth.NewKey("", in.Name, in.Channels, may, now); err != nil {
		return problemInvalid.With(err.Error())
	}
	store, err := s.keys(r.Context())
	if err != nil {
		return err
	}
	var answer keyAnswer
	err = s.act(r.Context(), c, intent{action: "key.add", target: in.Name}, func() (any, error) {
		secret, k, err := store.Add(r.Context(), in.Name, keystore.Options{Channels: in.Channels, May: may,
			Rate: in.Rate, Expires: expires}, now)
		answer = keyAnswer{Key: newKeyRow(keystore.Info{Key: k}, now), Secret: secret}
		return answer.Key, keyProblem(err)
	})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// endOf reads when something ends; zero: never.
func endOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := config.Time(text)
	switch {
	case err != nil:
		return t, err
	case !t.After(now):
		return t, fmt.Errorf("%s is over; what has ended is of no use", text)
	}
	return t.UTC().Truncate(time.Second), nil
}

// readGrace reads the body of a rotation: how long the old key stays valid.
func readGrace(w http.ResponseWriter, r *http.Request) (time.Duration, error) {
	var in struct {
		Seconds *float64 `json:"grace_seconds"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return 0, err
	}
	if in.Seconds == nil {
		return defaultGrace, nil
	}
	if *in.Seconds < 0 || *in.Seconds > maxGrace.Seconds() {
		return 0, problemInvalid.With(fmt.Sprintf("grace_seconds: %v; want seconds, from 0 to %.0f", *in.Seconds,
			maxGrace.Seconds()))
	}
	return time.Duration(*in.Seconds * float64(time.Second)), nil
}

// findKey finds the key with an id.
func findKey(ctx context.Context, store *keystore.Store, r *http.Request) (k keystore.Info, err error) {
	id, err := pathParam(r, "id")
	if err != nil {
		return k, err
	}
	list, err := store.List(ctx)
	if err != nil {
		return k, keyProblem(err)
	}
	for _, k := range list {
		if k.ID == id {
			return k, nil
		}
	}
	return k, keyProblem(fmt.Errorf("key %q: %w", id, keystore.ErrNotFound))
}

// rotateKey makes another key of the same name, and lets the old one end.
func (s *Service) rotateKey(w http.ResponseWriter, r *http.Request, c *call) error {
	grace, err := readGrace(w, r)
	if err != nil {
		return err
	}
	store, err := s.keys(r.Context())
	if err != nil {
		return err
	}
	old, err := findKey(r.Context(), store, r)
	switch {
	case err != nil:
		return err
	case old.Damaged:
		return problemConflict.With("the key is damaged; revoke it, and make another one")
	}
	now := s.clock()
	var answer keyAnswer
	err = s.act(r.Context(), c, intent{action: "key.rotate", target: old.Name, before: newKeyRow(old, now)},
		func() (any, error) {
			secret, k, err := store.Rotate(r.Context(), old.ID, grace, now)
			if secret == "" {
				return nil, keyProblem(err)
			}
			answer = keyAnswer{Key: newKeyRow(keystore.Info{Key: k}, now), Secret: secret}
			if err != nil { // the new key works
				answer.Warning = "the old key may not end: " + err.Error()
			}
			return answer.Key, nil
		})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// deleteKey revokes a key: every ingest refuses it at once.
func (s *Service) deleteKey(w http.ResponseWriter, r *http.Request, c *call) error {
	store, err := s.keys(r.Context())
	if err != nil {
		return err
	}
	old, err := findKey(r.Context(), store, r)
	if err != nil {
		return err
	}
	err = s.act(r.Context(), c, intent{action: "key.revoke", target: old.Name, before: newKeyRow(old, s.clock())},
		func() (any, error) {
			_, err := store.Revoke(r.Context(), old.ID)
			return nil, keyProblem(err)
		})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
