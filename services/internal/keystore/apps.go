package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/nats-io/nats.go/jetstream"
)

// AppBucket is the KV bucket of the apps of the Pusher protocol: "app.<id>" is a
// pusher.App as JSON. Unlike the keys of package auth their secrets are stored as
// they are, since who verifies an HMAC needs them. It is a bucket of its own, so that
// NATS permissions can keep it to ingest, gateways and those who administer.
const AppBucket = "herald_apps"

// Errors that people meet at the command line.
var (
	ErrNoApp     = errors.New("no such app")
	ErrAppExists = errors.New("there is one already; rotate or revoke it, or choose another one")
)

// AppStore reads and writes the apps. Safe for concurrent use.
type AppStore struct{ s *Store }

// OpenApps finds the bucket. The error is ErrNoBucket before ingest has made it.
func OpenApps(ctx context.Context, js jetstream.JetStream) (*AppStore, error) {
	s, err := storeOf(js)(bucket.Open(ctx, js, AppBucket))
	return &AppStore{s}, err
}

// MakeApps finds the bucket, or makes it with this many replicas: see Make.
func MakeApps(ctx context.Context, js jetstream.JetStream, replicas int) (*AppStore, error) {
	s, err := storeOf(js)(bucket.Make(ctx, js, AppBucket, "Apps of the Pusher protocol, with their secrets", replicas))
	return &AppStore{s}, err
}

// AppInfo is an app as lists show it.
type AppInfo struct {
	pusher.App
	Damaged bool // it has nothing but its ID, and opens no door
}

// Add stores a new app, whose id, name, keys and channels no other one has. Of two
// that are added in the same moment with the same key only the first counts.
func (a *AppStore) Add(ctx context.Context, app pusher.App) error {
	if err := auth.CheckNewName(app.Name); err != nil {
		return invalid{fmt.Errorf("app name: %w", err)}
	}
	if err := app.Check(); err != nil {
		return invalid{err}
	}
	all, err := a.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		switch {
		case other.ID == app.ID:
			return fmt.Errorf("app id %s: %w", app.ID, ErrAppExists)
		case other.Damaged:
		case other.Name == app.Name:
			return fmt.Errorf("app %q: %w", app.Name, ErrAppExists)
		case pusher.Overlap(other.Prefix, app.Prefix):
			return fmt.Errorf("channels below %s are those of app %q with the prefix %s: %w", app.Prefix, other.Name,
				other.Prefix, ErrAppExists)
		}
		for _, k := range other.Keys {
			if k.Key == app.Keys[0].Key {
				return fmt.Errorf("key %s: %w", k.Key, ErrAppExists)
			}
		}
	}
	b, err := json.Marshal(app)
	if err == nil {
		_, err = a.s.kv.Create(ctx, "app."+app.ID, b)
	}
	if err != nil {
		return fmt.Errorf("store app %q: %w", app.Name, err)
	}
	return nil
}

// List returns every app, by name.
func (a *AppStore) List(ctx context.Context) ([]AppInfo, error) {
	entries, err := bucket.Entries(ctx, a.s.kv)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	var out []AppInfo
	for name, e := range entries {
		if id, ok := strings.CutPrefix(name, "app."); ok && e.Operation() == jetstream.KeyValuePut {
			app, err := parseApp(id, e.Value())
			out = append(out, AppInfo{app, err != nil})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Name != out[j].Name {
			return out[i].Name < out[j].Name
		}
		return out[i].ID < out[j].ID
	})
	return out, nil
}

// parseApp reads an entry. The app always has the ID.
func parseApp(id string, value []byte) (pusher.App, error) {
	var app pusher.App
	err := json.Unmarshal(value, &app)
	if err == nil {
		err = app.Check()
	}
	if err == nil && app.ID != id {
		err = fmt.Errorf("it holds the app %q", app.ID)
	}
	if err != nil {
		return pusher.App{ID: id}, fmt.Errorf("entry of app %s is damaged: %w", id, err)
	}
	return app, nil
}

// Rotate gives an app a new key and secret, and lets the others end after grace.
func (a *AppStore) Rotate(ctx context.Context, nameOrID string, grace time.Duration, now time.Time) (pusher.Key,
	pusher.App, error) {
	if err := checkGrace(grace); err != nil {
		return pusher.Key{}, pusher.App{}, err
	}
	k := pusher.NewKey(now)
	for {
		found, err := a.named(ctx, nameOrID)
		if err != nil {
			return k, pusher.App{}, err
		}
		e, err := a.s.kv.Get(ctx, "app."+found.ID)
		if err != nil {
			return k, pusher.App{}, fmt.Errorf("read app %q: %w", nameOrID, err)
		}
		app, err := parseApp(found.ID, e.Value())
		if err != nil {
			return k, app, err
		}
		app = app.Rotated(k, grace, now)
		b, err := json.Marshal(app)
		if err == nil {
			_, err = a.s.kv.Update(ctx, "app."+app.ID, b, e.Revision())
		}
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			continue // somebody changed or revoked it meanwhile
		}
		if err != nil {
			return k, app, fmt.Errorf("store app %q: %w", app.Name, err)
		}
		return k, app, nil
	}
}

// Revoke ends an app at once, with all of its keys: its clients are closed.
func (a *AppStore) Revoke(ctx context.Context, nameOrID string) error {
	app, err := a.named(ctx, nameOrID)
	if err != nil {
		return err
	}
	if err := a.s.kv.Delete(ctx, "app."+app.ID); err != nil {
		return fmt.Errorf("revoke app %q: %w", nameOrID, err)
	}
	return nil
}

func (a *AppStore) named(ctx context.Context, nameOrID string) (AppInfo, error) {
	all, err := a.List(ctx)
	if err != nil {
		return AppInfo{}, err
	}
	for _, app := range all {
		if app.Name == nameOrID || app.ID == nameOrID {
			return app, nil
		}
	}
	return AppInfo{}, fmt.Errorf("app %q: %w", nameOrID, ErrNoApp)
}

// Watch keeps apps equal to the bucket until ctx ends: see Store.Watch. changed is
// called after an app was added, changed or removed, with its id.
func (a *AppStore) Watch(ctx context.Context, apps *pusher.Apps, log *slog.Logger, ready func(),
	changed func(id string)) error {
	f := bucket.Follower{
		Prefix: "app.", What: "app", Log: log, Ready: ready, Make: a.s.remake,
		Put: func(id string, value []byte) (name string, err error) {
			app, err := parseApp(id, value)
			if err == nil {
				err = apps.Put(app)
			}
			if err == nil {
				changed(id)
			}
			return app.Name, err
		},
		Remove: func(id string) {
			apps.Delete(id)
			changed(id)
		},
	}
	return f.Follow(ctx, a.s.nc, a.s.kv)
}
