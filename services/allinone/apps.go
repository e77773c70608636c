package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/pusher"
)

var appsCommand = command{
	name: "apps", args: "add|list|rotate|revoke [NAME]", does: "manage apps of the Pusher protocol",
	about: `
Manages the apps that Pusher's clients and server SDKs use, of the Herald that runs on this machine, or, with
-nats, of another deployment. A change counts everywhere at once.
Who comes from Pusher, Soketi or Reverb keeps id, key and secret: -id, -key, and the secret in HERALD_APP_SECRET.`,
	examples: []string{
		"herald apps add shop                 # makes an id, a key and a secret",
		"HERALD_APP_SECRET_FILE=secret.txt herald apps add shop -id 1234567 -key 278d425bdf160c739803",
		"herald apps list",
		"herald apps rotate shop -grace 24h   # a new key and secret; the old ones end after a day",
		"herald apps revoke shop              # its name or id: its clients are closed",
	},
	start: func(c *call) task {
		a := &appShelf{manager: newManager(c), grace: 24 * time.Hour}
		return task{
			settings: a.settings(
				config.Setting{Flag: "id", Help: "add: its id in URLs of the HTTP API; without it a number is made",
					Into: &a.id},
				config.Setting{Flag: "key",
					Help: "add: its key, which clients have in their URL; without it one is made", Into: &a.key},
				config.Setting{Env: "HERALD_APP_SECRET",
					Help: "add: the secret of -key, as its backends have it; without it one is made", Secret: true,
					Into: &a.secret},
				config.Setting{Flag: "prefix",
					Help: "add: the channel below which its channels are for everybody else; without it pusher.ID",
					Into: &a.prefix},
				config.Setting{Flag: "rate", Help: "add: messages a second it may publish, per ingest; 0: no limit",
					Into: &a.rate},
				config.Setting{Flag: "grace", Help: "rotate: for how long the old key stays valid", Into: &a.grace},
			),
			run: a.run,
		}
	},
}

// appShelf is what herald apps works on, and the settings of its verbs.
type appShelf struct {
	manager
	id, key, secret, prefix string
	rate                    float64
	grace                   time.Duration
}

var appVerbs = verbs{command: "apps", of: "app", all: []string{"add", "list", "rotate", "revoke"}, example: "shop",
	refused: keystore.Refused}

// run does what the first word says.
func (a *appShelf) run(ctx context.Context, words []string) error {
	return manage(ctx, &a.manager, appVerbs, words, keystore.OpenApps, a.do)
}

// do does it, and says what the audit has to know.
func (a *appShelf) do(ctx context.Context, store *keystore.AppStore, verb, name string) (before, after any, err error) {
	now, out := time.Now(), a.out
	switch verb {
	case "add":
		app, err := a.app(name, now)
		if err != nil {
			return nil, nil, mistake{err}
		}
		if err := store.Add(ctx, app); err != nil {
			return nil, nil, err
		}
		k := app.Keys[0]
		secret := k.Secret
		if a.secret != "" {
			secret = "(as given)"
		}
		fmt.Fprintf(out, "app id: %s\nkey:    %s\nsecret: %s\nIts channel orders is %s.orders for native clients and "+
			"publishers.\n", app.ID, k.Key, secret, app.Prefix)
		return nil, auditedApp(app), nil
	case "rotate":
		k, app, err := store.Rotate(ctx, name, a.grace, now)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(out, "app id: %s\nkey:    %s\nsecret: %s\nThe old ones end in %s.\n", app.ID, k.Key, k.Secret,
			a.grace)
		return nil, auditedApp(app), nil
	case "revoke":
		list, err := store.List(ctx)
		if err != nil {
			return nil, nil, err
		}
		meant := func(app keystore.AppInfo) bool { return app.Name == name || app.ID == name }
		if i := slices.IndexFunc(list, meant); i >= 0 {
			before = auditedApp(list[i].App)
		}
		if err := store.Revoke(ctx, name); err != nil {
			return before, nil, err
		}
		fmt.Fprintln(out, "revoked")
		return before, nil, nil
	}
	return nil, nil, a.list(ctx, store)
}

// appOf is an app as the audit has it: without its secrets.
type appOf struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Keys   []string `json:"keys"`
	Prefix string   `json:"prefix"`
	Rate   float64  `json:"rate"`
}

func auditedApp(app pusher.App) appOf {
	of := appOf{app.ID, app.Name, make([]string, len(app.Keys)), app.Prefix, app.Rate}
	for i, k := range app.Keys {
		of.Keys[i] = k.Key
	}
	return of
}

// list prints all apps, with a line for each of their keys.
func (a *appShelf) list(ctx context.Context, store *keystore.AppStore) error {
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	w := a.table("NAME\tID\tCHANNELS\tRATE\tKEY\tCREATED\tEXPIRES")
	for _, app := range list {
		if app.Damaged {
			fmt.Fprintf(w, "(damaged)\t%s\t-\t-\t-\t-\t-\n", app.ID)
		}
		for _, k := range app.Keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", app.Name, app.ID, app.Pattern(), rate(app.Rate), k.Key,
				day(k.Created), day(k.Expires))
		}
	}
	return w.Flush()
}

// app is what add makes of the settings.
func (a *appShelf) app(name string, now time.Time) (pusher.App, error) {
	k := pusher.NewKey(now)
	switch {
	case a.secret != "" && a.key == "":
		return pusher.App{},
			errors.New("HERALD_APP_SECRET is the secret of a key; give that with -key, or unset it and have both made")
	case a.secret == "" && a.key != "":
		return pusher.App{},
			errors.New("-key comes with its secret, in HERALD_APP_SECRET or the file that " +
				"HERALD_APP_SECRET_FILE names; leave both out to have them made")
	case a.key != "":
		k.Key, k.Secret = a.key, a.secret
	}
	app := pusher.App{ID: a.id, Name: name, Prefix: a.prefix, Keys: []pusher.Key{k}, Rate: a.rate,
		Created: now.UTC().Truncate(time.Millisecond)}
	if app.ID == "" {
		app.ID = pusher.NewID()
	}
	if app.Prefix == "" {
		app.Prefix = pusher.DefaultPrefix(app.ID)
	}
	return app, app.Check()
}
