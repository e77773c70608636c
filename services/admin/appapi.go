package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/pusher"
)

// appRow is an app of the Pusher protocol as the page and the audit have it:
// without its secrets.
type appRow struct {
	ID      string      `json:"id"`
	Name    string      `json:"name"`
	Key     string      `json:"key"` // the newest
	Keys    []appKeyRow `json:"keys"`
	Prefix  string      `json:"prefix"`
	Rate    float64     `json:"rate"`
	Created time.Time   `json:"created,omitzero"`
	Damaged bool        `json:"damaged"`
}

type appKeyRow struct {
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

func newAppRow(a pusher.App, damaged bool) appRow {
	row := appRow{ID: a.ID, Name: a.Name, Prefix: a.Prefix, Rate: a.Rate, Created: a.Created, Damaged: damaged,
		Keys: []appKeyRow{}}
	for _, k := range a.Keys {
		row.Key = k.Key
		row.Keys = append(row.Keys, appKeyRow{k.Key, k.Created, k.Expires})
	}
	return row
}

// apps opens the bucket of the apps, which ingest makes.
func (s *Service) apps(ctx context.Context) (*keystore.AppStore, error) {
	store, err := keystore.OpenApps(ctx, s.js)
	if err != nil {
		return nil, keyProblem(err)
	}
	return store, nil
}

func (s *Service) getApps(w http.ResponseWriter, r *http.Request, _ *call) error {
	store, err := s.apps(r.Context())
	if err != nil {
		return err
	}
	list, err := store.List(r.Context())
	if err != nil {
		return keyProblem(err)
	}
	rows := make([]appRow, len(list))
	for i, a := range list {
		rows[i] = newAppRow(a.App, a.Damaged)
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"rows": rows})
	return nil
}

// appAnswer is an app with a key that was made: its secret is in this answer,
// and nowhere else that the console shows.
type appAnswer struct {
	App    appRow `json:"app"`
	Key    string `json:"key"`
	Secret string `json:"secret"`
}

// postApp makes an app, with an id, a key and a secret.
func (s *Service) postApp(w http.ResponseWriter, r *http.Request, c *call) error {
	var in struct {
		Name   string  `json:"name"`
		Prefix string  `json:"prefix"`
		Rate   float64 `json:"rate"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	now := s.clock()
	app := pusher.App{ID: pusher.NewID(), Name: in.Name, Prefix: in.Prefix, Rate: in.Rate,
		Keys: []pusher.Key{pusher.NewKey(now)}, Created: now.UTC().Truncate(time.Millisecond)}
	if app.Prefix == "" {
		app.Prefix = pusher.DefaultPrefix(app.ID)
	}
	if err := errors.Join(app.Check(), auth.CheckNewName(app.Name)); err != nil {
		return problemInvalid.With(err.Error())
	}
	store, err := s.apps(r.Context())
	if err != nil {
		return err
	}
	row := newAppRow(app, false)
	err = s.act(r.Context(), c, intent{action: "app.add", target: app.Name, after: row},
		func() (any, error) { return nil, keyProblem(store.Add(r.Context(), app)) })
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, appAnswer{row, app.Keys[0].Key, app.Keys[0].Secret})
	return nil
}

// findApp finds the app with an id.
func findApp(ctx context.Context, store *keystore.AppStore, r *http.Request) (a keystore.AppInfo, err error) {
	id, err := pathParam(r, "id")
	if err != nil {
		return a, err
	}
	list, err := store.List(ctx)
	if err != nil {
		return a, keyProblem(err)
	}
	for _, a := range list {
		if a.ID == id {
			return a, nil
		}
	}
	return a, keyProblem(fmt.Errorf("app %q: %w", id, keystore.ErrNoApp))
}

// rotateApp gives an app another key and secret, and lets the others end.
func (s *Service) rotateApp(w http.ResponseWriter, r *http.Request, c *call) error {
	grace, err := readGrace(w, r)
	if err != nil {
		return err
	}
	store, err := s.apps(r.Context())
	if err != nil {
		return err
	}
	old, err := findApp(r.Context(), store, r)
	switch {
	case err != nil:
		return err
	case old.Damaged:
		return problemConflict.With("the app is damaged; remove it, and make another one")
	}
	var k pusher.Key
	var row appRow
	err = s.act(r.Context(), c, intent{action: "app.rotate", target: old.Name, before: newAppRow(old.App, false)},
		func() (any, error) {
			made, app, err := store.Rotate(r.Context(), old.ID, grace, s.clock())
			k, row = made, newAppRow(app, false)
			return row, keyProblem(err)
		})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, appAnswer{row, k.Key, k.Secret})
	return nil
}

// deleteApp removes an app: its clients are closed.
func (s *Service) deleteApp(w http.ResponseWriter, r *http.Request, c *call) error {
	store, err := s.apps(r.Context())
	if err != nil {
		return err
	}
	old, err := findApp(r.Context(), store, r)
	if err != nil {
		return err
	}
	err = s.act(r.Context(), c, intent{action: "app.revoke", target: old.Name, before: newAppRow(old.App, old.Damaged)},
		func() (any, error) { return nil, keyProblem(store.Revoke(r.Context(), old.ID)) })
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
